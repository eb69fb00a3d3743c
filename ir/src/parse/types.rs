//! Types: `tensor<…>`, elements, `!qcc.q<…>`, and function types. A size written `?` becomes the symbol `?` here; arguments get their
//! real symbols from `qcc.dims`, results of operations from the type rules.

use super::cursor::{Cursor, Outcome};
use super::lexer::Kind;
use super::{Failure, MAX_RANK, MAX_SIZE};
use crate::dim::Dim;
use crate::element::{ElementType, Granularity, QuantType, ScaleType, Storage};
use crate::types::{Layout, TensorType};

/// Stands for a size that the text does not say.
pub(super) const UNKNOWN_SIZE: &str = "?";

/// Operand and result types.
pub(super) type FunctionType = (Vec<TensorType>, Vec<TensorType>);

impl Cursor<'_> {
    /// `(A, B) -> C` or `(A, B) -> (C, D)`
    pub(super) fn function_type(&mut self) -> Outcome<FunctionType> {
        self.expect(b'(')?;
        let arguments = self.type_list()?;
        self.expect_kind(Kind::Arrow, "`->`")?;
        let results = if self.accept(b'(')? { self.type_list()? } else { vec![self.tensor_type()?] };
        Ok((arguments, results))
    }

    fn type_list(&mut self) -> Outcome<Vec<TensorType>> {
        let mut types = Vec::new();
        self.list(b')', |c| {
            types.push(c.tensor_type()?);
            Ok(())
        })?;
        Ok(types)
    }

    /// `tensor<2x?xf32>`, with an optional layout.
    pub(super) fn tensor_type(&mut self) -> Outcome<TensorType> {
        if !self.at_word("tensor") {
            return self.expected("a type `tensor<…>`");
        }
        self.advance()?;
        if !self.at(b'<') {
            return self.expected("`<`");
        }
        let dims = self.sizes(self.token.end)?;
        let element = self.element_type()?;
        let layout = if self.accept(b',')? { self.layout()? } else { Layout::RowMajor };
        self.expect(b'>')?;
        Ok(TensorType { dims, element, layout })
    }

    /// `2x?x…` from the byte `at` on, up to the element type.
    fn sizes(&mut self, mut at: usize) -> Outcome<Vec<Dim>> {
        let bytes = self.text.as_bytes();
        let mut dims = Vec::new();
        loop {
            while bytes.get(at).is_some_and(u8::is_ascii_whitespace) {
                at += 1;
            }
            let start = at;
            let dim = match bytes.get(at) {
                Some(b'?') => {
                    at += 1;
                    Dim::symbol(UNKNOWN_SIZE)
                }
                Some(b'0'..=b'9') => {
                    while bytes.get(at).is_some_and(u8::is_ascii_digit) {
                        at += 1;
                    }
                    match self.text[start..at].parse() {
                        Ok(n) if n <= MAX_SIZE => Dim::Const(n),
                        _ => return Err(Failure::new(start, format!("a size is larger than {MAX_SIZE}"))),
                    }
                }
                _ => break,
            };
            if bytes.get(at) != Some(&b'x') {
                return Err(Failure::new(at, "expected `x` after a size"));
            }
            if dims.len() == MAX_RANK {
                return Err(Failure::new(start, format!("a tensor has more than {MAX_RANK} dimensions")));
            }
            at += 1;
            dims.push(dim);
        }
        self.jump(at)?;
        Ok(dims)
    }

    fn layout(&mut self) -> Outcome<Layout> {
        if self.token.kind != Kind::Hash || self.lexeme() != "#qcc.panel" {
            return self.expected("a layout `#qcc.panel<…>`");
        }
        self.advance()?;
        self.expect(b'<')?;
        let n = self.positive()?;
        self.expect(b',')?;
        let k = self.positive()?;
        self.expect(b'>')?;
        Ok(Layout::Panel { n, k })
    }

    /// `16 : i64`, at least 1.
    fn positive(&mut self) -> Outcome<u32> {
        let at = self.token.start;
        let n = self.natural("a positive integer")?;
        self.expect(b':')?;
        self.expect_word("i64")?;
        u32::try_from(n)
            .ok()
            .filter(|n| *n >= 1)
            .ok_or_else(|| Failure::new(at, format!("{n} is not between 1 and {}", u32::MAX)))
    }

    /// Whether an element type is at hand.
    pub(super) fn at_element_type(&self) -> bool {
        match self.token.kind {
            Kind::Bang => true,
            Kind::Identifier => plain_element(self.lexeme()).is_some(),
            _ => false,
        }
    }

    pub(super) fn element_type(&mut self) -> Outcome<ElementType> {
        match self.token.kind {
            Kind::Bang if self.lexeme() == "!qcc.q" => {
                self.advance()?;
                self.quant_type().map(ElementType::Quant)
            }
            Kind::Identifier => match plain_element(self.lexeme()) {
                Some(element) => {
                    self.advance()?;
                    Ok(element)
                }
                None => {
                    self.expected("an element type: f64, f32, f16, bf16, i1, i8, ui8, i32, i64 or !qcc.q<…>")
                }
            },
            _ => self.expected("an element type"),
        }
    }

    /// `<storage, granularity, scale, zero point>`
    fn quant_type(&mut self) -> Outcome<QuantType> {
        self.expect(b'<')?;
        let storage = self.storage()?;
        self.expect(b',')?;
        let granularity = self.granularity()?;
        self.expect(b',')?;
        let scale = match self.lexeme() {
            "f32" => ScaleType::F32,
            "f16" => ScaleType::F16,
            "bf16" => ScaleType::BF16,
            "f8E4M3FN" => ScaleType::E4M3,
            "f8E8M0FNU" => ScaleType::E8M0,
            _ => return self.expected("the scales' type: f32, f16, bf16, f8E4M3FN or f8E8M0FNU"),
        };
        self.advance()?;
        self.expect(b',')?;
        let zero_point = !self.accept_word("none")?;
        if zero_point {
            let at = self.token.start;
            if self.storage()? != storage {
                return Err(Failure::new(at, "a zero point has the type of the storage, or is `none`"));
            }
        }
        self.expect(b'>')?;
        Ok(QuantType { storage, granularity, scale, zero_point })
    }

    fn storage(&mut self) -> Outcome<Storage> {
        const EXPECTED: &str =
            "a storage type: i2 to i8, ui2 to ui8, an f8, f6 or f4 type, or !qcc.element<\"…\">";
        if self.token.kind == Kind::Bang && self.lexeme() == "!qcc.element" {
            self.advance()?;
            self.expect(b'<')?;
            let at = self.token.start;
            let name = self.string("an element name")?;
            let storage = Storage::from_name(&name)
                .filter(|s| s.to_string().starts_with('!'))
                .ok_or_else(|| Failure::new(at, format!("there is no element `{name}`")))?;
            self.expect(b'>')?;
            return Ok(storage);
        }
        if self.token.kind != Kind::Identifier {
            return self.expected(EXPECTED);
        }
        let storage = match self.lexeme() {
            "f8E4M3FN" => Some(Storage::Fp8E4M3),
            "f8E5M2" => Some(Storage::Fp8E5M2),
            "f6E2M3FN" => Some(Storage::Fp6E2M3),
            "f6E3M2FN" => Some(Storage::Fp6E3M2),
            "f4E2M1FN" => Some(Storage::Fp4E2M1),
            // `i4` is `int4` in the grammar of formats.
            word => match word.strip_prefix("ui") {
                Some(bits) => Storage::from_name(&format!("uint{bits}")),
                None => word.strip_prefix('i').and_then(|bits| Storage::from_name(&format!("int{bits}"))),
            },
        };
        match storage {
            Some(storage) => {
                self.advance()?;
                Ok(storage)
            }
            None => self.expected(EXPECTED),
        }
    }

    /// `{}`, `{token}`, `{axis = 0 : i64}` or `{axis = 0 : i64, block = 32 : i64}`
    fn granularity(&mut self) -> Outcome<Granularity> {
        const EXPECTED: &str = "`{}`, `{token}`, `{axis = A : i64}` or `{axis = A : i64, block = N : i64}`";
        self.expect(b'{')?;
        if self.accept(b'}')? {
            return Ok(Granularity::Tensor);
        }
        if self.accept_word("token")? {
            self.expect(b'}')?;
            return Ok(Granularity::Token);
        }
        if !self.accept_word("axis")? {
            return self.expected(EXPECTED);
        }
        self.expect(b'=')?;
        let at = self.token.start;
        let axis = u8::try_from(self.natural("an axis")?)
            .ok()
            .filter(|a| usize::from(*a) < MAX_RANK)
            .ok_or_else(|| Failure::new(at, "there is no such axis"))?;
        self.expect(b':')?;
        self.expect_word("i64")?;
        if self.accept(b'}')? {
            return Ok(Granularity::Channel { axis });
        }
        self.expect(b',')?;
        if !self.accept_word("block")? {
            return self.expected(EXPECTED);
        }
        self.expect(b'=')?;
        let block = self.positive()?;
        self.expect(b'}')?;
        Ok(Granularity::Block { axis, block })
    }
}

fn plain_element(word: &str) -> Option<ElementType> {
    Some(match word {
        "f64" => ElementType::F64,
        "f32" => ElementType::F32,
        "f16" => ElementType::F16,
        "bf16" => ElementType::BF16,
        "i1" => ElementType::Bool,
        "i8" => ElementType::I8,
        "ui8" => ElementType::U8,
        "i32" => ElementType::I32,
        "i64" => ElementType::I64,
        _ => return None,
    })
}
