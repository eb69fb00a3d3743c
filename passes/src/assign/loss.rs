//! What a model loses by quantization, in percent of the float model's.

use qcc_ir::{Function, Module, Op};
use qcc_params::{Parameters, Tensor};

use crate::context::{Context, Executor, Samples};
use crate::instrument::Instrumentation;
use crate::pipeline::Pipeline;

/// Samples that a loss is measured on, at most: the first ones.
const SAMPLES: usize = 16;

/// The float model's answers to the calibration samples.
///
/// The loss of a language model is how much its perplexity on the next tokens rises; of others the squared error of the outputs relative to
/// their square.
pub(super) struct Reference<'a> {
    executor: &'a dyn Executor,
    samples: &'a dyn Samples,
    /// Outputs for each sample, without states.
    expected: Vec<Vec<Tensor>>,
    outputs: Vec<usize>,
    /// Which argument has the tokens, of a language model.
    tokens: Option<usize>,
}

impl<'a> Reference<'a> {
    /// Runs the model as it is.
    ///
    /// # Errors
    /// When there is nothing to run it on or with, or it does not run.
    pub(super) fn new(module: &Module, context: &Context<'a>) -> Result<Reference<'a>, String> {
        let (Some(executor), Some(samples)) = (context.executor, context.samples.filter(|s| !s.is_empty()))
        else {
            return Err("the loss is measured on calibration samples: pass `--calibration FILE|DIR`".into());
        };
        let function = module.entry().ok_or("the module has no function")?;
        let is_state = |i: &usize| function.states.iter().any(|s| s.result == *i);
        let outputs = (0..function.results.len()).filter(|i| !is_state(i)).collect();
        let mut reference =
            Reference { executor, samples, expected: Vec::new(), outputs, tokens: tokens(function) };
        reference.expected = reference.run(module, &context.parameters)?;
        Ok(reference)
    }

    fn run(&self, module: &Module, parameters: &Parameters) -> Result<Vec<Vec<Tensor>>, String> {
        let function = module.entry().ok_or("the module has no function")?;
        let mut prepared = self.executor.prepare(module, parameters)?;
        let mut all = Vec::new();
        for i in 0..self.samples.len().min(SAMPLES) {
            let mut outputs = prepared.run(&self.samples.inputs(i, function)?)?;
            let keep = |outputs: &mut Vec<Tensor>| {
                let mut at = 0..;
                outputs.retain(|_| at.next().is_some_and(|i: usize| self.outputs.contains(&i)));
            };
            keep(&mut outputs);
            all.push(outputs);
        }
        Ok(all)
    }

    /// The loss, in percent, of a model after these passes.
    ///
    /// # Errors
    /// When a pass fails or the result does not run.
    pub(super) fn loss(
        &self,
        mut module: Module,
        context: &Context<'_>,
        passes: &Pipeline,
    ) -> Result<f64, String> {
        let mut inner = Context::new(context.parameters.clone(), context.evaluator);
        inner.executor = context.executor;
        inner.samples = context.samples;
        inner.statistics = context.statistics.clone();
        inner.statistics_cache.clone_from(&context.statistics_cache);
        passes.run(&mut module, &mut inner, &mut Instrumentation::default()).map_err(|e| e.to_string())?;
        let got = self.run(&module, &inner.parameters)?;
        let loss = match self.tokens {
            Some(tokens) => {
                let function = module.entry().ok_or("the module has no function")?;
                let (before, after) = (
                    self.surprise(&self.expected, tokens, function)?,
                    self.surprise(&got, tokens, function)?,
                );
                100.0 * ((after - before).exp() - 1.0)
            }
            None => 100.0 * square_error(&got, &self.expected),
        };
        // What overflows loses everything.
        Ok(if loss.is_nan() { f64::INFINITY } else { loss })
    }

    /// Mean negative log-likelihood, in nats, of each next token.
    fn surprise(&self, outputs: &[Vec<Tensor>], tokens: usize, function: &Function) -> Result<f64, String> {
        let (mut sum, mut count) = (0.0, 0usize);
        for (i, outputs) in outputs.iter().enumerate() {
            let inputs = self.samples.inputs(i, function)?;
            let (ids, logits) = (inputs[tokens].as_i64().unwrap_or(&[]), &outputs[0]);
            let width = logits.dims.last().copied().unwrap_or(1).max(1);
            let length = inputs[tokens].dims.last().copied().unwrap_or(1).max(1);
            let values = logits.to_f32_vec();
            for (at, row) in values.chunks_exact(width).enumerate() {
                // The last token of a window has no next one.
                if (at + 1) % length == 0 {
                    continue;
                }
                let next =
                    ids.get(at + 1).and_then(|id| usize::try_from(*id).ok()).and_then(|id| row.get(id));
                let largest = row.iter().fold(f32::NEG_INFINITY, |m, x| m.max(*x));
                let normaliser =
                    row.iter().map(|x| f64::from(x - largest).exp()).sum::<f64>().ln() + f64::from(largest);
                sum += normaliser - next.map_or(f64::NEG_INFINITY, |x| f64::from(*x));
                count += 1;
            }
        }
        #[allow(clippy::cast_precision_loss, reason = "counts are below 2^53")]
        Ok(sum / count.max(1) as f64)
    }
}

/// The argument whose tokens a language model embeds and predicts the next of: logits for each of them come first.
fn tokens(function: &Function) -> Option<usize> {
    let arguments = function.arguments();
    let embedded = function
        .order()
        .iter()
        .map(|id| function.node(*id))
        .find(|node| matches!(node.op, Op::Embedding {}))?;
    let tokens = arguments.iter().position(|a| Some(Some(*a)) == embedded.operands.get(1).copied())?;
    let (ids, logits) = (function.ty(arguments[tokens]), function.ty(*function.results.first()?));
    (logits.rank() == ids.rank() + 1 && logits.dims[..ids.rank()] == ids.dims[..]).then_some(tokens)
}

fn square_error(got: &[Vec<Tensor>], expected: &[Vec<Tensor>]) -> f64 {
    let (mut noise, mut power) = (0.0, 0.0);
    for (a, b) in got.iter().flatten().zip(expected.iter().flatten()) {
        for (a, b) in a.to_f64_vec().iter().zip(b.to_f64_vec()) {
            noise += (a - b) * (a - b);
            power += b * b;
        }
    }
    noise / power.max(f64::MIN_POSITIVE)
}
