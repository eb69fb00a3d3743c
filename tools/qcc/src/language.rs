//! Language models: token ids in, one row of logits a token out, with what was read before kept in the state.

use qcc_runtime::{InputView, Model, RuntimeError};

use crate::Failure;
use crate::session::{ENTRY, Session, constant};

/// What gives logits for tokens. Measures and generation ask for no more, so that tests can stand in for models.
pub trait NextToken {
    /// Number of logits in a row.
    fn vocabulary(&self) -> usize;

    /// Sequences it takes at a time, if that is fixed.
    fn fixed_batch(&self) -> Option<usize>;

    /// Whether what was read is remembered from call to call; if not, every call takes the whole sequence.
    fn remembers(&self) -> bool;

    /// Starts new sequences.
    fn reset(&mut self);

    /// Reads `batch` sequences of equal length, one after the other in `tokens`; returns one row of logits for each token.
    ///
    /// # Errors
    /// When a token is not in the vocabulary or the model cannot run.
    fn logits(&mut self, tokens: &[u32], batch: usize) -> Result<&[f32], Failure>;

    /// As `logits`, but only those behind the last token are certain to be there: they are the last ones of a single sequence.
    ///
    /// # Errors
    /// As above.
    fn next_logits(&mut self, tokens: &[u32], batch: usize) -> Result<&[f32], Failure> {
        self.logits(tokens, batch)
    }
}

/// Tokens of generated text that there is room for at once.
const SOON: usize = 4096;

/// A compiled language model.
pub struct LanguageModel {
    session: Session,
    vocabulary: usize,
    ids: Vec<i64>,
}

/// Whether a model takes tokens.
pub fn takes_tokens(model: &Model) -> bool {
    model.entry(ENTRY).is_ok_and(|entry| entry.inputs.iter().any(|port| port.name == "tokens"))
}

impl LanguageModel {
    /// The language model that `model` is.
    ///
    /// # Errors
    /// When it is none, or cannot run.
    pub fn new(model: &Model, threads: usize) -> Result<LanguageModel, Failure> {
        let session = Session::new(model, threads)?;
        let entry = session.entry();
        let (inputs, outputs) = (&entry.inputs, &entry.outputs);
        let fits = inputs.len() == 1
            && inputs[0].name == "tokens"
            && inputs[0].element == "i64"
            && inputs[0].dims.len() == 2;
        if !fits {
            let names: Vec<_> = inputs
                .iter()
                .map(|p| format!("`{}` ({}, {} axes)", p.name, p.element, p.dims.len()))
                .collect();
            return Err(Failure::input(format!(
                "this is no language model: it takes {}, not `tokens` (i64, batch × length)",
                names.join(", ")
            )));
        }
        let logits =
            outputs.first().filter(|p| p.name == "logits" && p.element == "f32" && p.dims.len() == 3);
        let vocabulary = logits.and_then(|p| constant(p, 2)).filter(|v| *v > 0);
        let Some(vocabulary) = vocabulary else {
            return Err(Failure::input(
                "this is no language model: its first output is not `logits` (f32, batch × length × vocabulary)",
            ));
        };
        Ok(LanguageModel { session, vocabulary: vocabulary as usize, ids: Vec::new() })
    }

    /// Lets sequences have so many tokens at most, and makes room for them as far as that is certain to be needed soon.
    pub fn expect_tokens(&mut self, prompt: usize, generated: usize) {
        self.session.state().limit_tokens(prompt.saturating_add(generated) as u64);
        self.session.state().reserve_tokens(prompt.saturating_add(generated.min(SOON)) as u64);
    }

    fn run(
        &mut self,
        tokens: &[u32],
        batch: usize,
        run: impl Fn(&mut Session, &[InputView<'_>]) -> Result<(), RuntimeError>,
    ) -> Result<&[f32], Failure> {
        check_tokens(tokens, self.vocabulary)?;
        self.ids.clear();
        self.ids.extend(tokens.iter().map(|&id| i64::from(id)));
        let shape = [batch as u64, (tokens.len() / batch.max(1)) as u64];
        run(&mut self.session, &[InputView { shape: &shape, data: bytemuck::cast_slice(&self.ids) }])?;
        Ok(self.session.output_f32(0)?.1)
    }

    /// The session, to measure.
    pub fn session(&mut self) -> &mut Session {
        &mut self.session
    }
}

impl NextToken for LanguageModel {
    fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    fn fixed_batch(&self) -> Option<usize> {
        constant(&self.session.entry().inputs[0], 0).map(|n| n as usize)
    }

    fn remembers(&self) -> bool {
        !self.session.entry().states.is_empty()
    }

    fn reset(&mut self) {
        self.session.reset();
    }

    fn logits(&mut self, tokens: &[u32], batch: usize) -> Result<&[f32], Failure> {
        self.run(tokens, batch, Session::run)
    }

    fn next_logits(&mut self, tokens: &[u32], batch: usize) -> Result<&[f32], Failure> {
        self.run(tokens, batch, Session::run_next)
    }
}

/// Embedding tables are indexed by these numbers, so none may lie outside.
fn check_tokens(tokens: &[u32], vocabulary: usize) -> Result<(), Failure> {
    match tokens.iter().position(|&id| id as usize >= vocabulary) {
        None => Ok(()),
        Some(at) => Err(Failure::input(format!(
            "token {} at position {at} is not in the model's vocabulary of {vocabulary}; was the text read with the model's own tokenizer?",
            tokens[at]
        ))),
    }
}
