//! Which part of what was seen a range covers.

use qcc_interpreter::formats::{Grid, Parameters, Rules, Scales};
use qcc_ir::format::Format;
use qcc_ir::{Granularity, QuantType, ScaleType};

use super::Range;
use super::observation::{MOMENTUM, Seen};
use crate::pass::Options;
use crate::quantize::range::parameters;

/// Shares of the range that are tried: powers of 0.97, down to 2 %, since outliers may be that far out.
const SHARES: i32 = 128;

/// What stands for a share of 0 of the rounded distribution.
const ALMOST_NONE: f64 = 1e-4;

/// How a range is chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Method {
    MinMax,
    /// With this share of values cut off at each end.
    Percentile(f64),
    Mse,
    Entropy,
    /// What the average keeps of itself at each sample.
    Moving(f32),
}

impl Method {
    pub(super) fn new(options: &mut Options) -> Result<Method, String> {
        let name: String = options.take("method")?.unwrap_or_else(|| "minmax".into());
        let (percentile, momentum) = (options.take::<f64>("percentile")?, options.take::<f32>("momentum")?);
        let method = match name.as_str() {
            "minmax" => Method::MinMax,
            "percentile" => {
                let p = percentile.unwrap_or(99.999);
                if !(50.0..=100.0).contains(&p) {
                    return Err(format!("`percentile={p}` must lie between 50 and 100"));
                }
                Method::Percentile(1.0 - p / 100.0)
            }
            "mse" => Method::Mse,
            "entropy" => Method::Entropy,
            "moving" => {
                let momentum = momentum.unwrap_or(MOMENTUM);
                if !(0.0..1.0).contains(&momentum) {
                    return Err(format!("`momentum={momentum}` must lie between 0 and 1"));
                }
                Method::Moving(momentum)
            }
            other => {
                return Err(format!(
                    "unknown method `{other}`; there are minmax, percentile, mse, entropy and moving"
                ));
            }
        };
        match method {
            Method::Percentile(_) => {}
            _ if percentile.is_some() => return Err("`percentile` needs `method=percentile`".into()),
            _ => {}
        }
        match method {
            Method::Moving(_) => {}
            _ if momentum.is_some() => return Err("`momentum` needs `method=moving`".into()),
            _ => {}
        }
        Ok(method)
    }

    /// Whether it needs the format that ranges are for.
    pub(super) fn looks_at_format(self) -> bool {
        matches!(self, Method::Mse | Method::Entropy)
    }

    /// Whether it needs histograms.
    pub(super) fn counts(self) -> bool {
        self.looks_at_format() || matches!(self, Method::Percentile(share) if share > 0.0)
    }

    /// The range of what was seen, for values in the target's format.
    pub(super) fn range(self, seen: &Seen, target: Option<&Target>) -> Range {
        let counted = seen.histogram.iter().any(|n| *n > 0);
        match (self, target) {
            (Method::Percentile(outside), _) if counted && outside > 0.0 => percentile(seen, outside),
            (Method::Mse, Some(target)) if counted => target.best(seen, squared_error),
            (Method::Entropy, Some(target)) if counted => target.best(seen, divergence),
            (Method::Moving(momentum), _) => moving(seen, momentum),
            _ => seen.range,
        }
    }
}

/// The range with this share of all values cut off at each end.
fn percentile(seen: &Seen, outside: f64) -> Range {
    let total: u64 = seen.histogram.iter().map(|n| u64::from(*n)).sum();
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a share of a count"
    )]
    let cut = (total as f64 * outside) as u64;
    let past = |seen: &mut u64, n: u64| {
        *seen += n;
        *seen > cut
    };
    let bins = seen.histogram.iter().map(|n| u64::from(*n));
    let low = bins.clone().scan(0, |seen, n| Some(past(seen, n))).position(|p| p).unwrap_or(0);
    let high = bins.rev().scan(0, |seen, n| Some(past(seen, n))).position(|p| p).unwrap_or(0);
    let Range { min, max } = seen.range;
    #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "ranges are f32")]
    let moved = |from: f32, bins: f64| (f64::from(from) + bins * seen.step()) as f32;
    #[allow(clippy::cast_precision_loss, reason = "small counts")]
    Range { min: moved(min, low as f64), max: moved(max, -(high as f64)) }
}

fn moving(seen: &Seen, momentum: f32) -> Range {
    let mut samples = seen.samples.iter();
    let Some(first) = samples.next() else { return seen.range };
    let average = |old: f32, new: f32| momentum * old + (1.0 - momentum) * new;
    samples.fold(*first, |r, s| Range { min: average(r.min, s.min), max: average(r.max, s.max) })
}

/// A format that values will be in, all with one scale.
pub(super) struct Target {
    q: QuantType,
    narrow: bool,
}

impl Target {
    /// # Errors
    /// When it is a float format.
    pub(super) fn new(format: Format) -> Result<Target, String> {
        let storage = format.storage().ok_or_else(|| format!("`{format}` is a float format"))?;
        let q = QuantType {
            storage,
            granularity: Granularity::Tensor,
            scale: ScaleType::F32,
            zero_point: format.asymmetric(),
        };
        Ok(Target { q, narrow: format.narrow() })
    }

    /// The part of the range that loses least: of both ends alike, then of each.
    fn best(&self, seen: &Seen, loss: fn(&Seen, Range, &Rounded) -> f64) -> Range {
        let of = |low: f32, high: f32| {
            let range = Range { min: seen.range.min.min(0.0) * low, max: seen.range.max.max(0.0) * high };
            let rounded = self.rounded(seen, range);
            (rounded.map_or(f64::INFINITY, |rounded| loss(seen, range, &rounded)), range)
        };
        let shares = || (0..SHARES).map(|i| 0.97f32.powi(i));
        let mut best = (f64::INFINITY, seen.range, 1.0, 1.0);
        let offer = |best: &mut (f64, Range, f32, f32), low: f32, high: f32| {
            let (loss, range) = of(low, high);
            if loss < best.0 {
                *best = (loss, range, low, high);
            }
        };
        shares().for_each(|share| offer(&mut best, share, share));
        if self.q.zero_point {
            let high = best.3;
            shares().for_each(|low| offer(&mut best, low, high));
            let low = best.2;
            shares().for_each(|high| offer(&mut best, low, high));
        }
        best.1
    }

    /// The middles of bins in the format with this range.
    fn rounded(&self, seen: &Seen, range: Range) -> Option<Rounded> {
        let found = parameters(range, &self.q, self.narrow);
        let zeros = self.q.zero_point.then(|| vec![found.zero_point]);
        let parameters = Parameters::new(Scales::Floats(vec![found.scale]), zeros);
        let bins = seen.histogram.len();
        let grid = Grid::new(&[bins], self.q, Rules::nearest(self.narrow), &parameters).ok()?;
        let (step, min) = (seen.step(), f64::from(seen.range.min));
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_precision_loss,
            reason = "activations are f32"
        )]
        let middles: Vec<f32> = (0..bins).map(|i| (min + (i as f64 + 0.5) * step) as f32).collect();
        let (codes, levels) = middles.iter().enumerate().map(|(i, x)| grid.nearest(i, *x)).unzip();
        Some(Rounded { middles, codes, levels })
    }
}

/// The middles of bins, their codes, and what those stand for.
struct Rounded {
    middles: Vec<f32>,
    codes: Vec<i32>,
    levels: Vec<f32>,
}

#[allow(clippy::cast_precision_loss, reason = "counts are below 2^53")]
fn squared_error(seen: &Seen, _: Range, rounded: &Rounded) -> f64 {
    let pairs = rounded.middles.iter().zip(&rounded.levels).zip(&seen.histogram);
    pairs.map(|((x, y), n)| *n as f64 * (f64::from(*x) - f64::from(*y)).powi(2)).sum()
}

/// The Kullback–Leibler divergence, in nats, of the distribution with what lies outside the range at its ends from the one in which values of
/// one code are alike.
#[allow(clippy::cast_precision_loss, reason = "counts are below 2^53")]
fn divergence(seen: &Seen, range: Range, rounded: &Rounded) -> f64 {
    let inside = |x: &f32| (range.min..=range.max).contains(x);
    let (Some(first), Some(last)) =
        (rounded.middles.iter().position(inside), rounded.middles.iter().rposition(inside))
    else {
        return f64::INFINITY;
    };
    let counts = &seen.histogram[first..=last];
    let mut reference: Vec<f64> = counts.iter().map(|n| *n as f64).collect();
    reference[0] += seen.histogram[..first].iter().map(|n| f64::from(*n)).sum::<f64>();
    reference[last - first] += seen.histogram[last + 1..].iter().map(|n| f64::from(*n)).sum::<f64>();
    // Bins of one code lie side by side: each gets the mean of those that are not empty.
    let mut alike = vec![0.0; counts.len()];
    for run in rounded.codes[first..=last].chunk_by(|a, b| a == b).scan(0, |at, run| {
        *at += run.len();
        Some(*at - run.len()..*at)
    }) {
        let filled = counts[run.clone()].iter().filter(|n| **n > 0).count();
        let mean = counts[run.clone()].iter().map(|n| f64::from(*n)).sum::<f64>() / filled.max(1) as f64;
        for at in run {
            alike[at] = if counts[at] > 0 { mean } else { 0.0 };
        }
    }
    let (all, all_alike) = (reference.iter().sum::<f64>(), alike.iter().sum::<f64>());
    if all <= 0.0 || all_alike <= 0.0 {
        return f64::INFINITY;
    }
    let shares = reference.iter().map(|p| p / all).zip(alike.iter().map(|q| q / all_alike));
    shares.filter(|(p, _)| *p > 0.0).map(|(p, q)| p * (p / q.max(ALMOST_NONE / all)).ln()).sum()
}
