//! Resizing of images `[batch, channels, spatial…]`, with ONNX's coordinate rules. Linear interpolation works axis by axis, source
//! coordinates beyond the edge take the edge.

use qcc_ir::Float;
use qcc_ir::ops::{CoordinateTransform, NearestRounding, ResizeMode};
use qcc_params::{Data, Tensor};

use crate::evaluate::{Call, Result};
use crate::movement::same_type;
use crate::walk::{around, listed, strides};

/// `resize`.
pub(crate) fn resize(
    call: &Call<'_>,
    mode: ResizeMode,
    coordinates: CoordinateTransform,
    rounding: NearestRounding,
    scales: &[Float],
) -> Result<Tensor> {
    let x = call.at(0)?;
    let dims = call.dims(0);
    if x.is_empty() && call.count(0) > 0 {
        return Err("an empty image cannot be resized".into());
    }
    let axes = (2..dims.len()).map(|i| (i, x.dims[i], dims[i], scales[i - 2].0));
    match mode {
        ResizeMode::Nearest => {
            let mut lists: Vec<Vec<Option<usize>>> =
                dims[..2].iter().map(|&n| (0..n).map(Some).collect()).collect();
            for (_, input, output, scale) in axes {
                let nearest = |o| round(coordinate(coordinates, o, input, output, scale), rounding, input);
                lists.push((0..output).map(|o| Some(nearest(o))).collect());
            }
            let from = strides(&x.dims);
            let data = same_type!(&x.data, v => {
                let mut y = Vec::with_capacity(call.count(0));
                listed(&lists, &from, Some(0), &mut |i| y.extend(i.map(|i| v[i])));
                y
            });
            call.data(0, data)
        }
        ResizeMode::Linear if !x.element.is_float() => Err(format!(
            "linear interpolation of {} elements is not defined; cast or dequantize first",
            x.element
        )),
        ResizeMode::Linear => {
            let mut values = call.reals(0)?.into_owned();
            let mut sizes = x.dims.clone();
            for (axis, input, output, scale) in axes {
                let taps: Vec<Blend> = (0..output)
                    .map(|o| Blend::at(coordinate(coordinates, o, input, output, scale), input))
                    .collect();
                values = blend(&values, &sizes, axis, &taps);
                sizes[axis] = output;
            }
            call.real(0, values)
        }
    }
}

/// The source coordinate that output index `o` reads.
#[allow(clippy::cast_precision_loss, reason = "image sizes are exact in f64")]
fn coordinate(rule: CoordinateTransform, o: usize, input: usize, output: usize, scale: f64) -> f64 {
    let o = o as f64;
    match rule {
        CoordinateTransform::HalfPixel => (o + 0.5) / scale - 0.5,
        CoordinateTransform::PytorchHalfPixel if output > 1 => (o + 0.5) / scale - 0.5,
        CoordinateTransform::AlignCorners if output > 1 => o * (input as f64 - 1.0) / (output as f64 - 1.0),
        CoordinateTransform::PytorchHalfPixel | CoordinateTransform::AlignCorners => 0.0,
        CoordinateTransform::Asymmetric => o / scale,
    }
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "the index is clamped to the axis first"
)]
fn round(x: f64, rounding: NearestRounding, input: usize) -> usize {
    let rounded = match rounding {
        NearestRounding::RoundPreferFloor => (x - 0.5).ceil(),
        NearestRounding::RoundPreferCeil => (x + 0.5).floor(),
        NearestRounding::Floor => x.floor(),
        NearestRounding::Ceil => x.ceil(),
    };
    rounded.clamp(0.0, (input - 1) as f64) as usize
}

/// Two neighbours and the weight of the second.
struct Blend {
    low: usize,
    high: usize,
    weight: f64,
}

impl Blend {
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "the coordinate is clamped to the axis first"
    )]
    fn at(x: f64, input: usize) -> Blend {
        let x = x.clamp(0.0, (input - 1) as f64);
        let low = x.floor() as usize;
        Blend { low, high: (low + 1).min(input - 1), weight: x - x.floor() }
    }
}

fn blend(values: &[f64], dims: &[usize], axis: usize, taps: &[Blend]) -> Vec<f64> {
    let (outer, size, inner) = around(dims, axis);
    let mut y = Vec::with_capacity(outer * taps.len() * inner);
    for o in 0..outer {
        let plane = &values[o * size * inner..(o + 1) * size * inner];
        for tap in taps {
            let (low, high) = (&plane[tap.low * inner..][..inner], &plane[tap.high * inner..][..inner]);
            y.extend(low.iter().zip(high).map(|(a, b)| {
                // Neighbours with weight 0 must not bring in NaN or infinity.
                if tap.weight == 0.0 { *a } else { a * (1.0 - tap.weight) + b * tap.weight }
            }));
        }
    }
    y
}
