//! Resizing of images `[batch, channels, spatial…]`, with ONNX's coordinate rules. Linear interpolation works axis by axis, source
//! coordinates beyond the edge take the edge.

use qcc_ir::Float;
use qcc_ir::ops::{CoordinateTransform, NearestRounding, Neighbours, ResizeMode};
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
                let nearest = |o| rounding.position(coordinates.source(o, input, output, scale), input);
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
                let taps: Vec<Neighbours> = (0..output)
                    .map(|o| Neighbours::of(coordinates.source(o, input, output, scale), input))
                    .collect();
                values = blend(&values, &sizes, axis, &taps);
                sizes[axis] = output;
            }
            call.real(0, values)
        }
    }
}

fn blend(values: &[f64], dims: &[usize], axis: usize, taps: &[Neighbours]) -> Vec<f64> {
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
