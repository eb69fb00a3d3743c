//! Codes and scales to numbers, sixteen at a time. Bit for bit the interpreter's `level · scale`.

use qcc_ir::ScaleType;
use qcc_ir::levels::{Minifloat, Specials};

use super::Levels;
use crate::kernels::atom;
use crate::kernels::emit::{Emitter, F32X16, I8X16, I32X16, Scalar, Value};
use crate::loops::storage::Storage;

impl Levels {
    /// The levels of sixteen bit patterns (`i32` lanes) of `bits` bits, the zero point taken off integers; `table` is where the header's table
    /// starts.
    pub(crate) fn decode(
        self,
        e: &mut Emitter,
        bits: u8,
        codes: Value,
        zero: Option<Value>,
        table: Value,
    ) -> Value {
        let off = |e: &mut Emitter, codes: Value| match zero {
            Some(zero) => e.sub(codes, zero),
            None => codes,
        };
        match self {
            Levels::Signed { exponent } => {
                let unused = e.ints(32 - i32::from(bits));
                let codes = e.shl(codes, unused);
                let codes = e.sar(codes, unused);
                let codes = off(e, codes);
                let steps = e.to_float(codes);
                scaled(e, steps, exponent)
            }
            Levels::Unsigned => {
                let codes = off(e, codes);
                e.to_float(codes)
            }
            Levels::Sign => {
                let (one, two) = (e.ints(1), e.ints(2));
                let twice = e.mul(codes, two);
                let sign = e.sub(twice, one);
                e.to_float(sign)
            }
            Levels::Minifloat(float) => minifloat(e, float, codes),
            Levels::Table => e.gather(table, codes),
        }
    }
}

fn scaled(e: &mut Emitter, x: Value, exponent: i32) -> Value {
    if exponent == 0 {
        return x;
    }
    let unit = e.floats(2f32.powi(exponent));
    e.mul(x, unit)
}

/// The numbers of small floats. Their exponent and mantissa, as those of an f32, are a number of another bias, subnormals included; a power of
/// two corrects it, exactly.
pub(crate) fn minifloat(e: &mut Emitter, float: Minifloat, codes: Value) -> Value {
    let magnitude_bits = i32::from(float.magnitude_bits());
    let (mask, sign_at) = (e.ints((1 << magnitude_bits) - 1), e.ints(31 - magnitude_bits));
    let magnitude = e.and(codes, mask);
    let shift = e.ints(23 - i32::from(float.mantissa));
    let bits = e.shl(magnitude, shift);
    let bits = e.bits(bits, F32X16);
    let mut x = scaled(e, bits, 127 - float.bias);
    if float.specials != Specials::None {
        let highest = e.ints(i32::from(float.highest()));
        let special = e.compare("sgt", magnitude, highest);
        let nan = e.floats(f32::NAN);
        let mut instead = nan;
        if let Some(infinity) = float.infinity() {
            let pattern = e.ints(i32::from(infinity));
            let infinite = e.compare("eq", magnitude, pattern);
            let value = e.floats(f32::INFINITY);
            instead = e.select(infinite, value, nan);
        }
        x = e.select(special, instead, x);
    }
    let sign = e.shl(codes, sign_at);
    let top = e.ints(i32::MIN);
    let sign = e.and(sign, top);
    let x = e.bits(x, I32X16);
    let x = e.or(x, sign);
    e.bits(x, F32X16)
}

/// Sixteen scales of a type at `p`, as f32.
pub(crate) fn scales(e: &mut Emitter, ty: ScaleType, p: Value) -> Value {
    match ty {
        ScaleType::F32 => e.load(p, F32X16),
        ScaleType::F16 => atom::load_halves(e, p),
        ScaleType::BF16 => Storage::BF16.load(e, p),
        ScaleType::E4M3 | ScaleType::E8M0 => {
            let codes = e.load(p, I8X16);
            let codes = e.extend_unsigned(codes, Scalar::I32);
            scale_codes(e, ty, codes)
        }
    }
}

/// The numbers of E4M3 or E8M0 codes.
pub(crate) fn scale_codes(e: &mut Emitter, ty: ScaleType, codes: Value) -> Value {
    debug_assert_eq!(codes.ty(), I32X16);
    if ty == ScaleType::E4M3 {
        let float = qcc_ir::Storage::Fp8E4M3.minifloat().expect("invariant: it is a small float");
        return minifloat(e, float, codes);
    }
    let shift = e.ints(23);
    let bits = e.shl(codes, shift);
    // 2^−127 is subnormal; 255 is NaN.
    let (zero, all) = (e.ints(0), e.ints(255));
    let least = e.compare("eq", codes, zero);
    let subnormal = e.ints(1 << 22);
    let bits = e.select(least, subnormal, bits);
    let none = e.compare("eq", codes, all);
    let nan = e.ints(0x7FC0_0000);
    let bits = e.select(none, nan, bits);
    e.bits(bits, F32X16)
}

/// Sixteen zero points, `shift` bits up in the bytes at `p`, with the sign of codes.
pub(crate) fn zero_points(e: &mut Emitter, levels: Levels, p: Value, shift: Value, bits: u32) -> Value {
    let bytes = e.load(p, I8X16);
    let bytes = e.extend_unsigned(bytes, Scalar::I32);
    let low = e.shr(bytes, shift);
    let unused = e.ints(32 - bits as i32);
    let high = e.shl(low, unused);
    match levels {
        Levels::Signed { .. } => e.sar(high, unused),
        _ => e.shr(high, unused),
    }
}
