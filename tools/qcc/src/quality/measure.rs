//! Ratios of signal to noise, and histograms.

use crate::html_report::{Histogram, Pair};

/// Bins of a histogram.
const BINS: usize = 96;

/// Sums of squares of values and of what was added to them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Noise {
    signal: f64,
    noise: f64,
    count: usize,
}

impl Noise {
    /// Takes values in.
    pub fn see(&mut self, before: &[f32], after: &[f32]) {
        for (a, b) in before.iter().zip(after) {
            self.signal += f64::from(*a) * f64::from(*a);
            self.noise += (f64::from(*b) - f64::from(*a)).powi(2);
        }
        self.count += before.len();
    }

    /// The ratio in dB: infinity where nothing was lost; none where nothing was seen or a sum is not a number.
    pub fn decibels(&self) -> Option<f64> {
        match (self.signal, self.noise) {
            _ if self.count == 0 => None,
            (_, 0.0) => Some(f64::INFINITY),
            (signal, noise) => Some(10.0 * (signal / noise).log10()).filter(|db| !db.is_nan()),
        }
    }
}

/// The range of some values.
#[derive(Clone, Copy, Debug)]
pub struct Distribution {
    low: f64,
    high: f64,
}

impl Distribution {
    /// Of all finite ones.
    pub fn of(values: &[f32]) -> Distribution {
        let finite = values.iter().copied().filter(|x| x.is_finite());
        let (low, high) = finite.fold((f32::INFINITY, f32::NEG_INFINITY), |(l, h), x| (l.min(x), h.max(x)));
        Distribution { low: f64::from(low), high: f64::from(high) }
    }

    /// Histograms of the same values before and after, over this range; none where it is empty.
    pub fn zip(&self, before: &[f32], after: &[f32]) -> Option<Pair> {
        (self.low < self.high).then(|| Pair { before: self.histogram(before), after: self.histogram(after) })
    }

    fn histogram(&self, values: &[f32]) -> Histogram {
        let mut counts = vec![0; BINS];
        #[allow(clippy::cast_precision_loss, reason = "a small count")]
        let step = (self.high - self.low) / BINS as f64;
        for x in values.iter().filter(|x| x.is_finite()) {
            #[allow(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "saturates at both ends"
            )]
            let bin = ((f64::from(*x) - self.low) / step) as usize;
            counts[bin.min(BINS - 1)] += 1;
        }
        Histogram { low: self.low, high: self.high, counts }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenth_of_noise_is_20_decibels() {
        let mut noise = Noise::default();
        noise.see(&[1.0, -1.0], &[1.1, -0.9]);
        assert!((noise.decibels().expect("seen") - 20.0).abs() < 1e-5);
        assert_eq!(Noise::default().decibels(), None);
        let mut exact = Noise::default();
        exact.see(&[1.0], &[1.0]);
        assert_eq!(exact.decibels(), Some(f64::INFINITY));
    }

    #[test]
    fn histograms_have_one_range() {
        let before = [0.0, 0.5, 1.0];
        let pair = Distribution::of(&before).zip(&before, &[-1.0, 0.5, 2.0]).expect("a range");
        assert_eq!((pair.before.counts[0], pair.before.counts[BINS - 1]), (1, 1));
        assert_eq!((pair.after.counts[0], pair.after.counts[BINS - 1]), (1, 1));
        assert!(Distribution::of(&[1.0, 1.0]).zip(&[1.0], &[1.0]).is_none());
    }
}
