//! Arithmetic, comparisons and conversions, of single numbers and of lanes.

use super::{Emitter, Scalar, Type, Value};

impl Emitter {
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
    pub(in crate::kernels) fn hardware_fma(&mut self, a: Value, b: Value, c: Value) -> Value {
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
}
