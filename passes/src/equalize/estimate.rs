//! Where equalization helps: the error that rounding leaves behind the layers of a pair, for each scale the pair might have.
//!
//! Errors count at the output of the second layer, in the model's own units, and are taken as independent: those of the first layer's
//! weights, of the activation between them and of the second layer's weights. Weights are really rounded; an activation's error is that of
//! codes as far apart as its scaled channels make them. DFQ evens out ranges of weights alone, which helps weights with one scale and may
//! cost activations more than weights with a scale for each channel gain.

use qcc_interpreter::formats::{Rules, rounded};
use qcc_ir::format::{Format, Sharing};
use qcc_ir::{Granularity, QuantType};

use super::observe::Channels;
use super::ranges::{self, LARGEST};
use crate::calibrate::Range;
use crate::quantize::range;

/// The formats that layers will have; none keeps floats.
#[derive(Clone, Copy, Debug, Default)]
pub struct Formats {
    /// Of weights.
    pub weights: Option<Format>,
    /// Of activations.
    pub activations: Option<Format>,
}

/// A convolution around a pair.
pub struct Layer<'a> {
    /// Its channels, and the pairs before and after it.
    pub ranges: &'a ranges::Layer,
    /// Its weight `[out, in / groups, taps…]`.
    pub dims: &'a [usize],
    /// The elements.
    pub weight: &'a [f32],
    /// The channels of its input.
    pub input: &'a Channels,
}

/// Rounds over all pairs: a pair's best scale depends on those of its neighbours.
const SWEEPS: usize = 3;
/// A pair is scaled only where that leaves less than this share of the error; estimates are no better.
const GAIN: f64 = 0.95;

/// The scales of each pair that leave the least error, 1 where none is worth it. `everywhere` are those of [`ranges::equalized`].
///
/// # Errors
/// When a format is not implemented.
pub fn chosen(
    layers: &[Layer<'_>],
    formats: &Formats,
    everywhere: &[Vec<f64>],
) -> Result<Vec<Vec<f64>>, String> {
    let mut scales: Vec<Vec<f64>> = everywhere.iter().map(|s| vec![1.0; s.len()]).collect();
    for _ in 0..SWEEPS {
        let before = scales.clone();
        for pair in 0..scales.len() {
            let plain = vec![1.0; scales[pair].len()];
            let mut best = (plain.clone(), error(layers, formats, &scales, pair, &plain)? * GAIN);
            for candidate in candidates(layers, &scales, pair, &everywhere[pair]) {
                let error = error(layers, formats, &scales, pair, &candidate)?;
                if error < best.1 {
                    best = (candidate, error);
                }
            }
            scales[pair] = best.0;
        }
        if before == scales {
            break;
        }
    }
    Ok(scales)
}

/// Scales that even out ranges of weights, over the whole chain and of this pair alone, or ranges of the activation and the weights behind
/// it (SmoothQuant, arXiv 2211.10438); and their square roots.
fn candidates(layers: &[Layer<'_>], scales: &[Vec<f64>], pair: usize, everywhere: &[f64]) -> Vec<Vec<f64>> {
    let all: Vec<&ranges::Layer> = layers.iter().map(|l| l.ranges).collect();
    let [first, second] = ranges::sides(&all, scales, pair);
    let mut activation = vec![0.0; second.len()];
    for layer in layers.iter().filter(|l| l.ranges.input == Some(pair)) {
        let largest = |r: &Range| f64::from(r.max.max(-r.min));
        activation = layer.input.range.iter().map(largest).collect();
    }
    let mut made = Vec::new();
    for scale in [everywhere.to_vec(), ranges::evened(&first, &second), ranges::evened(&activation, &second)]
    {
        // Only the scales' proportions matter to the second layer; around 1 they stay in bounds.
        let mean = scale.iter().map(|s| s.ln()).sum::<f64>() / scale.len().max(1) as f64;
        let power = |t: f64| -> Vec<f64> {
            scale.iter().map(|s| (t * (s.ln() - mean)).exp().clamp(1.0 / LARGEST, LARGEST)).collect()
        };
        made.extend([power(0.5), power(1.0)]);
    }
    made
}

/// The error behind a pair with this scale.
fn error(
    layers: &[Layer<'_>],
    formats: &Formats,
    scales: &[Vec<f64>],
    pair: usize,
    scale: &[f64],
) -> Result<f64, String> {
    let of = |p: Option<usize>| match p {
        Some(p) if p == pair => Some(scale),
        p => p.map(|p| scales[p].as_slice()),
    };
    // The mean square error of each channel between the layers.
    let mut between = vec![0.0; scale.len()];
    for layer in layers.iter().filter(|l| l.ranges.output == Some(pair)) {
        let noise = layer.noise(formats, of(layer.ranges.input), of(layer.ranges.output))?;
        layer.each(|o, i, at| between[o] += noise[at] * layer.input.square[i]);
    }
    let mut total = 0.0;
    for layer in layers.iter().filter(|l| l.ranges.input == Some(pair)) {
        let step = step(formats, layer.input, scale)?;
        let energy = layer.by_pair(layer.weight.iter().map(|w| f64::from(*w)));
        let noise = layer.noise(formats, Some(scale), of(layer.ranges.output))?;
        layer.each(|_, i, at| {
            let rounding = step * step / (12.0 * scale[i] * scale[i]);
            total += energy[at] * (between[i] + rounding) + noise[at] * layer.input.square[i];
        });
    }
    Ok(total)
}

/// How far apart the codes of the scaled activation are.
fn step(formats: &Formats, input: &Channels, scale: &[f64]) -> Result<f64, String> {
    let Some(format) = &formats.activations else { return Ok(0.0) };
    let storage = format.storage().ok_or_else(|| format!("`{format}` is a float format"))?;
    let q = QuantType {
        storage,
        granularity: Granularity::Tensor,
        scale: format.scale(),
        zero_point: format.asymmetric(),
    };
    let mut whole = Range { min: 0.0, max: 0.0 };
    for (range, s) in input.range.iter().zip(scale) {
        #[allow(clippy::cast_possible_truncation, reason = "ranges are f32")]
        let s = *s as f32;
        whole = Range { min: whole.min.min(range.min * s), max: whole.max.max(range.max * s) };
    }
    Ok(f64::from(range::parameters(whole, &q, format.narrow()).scale))
}

impl Layer<'_> {
    /// Visits the pairs of channels that the layer joins: output, input, and which pair it is.
    fn each(&self, mut visit: impl FnMut(usize, usize, usize)) {
        match &self.ranges.magnitudes {
            ranges::Magnitudes::Dense(inputs, all) => {
                let inputs = (*inputs).max(1);
                // A grouped convolution's outputs read the channels of their group.
                let groups = (self.input.square.len() / inputs).max(1);
                let outputs = (all.len() / inputs).div_ceil(groups).max(1);
                (0..all.len()).for_each(|at| {
                    let output = at / inputs;
                    visit(output, output / outputs * inputs + at % inputs, at);
                });
            }
            ranges::Magnitudes::Depthwise(all) => (0..all.len()).for_each(|at| visit(at, at, at)),
        }
    }

    /// Squares summed over the taps of each pair of channels.
    fn by_pair(&self, elements: impl Iterator<Item = f64>) -> Vec<f64> {
        let taps = self.dims.iter().skip(2).product::<usize>().max(1);
        let mut sums = vec![0.0; self.weight.len() / taps];
        elements.enumerate().for_each(|(at, x)| sums[at / taps] += x * x);
        sums
    }

    /// The squared error of the rounded weight, in the units of the weight as it is, by pairs of channels.
    fn noise(
        &self,
        formats: &Formats,
        input: Option<&[f64]>,
        output: Option<&[f64]>,
    ) -> Result<Vec<f64>, String> {
        let Some(format) = &formats.weights else { return Ok(self.by_pair(self.weight.iter().map(|_| 0.0))) };
        let q = QuantType {
            storage: format.storage().ok_or_else(|| format!("`{format}` is a float format"))?,
            granularity: match format.sharing() {
                Sharing::Tensor => Granularity::Tensor,
                _ => Granularity::Channel { axis: 0 },
            },
            scale: format.scale(),
            zero_point: false,
        };
        let taps = self.dims.iter().skip(2).product::<usize>().max(1);
        let mut factors = vec![1.0; self.weight.len() / taps];
        self.each(|o, i, at| factors[at] = output.map_or(1.0, |s| s[o]) / input.map_or(1.0, |s| s[i]));
        #[allow(clippy::cast_possible_truncation, reason = "weights are f32")]
        let scaled: Vec<f32> = (self.weight.iter().enumerate())
            .map(|(at, w)| (f64::from(*w) * factors[at / taps]) as f32)
            .collect();
        let dims = [self.dims[0], scaled.len() / self.dims[0].max(1)];
        let rounded =
            rounded(&scaled, &dims, q, Rules::nearest(format.narrow())).map_err(|e| e.to_string())?;
        let errors = scaled.iter().zip(&rounded).enumerate();
        Ok(self.by_pair(errors.map(|(at, (a, b))| (f64::from(*a) - f64::from(*b)) / factors[at / taps])))
    }
}
