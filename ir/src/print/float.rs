//! The text of floating-point numbers, digit for digit as MLIR writes them, so that a dump survives `mlir-opt` unchanged.
//!
//! MLIR prints six significant digits (`1.000000e-05`) when those read back to the same bits, else APFloat's default form
//! (`0.699999988`), and raw bits in hexadecimal (`0x7FC00000`) for infinities, NaN and numbers whose default form has no point. Both
//! decimal forms are those of LLVM's `APFloat::toString`: it truncates the exact expansion to a few guard bits before it rounds half up,
//! which no correctly rounding formatter reproduces; hence the small exact arithmetic here.

use std::fmt::Write;

/// Writes an `f64` attribute's number (without its type). Returns whether it was written as bits.
pub(super) fn write_f64(out: &mut String, value: f64) -> bool {
    let bits = value.to_bits();
    let (exponent, fraction) = ((bits >> 52 & 0x7ff) as i32, bits & ((1 << 52) - 1));
    if exponent != 0x7ff {
        let (mantissa, scale) =
            if exponent == 0 { (fraction, -1074) } else { (fraction | 1 << 52, exponent - 1075) };
        let exact = Binary { negative: value.is_sign_negative(), mantissa, scale };
        let short = exact.scientific();
        if short.parse::<f64>().is_ok_and(|v| v.to_bits() == bits) {
            out.push_str(&short);
            return false;
        }
        let long = exact.shortest(2 + 53 * 59 / 196);
        if long.contains('.') {
            out.push_str(&long);
            return false;
        }
    }
    write!(out, "0x{bits:X}").expect("invariant: writing to a string succeeds");
    true
}

/// Writes an element of a `dense<…>` constant of `f32`.
pub(super) fn write_f32(out: &mut String, value: f32) {
    let bits = value.to_bits();
    let (exponent, fraction) = ((bits >> 23 & 0xff) as i32, bits & ((1 << 23) - 1));
    if exponent != 0xff {
        let (mantissa, scale) =
            if exponent == 0 { (fraction, -149) } else { (fraction | 1 << 23, exponent - 150) };
        let exact = Binary { negative: value.is_sign_negative(), mantissa: u64::from(mantissa), scale };
        let short = exact.scientific();
        if short.parse::<f32>().is_ok_and(|v| v.to_bits() == bits) {
            out.push_str(&short);
            return;
        }
        let long = exact.shortest(2 + 24 * 59 / 196);
        if long.contains('.') {
            out.push_str(&long);
            return;
        }
    }
    write!(out, "0x{bits:X}").expect("invariant: writing to a string succeeds");
}

/// A finite number `±mantissa · 2^scale`.
#[derive(Clone, Copy)]
struct Binary {
    negative: bool,
    mantissa: u64,
    scale: i32,
}

/// Decimal digits, most significant first, without trailing zeros; the last one counts `10^exponent`.
struct Decimal {
    digits: Vec<u8>,
    exponent: i32,
}

impl Binary {
    /// APFloat's `toString(6 digits, no padding, keep zeros)`.
    fn scientific(self) -> String {
        let mut text = self.sign();
        if self.mantissa == 0 {
            text.push_str("0.000000e+00");
            return text;
        }
        let Decimal { digits, exponent } = self.decimal(6);
        let exponent = exponent + digits.len() as i32 - 1;
        text.push(char::from(digits[0]));
        text.push('.');
        text.extend((0..6).map(|i| digits.get(i + 1).map_or('0', |d| char::from(*d))));
        let sign = if exponent < 0 { '-' } else { '+' };
        write!(text, "e{sign}{:02}", exponent.abs()).expect("invariant: writing to a string succeeds");
        text
    }

    /// APFloat's default `toString`: `precision` digits, at most three zeros of padding.
    fn shortest(self, precision: usize) -> String {
        let mut text = self.sign();
        if self.mantissa == 0 {
            text.push('0');
            return text;
        }
        let Decimal { digits, exponent } = self.decimal(precision);
        let count = digits.len() as i32;
        let top = exponent + count - 1;
        let scientific = if exponent >= 0 {
            exponent > 3 || count + exponent > precision as i32
        } else {
            top < 0 && -top > 3
        };
        let digits: String = digits.into_iter().map(char::from).collect();
        if scientific {
            let rest = if count == 1 { "0" } else { &digits[1..] };
            let sign = if top < 0 { '-' } else { '+' };
            write!(text, "{}.{rest}E{sign}{}", &digits[..1], top.abs())
        } else if exponent >= 0 {
            write!(text, "{digits}{}", "0".repeat(exponent as usize))
        } else if top >= 0 {
            let (whole, fraction) = digits.split_at(top as usize + 1);
            write!(text, "{whole}.{fraction}")
        } else {
            write!(text, "0.{}{digits}", "0".repeat((-top - 1) as usize))
        }
        .expect("invariant: writing to a string succeeds");
        text
    }

    fn sign(self) -> String {
        if self.negative { "-".into() } else { String::new() }
    }

    /// At most `precision` digits, rounded as APFloat does.
    fn decimal(self, precision: usize) -> Decimal {
        let zeros = self.mantissa.trailing_zeros();
        let (mantissa, scale) = (self.mantissa >> zeros, self.scale + zeros as i32);
        let mut number = Natural::from(mantissa);
        let mut exponent = 0;
        if scale >= 0 {
            number.shift_left(scale as usize);
        } else {
            // N · 2^-e = N · 5^e · 10^-e
            number.multiply_power(5, scale.unsigned_abs());
            exponent = scale;
        }
        // 196/59 slightly overestimates log2(10).
        let required = (precision * 196).div_ceil(59);
        let removable = number.bits().saturating_sub(required) * 59 / 196;
        number.divide_power_of_ten(removable);
        exponent += removable as i32;

        let mut reversed = number.digits();
        let zeros = reversed.iter().take_while(|d| **d == b'0').count();
        reversed.drain(..zeros);
        exponent += zeros as i32;
        exponent += round_half_up(&mut reversed, precision);
        reversed.reverse();
        Decimal { digits: reversed, exponent }
    }
}

/// Cuts digits (least significant first) to `precision`; returns how many places went away.
fn round_half_up(digits: &mut Vec<u8>, precision: usize) -> i32 {
    let n = digits.len();
    if n <= precision {
        return 0;
    }
    let mut first = n - precision;
    if digits[first - 1] < b'5' {
        while first < n && digits[first] == b'0' {
            first += 1;
        }
    } else {
        // The zeros that a carry leaves behind are cut as well.
        while first < n && digits[first] == b'9' {
            first += 1;
        }
        match digits.get_mut(first) {
            Some(digit) => *digit += 1,
            None => *digits = vec![b'1'; first + 1],
        }
    }
    digits.drain(..first);
    first as i32
}

/// A natural number: 32-bit limbs, least significant first, no leading zero limb.
struct Natural(Vec<u32>);

impl From<u64> for Natural {
    fn from(n: u64) -> Natural {
        let mut natural = Natural(vec![n as u32, (n >> 32) as u32]);
        natural.trim();
        natural
    }
}

impl Natural {
    fn trim(&mut self) {
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
    }

    fn bits(&self) -> usize {
        self.0.last().map_or(0, |top| self.0.len() * 32 - top.leading_zeros() as usize)
    }

    fn shift_left(&mut self, by: usize) {
        self.multiply_power(2, (by % 32) as u32);
        self.0.splice(0..0, std::iter::repeat_n(0, by / 32));
    }

    fn multiply(&mut self, by: u32) {
        let mut carry = 0u64;
        for limb in &mut self.0 {
            carry += u64::from(*limb) * u64::from(by);
            *limb = carry as u32;
            carry >>= 32;
        }
        if carry > 0 {
            self.0.push(carry as u32);
        }
    }

    /// Multiplies by `base^exponent`; `base` is 2 or 5.
    fn multiply_power(&mut self, base: u32, exponent: u32) {
        // 5^13 and 2^13 fit a limb.
        for _ in 0..exponent / 13 {
            self.multiply(base.pow(13));
        }
        self.multiply(base.pow(exponent % 13));
    }

    /// Divides by `by` and returns the remainder.
    fn divide(&mut self, by: u32) -> u32 {
        let mut rest = 0u64;
        for limb in self.0.iter_mut().rev() {
            rest = rest << 32 | u64::from(*limb);
            *limb = (rest / u64::from(by)) as u32;
            rest %= u64::from(by);
        }
        self.trim();
        rest as u32
    }

    fn divide_power_of_ten(&mut self, exponent: usize) {
        for _ in 0..exponent / 9 {
            self.divide(1_000_000_000);
        }
        self.divide(10u32.pow((exponent % 9) as u32));
    }

    /// Decimal digits, least significant first.
    fn digits(mut self) -> Vec<u8> {
        let mut digits = Vec::new();
        while !self.0.is_empty() {
            let mut chunk = self.divide(1_000_000_000);
            for _ in 0..9 {
                digits.push(b'0' + (chunk % 10) as u8);
                chunk /= 10;
            }
        }
        while digits.last() == Some(&b'0') {
            digits.pop();
        }
        digits
    }
}

#[cfg(test)]
mod tests {
    use super::{write_f32, write_f64};

    fn f64_text(value: f64) -> String {
        let mut text = String::new();
        write_f64(&mut text, value);
        text
    }

    fn f32_text(value: f32) -> String {
        let mut text = String::new();
        write_f32(&mut text, value);
        text
    }

    /// The right sides were printed by mlir-opt 22.
    #[test]
    fn text_is_that_of_mlir() {
        assert_eq!(f64_text(1e-5), "1.000000e-05");
        assert_eq!(f64_text(0.0), "0.000000e+00");
        assert_eq!(f64_text(-0.0), "-0.000000e+00");
        assert_eq!(f64_text(f64::from(0.1f32)), "0.10000000149011612");
        assert_eq!(f64_text(f64::INFINITY), "0x7FF0000000000000");
        assert_eq!(f32_text(0.1), "1.000000e-01");
        assert_eq!(f32_text(0.7), "0.699999988");
        assert_eq!(f32_text(f32::NAN), "0x7FC00000");
        assert_eq!(f32_text(16_777_215.0), "0x4B7FFFFF");
    }

    #[test]
    fn every_text_reads_back_to_its_bits() {
        let mut state = 7u64;
        for _ in 0..20_000 {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let (wide, narrow) = (f64::from_bits(state), f32::from_bits((state >> 32) as u32));
            let text = f64_text(wide);
            match text.strip_prefix("0x") {
                Some(hex) => assert_eq!(u64::from_str_radix(hex, 16), Ok(wide.to_bits())),
                None => assert_eq!(text.parse::<f64>().map(f64::to_bits), Ok(wide.to_bits()), "{text}"),
            }
            let text = f32_text(narrow);
            match text.strip_prefix("0x") {
                Some(hex) => assert_eq!(u32::from_str_radix(hex, 16), Ok(narrow.to_bits())),
                None => assert_eq!(text.parse::<f32>().map(f32::to_bits), Ok(narrow.to_bits()), "{text}"),
            }
        }
    }
}
