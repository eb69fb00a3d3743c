//! Levels that are found in the values: codebooks and power exponents.

use qcc_ir::ops::Rounding;
use qcc_ir::{QuantType, Storage};

use super::FormatError;
use super::clusters::clusters;
use crate::real::Real;

/// Numbers are seen as multiples of this.
const GRID: f64 = 4096.0;

/// Levels for numbers that were scaled to −1 … 1, and the codes that follow from them, where those are not of the nearest levels.
pub(super) struct Calibrated {
    pub levels: Vec<f64>,
    /// The exponent, of power exponents.
    pub exponent: Option<f64>,
}

/// Finds the levels of scaled numbers, each with the scale it had.
///
/// # Errors
/// When levels of the format are not found this way.
pub(super) fn levels<R: Real>(scaled: &[(R, R)], q: QuantType) -> Result<Calibrated, FormatError> {
    match q.storage {
        Storage::Codebook(bits) => Ok(Calibrated { levels: codebook(scaled, bits), exponent: None }),
        Storage::PowExp(bits) => {
            let exponent = exponent(scaled, bits);
            Ok(Calibrated { levels: powers(exponent, bits), exponent: Some(exponent) })
        }
        other => Err(FormatError::Unimplemented(other.name())),
    }
}

/// The centres of the clusters of least squared error; where there are fewer, the last one again.
fn codebook<R: Real>(scaled: &[(R, R)], bits: u8) -> Vec<f64> {
    let count = 1usize << bits;
    let on_grid = |x: f64| (x * GRID).round() / GRID;
    let values: Vec<f64> =
        scaled.iter().map(|(x, _)| x.to_f64()).filter(|x| x.is_finite()).map(on_grid).collect();
    let mut levels: Vec<f64> = clusters(values, count).into_iter().map(|c| narrow(c.centre)).collect();
    levels.resize(count, levels.last().copied().unwrap_or(0.0));
    levels
}

/// Codebooks are f32.
#[allow(clippy::cast_possible_truncation, reason = "documented rounding")]
fn narrow(x: f64) -> f64 {
    f64::from(x as f32)
}

fn top(bits: u8) -> f64 {
    f64::from((1i32 << (bits - 1)) - 1)
}

/// The levels of an exponent, ascending; the lowest code, which is never used, is like the next.
fn powers(exponent: f64, bits: u8) -> Vec<f64> {
    let top = top(bits);
    let level = |q: f64| narrow((q.abs() / top).powf(1.0 / exponent).copysign(q));
    let half = 1i32 << (bits - 1);
    (-half..half).map(|q| level(f64::from(q).max(-top))).collect()
}

/// The code of a scaled number: the nearest in the powers of its magnitude.
pub(super) fn power_code(x: f64, exponent: f64, bits: u8, rounding: Rounding) -> i32 {
    let top = top(bits);
    let x = if x.is_nan() { 0.0 } else { x };
    let steps = (x.abs().powf(exponent) * top).rounded(rounding).min(top);
    steps.copysign(x).to_i32() + (1 << (bits - 1))
}

/// The exponent, from 0.2 to 1 in steps of 0.01, of least squared error (PowerQuant's a; its norm is locally convex in it).
fn exponent<R: Real>(scaled: &[(R, R)], bits: u8) -> f64 {
    let mut weights = vec![0.0; GRID as usize + 1];
    for (x, scale) in scaled {
        let (size, scale) = (x.to_f64().abs(), scale.to_f64());
        if size.is_finite() && scale.is_finite() {
            #[allow(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "between 0 and the grid"
            )]
            let at = (size.min(1.0) * GRID).round() as usize;
            weights[at] += scale * scale;
        }
    }
    let top = top(bits);
    let error = |exponent: f64| -> f64 {
        let one = |(at, weight): (usize, &f64)| {
            #[allow(clippy::cast_precision_loss, reason = "the grid is coarse")]
            let x = at as f64 / GRID;
            let back = ((x.powf(exponent) * top).round_ties_even() / top).powf(1.0 / exponent);
            weight * (x - back) * (x - back)
        };
        weights.iter().enumerate().filter(|(_, w)| **w > 0.0).map(one).sum()
    };
    let candidates = (20..=100).rev().map(|percent| f64::from(percent) / 100.0);
    let best = candidates
        .map(|a| (error(a), a))
        .fold((f64::INFINITY, 1.0), |best, next| if next.0 < best.0 { next } else { best });
    best.1
}
