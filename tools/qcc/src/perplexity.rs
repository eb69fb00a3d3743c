//! Perplexity as GPTQ and llama.cpp measure it: in each window tokens 1…n-1 are predicted from those before them; exp(mean NLL).

use qcc_data::TokenWindows;
use qcc_passes::Progress;
use rayon::prelude::*;

use crate::Failure;
use crate::language::NextToken;

/// Tokens that go through the model at a time, in whole windows: enough to keep its matrix products busy.
const TOKENS_AT_A_TIME: usize = 1024;

/// What was measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Perplexity {
    /// Mean negative log-likelihood of a token, in nats.
    pub nll: f64,
    /// Tokens predicted.
    pub tokens: usize,
}

impl Perplexity {
    /// exp(NLL).
    pub fn perplexity(&self) -> f64 {
        self.nll.exp()
    }
}

/// Measures a model on windows, each read from a fresh state.
///
/// # Errors
/// When the model cannot run, a token is not in its vocabulary, or a logit is NaN.
pub fn measure(
    model: &mut dyn NextToken,
    windows: &TokenWindows,
    progress: &dyn Progress,
) -> Result<Perplexity, Failure> {
    let (length, total) = (windows.seq_len(), windows.len());
    let at_a_time = model.fixed_batch().unwrap_or((TOKENS_AT_A_TIME / length).max(1));
    let mut sum = 0.0;
    let mut done = 0;
    for chunk in windows.ids().chunks(at_a_time.max(1) * length) {
        progress.report("perplexity", done, total);
        let batch = chunk.len() / length;
        let vocabulary = model.vocabulary();
        model.reset();
        // A model for a fixed number of sequences gets copies of the last window to fill up with.
        let filled: Vec<u32>;
        let tokens = match model.fixed_batch() {
            Some(fixed) if fixed > batch => {
                let last = &chunk[chunk.len() - length..];
                filled =
                    chunk.iter().chain(last.iter().cycle().take((fixed - batch) * length)).copied().collect();
                &filled
            }
            _ => chunk,
        };
        let logits = model.logits(tokens, tokens.len() / length)?;
        let positions: Vec<usize> = (0..chunk.len()).filter(|at| at % length != 0).collect();
        let losses: Vec<f64> = positions
            .par_iter()
            .map(|&at| negative_log_likelihood(&logits[(at - 1) * vocabulary..at * vocabulary], chunk[at]))
            .collect();
        // Summed in order, whatever the number of threads.
        sum += losses.iter().sum::<f64>();
        done += batch;
        if sum.is_nan() {
            return Err(Failure::input(format!(
                "the model's logits are not numbers in window {done} or shortly before; its weights or scales are broken"
            )));
        }
    }
    progress.report("perplexity", total, total);
    let tokens = windows.predicted_tokens();
    Ok(Perplexity { nll: sum / tokens as f64, tokens })
}

/// −log softmax(`row`)[`target`], in f64.
fn negative_log_likelihood(row: &[f32], target: u32) -> f64 {
    let largest = f64::from(row.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let sum: f64 = row.iter().map(|&x| (f64::from(x) - largest).exp()).sum();
    largest + sum.ln() - f64::from(row[target as usize])
}

#[cfg(test)]
mod tests {
    use qcc_passes::SilentProgress;

    use super::*;

    /// Gives the token after the one it reads the logit ln 3, all others 0, and counts what it is asked.
    struct Successor {
        logits: Vec<f32>,
        fixed: Option<usize>,
        resets: usize,
        calls: Vec<(usize, usize)>,
    }

    const VOCABULARY: usize = 4;

    impl NextToken for Successor {
        fn vocabulary(&self) -> usize {
            VOCABULARY
        }

        fn fixed_batch(&self) -> Option<usize> {
            self.fixed
        }

        fn remembers(&self) -> bool {
            true
        }

        fn reset(&mut self) {
            self.resets += 1;
        }

        fn logits(&mut self, tokens: &[u32], batch: usize) -> Result<&[f32], Failure> {
            self.calls.push((tokens.len(), batch));
            self.logits = vec![0.0; tokens.len() * VOCABULARY];
            for (row, &id) in self.logits.chunks_mut(VOCABULARY).zip(tokens) {
                row[(id as usize + 1) % VOCABULARY] = 3f32.ln();
            }
            Ok(&self.logits)
        }
    }

    fn successor(fixed: Option<usize>) -> Successor {
        Successor { logits: Vec::new(), fixed, resets: 0, calls: Vec::new() }
    }

    fn measured(model: &mut Successor, ids: Vec<u32>, length: usize) -> Perplexity {
        let windows = TokenWindows::new(ids, length, None).expect("enough tokens");
        measure(model, &windows, &SilentProgress).expect("it runs")
    }

    #[test]
    fn the_first_token_of_a_window_is_not_predicted() {
        // Windows 0 1 2 | 3 0 2: successors but for the last; 7 is dropped with the incomplete window.
        let got = measured(&mut successor(None), vec![0, 1, 2, 3, 0, 2, 3], 3);
        let expected = (3.0 * (6f64 / 3.0).ln() + 6f64.ln()) / 4.0;
        assert_eq!(got.tokens, 4);
        assert!((got.nll - expected).abs() < 1e-7, "{got:?}");
        assert!((got.perplexity() - expected.exp()).abs() < 1e-6);
    }

    #[test]
    fn windows_go_together_but_the_result_stays() {
        let ids: Vec<u32> = (0..5 * 512).map(|i| i % 3).collect();
        let mut model = successor(None);
        let together = measured(&mut model, ids.clone(), 512);
        assert_eq!(model.calls, [(1024, 2), (1024, 2), (512, 1)]);
        assert_eq!(model.resets, 3);
        let mut fixed = successor(Some(3));
        let filled = measured(&mut fixed, ids, 512);
        assert_eq!(fixed.calls, [(1536, 3), (1536, 3)]);
        assert!((together.nll - filled.nll).abs() < 1e-12);
        assert_eq!(together.tokens, filled.tokens);
    }

    #[test]
    fn large_logits_do_not_overflow() {
        let loss = negative_log_likelihood(&[3e38, -3e38, 0.0], 0);
        assert_eq!(loss, 0.0);
        assert!((negative_log_likelihood(&[1e4, 1e4], 1) - 2f64.ln()).abs() < 1e-9);
    }
}
