//! Generating text: the prompt at once, then one token a step, each handed on as it comes.

use qcc_data::Sampler;

use crate::Failure;
use crate::language::NextToken;

/// Continues `prompt` by at most `limit` tokens; ends early after a token for which `emit` returns false (it is part of the result).
///
/// # Errors
/// When the prompt is empty, the model cannot run, or `emit` fails.
pub fn generate(
    model: &mut dyn NextToken,
    sampler: &mut Sampler,
    prompt: &[u32],
    limit: usize,
    mut emit: impl FnMut(u32) -> Result<bool, Failure>,
) -> Result<Vec<u32>, Failure> {
    if prompt.is_empty() {
        return Err(Failure::input("the prompt has no token; pass at least one"));
    }
    if let Some(batch) = model.fixed_batch().filter(|n| *n != 1) {
        return Err(Failure::input(format!(
            "the model takes {batch} sequences at a time; generating takes one for 1"
        )));
    }
    model.reset();
    let (mut sequence, mut unread) = (prompt.to_vec(), 0);
    while sequence.len() - prompt.len() < limit {
        let vocabulary = model.vocabulary();
        let logits = model.next_logits(&sequence[unread..], 1)?;
        let next = sampler.sample(&logits[logits.len() - vocabulary..])?;
        if model.remembers() {
            unread = sequence.len();
        }
        sequence.push(next);
        if !emit(next)? {
            break;
        }
    }
    Ok(sequence.split_off(prompt.len()))
}

/// Text that ends before the first of some stop texts, however it arrives in pieces.
pub struct StopText {
    stops: Vec<String>,
    /// Text that may be the beginning of a stop text.
    held: String,
    stopped: bool,
}

impl StopText {
    /// Watches for these texts; empty ones are ignored.
    pub fn new(stops: &[String]) -> StopText {
        let stops = stops.iter().filter(|s| !s.is_empty()).cloned().collect();
        StopText { stops, held: String::new(), stopped: false }
    }

    /// Takes a piece; returns what is certainly not part of a stop text.
    pub fn push(&mut self, piece: &str) -> String {
        if self.stopped {
            return String::new();
        }
        self.held.push_str(piece);
        if let Some(at) = self.stops.iter().filter_map(|stop| self.held.find(stop)).min() {
            self.stopped = true;
            self.held.truncate(at);
            return std::mem::take(&mut self.held);
        }
        let keep = self.stops.iter().map(|stop| overlap(&self.held, stop)).max().unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - keep);
        std::mem::replace(&mut self.held, rest)
    }

    /// Whether a stop text was seen.
    pub fn stopped(&self) -> bool {
        self.stopped
    }

    /// What was held back, at the end.
    pub fn finish(self) -> String {
        if self.stopped { String::new() } else { self.held }
    }
}

/// Bytes at the end of `text` that `stop` begins with.
fn overlap(text: &str, stop: &str) -> usize {
    let starts = stop.char_indices().map(|(at, _)| at).skip(1);
    starts.filter(|&at| text.ends_with(&stop[..at])).last().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use qcc_data::Sampling;

    use super::*;

    /// The next token is the sum of all it has read, modulo 8.
    struct Sum {
        remembers: bool,
        read: u32,
        logits: Vec<f32>,
        calls: Vec<usize>,
    }

    impl NextToken for Sum {
        fn vocabulary(&self) -> usize {
            8
        }

        fn fixed_batch(&self) -> Option<usize> {
            None
        }

        fn remembers(&self) -> bool {
            self.remembers
        }

        fn reset(&mut self) {
            self.read = 0;
        }

        fn logits(&mut self, tokens: &[u32], _: usize) -> Result<&[f32], Failure> {
            self.calls.push(tokens.len());
            if !self.remembers {
                self.read = 0;
            }
            self.logits = vec![0.0; 8 * tokens.len()];
            for (row, id) in self.logits.chunks_mut(8).zip(tokens) {
                self.read += id;
                row[self.read as usize % 8] = 1.0;
            }
            Ok(&self.logits)
        }
    }

    #[test]
    fn a_state_saves_reading_again() {
        for (remembers, calls) in [(true, [2, 1, 1]), (false, [2, 3, 4])] {
            let mut model = Sum { remembers, read: 0, logits: Vec::new(), calls: Vec::new() };
            let mut sampler = Sampler::new(Sampling::default()).expect("greedy");
            let mut seen = Vec::new();
            let got = generate(&mut model, &mut sampler, &[1, 2], 3, |id| {
                seen.push(id);
                Ok(true)
            });
            assert_eq!(got.ok().as_deref(), Some(&[3, 6, 4][..]));
            assert_eq!((seen.as_slice(), model.calls.as_slice()), (&[3, 6, 4][..], &calls[..]));
        }
    }

    #[test]
    fn stop_texts_are_found_across_pieces() {
        let mut text = StopText::new(&["###".into(), String::new()]);
        assert_eq!(text.push("ab#"), "ab");
        assert_eq!(text.push("c##"), "#c");
        assert_eq!(text.push("#d"), "");
        assert!(text.stopped());
        assert_eq!(text.push("e"), "");
        let mut unfinished = StopText::new(&["é!".into()]);
        assert_eq!(unfinished.push("caf"), "caf");
        assert_eq!(unfinished.push("é"), "");
        assert_eq!(unfinished.finish(), "é");
    }
}
