//! A small SSA text builder for MLIR: fresh names, typed values, loops with carried values.
//!
//! Kernels are written as calls on an [`Emitter`]; the text it gathers is a list of `llvm.func`s whose bodies use only the
//! `llvm`, `arith`, `scf` and `vector` dialects, so that one short conversion pipeline lowers every kernel.
//! Sixteen lanes is the one vector width: LLVM splits it on narrower machines.
//! Always holds: no operation here lowers to a library call (no `roundeven`, no `exp`), on any target of [`TargetCaps`].

mod amx;
mod arithmetic;
mod memory;
mod vectors;

use std::fmt::{self, Display, Write};

use super::TargetCaps;
pub use amx::Signs;
pub use memory::Cache;

/// Element type of a scalar or vector value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Scalar {
    I1,
    I8,
    I16,
    I32,
    I64,
    F16,
    BF16,
    F32,
    F64,
}

/// Type of an SSA value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Type {
    /// An untyped address.
    Ptr,
    /// One number.
    One(Scalar),
    /// So many lanes of numbers.
    Lanes(u16, Scalar),
}

/// `i64`, the type of every size, index and loop counter.
pub const I64: Type = Type::One(Scalar::I64);
/// `i32`.
pub const I32: Type = Type::One(Scalar::I32);
/// `i8`.
pub const I8: Type = Type::One(Scalar::I8);
/// `f32`.
pub const F32: Type = Type::One(Scalar::F32);
/// One vector register of f32.
pub const F32X16: Type = Type::Lanes(16, Scalar::F32);
/// One vector register of i32.
pub const I32X16: Type = Type::Lanes(16, Scalar::I32);
/// Sixteen bytes: the codes of one vector of values.
pub const I8X16: Type = Type::Lanes(16, Scalar::I8);
/// One vector register of bytes.
pub const I8X64: Type = Type::Lanes(64, Scalar::I8);

impl Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |s: &Scalar| match s {
            Scalar::I1 => "i1",
            Scalar::I8 => "i8",
            Scalar::I16 => "i16",
            Scalar::I32 => "i32",
            Scalar::I64 => "i64",
            Scalar::F16 => "f16",
            Scalar::BF16 => "bf16",
            Scalar::F32 => "f32",
            Scalar::F64 => "f64",
        };
        match self {
            Type::Ptr => f.write_str("!llvm.ptr"),
            Type::One(s) => f.write_str(name(s)),
            Type::Lanes(n, s) => write!(f, "vector<{n}x{}>", name(s)),
        }
    }
}

impl Type {
    fn scalar(self) -> Scalar {
        match self {
            Type::One(s) | Type::Lanes(_, s) => s,
            Type::Ptr => unreachable!("invariant: arithmetic on numbers only"),
        }
    }

    fn is_float(self) -> bool {
        matches!(self.scalar(), Scalar::F16 | Scalar::BF16 | Scalar::F32 | Scalar::F64)
    }

    fn with(self, s: Scalar) -> Type {
        match self {
            Type::Lanes(n, _) => Type::Lanes(n, s),
            _ => Type::One(s),
        }
    }
}

/// An SSA value: its name and type.
#[derive(Clone, Copy, Debug)]
pub struct Value {
    id: u32,
    part: Option<u16>,
    ty: Type,
}

impl Value {
    /// The value's type.
    pub fn ty(self) -> Type {
        self.ty
    }
}

impl Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.part {
            Some(p) => write!(f, "%v{}#{p}", self.id),
            None => write!(f, "%v{}", self.id),
        }
    }
}

/// Names and types of `values` as MLIR lists them: `a, b` and `ta, tb`.
fn lists(values: &[Value]) -> (String, String) {
    let join = |parts: Vec<String>| parts.join(", ");
    (
        join(values.iter().map(Value::to_string).collect()),
        join(values.iter().map(|v| v.ty.to_string()).collect()),
    )
}

/// Gathers the text of one kernel.
pub struct Emitter {
    text: String,
    next: u32,
    /// What the machine offers; read by the emitters that have alternatives.
    pub caps: TargetCaps,
}

impl Emitter {
    /// An empty text for a target.
    pub fn new(caps: &TargetCaps) -> Self {
        Emitter { text: String::new(), next: 0, caps: caps.clone() }
    }

    /// The gathered functions.
    pub fn finish(self) -> String {
        self.text
    }

    fn line(&mut self, line: fmt::Arguments<'_>) {
        self.text.write_fmt(line).expect("invariant: writing to a string cannot fail");
        self.text.push('\n');
    }

    fn fresh(&mut self, ty: Type) -> Value {
        self.next += 1;
        Value { id: self.next, part: None, ty }
    }

    fn op(&mut self, ty: Type, text: fmt::Arguments<'_>) -> Value {
        let v = self.fresh(ty);
        self.line(format_args!("{v} = {text}"));
        v
    }

    // ---- functions and control flow -------------------------------------------------------------------------------

    /// A function; `public` ones keep their symbol, others are private to the object and may be inlined or kept.
    pub fn function(
        &mut self,
        name: &str,
        public: bool,
        parameters: &[Type],
        body: impl FnOnce(&mut Self, &[Value]),
    ) {
        let values: Vec<Value> = parameters.iter().map(|&t| self.fresh(t)).collect();
        let list: Vec<String> = values.iter().map(|v| format!("{v}: {}", v.ty)).collect();
        let linkage = if public { "" } else { "internal " };
        let keep = if public { "" } else { " attributes {passthrough = [\"noinline\"]}" };
        self.line(format_args!("llvm.func {linkage}@{name}({}){keep} {{", list.join(", ")));
        body(self, &values);
        self.line(format_args!("llvm.return"));
        self.line(format_args!("}}"));
    }

    /// The kernel ABI: `(args, begin, end, scratch)`.
    pub fn kernel(&mut self, name: &str, body: impl FnOnce(&mut Self, Kernel)) {
        self.function(name, true, &[Type::Ptr, I64, I64, Type::Ptr], |e, p| {
            body(e, Kernel { args: p[0], begin: p[1], end: p[2], scratch: p[3] });
        });
    }

    /// `for i in from..to step by step`, carrying values; returns them after the last round.
    pub fn repeat(
        &mut self,
        from: Value,
        to: Value,
        step: Value,
        carried: &[Value],
        body: impl FnOnce(&mut Self, Value, &[Value]) -> Vec<Value>,
    ) -> Vec<Value> {
        let result = self.fresh(I64).id;
        let i = self.fresh(I64);
        let inner: Vec<Value> = carried.iter().map(|v| self.fresh(v.ty)).collect();
        if carried.is_empty() {
            self.line(format_args!("scf.for {i} = {from} to {to} step {step} : i64 {{"));
            body(self, i, &[]);
            self.line(format_args!("}}"));
            return Vec::new();
        }
        let binds: Vec<String> = inner.iter().zip(carried).map(|(a, b)| format!("{a} = {b}")).collect();
        let (_, types) = lists(carried);
        let n = carried.len();
        self.line(format_args!(
            "%v{result}:{n} = scf.for {i} = {from} to {to} step {step} iter_args({}) -> ({types}) : i64 {{",
            binds.join(", ")
        ));
        let out = body(self, i, &inner);
        let (names, types) = lists(&out);
        self.line(format_args!("scf.yield {names} : {types}"));
        self.line(format_args!("}}"));
        (0..n).map(|p| Value { id: result, part: Some(p as u16), ty: carried[p].ty }).collect()
    }

    /// `for i in from..to`, carrying nothing.
    pub fn each(&mut self, from: Value, to: Value, body: impl FnOnce(&mut Self, Value)) {
        let one = self.int(1);
        self.repeat(from, to, one, &[], |e, i, _| {
            body(e, i);
            Vec::new()
        });
    }

    /// Both arms give values of the same types.
    pub fn choose(
        &mut self,
        condition: Value,
        types: &[Type],
        yes: impl FnOnce(&mut Self) -> Vec<Value>,
        no: impl FnOnce(&mut Self) -> Vec<Value>,
    ) -> Vec<Value> {
        let result = self.fresh(I64).id;
        let list: Vec<String> = types.iter().map(Type::to_string).collect();
        self.line(format_args!(
            "%v{result}:{} = scf.if {condition} -> ({}) {{",
            types.len(),
            list.join(", ")
        ));
        let out = yes(self);
        let (names, tys) = lists(&out);
        self.line(format_args!("scf.yield {names} : {tys}\n}} else {{"));
        let out = no(self);
        let (names, tys) = lists(&out);
        self.line(format_args!("scf.yield {names} : {tys}\n}}"));
        (0..types.len()).map(|p| Value { id: result, part: Some(p as u16), ty: types[p] }).collect()
    }

    /// Runs `body` where the condition holds.
    pub fn when(&mut self, condition: Value, body: impl FnOnce(&mut Self)) {
        self.line(format_args!("scf.if {condition} {{"));
        body(self);
        self.line(format_args!("}}"));
    }

    /// Runs one of two bodies.
    pub fn branch(&mut self, condition: Value, yes: impl FnOnce(&mut Self), no: impl FnOnce(&mut Self)) {
        self.line(format_args!("scf.if {condition} {{"));
        yes(self);
        self.line(format_args!("}} else {{"));
        no(self);
        self.line(format_args!("}}"));
    }

    /// Calls a function of this text that returns nothing.
    pub fn call(&mut self, name: &str, arguments: &[Value]) {
        let (names, types) = lists(arguments);
        self.line(format_args!("llvm.call @{name}({names}) : ({types}) -> ()"));
    }

    /// Calls an LLVM intrinsic by name.
    pub fn intrinsic(&mut self, name: &str, arguments: &[Value], ty: Type) -> Value {
        let (names, types) = lists(arguments);
        self.op(ty, format_args!("llvm.call_intrinsic \"{name}\"({names}) : ({types}) -> {ty}"))
    }

    // ---- constants ------------------------------------------------------------------------------------------------

    /// An `i64` constant.
    pub fn int(&mut self, x: i64) -> Value {
        self.op(I64, format_args!("arith.constant {x} : i64"))
    }

    /// A constant of any integer type, the same in every lane.
    pub fn int_of(&mut self, ty: Type, x: i64) -> Value {
        match ty {
            Type::Lanes(..) => self.op(ty, format_args!("arith.constant dense<{x}> : {ty}")),
            _ => self.op(ty, format_args!("arith.constant {x} : {ty}")),
        }
    }

    /// An `f32` constant, the same in every lane where `ty` is a vector.
    pub fn float_of(&mut self, ty: Type, x: f32) -> Value {
        let bits = x.to_bits();
        match ty {
            Type::Lanes(..) => self.op(ty, format_args!("arith.constant dense<0x{bits:08X}> : {ty}")),
            _ => self.op(ty, format_args!("arith.constant 0x{bits:08X} : {ty}")),
        }
    }

    /// An `f32` vector constant.
    pub fn floats(&mut self, x: f32) -> Value {
        self.float_of(F32X16, x)
    }

    /// An `f64` constant in each of sixteen lanes.
    pub fn doubles(&mut self, x: f64) -> Value {
        let ty = Type::Lanes(16, Scalar::F64);
        self.op(ty, format_args!("arith.constant dense<0x{:016X}> : {ty}", x.to_bits()))
    }

    /// An `i32` vector constant.
    pub fn ints(&mut self, x: i32) -> Value {
        self.int_of(I32X16, i64::from(x))
    }

    /// Sixty-four bytes.
    pub fn bytes(&mut self, bytes: &[i64; 64]) -> Value {
        let list = bytes.map(|byte| byte.to_string()).join(", ");
        self.op(I8X64, format_args!("arith.constant dense<[{list}]> : {I8X64}"))
    }

    /// The lane numbers 0..16 as `i32`.
    pub fn lane_numbers(&mut self) -> Value {
        self.op(
            I32X16,
            format_args!(
                "arith.constant dense<[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]> : vector<16xi32>"
            ),
        )
    }
}

/// The four parameters of every kernel.
#[derive(Clone, Copy)]
pub struct Kernel {
    args: Value,
    /// First work item of this call.
    pub begin: Value,
    /// One past its last work item.
    pub end: Value,
    /// This worker's own memory.
    pub scratch: Value,
}

impl Kernel {
    /// The same with other scratch memory.
    pub fn with_scratch(self, scratch: Value) -> Kernel {
        Kernel { scratch, ..self }
    }

    /// Slot `name` of `names` as an address.
    pub fn pointer(&self, e: &mut Emitter, names: &[&str], name: &str) -> Value {
        self.slot(e, names, name, Type::Ptr)
    }

    /// Slot `name` of `names` as an `i64`.
    pub fn size(&self, e: &mut Emitter, names: &[&str], name: &str) -> Value {
        self.slot(e, names, name, I64)
    }

    fn slot(&self, e: &mut Emitter, names: &[&str], name: &str, ty: Type) -> Value {
        let index =
            names.iter().position(|n| *n == name).expect("invariant: a generator reads its own slots");
        let p = e.offset(self.args, 8 * index as i64);
        e.load(p, ty)
    }
}
