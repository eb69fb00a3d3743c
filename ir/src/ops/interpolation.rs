//! Where `resize` reads: coordinates and neighbours along one axis, as ONNX defines them.

use super::{CoordinateTransform, NearestRounding};

/// Two neighbouring positions on an axis and the weight of the second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Neighbours {
    /// The position before the coordinate.
    pub low: usize,
    /// The one after it; the same where its weight is 0.
    pub high: usize,
    /// Weight of `high`; `low` has the rest.
    pub weight: f64,
}

impl CoordinateTransform {
    /// The source coordinate that position `o` of `output` reads on an axis of `input` positions.
    #[allow(clippy::cast_precision_loss, reason = "image sizes are exact in f64")]
    pub fn source(self, o: usize, input: usize, output: usize, scale: f64) -> f64 {
        let o = o as f64;
        match self {
            CoordinateTransform::HalfPixel => (o + 0.5) / scale - 0.5,
            CoordinateTransform::PytorchHalfPixel if output > 1 => (o + 0.5) / scale - 0.5,
            CoordinateTransform::AlignCorners if output > 1 => {
                o * (input as f64 - 1.0) / (output as f64 - 1.0)
            }
            CoordinateTransform::PytorchHalfPixel | CoordinateTransform::AlignCorners => 0.0,
            CoordinateTransform::Asymmetric => o / scale,
        }
    }
}

impl NearestRounding {
    /// The position nearest to a coordinate on an axis of `input` positions, at least one.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "the position is clamped to the axis first"
    )]
    pub fn position(self, x: f64, input: usize) -> usize {
        let rounded = match self {
            NearestRounding::RoundPreferFloor => (x - 0.5).ceil(),
            NearestRounding::RoundPreferCeil => (x + 0.5).floor(),
            NearestRounding::Floor => x.floor(),
            NearestRounding::Ceil => x.ceil(),
        };
        rounded.clamp(0.0, (input - 1) as f64) as usize
    }
}

impl Neighbours {
    /// Those of a coordinate on an axis of `input` positions, at least one, for linear interpolation.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "the coordinate is clamped to the axis first"
    )]
    pub fn of(x: f64, input: usize) -> Neighbours {
        let x = x.clamp(0.0, (input - 1) as f64);
        let (low, weight) = (x.floor() as usize, x - x.floor());
        let high = if weight == 0.0 { low } else { (low + 1).min(input - 1) };
        Neighbours { low, high, weight }
    }
}
