//! Attribute values and dictionaries.

use std::collections::BTreeMap;

use super::cursor::{Cursor, Outcome};
use super::lexer::{Kind, Token};
use super::{Failure, MAX_CONSTANT_ELEMENTS};
use crate::attribute::{Attribute, Dense, DenseData, Float};
use crate::element::ElementType;

/// A number or keyword of a `dense<…>` list.
#[derive(Clone, Copy)]
struct Leaf {
    negative: bool,
    token: Token,
}

impl Cursor<'_> {
    /// Entries `key = value` or `key` up to the closing `}`; the opening one has been taken. `entry` reads a value, or says what a key
    /// without one means by getting `None` of the `=`.
    pub(super) fn dictionary(
        &mut self,
        mut entry: impl FnMut(&mut Self, &str, usize, bool) -> Outcome<()>,
    ) -> Outcome<()> {
        self.list(b'}', |c| {
            let at = c.token.start;
            let key = match c.token.kind {
                Kind::Identifier => {
                    let key = c.lexeme().into();
                    c.advance()?;
                    key
                }
                Kind::String => c.string("an attribute name")?,
                _ => return c.expected("an attribute name"),
            };
            let has_value = c.accept(b'=')?;
            entry(c, &key, at, has_value)
        })
    }

    /// A dictionary of plain attributes.
    pub(super) fn attributes(&mut self, into: &mut BTreeMap<String, Attribute>) -> Outcome<()> {
        self.dictionary(|c, key, at, has_value| {
            let value = if has_value { c.attribute()? } else { Attribute::Unit };
            insert_new(into, key, value, at)
        })
    }

    /// An attribute value.
    pub(super) fn attribute(&mut self) -> Outcome<Attribute> {
        match self.token.kind {
            Kind::String => Ok(Attribute::String(self.string("a string")?.into())),
            Kind::Integer | Kind::Float | Kind::Punctuation(b'-') => self.number(),
            Kind::Punctuation(b'[') => self.nested(|c| {
                c.advance()?;
                let mut items = Vec::new();
                c.list(b']', |c| {
                    items.push(c.attribute()?);
                    Ok(())
                })?;
                Ok(Attribute::Array(items))
            }),
            Kind::Identifier => match self.lexeme() {
                "true" => self.advance().map(|_| Attribute::Bool(true)),
                "false" => self.advance().map(|_| Attribute::Bool(false)),
                "unit" => self.advance().map(|_| Attribute::Unit),
                "array" => self.integers("i64").map(Attribute::Ints),
                "dense" => self.dense().map(Attribute::Dense),
                _ if self.at_element_type() => self.element_type().map(Attribute::Type),
                _ => self.expected("an attribute"),
            },
            Kind::Bang => self.element_type().map(Attribute::Type),
            _ => self.expected("an attribute"),
        }
    }

    /// `1 : i64`, `1.0 : f64`, `0x7FF0000000000000 : f64`; the types may be left out.
    fn number(&mut self) -> Outcome<Attribute> {
        let negative = self.accept(b'-')?;
        let token = self.token;
        if !matches!(token.kind, Kind::Integer | Kind::Float) {
            return self.expected("a number");
        }
        let text = self.lexeme();
        self.advance()?;
        let is_float = match (self.accept(b':')?, token.kind) {
            (false, kind) => kind == Kind::Float,
            (true, _) if self.accept_word("f64")? => true,
            (true, Kind::Integer) if self.accept_word("i64")? => false,
            (true, Kind::Integer) => return self.expected("`i64`"),
            (true, _) => return self.expected("`f64`"),
        };
        let bad = |what| Failure::new(token.start, format!("`{text}` is not {what}"));
        if !is_float {
            return integer(negative, text).map(Attribute::Int).ok_or_else(|| bad("a 64-bit integer"));
        }
        let value = match (token.kind, text.strip_prefix("0x")) {
            (Kind::Float, _) => text.parse().ok().filter(|v: &f64| v.is_finite()).map(|v| sign(negative, v)),
            (_, Some(hex)) if !negative => u64::from_str_radix(hex, 16).ok().map(f64::from_bits),
            _ => None,
        };
        value.map(|v| Attribute::Float(Float(v))).ok_or_else(|| bad("an `f64` number"))
    }

    /// `array<i64: 1, 2>` of the given element type.
    pub(super) fn integers(&mut self, element: &str) -> Outcome<Vec<i64>> {
        self.expect_word("array")?;
        self.expect(b'<')?;
        self.expect_word(element)?;
        let mut values = Vec::new();
        if self.accept(b'>')? {
            return Ok(values);
        }
        self.expect(b':')?;
        self.list(b'>', |c| {
            let negative = c.accept(b'-')?;
            let text = c.lexeme();
            let token = c.expect_kind(Kind::Integer, "an integer")?;
            let value = integer(negative, text)
                .filter(|v| element != "i32" || i32::try_from(*v).is_ok())
                .ok_or_else(|| {
                    Failure::new(token.start, format!("`{text}` is not an `{element}` integer"))
                })?;
            values.push(value);
            Ok(())
        })?;
        Ok(values)
    }

    /// `dense<…> : tensor<…>`
    fn dense(&mut self) -> Outcome<Dense> {
        let start = self.token.start;
        self.advance()?;
        self.expect(b'<')?;
        let mut leaves = Vec::new();
        let mut hex = None;
        let mut shape = None;
        match self.token.kind {
            Kind::String => hex = Some(self.advance()?),
            Kind::Punctuation(b'>') => shape = Some(Vec::new()),
            Kind::Punctuation(b'[') => {
                let mut sizes = Vec::new();
                self.dense_list(0, &mut sizes, &mut leaves)?;
                shape = Some(sizes);
            }
            _ => self.dense_leaf(&mut leaves)?,
        }
        self.expect(b'>')?;
        self.expect(b':')?;
        let ty = self.tensor_type()?;
        let fail = |message: String| Failure::new(start, message);
        let dims = ty.constant_dims().ok_or_else(|| fail("a constant has no dynamic sizes".into()))?;
        let count = dims
            .iter()
            .try_fold(1i64, |n, d| n.checked_mul(*d))
            .and_then(|n| usize::try_from(n).ok())
            .filter(|n| *n <= MAX_CONSTANT_ELEMENTS)
            .ok_or_else(|| {
                fail(format!(
                    "constant {ty} has more than {MAX_CONSTANT_ELEMENTS} elements; make it a parameter"
                ))
            })?;
        if let Some(token) = hex {
            let bytes = hex_bytes(&self.text[token.start + 1..token.end - 1])
                .ok_or_else(|| fail("the string of a constant is not hexadecimal `0x…`".into()))?;
            let data = from_bytes(&bytes, count, ty.element)
                .ok_or_else(|| fail(format!("{} bytes do not fill {ty}", bytes.len())))?;
            return Ok(Dense { dims, data });
        }
        match shape {
            Some(_) if count == 0 && leaves.is_empty() => {}
            Some(shape) if shape != dims => {
                return Err(fail(format!("a list of sizes {shape:?} does not fit {ty}")));
            }
            Some(_) => {}
            None => leaves = vec![leaves[0]; count],
        }
        let data = self.elements(&leaves, ty.element)?;
        Ok(Dense { dims, data })
    }

    /// A (nested) list; `sizes` learns the size of each level from the first list seen there.
    fn dense_list(&mut self, level: usize, sizes: &mut Vec<i64>, leaves: &mut Vec<Leaf>) -> Outcome<()> {
        let start = self.expect(b'[')?.start;
        let first = sizes.len() == level;
        if first {
            sizes.push(-1);
        }
        let mut count = 0;
        self.nested(|c| {
            c.list(b']', |c| {
                count += 1;
                if c.at(b'[') && (count == 1 || sizes.len() > level + 1) {
                    c.dense_list(level + 1, sizes, leaves)
                } else if sizes.len() > level + 1 {
                    c.expected("`[`")
                } else {
                    c.dense_leaf(leaves)
                }
            })
        })?;
        if sizes[level] < 0 {
            sizes[level] = count;
        }
        if sizes[level] != count {
            return Err(Failure::new(start, format!("a list of {count} among lists of {}", sizes[level])));
        }
        Ok(())
    }

    fn dense_leaf(&mut self, leaves: &mut Vec<Leaf>) -> Outcome<()> {
        let negative = self.accept(b'-')?;
        match self.token.kind {
            Kind::Integer | Kind::Float => {}
            Kind::Identifier if !negative && matches!(self.lexeme(), "true" | "false") => {}
            _ => return self.expected("a number, `true` or `false`"),
        }
        leaves.push(Leaf { negative, token: self.token });
        self.advance()?;
        Ok(())
    }

    fn elements(&self, leaves: &[Leaf], element: ElementType) -> Outcome<DenseData> {
        let convert =
            |leaf: &Leaf| (leaf.negative, &self.text[leaf.token.start..leaf.token.end], leaf.token.kind);
        let bad = |leaf: &Leaf| {
            let text = &self.text[leaf.token.start..leaf.token.end];
            Failure::new(leaf.token.start, format!("`{text}` is not an element of type {element}"))
        };
        match element {
            ElementType::F32 => leaves
                .iter()
                .map(|leaf| {
                    let value = match convert(leaf) {
                        (negative, text, Kind::Float) => {
                            let value = text.parse::<f32>().ok().filter(|v| v.is_finite());
                            value.map(|v| sign(negative, f64::from(v)))
                        }
                        (false, text, Kind::Integer) => text
                            .strip_prefix("0x")
                            .and_then(|hex| u32::from_str_radix(hex, 16).ok())
                            .map(|bits| widen(f32::from_bits(bits))),
                        _ => None,
                    };
                    value.map(Float).ok_or_else(|| bad(leaf))
                })
                .collect::<Outcome<_>>()
                .map(DenseData::F32),
            ElementType::I64 => leaves
                .iter()
                .map(|leaf| {
                    let (negative, text, kind) = convert(leaf);
                    integer(negative, text).filter(|_| kind == Kind::Integer).ok_or_else(|| bad(leaf))
                })
                .collect::<Outcome<_>>()
                .map(DenseData::I64),
            ElementType::I32 => leaves
                .iter()
                .map(|leaf| {
                    let (negative, text, kind) = convert(leaf);
                    integer(negative, text)
                        .filter(|_| kind == Kind::Integer)
                        .and_then(|v| i32::try_from(v).ok())
                        .ok_or_else(|| bad(leaf))
                })
                .collect::<Outcome<_>>()
                .map(DenseData::I32),
            ElementType::Bool => leaves
                .iter()
                .map(|leaf| match convert(leaf) {
                    (_, text, Kind::Identifier) => Ok(text == "true"),
                    _ => Err(bad(leaf)),
                })
                .collect::<Outcome<_>>()
                .map(DenseData::Bool),
            _ => self.fail(format!("a constant has elements f32, i64, i32 or i1, not {element}")),
        }
    }
}

/// Adds an entry, which must not be there yet.
pub(super) fn insert_new<V>(into: &mut BTreeMap<String, V>, key: &str, value: V, at: usize) -> Outcome<()> {
    match into.insert(key.to_string(), value) {
        None => Ok(()),
        Some(_) => Err(Failure::new(at, format!("the attribute `{key}` occurs twice"))),
    }
}

fn sign(negative: bool, value: f64) -> f64 {
    if negative { -value } else { value }
}

/// A decimal or hexadecimal integer.
fn integer(negative: bool, text: &str) -> Option<i64> {
    let magnitude = match text.strip_prefix("0x") {
        Some(hex) => i128::from(u64::from_str_radix(hex, 16).ok()?),
        None => i128::from(text.parse::<u64>().ok()?),
    };
    i64::try_from(if negative { -magnitude } else { magnitude }).ok()
}

/// As `f64`; a NaN keeps its payload, which an arithmetic conversion may change.
fn widen(value: f32) -> f64 {
    if value.is_nan() {
        let bits = u64::from(value.to_bits());
        return f64::from_bits((bits & 0x8000_0000) << 32 | 0x7ff << 52 | (bits & 0x007f_ffff) << 29);
    }
    f64::from(value)
}

fn hex_bytes(text: &str) -> Option<Vec<u8>> {
    let digits = text.strip_prefix("0x")?.as_bytes();
    let nibble = |b: u8| char::from(b).to_digit(16).map(|d| d as u8);
    if digits.len() % 2 != 0 {
        return None;
    }
    digits.chunks_exact(2).map(|pair| Some(nibble(pair[0])? << 4 | nibble(pair[1])?)).collect()
}

/// Elements from their bytes as MLIR stores them: see the printer.
fn from_bytes(bytes: &[u8], count: usize, element: ElementType) -> Option<DenseData> {
    fn numbers<const N: usize, T>(bytes: &[u8], count: usize, read: impl Fn([u8; N]) -> T) -> Option<Vec<T>> {
        if bytes.len() != count.checked_mul(N)? {
            return None;
        }
        bytes.chunks_exact(N).map(|chunk| Some(read(chunk.try_into().ok()?))).collect()
    }
    match element {
        ElementType::F32 => {
            numbers(bytes, count, |b| Float(widen(f32::from_le_bytes(b)))).map(DenseData::F32)
        }
        ElementType::I64 => numbers(bytes, count, i64::from_le_bytes).map(DenseData::I64),
        ElementType::I32 => numbers(bytes, count, i32::from_le_bytes).map(DenseData::I32),
        ElementType::Bool => (bytes.len() == count.div_ceil(8))
            .then(|| DenseData::Bool((0..count).map(|i| bytes[i / 8] >> (i % 8) & 1 == 1).collect())),
        _ => None,
    }
}
