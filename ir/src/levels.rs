//! The numbers that codes stand for before they are scaled: the one definition of every element's code points.
//!
//! A code is a bit pattern of [`Storage::bits`] bits. Sources: OCP 8-bit floating point (OFP8) v1.0 and Microscaling (MX) v1.0 for the `fp…` elements, their
//! E8M0 scales and MXINT8; QLoRA (arXiv 2305.14314) for NF4; PowerQuant (ICLR 2023) for power exponents.

use crate::element::{QuantType, ScaleType, Storage};

/// The bit patterns of a minifloat beyond its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Specials {
    /// None: every pattern is a number.
    None,
    /// All ones is NaN, with either sign; there is no infinity (OCP E4M3).
    Nan,
    /// The highest exponent is infinity and NaN, as in IEEE 754 (OCP E5M2).
    Ieee,
}

/// A small float: sign, exponent and mantissa, with subnormals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Minifloat {
    /// Bits of the exponent, at least 1.
    pub exponent: u8,
    /// Bits of the mantissa.
    pub mantissa: u8,
    /// What is subtracted from an exponent as stored.
    pub bias: i32,
    /// NaN and infinity.
    pub specials: Specials,
}

impl Minifloat {
    /// IEEE 754 binary16.
    pub const HALF: Minifloat = Minifloat { exponent: 5, mantissa: 10, bias: 15, specials: Specials::Ieee };

    /// With the usual bias, `2^(exponent − 1) − 1`.
    fn new(exponent: u8, mantissa: u8, specials: Specials) -> Minifloat {
        Minifloat { exponent, mantissa, bias: (1 << (exponent - 1)) - 1, specials }
    }

    /// Bits below the sign.
    pub fn magnitude_bits(self) -> u8 {
        self.exponent + self.mantissa
    }

    /// The highest magnitude (a pattern without sign) that is a number.
    pub fn highest(self) -> u16 {
        let all = (1u16 << self.magnitude_bits()) - 1;
        match self.specials {
            Specials::None => all,
            Specials::Nan => all - 1,
            Specials::Ieee => all - (1 << self.mantissa),
        }
    }

    /// The pattern of infinity, without sign.
    pub fn infinity(self) -> Option<u16> {
        (self.specials == Specials::Ieee).then(|| self.highest() + 1)
    }

    /// The pattern of NaN, without sign: the one with all bits set, which is quiet.
    pub fn nan(self) -> Option<u16> {
        (self.specials != Specials::None).then(|| (1u16 << self.magnitude_bits()) - 1)
    }

    /// The exponent of the smallest normal number, which is that of subnormal ones too.
    pub fn least_exponent(self) -> i32 {
        1 - self.bias
    }

    /// The number of a magnitude.
    pub fn magnitude(self, pattern: u16) -> f64 {
        if pattern > self.highest() {
            return if Some(pattern) == self.infinity() { f64::INFINITY } else { f64::NAN };
        }
        let (exponent, fraction) =
            (i32::from(pattern >> self.mantissa), pattern & ((1 << self.mantissa) - 1));
        let implicit = u16::from(exponent > 0) << self.mantissa;
        f64::from(fraction | implicit) * power_of_two(exponent.max(1) - self.bias - i32::from(self.mantissa))
    }

    /// The number of a code.
    pub fn value(self, code: u16) -> f64 {
        let sign = 1u16 << self.magnitude_bits();
        let x = self.magnitude(code & (sign - 1));
        if code & sign == 0 { x } else { -x }
    }
}

/// The 16 levels of NF4: quantiles of the normal distribution, normalized to ±1 (QLoRA, appendix E).
#[allow(clippy::excessive_precision, clippy::unreadable_literal, reason = "as published")]
pub const NF4: [f64; 16] = [
    -1.0,
    -0.6961928009986877,
    -0.5250730514526367,
    -0.39491748809814453,
    -0.28444138169288635,
    -0.18477343022823334,
    -0.09105003625154495,
    0.0,
    0.07958029955625534,
    0.16093020141124725,
    0.24611230194568634,
    0.33791524171829224,
    0.44070982933044434,
    0.5626170039176941,
    0.7229568362236023,
    1.0,
];

impl Storage {
    /// The small float of this element. Signed powers of two are one without a mantissa, whose greatest number is 1.
    pub fn minifloat(self) -> Option<Minifloat> {
        Some(match self {
            Storage::Minifloat { exponent, mantissa } => Minifloat::new(exponent, mantissa, Specials::None),
            Storage::Fp8E4M3 => Minifloat::new(4, 3, Specials::Nan),
            Storage::Fp8E5M2 => Minifloat::new(5, 2, Specials::Ieee),
            Storage::Fp6E2M3 => Minifloat::new(2, 3, Specials::None),
            Storage::Fp6E3M2 => Minifloat::new(3, 2, Specials::None),
            Storage::Fp4E2M1 => Minifloat::new(2, 1, Specials::None),
            Storage::Pot(bits) => Minifloat {
                exponent: bits - 1,
                mantissa: 0,
                bias: (1 << (bits - 1)) - 1,
                specials: Specials::None,
            },
            _ => return None,
        })
    }

    /// Whether codes are two's complement integers.
    pub fn is_signed_integer(self) -> bool {
        matches!(self, Storage::Int(_) | Storage::Bfp(_) | Storage::Fixed { .. } | Storage::Ternary)
    }

    /// Whether what codes stand for is a table that comes with the tensor: calibrated levels.
    pub fn has_codebook(self) -> bool {
        matches!(self, Storage::Codebook(_) | Storage::PowExp(_))
    }

    /// The code of a bit pattern: an integer for integer elements, else the pattern itself. A binary pattern is −1 or 1.
    pub fn code_of(self, pattern: u16) -> i32 {
        match self {
            Storage::Binary => 2 * i32::from(pattern & 1) - 1,
            _ if self.is_signed_integer() => {
                let unused = 32 - self.bits();
                (i32::from(pattern) << unused) >> unused
            }
            _ => i32::from(pattern),
        }
    }

    /// The bit pattern of a [code](Storage::code_of).
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the pattern is what is wanted"
    )]
    pub fn pattern_of(self, code: i32) -> u16 {
        match self {
            Storage::Binary => u16::from(code > 0),
            _ => (code & ((1i32 << self.bits()) - 1)) as u16,
        }
    }
}

impl QuantType {
    /// What one step of integer codes is worth before scaling. Integers are themselves; mantissas of block floating point, and integers with a
    /// power-of-two scale (MXINT8), have their binary point behind the first bit of their magnitude; fixed point has it where it says.
    pub fn unit(self) -> f64 {
        match (self.storage, self.scale) {
            (Storage::Bfp(bits), _) | (Storage::Int(bits), ScaleType::E8M0) => {
                power_of_two(2 - i32::from(bits))
            }
            (Storage::Fixed { fraction, .. }, _) => power_of_two(-i32::from(fraction)),
            _ => 1.0,
        }
    }

    /// The number that a bit pattern stands for before scaling (and, of integers, before the zero point is taken off); NaN for patterns that are
    /// no code. `None` where a codebook or clusters decide.
    pub fn level(self, pattern: u16) -> Option<f64> {
        use Storage::{Binary, Codebook, Nf4, PowExp, Split, Ternary};
        let code = self.storage.code_of(pattern);
        match self.storage {
            Codebook(_) | PowExp(_) | Split(_) => None,
            Nf4 => NF4.get(usize::from(pattern)).copied(),
            Ternary if code == -2 => Some(f64::NAN),
            Binary => Some(f64::from(code)),
            storage => Some(match storage.minifloat() {
                Some(float) => float.value(pattern),
                None => f64::from(code) * self.unit(),
            }),
        }
    }

    /// The greatest finite level: what the largest magnitude of a group is scaled to. Calibrated levels end at 1.
    pub fn largest_level(self) -> f64 {
        match self.storage {
            Storage::Codebook(_) | Storage::PowExp(_) | Storage::Nf4 | Storage::Ternary | Storage::Binary => {
                1.0
            }
            storage => match storage.minifloat() {
                Some(float) => float.magnitude(float.highest()),
                None => f64::from(storage.top()) * self.unit(),
            },
        }
    }

    /// `⌊log2⌋` of the greatest level: what MX takes off the exponent of a block's largest magnitude.
    pub fn largest_exponent(self) -> i32 {
        exponent_of(self.largest_level())
    }

    /// Whether scales are multiples of one f32 for the tensor, as in NVFP4: E4M3 scales alone do not reach far enough.
    pub fn has_tensor_scale(self) -> bool {
        self.scale == ScaleType::E4M3
    }
}

impl Storage {
    /// The greatest integer code.
    fn top(self) -> i32 {
        let signed = self.is_signed_integer() || matches!(self, Storage::Split(_));
        (1i32 << (self.bits() - u32::from(signed))) - 1
    }
}

impl ScaleType {
    /// The number of an 8-bit scale code; `None` for scales that are floats of their own.
    pub fn of_code(self, code: u8) -> Option<f64> {
        match self {
            ScaleType::E4M3 => Some(Minifloat::new(4, 3, Specials::Nan).value(u16::from(code))),
            ScaleType::E8M0 if code == u8::MAX => Some(f64::NAN),
            ScaleType::E8M0 => Some(power_of_two(i32::from(code) - 127)),
            _ => None,
        }
    }
}

/// `2^exponent`, exactly; exponents outside those of normal numbers count as the nearest of them.
pub fn power_of_two(exponent: i32) -> f64 {
    let stored = exponent.clamp(-1022, 1023) + 1023;
    f64::from_bits(u64::from(stored.unsigned_abs()) << 52)
}

/// `⌊log2 |x|⌋` of a finite number other than 0, exactly.
pub fn exponent_of(x: f64) -> i32 {
    let bits = x.abs().to_bits();
    match (bits >> 52) as i32 {
        0 => 63 - bits.leading_zeros() as i32 - 1074,
        exponent => exponent - 1023,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponents_are_exact() {
        for (x, e) in [(1.0, 0), (1.999_999_999_999_999_8, 0), (2.0, 1), (0.5, -1), (-3.0, 1), (448.0, 8)] {
            assert_eq!(exponent_of(x), e, "{x}");
        }
        assert_eq!(exponent_of(f64::from(f32::from_bits(1))), -149);
        assert_eq!(exponent_of(f64::from_bits(1)), -1074);
        assert_eq!(exponent_of(f64::from_bits(3)), -1073);
    }

    #[test]
    fn codes_and_patterns_are_one_to_one() {
        let storages =
            ["int5", "uint3", "bfp4", "fixed3.4", "fixed7.8", "ternary", "binary", "e3m2", "pot4", "nf4"];
        for name in storages {
            let storage = Storage::from_name(name).expect(name);
            for pattern in 0..1u16 << (storage.bits() - 1).min(15) {
                for pattern in [pattern, pattern | 1 << (storage.bits() - 1)] {
                    assert_eq!(storage.pattern_of(storage.code_of(pattern)), pattern, "{name}");
                }
            }
        }
    }
}
