//! One number and its code.

use qcc_ir::levels::{Minifloat, NF4, exponent_of, power_of_two};
use qcc_ir::ops::{Rounding, Special};
use qcc_ir::{QuantType, Storage};

use super::FormatError;
use crate::real::Real;

/// The codes of an integer format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IntegerFormat {
    /// Lowest code.
    pub lowest: i32,
    /// Highest code.
    pub highest: i32,
}

impl IntegerFormat {
    /// The codes of `storage`; `narrow` drops the lowest one of a signed format, so that codes are symmetric.
    ///
    /// # Errors
    /// When codes of the format are no integers.
    pub fn new(storage: Storage, narrow: bool) -> Result<IntegerFormat, FormatError> {
        let range = storage.integer_range(narrow).or_else(|| {
            let top = (1 << (storage.bits() - 1)) - 1;
            // Ternary codes have no fourth.
            let narrow = narrow || storage == Storage::Ternary;
            storage.is_signed_integer().then_some((if narrow { -top } else { -top - 1 }, top))
        });
        match range {
            Some((lowest, highest)) => Ok(IntegerFormat { lowest, highest }),
            None => Err(FormatError::Unimplemented(storage.name())),
        }
    }

    /// The code of a number that was scaled; the zero point is one, so that NaN becomes 0. Rounding keeps integers and the order of numbers,
    /// so that it may come after the bounds.
    #[inline]
    fn encode<R: Real>(self, scaled: R, zero_point: i32, rounding: Rounding) -> i32 {
        let (low, high) = (R::from_i32(self.lowest - zero_point), R::from_i32(self.highest - zero_point));
        let steps = if scaled.not_a_number() { R::ZERO } else { scaled };
        let steps = if steps < low { low } else { steps };
        let steps = if steps > high { high } else { steps };
        steps.nearest(rounding) + zero_point
    }

    pub(super) fn check(self, zero_point: i32) -> Result<(), FormatError> {
        let IntegerFormat { lowest, highest } = self;
        if (lowest..=highest).contains(&zero_point) {
            return Ok(());
        }
        Err(FormatError::ZeroPoint { zero_point, lowest, highest })
    }
}

/// Numbers between levels: which code a scaled number has, and what number a code stands for.
#[derive(Clone, Debug, PartialEq)]
pub struct Code {
    kind: Kind,
    special: Special,
}

#[derive(Clone, Debug, PartialEq)]
enum Kind {
    /// Integers times a power of two.
    Integer(IntegerFormat, f64),
    Minifloat(Minifloat),
    /// −1 and 1.
    Sign,
    /// Ascending levels.
    Levels(Vec<f64>),
}

impl Code {
    /// The codes of a quantized type; those with a codebook need it.
    ///
    /// # Errors
    /// When the codebook is missing or not of the type's size, or the type has split codes, which are no levels.
    pub fn new(
        q: QuantType,
        narrow: bool,
        special: Special,
        codebook: Option<&[f64]>,
    ) -> Result<Code, FormatError> {
        let kind = match (q.storage, q.storage.minifloat()) {
            (_, Some(float)) => Kind::Minifloat(float),
            (Storage::Binary, _) => Kind::Sign,
            (Storage::Nf4, _) => Kind::Levels(NF4.to_vec()),
            (storage, _) if storage.has_codebook() => {
                let levels = codebook.ok_or(FormatError::Missing("codebook"))?;
                super::check_count("levels", levels.len(), 1 << storage.bits())?;
                Kind::Levels(levels.to_vec())
            }
            (storage, _) => Kind::Integer(IntegerFormat::new(storage, narrow)?, q.unit()),
        };
        Ok(Code { kind, special })
    }

    /// The range of codes, if they are integers: what zero points lie in.
    pub fn integers(&self) -> Option<IntegerFormat> {
        match self.kind {
            Kind::Integer(integers, _) => Some(integers),
            _ => None,
        }
    }

    /// The code of the level nearest to `scaled`.
    pub fn encode<R: Real>(&self, scaled: R, zero_point: i32, rounding: Rounding) -> i32 {
        match &self.kind {
            Kind::Integer(integers, unit) => {
                let steps = if *unit == 1.0 { scaled } else { scaled * R::from_f64(1.0 / unit) };
                integers.encode(steps, zero_point, rounding)
            }
            Kind::Minifloat(float) => i32::from(self.minifloat(*float, scaled.to_f64(), rounding)),
            Kind::Sign => {
                if scaled.to_f64() < 0.0 {
                    -1
                } else {
                    1
                }
            }
            Kind::Levels(levels) => nearest(levels, scaled.to_f64(), rounding),
        }
    }

    /// The codes of numbers that share a scale, of which `inverse` is the inverse, as `make` holds them.
    pub(super) fn encode_run<R: Real, C>(
        &self,
        values: &[R],
        (inverse, zero_point): (R, i32),
        rounding: Rounding,
        make: impl Fn(i32) -> C,
        codes: &mut Vec<C>,
    ) {
        match (&self.kind, rounding) {
            // One loop without a branch.
            (&Kind::Integer(integers, unit), Rounding::HalfEven) => {
                let steps = R::from_f64(1.0 / unit);
                let code =
                    |x: &R| make(integers.encode(*x * inverse * steps, zero_point, Rounding::HalfEven));
                codes.extend(values.iter().map(code));
            }
            _ => codes.extend(values.iter().map(|x| make(self.encode(*x * inverse, zero_point, rounding)))),
        }
    }

    fn minifloat(&self, float: Minifloat, x: f64, rounding: Rounding) -> u16 {
        if x.is_nan() {
            return float.nan().filter(|_| self.special != Special::Finite).unwrap_or(0);
        }
        let sign = u16::from(x.is_sign_negative()) << float.magnitude_bits();
        let beyond = match self.special {
            Special::Ieee => float.infinity().or(float.nan()).unwrap_or(float.highest()),
            Special::Saturate | Special::Finite => float.highest(),
        };
        let size = x.abs();
        if size.is_infinite() {
            return sign | beyond;
        }
        let least = float.least_exponent();
        let exponent = if size == 0.0 { least } else { exponent_of(size).max(least) };
        // Exact: a power of two divides, and the quotient is below 2^(mantissa + 1).
        let steps = size / power_of_two(exponent - i32::from(float.mantissa));
        let binades = i64::from(exponent - least) << float.mantissa;
        #[allow(clippy::cast_possible_truncation, reason = "steps are few")]
        let below = binades + steps.floor() as i64;
        let rest = steps - steps.floor();
        let up = rest > 0.5 || (rest == 0.5 && (rounding == Rounding::HalfAway || below % 2 == 1));
        let code = below + i64::from(up);
        sign | u16::try_from(code).ok().filter(|code| *code <= float.highest()).unwrap_or(beyond)
    }

    /// The level of a code.
    pub fn decode<R: Real>(&self, code: i32, zero_point: i32) -> R {
        match &self.kind {
            Kind::Integer(_, unit) => {
                let steps = R::from_i32(code - zero_point);
                if *unit == 1.0 { steps } else { steps * R::from_f64(*unit) }
            }
            Kind::Minifloat(float) => R::from_f64(float.value(u16::try_from(code).unwrap_or_default())),
            Kind::Sign => R::from_i32(code),
            Kind::Levels(levels) => {
                R::from_f64(usize::try_from(code).ok().and_then(|i| levels.get(i)).copied().unwrap_or(0.0))
            }
        }
    }
}

/// The code of the nearest of ascending levels. NaN is nearest to 0.
fn nearest(levels: &[f64], x: f64, rounding: Rounding) -> i32 {
    let x = if x.is_nan() { 0.0 } else { x };
    // The first level above; its distance is compared with that of the one below. Levels are few bits long, so that sums of two are exact.
    let above = levels.partition_point(|level| *level < x).clamp(1, levels.len() - 1);
    let (low, high) = (levels[above - 1], levels[above]);
    let middle = low.midpoint(high);
    let up = match rounding {
        _ if x != middle => x > middle,
        Rounding::HalfEven => above % 2 == 0,
        Rounding::HalfAway => high.abs() >= low.abs(),
    };
    i32::try_from(above - usize::from(!up)).unwrap_or(i32::MAX)
}
