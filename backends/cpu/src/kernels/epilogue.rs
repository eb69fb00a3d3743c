//! What happens to a sum before it is stored: scale and bias, the fused activation, quantization of the result.
//!
//! Always holds: the arithmetic is the interpreter's, operation by operation, so that codes are bit-equal
//! (for `None`, `Relu` and `Clamp`; transcendental activations are within a few ulp before they are rounded to codes).

use super::emit::{Emitter, F32, F32X16, I8X16, I32X16, Scalar, Value};
use super::math::ROUND;

/// An f32 constant of a spec: compared and hashed by its bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Constant(u32);

impl From<f32> for Constant {
    fn from(x: f32) -> Self {
        Constant(x.to_bits())
    }
}

impl Constant {
    /// The number.
    pub fn value(self) -> f32 {
        f32::from_bits(self.0)
    }
}

impl std::fmt::Debug for Constant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.value().fmt(f)
    }
}

/// A function of one value, fused into the kernel that produces it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Activation {
    /// The value itself.
    #[default]
    None,
    /// `max(x, 0)`.
    Relu,
    /// `min(max(x, lo), hi)`.
    Clamp {
        /// Least result.
        lo: Constant,
        /// Greatest result.
        hi: Constant,
    },
    /// `1 / (1 + e⁻ˣ)`.
    Sigmoid,
    /// Hyperbolic tangent.
    Tanh,
    /// `x · sigmoid(x)`.
    Silu,
    /// `x · Φ(x)`.
    Gelu,
    /// GELU by tanh.
    GeluTanh,
    /// `ln(1 + eˣ)`.
    Softplus,
    /// `clamp(a·x + b, 0, 1)`, product and sum rounded separately.
    HardSigmoid {
        /// Slope.
        a: Constant,
        /// Value at 0.
        b: Constant,
    },
    /// `x · clamp(x/6 + 1/2, 0, 1)`.
    HardSwish,
}

impl Activation {
    /// The activation of a vector. NaN stays NaN.
    pub fn apply(self, e: &mut Emitter, x: Value) -> Value {
        let clamp = |e: &mut Emitter, x: Value, lo: f32, hi: f32| {
            let lo = e.floats(lo);
            let x = e.larger(lo, x);
            let hi = e.floats(hi);
            e.smaller(hi, x)
        };
        match self {
            Activation::None => x,
            Activation::Relu => {
                let zero = e.floats(0.0);
                e.larger(zero, x)
            }
            Activation::Clamp { lo, hi } => clamp(e, x, lo.value(), hi.value()),
            Activation::Sigmoid => e.sigmoid(x),
            Activation::Tanh => e.tanh(x),
            Activation::Silu => e.silu(x),
            Activation::Gelu => e.gelu(x),
            Activation::GeluTanh => e.gelu_tanh(x),
            Activation::Softplus => e.softplus(x),
            Activation::HardSigmoid { a, b } => {
                let (a, b) = (e.floats(a.value()), e.floats(b.value()));
                let t = e.mul(x, a);
                let t = e.add(t, b);
                clamp(e, t, 0.0, 1.0)
            }
            Activation::HardSwish => {
                let (a, b) = (e.floats(1.0 / 6.0), e.floats(0.5));
                let t = e.mul(x, a);
                let t = e.add(t, b);
                let t = clamp(e, t, 0.0, 1.0);
                e.mul(x, t)
            }
        }
    }
}

/// How results are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Output {
    /// As f32.
    F32,
    /// As one-byte codes in `lo..=hi`, signed or unsigned; the scale and zero point are arguments.
    Codes {
        /// Least code.
        lo: i16,
        /// Greatest code.
        hi: i16,
    },
}

impl Output {
    /// Bytes of one stored element.
    pub fn bytes(self) -> i64 {
        match self {
            Output::F32 => 4,
            Output::Codes { .. } => 1,
        }
    }
}

/// A quantizer to bytes whose constants stand in registers.
#[derive(Clone, Copy)]
pub struct Quantizer {
    inverse: Value,
    lo: Value,
    hi: Value,
    zero: Value,
    /// Whether what is quantized is a number, never NaN.
    numbers: bool,
}

impl Quantizer {
    /// For a scale (`f32`) and zero point (`i64`) known at run time: `1/s` is rounded once.
    pub fn new(e: &mut Emitter, scale: Value, zero: Value, lo: i16, hi: i16) -> Self {
        let one = e.float_of(F32, 1.0);
        let inverse = e.div(one, scale);
        let inverse = e.splat(inverse, 16);
        Self::with_inverse(e, inverse, zero, lo, hi)
    }

    /// For `1/s` in each lane.
    pub fn with_inverse(e: &mut Emitter, inverse: Value, zero: Value, lo: i16, hi: i16) -> Self {
        let mut bound = |x: i16| {
            let x = e.int(i64::from(x));
            let d = e.sub(x, zero);
            let d = e.to_float(d);
            e.splat(d, 16)
        };
        let (lo, hi) = (bound(lo), bound(hi));
        let zero = e.truncate(zero, Scalar::I32);
        let zero = e.splat(zero, 16);
        Quantizer { inverse, lo, hi, zero, numbers: false }
    }

    /// Codes as `vector<16xi32>`. Clamping first is the same as clamping last: the bounds are integers and rounding is monotone.
    pub fn integers(&self, e: &mut Emitter, x: Value) -> Value {
        let t = e.mul(x, self.inverse);
        self.scaled(e, t)
    }

    /// [`Quantizer::integers`] of numbers that are scaled already.
    pub fn scaled(&self, e: &mut Emitter, t: Value) -> Value {
        let clamped = e.larger(t, self.lo);
        let clamped = e.smaller(clamped, self.hi);
        let t = if self.numbers {
            clamped
        } else {
            let number = e.compare_float("ord", t, t);
            let nothing = e.floats(0.0);
            e.select(number, clamped, nothing)
        };
        let round = e.floats(ROUND);
        let t = e.add(t, round);
        let t = e.bits(t, I32X16);
        let round = e.ints(ROUND.to_bits() as i32);
        let zero = e.sub(self.zero, round);
        e.add(t, zero)
    }

    /// The quantizer of numbers between bounds: scaled, rounded and compared in any order they are the same codes, as all of that is monotone.
    fn within(self, e: &mut Emitter, lo: f32, hi: f32) -> Quantizer {
        let (mut least, mut most) = (self.lo, self.hi);
        if lo > f32::NEG_INFINITY {
            let lo = e.floats(lo);
            let lo = e.mul(lo, self.inverse);
            least = e.larger(lo, least);
            // The upper bound counts where they cross.
            least = e.smaller(least, self.hi);
        }
        if hi < f32::INFINITY {
            let hi = e.floats(hi);
            let hi = e.mul(hi, self.inverse);
            most = e.smaller(hi, most);
            most = e.larger(most, self.lo);
        }
        Quantizer { lo: least, hi: most, ..self }
    }

    /// Codes as sixteen bytes.
    pub fn codes(&self, e: &mut Emitter, x: Value) -> Value {
        let t = self.integers(e, x);
        debug_assert_eq!(t.ty(), I32X16);
        e.truncate(t, Scalar::I8)
    }
}

/// Stores finished vectors as an [`Output`] asks.
#[derive(Clone, Copy)]
pub struct Writer {
    quantizer: Option<Quantizer>,
}

impl Writer {
    /// `scale` is the address of the result's scale, `zero` its zero point; both unused for f32.
    pub fn new(e: &mut Emitter, output: Output, scale: Value, zero: Value) -> Self {
        let quantizer = match output {
            Output::F32 => None,
            Output::Codes { lo, hi } => {
                let scale = e.load(scale, F32);
                Some(Quantizer::new(e, scale, zero, lo, hi))
            }
        };
        Writer { quantizer }
    }

    /// The writer of numbers that does the activation as well, where it is a clamp, and what is left of the activation.
    pub fn take(self, e: &mut Emitter, activation: Activation) -> (Writer, Activation) {
        let Some(quantizer) = self.quantizer else { return (self, activation) };
        let quantizer = match activation {
            Activation::None => quantizer,
            Activation::Relu => quantizer.within(e, 0.0, f32::INFINITY),
            Activation::Clamp { lo, hi } => quantizer.within(e, lo.value(), hi.value()),
            // Infinite sums may make NaN of others.
            other => return (self, other),
        };
        (Writer { quantizer: Some(Quantizer { numbers: true, ..quantizer }) }, Activation::None)
    }

    /// Codes as `vector<16xi32>`; only where results are codes.
    pub fn integers(&self, e: &mut Emitter, y: Value) -> Value {
        let quantizer = self.quantizer.as_ref().expect("invariant: results are codes");
        quantizer.integers(e, y)
    }

    /// The vector in its stored form.
    pub fn encode(&self, e: &mut Emitter, y: Value) -> Value {
        debug_assert_eq!(y.ty(), F32X16);
        match &self.quantizer {
            None => y,
            Some(q) => {
                let codes = q.codes(e, y);
                debug_assert_eq!(codes.ty(), I8X16);
                codes
            }
        }
    }
}
