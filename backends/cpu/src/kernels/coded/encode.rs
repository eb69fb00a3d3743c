//! Numbers to codes, sixteen at a time: bit for bit the interpreter's, ties to even and saturating.

use qcc_ir::levels::{Minifloat, NF4};
use qcc_ir::{QuantType, Storage};

use crate::kernels::emit::{Emitter, F32X16, I32X16, Value};
use crate::kernels::epilogue::Quantizer;

/// How a scaled number becomes the bit pattern of a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Nearest {
    /// Integers times `2^exponent`, plus a zero point.
    Integer {
        /// Least code.
        lo: i16,
        /// Greatest code.
        hi: i16,
        /// Exponent of a step.
        exponent: i32,
    },
    /// Small floats.
    Minifloat(Minifloat),
    /// −1 and 1.
    Sign,
    /// The levels of NF4.
    Nf4,
}

impl Nearest {
    /// Of a quantized type; `None` where levels are found in the numbers, or codes have more than a byte.
    pub fn of(q: QuantType, narrow: bool) -> Option<Nearest> {
        if q.storage.bits() > 8 {
            return None;
        }
        if let Some(float) = q.storage.minifloat() {
            return Some(Nearest::Minifloat(float));
        }
        let exponent = qcc_ir::levels::exponent_of(q.unit());
        match q.storage {
            Storage::Binary => Some(Nearest::Sign),
            Storage::Nf4 => Some(Nearest::Nf4),
            storage => {
                let (lo, hi) = storage.integer_range(narrow).or_else(|| {
                    let top = (1i32 << (storage.bits() - 1)) - 1;
                    let narrow = narrow || storage == Storage::Ternary;
                    storage.is_signed_integer().then_some((if narrow { -top } else { -top - 1 }, top))
                })?;
                Some(Nearest::Integer { lo: i16::try_from(lo).ok()?, hi: i16::try_from(hi).ok()?, exponent })
            }
        }
    }

    /// The codes of `x · inverse`, as `i32` lanes: integers as they are (`offset` is added), all others as bit patterns.
    pub(crate) fn encode(self, e: &mut Emitter, x: Value, inverse: Value, zero: Value, offset: i64) -> Value {
        if let Nearest::Integer { lo, hi, exponent } = self {
            let zero = e.plus(zero, offset);
            let quantizer = Quantizer::with_inverse(e, inverse, zero, lo + offset as i16, hi + offset as i16);
            let mut scaled = e.mul(x, inverse);
            if exponent != 0 {
                let steps = e.floats(2f32.powi(-exponent));
                scaled = e.mul(scaled, steps);
            }
            return quantizer.scaled(e, scaled);
        }
        let scaled = e.mul(x, inverse);
        match self {
            Nearest::Minifloat(float) => minifloat(e, float, scaled),
            Nearest::Sign => {
                let nothing = e.floats(0.0);
                let negative = e.compare_float("olt", scaled, nothing);
                let (low, high) = (e.ints(0), e.ints(1));
                e.select(negative, low, high)
            }
            _ => nf4(e, scaled),
        }
    }
}

impl Nearest {
    /// As [`Nearest::encode`], with a zero point in each lane (`i32`): the rounded number is clamped with it.
    pub(crate) fn encode_lanes(
        self,
        e: &mut Emitter,
        x: Value,
        inverse: Value,
        zero: Value,
        offset: i64,
    ) -> Value {
        let none = e.int(0);
        let Nearest::Integer { lo, hi, exponent } = self else {
            return self.encode(e, x, inverse, none, offset);
        };
        // Twice the range reaches every code from any zero point.
        let wide = Nearest::Integer { lo: 2 * lo - hi, hi: 2 * hi - lo, exponent };
        let code = wide.encode(e, x, inverse, none, 0);
        let code = e.add(code, zero);
        let (low, high) = (e.ints(i32::from(lo)), e.ints(i32::from(hi)));
        let code = e.max_int(code, low);
        let code = e.min_int(code, high);
        let offset = e.ints(offset as i32);
        e.add(code, offset)
    }
}

/// The pattern of the nearest small float, that of the greatest number for whatever is greater.
pub(crate) fn minifloat(e: &mut Emitter, float: Minifloat, x: Value) -> Value {
    let mantissa = i32::from(float.mantissa);
    let size = e.magnitude(x);
    #[allow(clippy::cast_possible_truncation, reason = "levels are f32 numbers")]
    let largest = e.floats(float.magnitude(float.highest()) as f32);
    // NaN stays NaN until the end.
    let size = e.smaller(size, largest);
    let bits = e.bits(size, I32X16);
    let shift = e.ints(23);
    let stored = e.shr(bits, shift);
    let least = e.ints(float.least_exponent() + 127);
    let exponent = e.max_int(stored, least);
    // size · 2^(mantissa − exponent), exactly.
    let power = e.ints(254 + mantissa);
    let power = e.sub(power, exponent);
    let power = e.shl(power, shift);
    let power = e.bits(power, F32X16);
    let steps = e.mul(size, power);
    // Below 2^(mantissa + 1): integers are exact, and so is what is left of them.
    let whole = truncated(e, steps);
    let below = e.to_float(whole);
    let rest = e.sub(steps, below);
    let binades = e.sub(exponent, least);
    let by = e.ints(mantissa);
    let binades = e.shl(binades, by);
    let code = e.add(binades, whole);
    let (one, half) = (e.ints(1), e.floats(0.5));
    let odd = e.and(code, one);
    let up = e.compare_float("ogt", rest, half);
    let tie = e.compare_float("oeq", rest, half);
    let nothing = e.ints(0);
    let of_tie = e.select(tie, odd, nothing);
    let up = e.select(up, one, of_tie);
    let code = e.add(code, up);
    let highest = e.ints(i32::from(float.highest()));
    let code = e.min_int(code, highest);
    let signs = e.bits(x, I32X16);
    let by = e.ints(31);
    let sign = e.shr(signs, by);
    let by = e.ints(i32::from(float.magnitude_bits()));
    let sign = e.shl(sign, by);
    let code = e.or(code, sign);
    let number = e.compare_float("ord", x, x);
    let nan = e.ints(i32::from(float.nan().unwrap_or(0)));
    e.select(number, code, nan)
}

/// Non-negative numbers below 2²² rounded down, by a sum that drops their fractions.
fn truncated(e: &mut Emitter, x: Value) -> Value {
    // To nearest first; one less where that went up.
    let round = e.floats(8_388_608.0);
    let near = e.add(x, round);
    let near = e.sub(near, round);
    let up = e.compare_float("ogt", near, x);
    let bits = {
        let shifted = e.add(near, round);
        let bits = e.bits(shifted, I32X16);
        let base = e.ints(8_388_608f32.to_bits() as i32);
        e.sub(bits, base)
    };
    let one = e.ints(1);
    let less = e.sub(bits, one);
    e.select(up, less, bits)
}

fn nf4(e: &mut Emitter, x: Value) -> Value {
    let one = e.ints(1);
    let mut code = e.ints(0);
    for (upper, pair) in NF4.windows(2).enumerate().map(|(i, pair)| (i + 1, pair)) {
        let middle = pair[0].midpoint(pair[1]);
        let below = rounded_down(middle);
        // A tie goes to the even code; where the middle is no f32 there is none.
        let ties_up = f64::from(below) == middle && upper % 2 == 0;
        let threshold = e.floats(below);
        let above = e.compare_float(if ties_up { "oge" } else { "ogt" }, x, threshold);
        let next = e.add(code, one);
        code = e.select(above, next, code);
    }
    let number = e.compare_float("ord", x, x);
    // The level 0.
    let zero = e.ints(7);
    e.select(number, code, zero)
}

#[allow(clippy::cast_possible_truncation, reason = "corrected")]
fn rounded_down(x: f64) -> f32 {
    let near = x as f32;
    if f64::from(near) > x { near.next_down() } else { near }
}
