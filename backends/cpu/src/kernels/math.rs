//! Elementary functions on vectors of f32, as inlined polynomials (no library calls).
//!
//! Range reductions follow Cephes, `erf` follows N. Juffa; the polynomials are minimax fits (Lawson iteration, relative error
//! below 1e-8 before rounding). Results are within 4 ulp where the function is well conditioned, tend to the right limits at ±∞,
//! and NaN stays NaN.

use super::emit::{Emitter, Scalar, Type, Value};

/// Adding and subtracting it rounds |x| < 2²² to the nearest integer, ties to even; the low mantissa bits then hold that integer.
pub const ROUND: f32 = 12_582_912.0;

const LN2_HIGH: f32 = 0.693_359_4;
const LN2_LOW: f32 = -2.121_944_4e-4;
const EXP: [f32; 5] = [0.499_999_94, 0.166_665_2, 0.041_668_393, 0.008_368_781, 0.001_381_446_7];
#[allow(clippy::approx_constant, reason = "a fitted coefficient, not the constant it is near to")]
const EXP2: [f32; 6] =
    [0.693_147_2, 0.240_226_48, 0.055_503_324, 0.009_618_437, 0.001_339_887_5, 0.000_153_533_62];
const ATANH_THIRD: [f32; 4] = [0.333_332_1, 0.200_107_63, 0.140_009_03, 0.140_059_95];
const ATANH_SIXTH: [f32; 3] = [0.333_333_88, 0.199_887_87, 0.149_354_7];
const TANH: [f32; 5] = [-0.333_332_8, 0.133_314_42, -0.053_739_715, 0.020_639_086, -0.005_704_986_4];

fn integers(ty: Type) -> Type {
    match ty {
        Type::Lanes(n, _) => Type::Lanes(n, Scalar::I32),
        _ => Type::One(Scalar::I32),
    }
}

impl Emitter {
    fn constant_like(&mut self, x: Value, c: f32) -> Value {
        self.float_of(x.ty(), c)
    }

    /// `a·b + c` rounded once, on every target (bit-equal to `f32::mul_add`).
    pub fn fma(&mut self, a: Value, b: Value, c: Value) -> Value {
        if self.caps.fma {
            return self.hardware_fma(a, b, c);
        }
        // The product is exact in f64; rounding the sum to odd there makes the second rounding harmless (Boldo, Melquiond).
        let ty = match a.ty() {
            Type::Lanes(n, _) => Type::Lanes(n, Scalar::I64),
            _ => Type::One(Scalar::I64),
        };
        let [a, b, c] = [a, b, c].map(|v| self.widen(v, Scalar::F64));
        let p = self.mul(a, b);
        let s = self.add(p, c);
        let bb = self.sub(s, p);
        let aa = self.sub(s, bb);
        let ea = self.sub(p, aa);
        let eb = self.sub(c, bb);
        let err = self.add(ea, eb);
        let zero = self.sub(err, err);
        let inexact = self.compare_float("one", err, zero);
        let bits = self.bits(s, ty);
        let (one, none) = (self.int_of(ty, 1), self.int_of(ty, 0));
        let low = self.and(bits, one);
        let even = self.compare("eq", low, none);
        let err_bits = self.bits(err, ty);
        let differ = self.xor(bits, err_bits);
        let inward = self.compare("slt", differ, none);
        let minus = self.int_of(ty, -1);
        let step = self.select(inward, minus, one);
        let step = self.select(even, step, none);
        let step = self.select(inexact, step, none);
        let odd = self.add(bits, step);
        let odd = self.bits(odd, s.ty());
        self.narrow(odd, Scalar::F32)
    }

    /// `a·b + c`, fused where the machine can: for sums whose order is free.
    pub fn multiply_add(&mut self, a: Value, b: Value, c: Value) -> Value {
        if self.caps.fma {
            return self.hardware_fma(a, b, c);
        }
        let p = self.mul(a, b);
        self.add(p, c)
    }

    /// `Σ c[i]·xⁱ` by Horner's rule.
    fn polynomial(&mut self, x: Value, coefficients: &[f32]) -> Value {
        let mut terms = coefficients.iter().rev();
        let first = *terms.next().expect("invariant: a polynomial has a term");
        let mut p = self.constant_like(x, first);
        for &c in terms {
            let c = self.constant_like(x, c);
            p = self.multiply_add(p, x, c);
        }
        p
    }

    /// The nearest integer `n` (ties to even) as a float, and `n·2²³` as an integer to add to a float's exponent.
    fn nearest(&mut self, x: Value) -> (Value, Value) {
        let round = self.constant_like(x, ROUND);
        let t = self.add(x, round);
        let n = self.sub(t, round);
        let ints = integers(x.ty());
        let t = self.bits(t, ints);
        let shift = self.int_of(ints, 23);
        (n, self.shl(t, shift))
    }

    fn scale_exponent(&mut self, p: Value, exponent: Value) -> Value {
        let ints = integers(p.ty());
        let bits = self.bits(p, ints);
        let bits = self.add(bits, exponent);
        self.bits(bits, p.ty())
    }

    /// `2ˣ` for the recurrences of state-space models: below −126 it stays at 2⁻¹²⁶, from 128 on it is ∞.
    pub fn exp2_clamped(&mut self, x: Value) -> Value {
        let low = self.constant_like(x, -126.0);
        let x = self.larger(low, x);
        let high = self.constant_like(x, 128.0);
        let x = self.smaller(high, x);
        let (n, exponent) = self.nearest(x);
        let f = self.sub(x, n);
        let q = self.polynomial(f, &EXP2);
        let one = self.constant_like(x, 1.0);
        let p = self.multiply_add(q, f, one);
        self.scale_exponent(p, exponent)
    }

    /// `eˣ`; results below 2⁻¹²⁶ are 0.
    pub fn exp(&mut self, x: Value) -> Value {
        let (low, high) = (self.constant_like(x, -87.336_54), self.constant_like(x, 88.722_83));
        let c = self.larger(low, x);
        let c = self.smaller(high, c);
        let log2e = self.constant_like(x, std::f32::consts::LOG2_E);
        let z = self.mul(c, log2e);
        let (n, exponent) = self.nearest(z);
        let ln2_high = self.constant_like(x, -LN2_HIGH);
        let ln2_low = self.constant_like(x, -LN2_LOW);
        let r = self.multiply_add(n, ln2_high, c);
        let r = self.multiply_add(n, ln2_low, r);
        let q = self.polynomial(r, &EXP);
        let rr = self.mul(r, r);
        let one = self.constant_like(x, 1.0);
        let r1 = self.add(r, one);
        let p = self.multiply_add(q, rr, r1);
        let y = self.scale_exponent(p, exponent);
        let under = self.compare_float("olt", x, low);
        let zero = self.constant_like(x, 0.0);
        let y = self.select(under, zero, y);
        // Unordered or above: ∞ for large x, NaN for NaN.
        let over = self.compare_float("ugt", x, high);
        let most = self.constant_like(x, f32::MAX);
        let beyond = self.mul(x, most);
        self.select(over, beyond, y)
    }

    /// `2·atanh(s)` = `2s + 2s·s²·q(s²)`, split so that a caller can add a correction to the small part.
    fn atanh_doubled(&mut self, s: Value, q: &[f32]) -> (Value, Value) {
        let t = self.mul(s, s);
        let q = self.polynomial(t, q);
        let s2 = self.add(s, s);
        let tq = self.mul(t, q);
        (s2, self.mul(s2, tq))
    }

    /// Natural logarithm: −∞ at 0, NaN below.
    pub fn log(&mut self, x: Value) -> Value {
        let ints = integers(x.ty());
        let smallest = self.constant_like(x, f32::MIN_POSITIVE);
        let tiny = self.compare_float("olt", x, smallest);
        let up = self.constant_like(x, 8_388_608.0);
        let scaled = self.mul(x, up);
        let (one, zero) = (self.constant_like(x, 1.0), self.constant_like(x, 0.0));
        let v = self.select(tiny, scaled, x);
        let down = self.constant_like(x, -23.0);
        let shift = self.select(tiny, down, zero);
        let bits = self.bits(v, ints);
        let half_root = self.int_of(ints, 0x3f35_04f3);
        let above = self.sub(bits, half_root);
        let places = self.int_of(ints, 23);
        let e = self.sar(above, places);
        let moved = self.shl(e, places);
        let m = self.sub(bits, moved);
        let m = self.bits(m, x.ty());
        let e = self.to_float(e);
        let e = self.add(e, shift);
        let (top, bottom) = (self.sub(m, one), self.add(m, one));
        let s = self.div(top, bottom);
        let (main, rest) = self.atanh_doubled(s, &ATANH_SIXTH);
        let ln2_low = self.constant_like(x, LN2_LOW);
        let ln2_high = self.constant_like(x, LN2_HIGH);
        let rest = self.multiply_add(e, ln2_low, rest);
        let main = self.add(main, rest);
        let y = self.multiply_add(e, ln2_high, main);
        let infinity = self.constant_like(x, f32::INFINITY);
        let finite = self.compare_float("olt", x, infinity);
        let y = self.select(finite, y, x);
        let at_zero = self.compare_float("oeq", x, zero);
        let minus = self.constant_like(x, f32::NEG_INFINITY);
        let y = self.select(at_zero, minus, y);
        let below = self.compare_float("olt", x, zero);
        let nan = self.constant_like(x, f32::NAN);
        self.select(below, nan, y)
    }

    /// `ln(1 + eˣ)`, without cancellation at either end.
    pub fn softplus(&mut self, x: Value) -> Value {
        let a = self.magnitude(x);
        let a = self.negate(a);
        let y = self.exp(a);
        let two = self.constant_like(x, 2.0);
        let bottom = self.add(y, two);
        let s = self.div(y, bottom);
        let (main, rest) = self.atanh_doubled(s, &ATANH_THIRD);
        let log1p = self.add(main, rest);
        let zero = self.constant_like(x, 0.0);
        let positive = self.larger(x, zero);
        self.add(positive, log1p)
    }

    /// `x / (1 + e⁻ᵘ)`: sigmoid-like gates; a numerator of −∞ is taken as the lowest finite number so that the limit is 0.
    fn gate(&mut self, x: Value, u: Value) -> Value {
        let minus = self.negate(u);
        let y = self.exp(minus);
        let one = self.constant_like(x, 1.0);
        let bottom = self.add(y, one);
        let lowest = self.constant_like(x, f32::MIN);
        let top = self.larger(lowest, x);
        self.div(top, bottom)
    }

    /// `1 / (1 + e⁻ˣ)`.
    pub fn sigmoid(&mut self, x: Value) -> Value {
        let one = self.constant_like(x, 1.0);
        self.gate(one, x)
    }

    /// `x · sigmoid(x)`.
    pub fn silu(&mut self, x: Value) -> Value {
        self.gate(x, x)
    }

    /// `x · sigmoid(scale · x)`.
    pub fn scaled_silu(&mut self, x: Value, scale: Value) -> Value {
        let u = self.mul(x, scale);
        self.gate(x, u)
    }

    fn with_sign_of(&mut self, y: Value, x: Value) -> Value {
        let ints = integers(x.ty());
        let (y_bits, x_bits) = (self.bits(y, ints), self.bits(x, ints));
        let mask = self.int_of(ints, i64::from(i32::MIN));
        let sign = self.and(x_bits, mask);
        let bits = self.or(y_bits, sign);
        self.bits(bits, x.ty())
    }

    /// `sin x` and `cos x` in f32 of sixteen f64 angles; within 2^-24 for up to 2^20 quarter turns, 2^-22 for up to 2^28. Quarter turns are taken off in two parts (Cody and
    /// Waite); the polynomials on ±π/4 are those of Cephes' `sinf` and `cosf`.
    pub fn sin_cos(&mut self, x: Value) -> (Value, Value) {
        // Adding it rounds to whole numbers, which then stand in the low bits.
        let shift = self.doubles(6_755_399_441_055_744.0);
        let quarters = self.doubles(std::f64::consts::FRAC_2_PI);
        let quarters = self.mul(x, quarters);
        let shifted = self.add(quarters, shift);
        let turns = self.sub(shifted, shift);
        let mut rest = x;
        for part in [1.570_796_326_734_125_6, 6.077_100_506_506_192e-11] {
            let part = self.doubles(part);
            let part = self.mul(turns, part);
            rest = self.sub(rest, part);
        }
        let r = self.narrow(rest, Scalar::F32);
        let quadrant = self.bits(shifted, Type::Lanes(16, Scalar::I64));
        let quadrant = self.truncate(quadrant, Scalar::I32);

        let square = self.mul(r, r);
        let p = self.polynomial(square, &[-1.666_665_4e-1, 8.332_161e-3, -1.951_529_6e-4]);
        let cube = self.mul(square, r);
        let sin = self.multiply_add(cube, p, r);
        let p = self.polynomial(square, &[-0.5, 4.166_664_6e-2, -1.388_731_6e-3, 2.443_315_7e-5]);
        let one = self.floats(1.0);
        let cos = self.multiply_add(square, p, one);

        let (none, single, double) = (self.ints(0), self.ints(1), self.ints(2));
        let odd = self.and(quadrant, single);
        let odd = self.compare("ne", odd, none);
        let signed = |e: &mut Emitter, plain: Value, other: Value, quadrant: Value| {
            let value = e.select(odd, other, plain);
            let half = e.and(quadrant, double);
            let half = e.compare("ne", half, none);
            let minus = e.negate(value);
            e.select(half, minus, value)
        };
        let next = self.add(quadrant, single);
        (signed(self, sin, cos, quadrant), signed(self, cos, sin, next))
    }

    /// Hyperbolic tangent.
    pub fn tanh(&mut self, x: Value) -> Value {
        let a = self.magnitude(x);
        let t = self.mul(x, x);
        let q = self.polynomial(t, &TANH);
        let xt = self.mul(x, t);
        let near = self.multiply_add(xt, q, x);
        let twice = self.add(a, a);
        let y = self.exp(twice);
        let (one, two) = (self.constant_like(x, 1.0), self.constant_like(x, 2.0));
        let bottom = self.add(y, one);
        let part = self.div(two, bottom);
        let far = self.sub(one, part);
        let far = self.with_sign_of(far, x);
        let limit = self.constant_like(x, 0.625);
        let small = self.compare_float("olt", a, limit);
        self.select(small, near, far)
    }

    /// The error function.
    pub fn erf(&mut self, x: Value) -> Value {
        let a = self.magnitude(x);
        let s = self.mul(x, x);
        let near = self.polynomial(
            s,
            &[
                1.283_791_7e-1,
                -3.761_253_4e-1,
                1.128_199_25e-1,
                -2.676_813_5e-2,
                4.991_194_2e-3,
                -5.967_617e-4,
            ],
        );
        let near = self.multiply_add(near, x, x);
        let low = self.polynomial(a, &[3.831_972e-4, -1.728_534_7e-5]);
        let high = self.polynomial(a, &[2.425_462_2e-2, -3.883_964_4e-3]);
        let mut r = self.multiply_add(low, s, high);
        for c in [-1.067_778_8e-1, -6.348_468_7e-1, -1.287_175_1e-1] {
            let c = self.constant_like(x, c);
            r = self.multiply_add(r, a, c);
        }
        let minus = self.negate(a);
        let r = self.multiply_add(r, a, minus);
        let y = self.exp(r);
        let one = self.constant_like(x, 1.0);
        let far = self.sub(one, y);
        let far = self.with_sign_of(far, x);
        let limit = self.constant_like(x, 0.927_734_4);
        let large = self.compare_float("ogt", a, limit);
        self.select(large, far, near)
    }

    /// `x · Φ(x)` by the error function.
    pub fn gelu(&mut self, x: Value) -> Value {
        let scale = self.constant_like(x, std::f32::consts::FRAC_1_SQRT_2);
        let u = self.mul(x, scale);
        let phi = self.erf(u);
        let (one, half) = (self.constant_like(x, 1.0), self.constant_like(x, 0.5));
        let phi = self.add(phi, one);
        let lowest = self.constant_like(x, f32::MIN);
        let x = self.larger(lowest, x);
        let h = self.mul(x, half);
        self.mul(h, phi)
    }

    /// The tanh form of GELU: `x/2·(1 + tanh(√(2/π)(x + 0.044715x³)))`.
    pub fn gelu_tanh(&mut self, x: Value) -> Value {
        let (a, b) = (0.044_715_f32, 2.0 * (2.0 / std::f32::consts::PI).sqrt());
        let t = self.mul(x, x);
        let (a, one) = (self.constant_like(x, a), self.constant_like(x, 1.0));
        let t = self.multiply_add(t, a, one);
        let b = self.constant_like(x, b);
        let xb = self.mul(x, b);
        let u = self.mul(xb, t);
        self.gate(x, u)
    }
}
