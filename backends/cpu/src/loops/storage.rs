//! How elements lie in buffers, and loading and storing sixteen of them.
//!
//! Floats compute as `f32`, integers as `i64`. One-byte codes of quantized values load as `i32` codes: signed formats are stored with 128
//! added ([`Storage::Biased`]), which is what the unsigned operand of `vpdpbusd` wants.

use crate::kernels::emit::{Emitter, F32X16, I8X16, I32X16, Scalar, Type, Value};

/// Element storage in a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Storage {
    /// IEEE single.
    F32,
    /// IEEE half.
    F16,
    /// bfloat16.
    BF16,
    /// Signed byte; also signed codes for block-scaled weights' partners.
    I8,
    /// Unsigned byte or unsigned code.
    U8,
    /// Signed code plus 128, in an unsigned byte.
    Biased,
    /// 32-bit integer.
    I32,
    /// 64-bit integer.
    I64,
    /// One byte, 0 or 1.
    Bool,
}

/// Sixteen 64-bit integers.
pub const I64X16: Type = Type::Lanes(16, Scalar::I64);
const I16X16: Type = Type::Lanes(16, Scalar::I16);
const F16X16: Type = Type::Lanes(16, Scalar::F16);

impl Storage {
    /// Bytes of one element.
    pub fn bytes(self) -> i64 {
        match self {
            Storage::I64 => 8,
            Storage::F32 | Storage::I32 => 4,
            Storage::F16 | Storage::BF16 => 2,
            Storage::I8 | Storage::U8 | Storage::Biased | Storage::Bool => 1,
        }
    }

    /// Whether values compute as floats.
    pub fn is_float(self) -> bool {
        matches!(self, Storage::F32 | Storage::F16 | Storage::BF16)
    }

    /// Type of sixteen elements in memory.
    pub fn lanes(self) -> Type {
        match self {
            Storage::F32 => F32X16,
            Storage::F16 => F16X16,
            Storage::BF16 => I16X16,
            Storage::I32 => I32X16,
            Storage::I64 => I64X16,
            _ => I8X16,
        }
    }

    /// Sixteen elements at `p`, as `f32` or `i64`.
    pub fn load(self, e: &mut Emitter, p: Value) -> Value {
        let raw = e.load(p, self.lanes());
        self.widen(e, raw)
    }

    /// One element at `p` in every lane, as `f32` or `i64`.
    pub fn load_splat(self, e: &mut Emitter, p: Value) -> Value {
        let one = match self.lanes() {
            Type::Lanes(_, s) => Type::One(s),
            other => other,
        };
        let raw = e.load(p, one);
        let raw = e.splat(raw, 16);
        self.widen(e, raw)
    }

    /// Stored lanes as `f32` or `i64`.
    pub fn widen(self, e: &mut Emitter, raw: Value) -> Value {
        match self {
            Storage::F32 | Storage::I64 => raw,
            Storage::F16 => e.widen(raw, Scalar::F32),
            Storage::BF16 => {
                let wide = e.extend_unsigned(raw, Scalar::I32);
                let sixteen = e.ints(16);
                let bits = e.shl(wide, sixteen);
                e.bits(bits, F32X16)
            }
            Storage::I8 | Storage::I32 => e.extend(raw, Scalar::I64),
            Storage::U8 | Storage::Bool => e.extend_unsigned(raw, Scalar::I64),
            Storage::Biased => {
                let wide = e.extend_unsigned(raw, Scalar::I64);
                let bias = e.int_of(I64X16, 128);
                e.sub(wide, bias)
            }
        }
    }

    /// `f32` or `i64` lanes in stored form.
    pub fn narrow(self, e: &mut Emitter, x: Value) -> Value {
        match self {
            Storage::F32 | Storage::I64 => x,
            Storage::F16 => e.narrow(x, Scalar::F16),
            Storage::BF16 => {
                // Round to nearest even on the upper half; NaN keeps a set mantissa bit.
                let bits = e.bits(x, I32X16);
                let (sixteen, one, half) = (e.ints(16), e.ints(1), e.ints(0x7FFF));
                let upper = e.shr(bits, sixteen);
                let odd = e.and(upper, one);
                let up = e.add(bits, half);
                let up = e.add(up, odd);
                let rounded = e.shr(up, sixteen);
                let quiet = e.ints(0x40);
                let nan = e.or(upper, quiet);
                let number = e.compare_float("ord", x, x);
                let y = e.select(number, rounded, nan);
                e.truncate(y, Scalar::I16)
            }
            Storage::I32 => e.truncate(x, Scalar::I32),
            Storage::Biased => {
                let bias = e.int_of(I64X16, 128);
                let y = e.add(x, bias);
                e.truncate(y, Scalar::I8)
            }
            Storage::I8 | Storage::U8 | Storage::Bool => e.truncate(x, Scalar::I8),
        }
    }
}
