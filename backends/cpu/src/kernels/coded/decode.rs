//! Codes and scales to numbers, sixteen at a time. Bit for bit the interpreter's `level · scale`.

use qcc_ir::ScaleType;
use qcc_ir::levels::{Minifloat, Specials};

use super::Levels;
use crate::kernels::atom;
use crate::kernels::emit::{Emitter, F32X16, I8X16, I32X16, Scalar, Type, Value};
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
                let codes = signed(e, bits, codes);
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
            Levels::F16 if e.caps.f16c => {
                let halves = e.truncate(codes, Scalar::I16);
                let halves = e.bits(halves, Type::Lanes(16, Scalar::F16));
                e.widen(halves, Scalar::F32)
            }
            Levels::F16 => minifloat(e, Minifloat::HALF, codes),
            Levels::BF16 => {
                let sixteen = e.ints(16);
                let bits = e.shl(codes, sixteen);
                e.bits(bits, F32X16)
            }
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

/// The numbers of small floats. Exponent and mantissa are those of an f32 but for the bias; subnormals are whole steps. (Subnormals of f32, which
/// they also are until their bias is corrected, take CPUs a hundred cycles each.)
pub(crate) fn minifloat(e: &mut Emitter, float: Minifloat, codes: Value) -> Value {
    let magnitude_bits = i32::from(float.magnitude_bits());
    let (mask, sign_at) = (e.ints((1 << magnitude_bits) - 1), e.ints(31 - magnitude_bits));
    let magnitude = e.and(codes, mask);
    let shift = e.ints(23 - i32::from(float.mantissa));
    let bits = e.shl(magnitude, shift);
    let bias = e.ints((127 - float.bias) << 23);
    let bits = e.add(bits, bias);
    let normal = e.bits(bits, F32X16);
    let steps = e.to_float(magnitude);
    let subnormal = scaled(e, steps, float.least_exponent() - i32::from(float.mantissa));
    let first = e.ints(1 << float.mantissa);
    let small = e.compare("slt", magnitude, first);
    let mut x = e.select(small, subnormal, normal);
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

/// Sixteen patterns of `bits` bits each that lie beside each other from `p` on, with 16 readable bytes before them.
pub(crate) fn patterns(e: &mut Emitter, bits: u8, p: Value) -> Value {
    if bits == 8 || bits == 16 {
        let codes = e.load(p, if bits == 8 { I8X16 } else { Type::Lanes(16, Scalar::I16) });
        return e.extend_unsigned(codes, Scalar::I32);
    }
    let bits = usize::from(bits);
    let bytes = 2 * bits;
    // The last sixteen bytes of them, and the first.
    let last = e.offset(p, bytes as i64 - 16);
    let last = e.load(last, I8X16);
    let first = if bytes > 16 { e.load(p, I8X16) } else { last };
    // Where a byte is in `first`, then `last`. Bits past those of a pattern are masked.
    let place = |byte: usize| {
        if byte < bytes.min(16) && bytes > 16 { byte } else { byte.min(bytes - 1) + 32 - bytes }
    };
    let spans = (0..16).map(|i| (i * bits % 8 + bits).div_ceil(8)).max().unwrap_or(1);
    let mut word = e.ints(0);
    for i in 0..spans {
        let pick: Vec<usize> = (0..16).map(|lane| place(lane * bits / 8 + i)).collect();
        let part = e.shuffle(first, last, &pick);
        let part = e.extend_unsigned(part, Scalar::I32);
        let at = e.ints(8 * i as i32);
        let part = e.shl(part, at);
        word = e.or(word, part);
    }
    let (lanes, each, seven) = (e.lane_numbers(), e.ints(bits as i32), e.ints(7));
    let shift = e.mul(lanes, each);
    let shift = e.and(shift, seven);
    let word = e.shr(word, shift);
    let mask = e.ints((1 << bits) - 1);
    e.and(word, mask)
}

/// Patterns of `bits` bits as two's complement integers.
pub(crate) fn signed(e: &mut Emitter, bits: u8, patterns: Value) -> Value {
    let unused = e.ints(32 - i32::from(bits));
    let high = e.shl(patterns, unused);
    e.sar(high, unused)
}
