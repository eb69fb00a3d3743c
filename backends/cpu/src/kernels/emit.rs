//! A small SSA text builder for MLIR: fresh names, typed values, loops with carried values.
//!
//! Kernels are written as calls on an [`Emitter`]; the text it gathers is a list of `llvm.func`s whose bodies use only the
//! `llvm`, `arith`, `scf` and `vector` dialects, so that one short conversion pipeline lowers every kernel.
//! Sixteen lanes is the one vector width: LLVM splits it on narrower machines.
//! Always holds: no operation here lowers to a library call (no `roundeven`, no `exp`), on any target of [`TargetCaps`].

use std::fmt::{self, Display, Write};

use super::TargetCaps;

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

/// A cache that lines are asked into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cache {
    /// The first level.
    First,
    /// The second level.
    Second,
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

    /// The lane numbers 0..16 as `i32`.
    pub fn lane_numbers(&mut self) -> Value {
        self.op(
            I32X16,
            format_args!(
                "arith.constant dense<[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]> : vector<16xi32>"
            ),
        )
    }

    // ---- arithmetic -----------------------------------------------------------------------------------------------

    fn binary(&mut self, op: &str, a: Value, b: Value) -> Value {
        debug_assert_eq!(a.ty, b.ty, "invariant: operands of {op} agree");
        self.op(a.ty, format_args!("arith.{op} {a}, {b} : {}", a.ty))
    }

    fn numeric(&mut self, op: &str, a: Value, b: Value) -> Value {
        let name = format!("{op}{}", if a.ty.is_float() { "f" } else { "i" });
        self.binary(&name, a, b)
    }

    /// `a + b`.
    pub fn add(&mut self, a: Value, b: Value) -> Value {
        self.numeric("add", a, b)
    }

    /// `a - b`.
    pub fn sub(&mut self, a: Value, b: Value) -> Value {
        self.numeric("sub", a, b)
    }

    /// `a · b`.
    pub fn mul(&mut self, a: Value, b: Value) -> Value {
        self.numeric("mul", a, b)
    }

    /// `a / b`: floats, or unsigned integers rounding down.
    pub fn div(&mut self, a: Value, b: Value) -> Value {
        self.binary(if a.ty.is_float() { "divf" } else { "divui" }, a, b)
    }

    /// `a / b` of signed integers, rounding towards 0.
    pub fn div_signed(&mut self, a: Value, b: Value) -> Value {
        self.binary("divsi", a, b)
    }

    /// `a mod b` of unsigned integers.
    pub fn rem(&mut self, a: Value, b: Value) -> Value {
        self.binary("remui", a, b)
    }

    /// Bitwise and.
    pub fn and(&mut self, a: Value, b: Value) -> Value {
        self.binary("andi", a, b)
    }

    /// Bitwise or.
    pub fn or(&mut self, a: Value, b: Value) -> Value {
        self.binary("ori", a, b)
    }

    /// Bitwise exclusive or.
    pub fn xor(&mut self, a: Value, b: Value) -> Value {
        self.binary("xori", a, b)
    }

    /// Shift left.
    pub fn shl(&mut self, a: Value, b: Value) -> Value {
        self.binary("shli", a, b)
    }

    /// Logical shift right.
    pub fn shr(&mut self, a: Value, b: Value) -> Value {
        self.binary("shrui", a, b)
    }

    /// Arithmetic shift right.
    pub fn sar(&mut self, a: Value, b: Value) -> Value {
        self.binary("shrsi", a, b)
    }

    /// Smaller of two signed integers.
    pub fn min_int(&mut self, a: Value, b: Value) -> Value {
        self.binary("minsi", a, b)
    }

    /// Larger of two unsigned integers.
    pub fn max_unsigned(&mut self, a: Value, b: Value) -> Value {
        self.binary("maxui", a, b)
    }

    /// Larger of two signed integers.
    pub fn max_int(&mut self, a: Value, b: Value) -> Value {
        self.binary("maxsi", a, b)
    }

    /// `i64` arithmetic with a constant: `a + x`.
    pub fn plus(&mut self, a: Value, x: i64) -> Value {
        let c = self.int(x);
        self.add(a, c)
    }

    /// `i64` arithmetic with a constant: `a · x`.
    pub fn times(&mut self, a: Value, x: i64) -> Value {
        let c = self.int(x);
        self.mul(a, c)
    }

    /// `i64` arithmetic with a constant: `⌈a / x⌉`.
    pub fn ceil_div(&mut self, a: Value, x: i64) -> Value {
        let up = self.plus(a, x - 1);
        let c = self.int(x);
        self.div(up, c)
    }

    /// Integer comparison by MLIR predicate (`eq`, `ne`, `slt`, `sle`, `sgt`, `sge`, …).
    pub fn compare(&mut self, predicate: &str, a: Value, b: Value) -> Value {
        let ty = a.ty.with(Scalar::I1);
        self.op(ty, format_args!("arith.cmpi {predicate}, {a}, {b} : {}", a.ty))
    }

    /// Float comparison by MLIR predicate (`olt`, `ogt`, `uno`, `ord`, …).
    pub fn compare_float(&mut self, predicate: &str, a: Value, b: Value) -> Value {
        let ty = a.ty.with(Scalar::I1);
        self.op(ty, format_args!("arith.cmpf {predicate}, {a}, {b} : {}", a.ty))
    }

    /// `condition ? a : b`, lane by lane where the condition is a vector.
    pub fn select(&mut self, condition: Value, a: Value, b: Value) -> Value {
        let of = match condition.ty {
            Type::Lanes(..) => format!("{}, {}", condition.ty, a.ty),
            _ => a.ty.to_string(),
        };
        self.op(a.ty, format_args!("arith.select {condition}, {a}, {b} : {of}"))
    }

    /// `a > b ? a : b`: one `vmaxps`; `b` where either is NaN.
    pub fn larger(&mut self, a: Value, b: Value) -> Value {
        let c = self.compare_float("ogt", a, b);
        self.select(c, a, b)
    }

    /// `a < b ? a : b`: one `vminps`; `b` where either is NaN.
    pub fn smaller(&mut self, a: Value, b: Value) -> Value {
        let c = self.compare_float("olt", a, b);
        self.select(c, a, b)
    }

    /// `|x|` of floats.
    pub fn magnitude(&mut self, x: Value) -> Value {
        self.op(x.ty, format_args!("llvm.intr.fabs({x}) : ({0}) -> {0}", x.ty))
    }

    /// `-x` of floats.
    pub fn negate(&mut self, x: Value) -> Value {
        self.op(x.ty, format_args!("arith.negf {x} : {}", x.ty))
    }

    /// `√x` of floats, rounded correctly.
    pub fn square_root(&mut self, x: Value) -> Value {
        self.op(x.ty, format_args!("llvm.intr.sqrt({x}) : ({0}) -> {0}", x.ty))
    }

    /// The hardware's fused multiply-add; only where `caps.fma`.
    pub(super) fn hardware_fma(&mut self, a: Value, b: Value, c: Value) -> Value {
        self.op(a.ty, format_args!("llvm.intr.fma({a}, {b}, {c}) : ({0}, {0}, {0}) -> {0}", a.ty))
    }

    fn convert(&mut self, op: &str, x: Value, to: Scalar) -> Value {
        let ty = x.ty.with(to);
        self.op(ty, format_args!("arith.{op} {x} : {} to {ty}", x.ty))
    }

    /// Signed integers to `f32`.
    pub fn to_float(&mut self, x: Value) -> Value {
        self.convert("sitofp", x, Scalar::F32)
    }

    /// Signed integers to `f64`.
    pub fn to_double(&mut self, x: Value) -> Value {
        self.convert("sitofp", x, Scalar::F64)
    }

    /// Narrower integers, dropping high bits.
    pub fn truncate(&mut self, x: Value, to: Scalar) -> Value {
        self.convert("trunci", x, to)
    }

    /// Wider integers, sign extended.
    pub fn extend(&mut self, x: Value, to: Scalar) -> Value {
        self.convert("extsi", x, to)
    }

    /// Wider integers, zero extended.
    pub fn extend_unsigned(&mut self, x: Value, to: Scalar) -> Value {
        self.convert("extui", x, to)
    }

    /// Wider floats.
    pub fn widen(&mut self, x: Value, to: Scalar) -> Value {
        self.convert("extf", x, to)
    }

    /// Narrower floats, rounded to nearest even.
    pub fn narrow(&mut self, x: Value, to: Scalar) -> Value {
        self.convert("truncf", x, to)
    }

    /// The same bits as another type of the same size.
    pub fn bits(&mut self, x: Value, ty: Type) -> Value {
        if x.ty == ty {
            return x;
        }
        self.op(ty, format_args!("llvm.bitcast {x} : {} to {ty}", x.ty))
    }

    // ---- vectors --------------------------------------------------------------------------------------------------

    /// A scalar in each of `lanes` lanes.
    pub fn splat(&mut self, x: Value, lanes: u16) -> Value {
        let ty = Type::Lanes(lanes, x.ty.scalar());
        self.op(ty, format_args!("vector.broadcast {x} : {} to {ty}", x.ty))
    }

    /// One lane.
    pub fn lane(&mut self, x: Value, lane: usize) -> Value {
        let ty = Type::One(x.ty.scalar());
        self.op(ty, format_args!("vector.extract {x}[{lane}] : {ty} from {}", x.ty))
    }

    /// Lanes of `a` then `b`, in the order of `pick`.
    pub fn shuffle(&mut self, a: Value, b: Value, pick: &[usize]) -> Value {
        let ty = Type::Lanes(pick.len() as u16, a.ty.scalar());
        self.op(ty, format_args!("llvm.shufflevector {a}, {b} {pick:?} : {}", a.ty))
    }

    /// Folds the lanes of a vector in halves: a fixed order, so that sums are reproducible.
    pub fn fold(&mut self, x: Value, mut combine: impl FnMut(&mut Self, Value, Value) -> Value) -> Value {
        let Type::Lanes(mut n, _) = x.ty else { return x };
        let mut v = x;
        while n > 1 {
            let half = usize::from(n / 2);
            let low: Vec<usize> = (0..half).collect();
            let high: Vec<usize> = (half..2 * half).collect();
            let a = self.shuffle(v, v, &low);
            let b = self.shuffle(v, v, &high);
            v = combine(self, a, b);
            n /= 2;
        }
        self.lane(v, 0)
    }

    /// Sum of the lanes.
    pub fn sum(&mut self, x: Value) -> Value {
        self.fold(x, Self::add)
    }

    // ---- memory ---------------------------------------------------------------------------------------------------

    /// `p + bytes`.
    pub fn at(&mut self, p: Value, bytes: Value) -> Value {
        self.op(
            Type::Ptr,
            format_args!("llvm.getelementptr {p}[{bytes}] : (!llvm.ptr, i64) -> !llvm.ptr, i8"),
        )
    }

    /// `p + bytes` for a constant distance.
    pub fn offset(&mut self, p: Value, bytes: i64) -> Value {
        if bytes == 0 {
            return p;
        }
        self.op(Type::Ptr, format_args!("llvm.getelementptr {p}[{bytes}] : (!llvm.ptr) -> !llvm.ptr, i8"))
    }

    /// `p + index · size`.
    pub fn element(&mut self, p: Value, index: Value, size: i64) -> Value {
        let bytes = self.times(index, size);
        self.at(p, bytes)
    }

    /// Reads a value; no alignment is assumed.
    pub fn load(&mut self, p: Value, ty: Type) -> Value {
        self.op(ty, format_args!("llvm.load {p} {{alignment = 1 : i64}} : !llvm.ptr -> {ty}"))
    }

    /// Sixteen f32 of the table at `p`, by index (`i32` lanes).
    pub fn gather(&mut self, p: Value, indices: Value) -> Value {
        let every =
            self.op(Type::Lanes(16, Scalar::I1), format_args!("arith.constant dense<true> : vector<16xi1>"));
        let other = self.floats(0.0);
        self.next += 1;
        let pointers = self.next;
        self.line(format_args!(
            "%v{pointers} = llvm.getelementptr {p}[{indices}] : (!llvm.ptr, {}) -> vector<16x!llvm.ptr>, f32",
            indices.ty
        ));
        self.op(
            F32X16,
            format_args!(
                "llvm.intr.masked.gather %v{pointers}, {every}, {other} {{alignment = 4 : i32}} : (vector<16x!llvm.ptr>, vector<16xi1>, vector<16xf32>) -> vector<16xf32>"
            ),
        )
    }

    /// Writes a value; no alignment is assumed.
    pub fn store(&mut self, x: Value, p: Value) {
        self.line(format_args!("llvm.store {x}, {p} {{alignment = 1 : i64}} : {}, !llvm.ptr", x.ty));
    }

    /// Reads the lanes that `mask` names and nothing else; the others are `other`'s.
    pub fn load_masked(&mut self, p: Value, mask: Value, other: Value) -> Value {
        let ty = other.ty;
        self.op(
            ty,
            format_args!(
                "llvm.intr.masked.load {p}, {mask}, {other} {{alignment = 1 : i32}} : (!llvm.ptr, {}, {ty}) -> {ty}",
                mask.ty
            ),
        )
    }

    /// Writes the lanes that `mask` names.
    pub fn store_masked(&mut self, x: Value, p: Value, mask: Value) {
        self.line(format_args!(
            "llvm.intr.masked.store {x}, {p}, {mask} {{alignment = 1 : i32}} : {}, {} into !llvm.ptr",
            x.ty, mask.ty
        ));
    }

    /// The mask of the first `count` (`i64`) of 16 or 64 lanes.
    pub fn mask(&mut self, count: Value, lanes: u16) -> Value {
        let scalar = if lanes == 16 { Scalar::I32 } else { Scalar::I8 };
        let most = self.int(i64::from(lanes));
        let count = self.min_int(count, most);
        let count = self.truncate(count, scalar);
        let count = self.splat(count, lanes);
        let numbers: Vec<String> = (0..lanes).map(|lane| lane.to_string()).collect();
        let ty = Type::Lanes(lanes, scalar);
        let lanes = self.op(ty, format_args!("arith.constant dense<[{}]> : {ty}", numbers.join(", ")));
        self.compare("slt", lanes, count)
    }

    /// Writes the first `count` (`i64`) lanes of sixteen or sixty-four.
    pub fn store_first(&mut self, x: Value, p: Value, count: Value) {
        let lanes = match x.ty {
            Type::Lanes(lanes, _) => lanes,
            _ => 1,
        };
        let all = self.int(i64::from(lanes));
        let whole = self.compare("sge", count, all);
        self.branch(
            whole,
            |e| e.store(x, p),
            |e| {
                let mask = e.mask(count, lanes);
                e.store_masked(x, p, mask);
            },
        );
    }

    /// Asks for the line at `p` to be brought near; there need be nothing.
    pub fn prefetch(&mut self, p: Value, to: Cache) {
        let hint = match to {
            Cache::First => 3,
            Cache::Second => 2,
        };
        self.line(format_args!(
            "\"llvm.intr.prefetch\"({p}) <{{cache = 1 : i32, hint = {hint} : i32, rw = 0 : i32}}> : (!llvm.ptr) -> ()"
        ));
    }

    /// Copies `bytes`, neither over- nor underrunning.
    pub fn copy_exact(&mut self, to: Value, from: Value, bytes: Value) {
        self.line(format_args!(
            "\"llvm.intr.memcpy\"({to}, {from}, {bytes}) <{{isVolatile = false}}> : (!llvm.ptr, !llvm.ptr, i64) -> ()"
        ));
    }

    /// Copies at least `bytes`, in whole 64-byte pieces: both sides need 63 spare bytes.
    pub fn copy_pieces(&mut self, to: Value, from: Value, bytes: Value) {
        let (zero, piece) = (self.int(0), self.int(64));
        self.repeat(zero, bytes, piece, &[], |e, i, _| {
            let s = e.at(from, i);
            let v = e.load(s, I8X64);
            let d = e.at(to, i);
            e.store(v, d);
            Vec::new()
        });
    }

    /// Fills at least `bytes` with a vector of bytes, in whole 64-byte pieces.
    pub fn fill_pieces(&mut self, to: Value, bytes: Value, with: Value) {
        let (zero, piece) = (self.int(0), self.int(64));
        self.repeat(zero, bytes, piece, &[], |e, i, _| {
            let d = e.at(to, i);
            e.store(with, d);
            Vec::new()
        });
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
