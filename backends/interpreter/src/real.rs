//! Real arithmetic that quantized operations are defined in: `f32` as compiled kernels use it, and `f64` for proofs.
//!
//! One generic implementation serves both, so the f64 mode cannot drift from the f32 definition.

use std::borrow::Cow;
use std::ops::{Add, Mul};

use half::{bf16, f16};
use qcc_ir::ops::Rounding;
use qcc_ir::{ElementType, ScaleType};
use qcc_params::{Data, Tensor};

use crate::precision::{Precision, reals, store_reals};

/// `f32` or `f64`; every operation rounds once, as IEEE says.
pub trait Real: Copy + PartialOrd + Add<Output = Self> + Mul<Output = Self> + 'static {
    /// Positive zero.
    const ZERO: Self;
    /// One.
    const ONE: Self;
    /// The integer, rounded to nearest even.
    fn from_i32(value: i32) -> Self;
    /// The number, rounded to nearest even.
    fn from_f64(value: f64) -> Self;
    /// As `f64`, exactly.
    fn to_f64(self) -> f64;
    /// `1 / self`.
    fn reciprocal(self) -> Self;
    /// `self · a + b`, rounded once.
    fn mul_add(self, a: Self, b: Self) -> Self;
    /// `|self|`.
    fn magnitude(self) -> Self;
    /// The nearest integer.
    fn rounded(self, rounding: Rounding) -> Self;
    /// The nearest integer of a number of at most 2²² in magnitude.
    fn nearest(self, rounding: Rounding) -> i32;
    /// Whether it is neither infinite nor NaN.
    fn finite(self) -> bool;
    /// Whether it is NaN.
    fn not_a_number(self) -> bool;
    /// Truncated and saturated to an integer; NaN gives 0.
    fn to_i32(self) -> i32;
    /// A computed scale as the scale type holds it: rounded to nearest, finite scales never to infinity. In `f64` scales are not rounded.
    fn as_scale(self, ty: ScaleType) -> Self;
    /// The elements of a float tensor.
    fn read(tensor: &Tensor) -> Vec<Self> {
        Self::view(tensor).into_owned()
    }
    /// The elements of a float tensor, where they are if that holds such.
    fn view(tensor: &Tensor) -> Cow<'_, [Self]>;
    /// A tensor of float elements.
    ///
    /// # Errors
    /// When the elements do not fill the sizes.
    fn store(dims: Vec<usize>, element: ElementType, values: Vec<Self>) -> Result<Tensor, String>;
}

impl Real for f32 {
    const ZERO: f32 = 0.0;
    const ONE: f32 = 1.0;

    #[allow(clippy::cast_precision_loss, reason = "the definition rounds here")]
    fn from_i32(value: i32) -> f32 {
        value as f32
    }

    #[allow(clippy::cast_possible_truncation, reason = "the definition rounds here")]
    fn from_f64(value: f64) -> f32 {
        value as f32
    }

    fn to_f64(self) -> f64 {
        f64::from(self)
    }

    fn reciprocal(self) -> f32 {
        1.0 / self
    }

    fn mul_add(self, a: f32, b: f32) -> f32 {
        f32::mul_add(self, a, b)
    }

    fn magnitude(self) -> f32 {
        self.abs()
    }

    fn rounded(self, rounding: Rounding) -> f32 {
        match rounding {
            Rounding::HalfEven => self.round_ties_even(),
            Rounding::HalfAway => self.round(),
        }
    }

    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        reason = "small numbers by contract"
    )]
    fn nearest(self, rounding: Rounding) -> i32 {
        /// 1.5 · 2²³: what is added to it is rounded to an integer, which then stands in the low bits.
        const INTEGERS: f32 = 12_582_912.0;
        match rounding {
            Rounding::HalfEven => (self + INTEGERS).to_bits() as i32 - INTEGERS.to_bits() as i32,
            Rounding::HalfAway => self.round() as i32,
        }
    }

    fn finite(self) -> bool {
        self.is_finite()
    }

    fn not_a_number(self) -> bool {
        self.is_nan()
    }

    #[allow(clippy::cast_possible_truncation, reason = "saturation is wanted")]
    fn to_i32(self) -> i32 {
        self as i32
    }

    fn as_scale(self, ty: ScaleType) -> f32 {
        let finite =
            |rounded: f32, largest: f32| if self.is_finite() { rounded.min(largest) } else { rounded };
        match ty {
            ScaleType::F16 => finite(f16::from_f32(self).to_f32(), f16::MAX.to_f32()),
            ScaleType::BF16 => finite(bf16::from_f32(self).to_f32(), bf16::MAX.to_f32()),
            ScaleType::F32 | ScaleType::E4M3 | ScaleType::E8M0 => self,
        }
    }

    fn view(tensor: &Tensor) -> Cow<'_, [f32]> {
        tensor.as_f32().map_or_else(|| Cow::Owned(tensor.to_f32_vec()), Cow::Borrowed)
    }

    fn store(dims: Vec<usize>, element: ElementType, values: Vec<f32>) -> Result<Tensor, String> {
        if element == ElementType::F32 {
            return Tensor::new(dims, element, Data::F32(values)).map_err(|e| e.to_string());
        }
        store_reals(Precision::F32, dims, element, values.into_iter().map(f64::from).collect())
    }
}

impl Real for f64 {
    const ZERO: f64 = 0.0;
    const ONE: f64 = 1.0;

    fn from_i32(value: i32) -> f64 {
        f64::from(value)
    }

    fn from_f64(value: f64) -> f64 {
        value
    }

    fn to_f64(self) -> f64 {
        self
    }

    fn reciprocal(self) -> f64 {
        1.0 / self
    }

    fn mul_add(self, a: f64, b: f64) -> f64 {
        f64::mul_add(self, a, b)
    }

    fn magnitude(self) -> f64 {
        self.abs()
    }

    fn rounded(self, rounding: Rounding) -> f64 {
        match rounding {
            Rounding::HalfEven => self.round_ties_even(),
            Rounding::HalfAway => self.round(),
        }
    }

    fn nearest(self, rounding: Rounding) -> i32 {
        self.rounded(rounding).to_i32()
    }

    fn finite(self) -> bool {
        self.is_finite()
    }

    fn not_a_number(self) -> bool {
        self.is_nan()
    }

    #[allow(clippy::cast_possible_truncation, reason = "saturation is wanted")]
    fn to_i32(self) -> i32 {
        self as i32
    }

    fn as_scale(self, _: ScaleType) -> f64 {
        self
    }

    fn view(tensor: &Tensor) -> Cow<'_, [f64]> {
        reals(tensor)
    }

    fn store(dims: Vec<usize>, element: ElementType, values: Vec<f64>) -> Result<Tensor, String> {
        store_reals(Precision::F64, dims, element, values)
    }
}
