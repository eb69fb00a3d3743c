//! The scales: `s = √(r₂ / r₁)` for each channel between two layers, which brings the range `r₁` of the first layer's output channel and
//! `r₂` of the second one's input channel to their geometric mean, over all pairs again and again until nothing moves (DFQ, arXiv
//! 1906.04721, with `1 / s` for `s`: here the activation is multiplied by it).

/// Sweeps over all pairs, at most.
const SWEEPS: usize = 40;
/// Relative change of a scale that counts as none.
const SETTLED: f64 = 1e-4;
/// Scales lie between one by this and this: beyond it a channel is as good as dead, and its bias would become an outlier.
pub const LARGEST: f64 = 1024.0;

/// The largest |w| over the taps, for each pair of channels that a layer joins.
#[derive(Clone, Debug, PartialEq)]
pub enum Magnitudes {
    /// `[out][in]`, of this many inputs.
    Dense(usize, Vec<f64>),
    /// One for each channel.
    Depthwise(Vec<f64>),
}

impl Magnitudes {
    /// Of a weight `[out, in, taps…]`.
    pub fn new(dims: &[usize], weight: &[f32], depthwise: bool) -> Magnitudes {
        let taps = dims.iter().skip(2).product::<usize>().max(1);
        let largest = |taps: &[f32]| taps.iter().fold(0.0, |m: f64, w| m.max(f64::from(w.abs())));
        let all = weight.chunks(taps).map(largest).collect();
        if depthwise { Magnitudes::Depthwise(all) } else { Magnitudes::Dense(dims[1], all) }
    }

    /// The range of each output channel, with the inputs scaled.
    pub fn of_outputs(&self, input: Option<&[f64]>) -> Vec<f64> {
        let scale = |i: usize| input.map_or(1.0, |s| s[i]);
        match self {
            Magnitudes::Dense(inputs, all) => {
                let row =
                    |row: &[f64]| row.iter().enumerate().fold(0.0, |m: f64, (i, w)| m.max(w / scale(i)));
                all.chunks((*inputs).max(1)).map(row).collect()
            }
            Magnitudes::Depthwise(all) => all.iter().enumerate().map(|(i, w)| w / scale(i)).collect(),
        }
    }

    /// The range of each input channel, with the outputs scaled.
    pub fn of_inputs(&self, output: Option<&[f64]>) -> Vec<f64> {
        let scale = |o: usize| output.map_or(1.0, |s| s[o]);
        match self {
            Magnitudes::Dense(inputs, all) => {
                let mut ranges = vec![0.0; *inputs];
                for (o, row) in all.chunks((*inputs).max(1)).enumerate() {
                    ranges.iter_mut().zip(row).for_each(|(r, w)| *r = f64::max(*r, w * scale(o)));
                }
                ranges
            }
            Magnitudes::Depthwise(all) => all.iter().enumerate().map(|(o, w)| w * scale(o)).collect(),
        }
    }
}

/// A layer, with the pairs before and after it.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    /// Its weight.
    pub magnitudes: Magnitudes,
    /// The pair whose scale its input has.
    pub input: Option<usize>,
    /// The pair whose scale its output takes up.
    pub output: Option<usize>,
}

/// The scale of each channel of each of the pairs, `channels` long. Channels without a range on either side keep 1.
pub fn equalized(layers: &[Layer], channels: &[usize]) -> Vec<Vec<f64>> {
    let mut scales: Vec<Vec<f64>> = channels.iter().map(|n| vec![1.0; *n]).collect();
    let all: Vec<&Layer> = layers.iter().collect();
    for _ in 0..SWEEPS {
        let mut change = 0.0;
        for pair in 0..scales.len() {
            let [first, second] = sides(&all, &scales, pair);
            for (scale, new) in scales[pair].iter_mut().zip(evened(&first, &second)) {
                change = f64::max(change, (new / *scale - 1.0).abs());
                *scale = new;
            }
        }
        if change < SETTLED {
            break;
        }
    }
    scales
}

/// The ranges of the channels of a pair in the layers before and after it, without its own scale and with those of all others.
pub fn sides(layers: &[&Layer], scales: &[Vec<f64>], pair: usize) -> [Vec<f64>; 2] {
    let of = |p: Option<usize>| p.map(|p| scales[p].as_slice());
    let (mut first, mut second) = (vec![0.0; scales[pair].len()], vec![0.0; scales[pair].len()]);
    for layer in layers {
        if layer.output == Some(pair) {
            widen(&mut first, &layer.magnitudes.of_outputs(of(layer.input)));
        }
        if layer.input == Some(pair) {
            widen(&mut second, &layer.magnitudes.of_inputs(of(layer.output)));
        }
    }
    [first, second]
}

/// The scales that make the ranges on both sides alike; 1 for channels without a range.
pub fn evened(first: &[f64], second: &[f64]) -> Vec<f64> {
    let scale = |(r1, r2): (&f64, &f64)| match *r1 > 0.0 && *r2 > 0.0 {
        true => (r2 / r1).sqrt().clamp(1.0 / LARGEST, LARGEST),
        false => 1.0,
    };
    first.iter().zip(second).map(scale).collect()
}

fn widen(ranges: &mut [f64], others: &[f64]) {
    ranges.iter_mut().zip(others).for_each(|(r, other)| *r = r.max(*other));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_meet_at_their_geometric_mean() {
        let first = Layer {
            magnitudes: Magnitudes::new(&[2, 1, 2], &[8.0, -3.0, 0.5, 0.1], false),
            input: None,
            output: Some(0),
        };
        let second =
            Layer { magnitudes: Magnitudes::new(&[1, 2], &[0.5, -2.0], false), input: Some(0), output: None };
        let scales = equalized(&[first.clone(), second.clone()], &[2]);
        assert_eq!(scales, [[0.25, 2.0]]);
        let scaled = |r: Vec<f64>| [r[0] * scales[0][0], r[1] * scales[0][1]];
        assert_eq!(scaled(first.magnitudes.of_outputs(None)), [2.0, 1.0]);
        assert_eq!(second.magnitudes.of_inputs(None), [0.5, 2.0]);
    }

    #[test]
    fn a_chain_settles() {
        let layers = [
            (Magnitudes::new(&[2, 1], &[9.0, 0.2], false), None, Some(0)),
            (Magnitudes::new(&[2, 1, 1], &[0.5, 4.0], true), Some(0), Some(1)),
            (Magnitudes::new(&[1, 2], &[3.0, 0.1], false), Some(1), None),
        ];
        let layers = layers.map(|(magnitudes, input, output)| Layer { magnitudes, input, output });
        let scales = equalized(&layers, &[2, 2]);
        let of = |p: Option<usize>| p.map(|p| scales[p].as_slice());
        for channel in 0..2 {
            // All three layers have one range a channel: the cube root of the product of what they had.
            let product: f64 = [9.0 * 0.5 * 3.0, 0.2 * 4.0 * 0.1][channel];
            let wide = [
                layers[0].magnitudes.of_outputs(None)[channel] * scales[0][channel],
                layers[1].magnitudes.of_outputs(of(Some(0)))[channel] * scales[1][channel],
                layers[2].magnitudes.of_inputs(None)[channel] / scales[1][channel],
            ];
            for range in wide {
                assert!((range / product.cbrt() - 1.0).abs() < 1e-3, "{range} is not {}", product.cbrt());
            }
        }
    }

    #[test]
    fn dead_channels_keep_their_scale() {
        let first = Layer {
            magnitudes: Magnitudes::new(&[2, 1], &[0.0, 1e-12], false),
            input: None,
            output: Some(0),
        };
        let second =
            Layer { magnitudes: Magnitudes::new(&[1, 2], &[1.0, 1.0], false), input: Some(0), output: None };
        assert_eq!(equalized(&[first, second], &[2]), [[1.0, LARGEST]]);
    }
}
