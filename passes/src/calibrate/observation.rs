//! What is seen of an activation over samples: the range first, then how values lie in it.

use qcc_params::Tensor;
use serde::{Deserialize, Serialize};

use super::Range;

/// Bins of a histogram over the range of a tensor, and of a feature.
const BINS: usize = 2048;
const BINS_OF_FEATURE: usize = 512;

/// What the moving average keeps of itself, unless said otherwise.
pub(super) const MOMENTUM: f32 = 0.9;

/// What is seen of an activation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Observation {
    /// Of all values.
    pub whole: Seen,
    /// Of each feature (of the last axis); none where features are not told apart.
    pub features: Vec<Seen>,
    finite: bool,
    by_feature: bool,
}

/// What is seen of values that share a range.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Seen {
    /// Of all values; nothing yet where the smallest is above the largest.
    pub range: Range,
    /// The range of each sample.
    pub samples: Vec<Range>,
    /// How many values lie in each of equal parts of the range.
    pub histogram: Vec<u32>,
}

const NOTHING: Range = Range { min: f32::INFINITY, max: f32::NEG_INFINITY };

impl Seen {
    fn nothing() -> Seen {
        Seen { range: NOTHING, samples: Vec::new(), histogram: Vec::new() }
    }

    fn widen(&mut self, sample: Range) {
        self.range = Range { min: self.range.min.min(sample.min), max: self.range.max.max(sample.max) };
        self.samples.push(sample);
    }

    /// The width of a bin.
    pub(super) fn step(&self) -> f64 {
        #[allow(clippy::cast_precision_loss, reason = "a small count")]
        let bins = self.histogram.len().max(1) as f64;
        (f64::from(self.range.max) - f64::from(self.range.min)) / bins
    }

    fn count(&mut self, x: f32, step: f64) {
        let last = self.histogram.len() - 1;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to the last bin")]
        let bin = ((f64::from(x) - f64::from(self.range.min)) / step) as usize;
        let count = &mut self.histogram[bin.min(last)];
        *count = count.saturating_add(1);
    }
}

impl Observation {
    pub(super) fn new(by_feature: bool) -> Observation {
        Observation { whole: Seen::nothing(), features: Vec::new(), finite: true, by_feature }
    }

    /// Whether values were seen, none of them NaN or infinite.
    pub(super) fn is_finite(&self) -> bool {
        self.finite && self.whole.range.min <= self.whole.range.max
    }

    /// Takes a sample in for the range.
    pub(super) fn widen(&mut self, tensor: &Tensor) {
        let values = &*tensor.f32_values();
        if values.is_empty() {
            return;
        }
        self.finite &= values.iter().all(|x| x.is_finite());
        let mut sample = NOTHING;
        for x in values {
            sample = Range { min: sample.min.min(*x), max: sample.max.max(*x) };
        }
        self.whole.widen(sample);
        if self.by_feature {
            let width = tensor.dims.last().copied().unwrap_or(1).max(1);
            let mut samples = vec![NOTHING; width];
            for row in values.chunks_exact(width) {
                for (range, x) in samples.iter_mut().zip(row) {
                    *range = Range { min: range.min.min(*x), max: range.max.max(*x) };
                }
            }
            self.features.resize_with(width, Seen::nothing);
            self.features.iter_mut().zip(samples).for_each(|(seen, sample)| seen.widen(sample));
        }
    }

    /// Takes a sample in for the histogram, when all have been taken in for the range.
    pub(super) fn count(&mut self, tensor: &Tensor) {
        let values = &*tensor.f32_values();
        self.whole.histogram.resize(BINS, 0);
        let step = self.whole.step();
        if step > 0.0 {
            values.iter().for_each(|x| self.whole.count(*x, step));
        }
        if !self.features.is_empty() {
            self.features.iter_mut().for_each(|seen| seen.histogram.resize(BINS_OF_FEATURE, 0));
            let steps: Vec<f64> = self.features.iter().map(Seen::step).collect();
            for row in values.chunks_exact(self.features.len()) {
                for ((seen, x), step) in self.features.iter_mut().zip(row).zip(&steps) {
                    if *step > 0.0 {
                        seen.count(*x, *step);
                    }
                }
            }
        }
    }
}
