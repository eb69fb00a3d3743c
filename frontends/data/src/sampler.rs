//! The choice of the next token from logits: greedy, or at random after top-k, top-p and temperature, in llama.cpp's
//! order. The same logits, options and seed always give the same tokens.

use crate::error::{DataError, Result};

/// How tokens are chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// Divides the logits; 0 chooses the largest logit always (greedy).
    pub temperature: f32,
    /// Keeps only this many of the largest logits; 0 keeps all.
    pub top_k: usize,
    /// Keeps only the most probable tokens that together have at least this probability; 1 keeps all.
    pub top_p: f32,
    /// Seed of the random choices.
    pub seed: u64,
}

impl Default for Sampling {
    /// Greedy.
    fn default() -> Self {
        Sampling { temperature: 0.0, top_k: 0, top_p: 1.0, seed: 0 }
    }
}

/// Chooses tokens one after another.
#[derive(Debug, Clone)]
pub struct Sampler {
    sampling: Sampling,
    random: SplitMix64,
    /// Ids and logits that are in the running; kept between calls for its memory.
    candidates: Vec<(u32, f32)>,
}

impl Sampler {
    /// A sampler at the start of its random sequence.
    ///
    /// Errors: a temperature that is negative or not finite, or a `top_p` outside (0, 1].
    pub fn new(sampling: Sampling) -> Result<Self> {
        let Sampling { temperature, top_p, seed, .. } = sampling;
        if !(temperature.is_finite() && temperature >= 0.0) {
            return Err(DataError::Request(format!(
                "a temperature of {temperature}; use 0 (greedy) or more"
            )));
        }
        if !(top_p > 0.0 && top_p <= 1.0) {
            return Err(DataError::Request(format!(
                "a top-p of {top_p}; use a probability above 0 and up to 1"
            )));
        }
        Ok(Sampler { sampling, random: SplitMix64(seed), candidates: Vec::new() })
    }

    /// The next token. Of equal logits the lower id comes first; NaN is never chosen.
    ///
    /// Errors: no logit is a number above −∞ (an empty row or a broken model).
    pub fn sample(&mut self, logits: &[f32]) -> Result<u32> {
        let greedy =
            argmax(logits).filter(|&id| logits[id as usize] > f32::NEG_INFINITY).ok_or_else(|| {
                DataError::Request(format!(
                    "none of {} logits is a number; the model's output is broken",
                    logits.len()
                ))
            })?;
        let peak = logits[greedy as usize];
        let Sampling { temperature, top_k, top_p, .. } = self.sampling;
        if temperature == 0.0 || top_k == 1 || peak == f32::INFINITY {
            return Ok(greedy);
        }

        let finite = (0..).zip(logits.iter().copied()).filter(|(_, logit)| *logit > f32::NEG_INFINITY);
        self.candidates.clear();
        self.candidates.extend(finite);
        let descending = |a: &(u32, f32), b: &(u32, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
        if top_k > 0 && top_k < self.candidates.len() {
            self.candidates.select_nth_unstable_by(top_k - 1, descending);
            self.candidates.truncate(top_k);
        }
        if top_p < 1.0 {
            self.candidates.sort_unstable_by(descending);
            let weight = |&(_, logit): &(u32, f32)| f64::from(logit - peak).exp();
            let enough = f64::from(top_p) * self.candidates.iter().map(weight).sum::<f64>();
            let mut sum = 0.0;
            let below = self.candidates.iter().take_while(|candidate| {
                let needed = sum < enough;
                sum += weight(candidate);
                needed
            });
            let kept = below.count();
            self.candidates.truncate(kept);
        } else {
            // Selection leaves an unspecified order; the choice below must not depend on it.
            self.candidates.sort_unstable_by_key(|&(id, _)| id);
        }

        let weight = |&(_, logit): &(u32, f32)| (f64::from(logit - peak) / f64::from(temperature)).exp();
        let total: f64 = self.candidates.iter().map(weight).sum();
        let mut rest = self.random.unit() * total;
        for candidate in &self.candidates {
            rest -= weight(candidate);
            if rest < 0.0 {
                return Ok(candidate.0);
            }
        }
        // Only rounding in the subtractions leads here: the draw lay at the very end of the last likely token.
        Ok(self
            .candidates
            .iter()
            .rev()
            .find(|candidate| weight(candidate) > 0.0)
            .map_or(greedy, |&(id, _)| id))
    }
}

/// The index of the largest number, the first of equals; NaN is passed over. `None` if there is no number.
pub fn argmax(logits: &[f32]) -> Option<u32> {
    let mut best: Option<(u32, f32)> = None;
    for (id, &logit) in (0..).zip(logits) {
        if !logit.is_nan() && best.is_none_or(|(_, largest)| logit > largest) {
            best = Some((id, logit));
        }
    }
    best.map(|(id, _)| id)
}

/// Steele, Lea and Flood's SplitMix64 (OOPSLA 2014): 64 bits of state, every seed is a good one.
#[derive(Debug, Clone)]
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// A number in [0, 1) with 53 random bits.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampler(temperature: f32, top_k: usize, top_p: f32, seed: u64) -> Sampler {
        Sampler::new(Sampling { temperature, top_k, top_p, seed }).unwrap()
    }

    /// How often each of `n` ids is drawn in 20 000 draws, in percent.
    fn shares(mut sampler: Sampler, logits: &[f32]) -> Vec<f64> {
        let mut counts = vec![0.0; logits.len()];
        for _ in 0..20_000 {
            counts[sampler.sample(logits).unwrap() as usize] += 1.0 / 200.0;
        }
        counts
    }

    fn logits(probabilities: &[f32]) -> Vec<f32> {
        probabilities.iter().map(|p| p.ln() + 3.0).collect()
    }

    fn assert_near(shares: &[f64], expected: &[f64]) {
        for (share, expected) in shares.iter().zip(expected) {
            assert!((share - expected).abs() <= if *expected == 0.0 { 0.0 } else { 1.5 }, "{shares:?}");
        }
    }

    #[test]
    fn splitmix_gives_the_published_sequence() {
        let mut random = SplitMix64(1234567);
        let expected = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431];
        assert_eq!([0; 4].map(|_| random.next()), expected);
    }

    #[test]
    fn greedy_takes_the_first_of_the_largest_and_passes_over_nan() {
        let mut greedy = Sampler::new(Sampling::default()).unwrap();
        assert_eq!(greedy.sample(&[f32::NAN, 1.0, 3.0, 3.0, f32::NEG_INFINITY]).unwrap(), 2);
        assert_eq!(greedy.sample(&[-5.0]).unwrap(), 0);
        assert_eq!(sampler(1.0, 0, 1.0, 0).sample(&[0.0, f32::INFINITY, 1.0]).unwrap(), 1);
    }

    #[test]
    fn no_number_is_an_error() {
        for broken in [&[][..], &[f32::NAN, f32::NAN], &[f32::NEG_INFINITY, f32::NAN]] {
            assert!(sampler(1.0, 0, 1.0, 0).sample(broken).is_err());
            assert!(sampler(0.0, 0, 1.0, 0).sample(broken).is_err());
        }
    }

    #[test]
    fn draws_follow_the_softmax() {
        assert_near(&shares(sampler(1.0, 0, 1.0, 7), &logits(&[0.1, 0.6, 0.3])), &[10.0, 60.0, 30.0]);
    }

    #[test]
    fn temperature_flattens() {
        // Square roots of the probabilities, normalised.
        assert_near(&shares(sampler(2.0, 0, 1.0, 7), &logits(&[0.09, 0.64, 0.27])), &[18.5, 49.4, 32.1]);
    }

    #[test]
    fn top_k_keeps_the_largest() {
        assert_near(&shares(sampler(1.0, 2, 1.0, 7), &logits(&[0.2, 0.5, 0.3])), &[0.0, 62.5, 37.5]);
        assert_near(&shares(sampler(1.0, 9, 1.0, 7), &logits(&[0.2, 0.5, 0.3])), &[20.0, 50.0, 30.0]);
        assert_eq!(sampler(5.0, 1, 1.0, 7).sample(&[1.0, 1.1, 1.05]).unwrap(), 1);
    }

    #[test]
    fn top_p_keeps_the_fewest_that_reach_it() {
        assert_near(&shares(sampler(1.0, 0, 0.6, 7), &logits(&[0.2, 0.5, 0.3])), &[0.0, 62.5, 37.5]);
        assert_near(&shares(sampler(1.0, 0, 0.4, 7), &logits(&[0.2, 0.5, 0.3])), &[0.0, 100.0, 0.0]);
    }

    #[test]
    fn a_tiny_temperature_is_greedy() {
        assert_near(&shares(sampler(1e-30, 0, 1.0, 7), &[1.0, 2.0, 1.5]), &[0.0, 100.0, 0.0]);
    }

    #[test]
    fn the_seed_decides() {
        let row: Vec<f32> = (0..1000).map(|i| (i % 17) as f32 * 0.1).collect();
        let draw = |seed| {
            let mut sampler = sampler(0.8, 40, 0.95, seed);
            (0..32).map(|_| sampler.sample(&row).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }

    #[test]
    fn options_outside_their_range_are_refused() {
        for (temperature, top_p) in
            [(-1.0, 1.0), (f32::NAN, 1.0), (f32::INFINITY, 1.0), (1.0, 0.0), (1.0, 1.1)]
        {
            assert!(Sampler::new(Sampling { temperature, top_k: 0, top_p, seed: 0 }).is_err());
        }
    }
}
