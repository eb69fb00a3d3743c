//! Trials: a transformed model is quantized as the rest of the pipeline will quantize it, and compared with the float model on samples that
//! were not used to calibrate. What is measured is what will run, not a simulation of it.

use qcc_ir::{Function, Module, Op};
use qcc_params::{Parameters, Tensor};

use crate::context::{Context, Executor, Samples};
use crate::instrument::Instrumentation;
use crate::pipeline::Pipeline;
use crate::registry::Registry;
use crate::verify_each::{Layout, fresh_inputs, relative_error};

/// Samples compared on.
const SAMPLES: usize = 8;

/// The largest relative error of an output of a float model, states included, against the model that it was made from, by the executor
/// of the context: on held-out samples, on others where there are none, on random inputs where there are none either.
///
/// # Errors
/// When one of them cannot be run.
pub fn difference(
    (before, parameters): &(Module, Parameters),
    module: &Module,
    context: &Context<'_>,
) -> Result<f64, String> {
    let executor = context.executor.ok_or("there is nothing to run it with")?;
    let samples = context.held_out.or(context.samples).filter(|samples| !samples.is_empty());
    Trial::new(before, parameters, executor, samples.unwrap_or(&Made))?
        .difference(module, &context.parameters)
}

/// One sample of random numbers.
struct Made;

impl Samples for Made {
    fn len(&self) -> usize {
        1
    }

    fn inputs(&self, _: usize, function: &Function) -> Result<Vec<Tensor>, String> {
        fresh_inputs(function)
    }
}

/// The float model's answers.
pub struct Trial<'a> {
    executor: &'a dyn Executor,
    samples: &'a dyn Samples,
    /// Outputs for each sample.
    expected: Vec<Vec<Tensor>>,
    /// The outputs that matter: all but states.
    outputs: Vec<usize>,
    /// Whether the outputs are logits over tokens.
    logits: bool,
    layout: Layout,
}

impl<'a> Trial<'a> {
    /// Runs the model as it is.
    ///
    /// # Errors
    /// When a sample cannot be read or the model cannot be run.
    pub fn new(
        module: &Module,
        parameters: &Parameters,
        executor: &'a dyn Executor,
        samples: &'a dyn Samples,
    ) -> Result<Trial<'a>, String> {
        let function = module.entry().ok_or("the module has no function")?;
        let is_state = |i: &usize| function.states.iter().any(|s| s.result == *i);
        let outputs = (0..function.results.len()).filter(|i| !is_state(i)).collect();
        let embeds = |f: &Function| f.order().iter().any(|id| matches!(f.node(*id).op, Op::Embedding {}));
        let (logits, layout) = (embeds(function), Layout::of(function));
        let mut trial = Trial { executor, samples, expected: Vec::new(), outputs, logits, layout };
        trial.expected = trial.run(module, parameters)?;
        Ok(trial)
    }

    fn run(&self, module: &Module, parameters: &Parameters) -> Result<Vec<Vec<Tensor>>, String> {
        let function = module.entry().ok_or("the module has no function")?;
        let mut prepared = self.executor.prepare(module, parameters)?;
        let inputs = (0..self.samples.len().min(SAMPLES)).map(|i| self.samples.inputs(i, function));
        inputs.map(|x| prepared.run(&x?)).collect()
    }

    /// The largest relative error of an output of a float model, states included, but for those that are arranged in another way.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn difference(&self, module: &Module, parameters: &Parameters) -> Result<f64, String> {
        let got = self.run(module, parameters)?;
        let function = module.entry().ok_or("the module has no function")?;
        let changed = self.layout.changed(function);
        let pairs = got.iter().zip(&self.expected).flat_map(|(a, b)| a.iter().zip(b).enumerate());
        let alike = pairs.filter(|(i, _)| !changed.contains(i));
        Ok(alike.map(|(_, (a, b))| relative_error(a, b)).fold(0.0, f64::max))
    }

    /// What these passes lose: see [`super::explanation::TradeOff::loss`].
    ///
    /// # Errors
    /// When a pass fails or the result cannot be run.
    pub fn loss(&self, mut module: Module, context: &Context<'_>, passes: &str) -> Result<f64, String> {
        let mut inner = Context::new(context.parameters.clone(), context.evaluator);
        inner.executor = context.executor;
        inner.samples = context.samples;
        inner.progress = context.progress;
        inner.statistics_cache.clone_from(&context.statistics_cache);
        let pipeline = Pipeline::parse(passes, &Registry::builtin()).map_err(|e| e.to_string())?;
        pipeline.run(&mut module, &mut inner, &mut Instrumentation::default()).map_err(|e| e.to_string())?;
        let got = self.run(&module, &inner.parameters)?;
        let (mut total, mut n) = (0.0, 0usize);
        for (got, expected) in got.iter().zip(&self.expected) {
            for &output in &self.outputs {
                let (a, b) = (got[output].to_f64_vec(), expected[output].to_f64_vec());
                let width = expected[output].dims.last().copied().unwrap_or(1).max(1);
                let (sum, count) = match self.logits {
                    true => (divergences(&a, &b, width), b.len() / width),
                    false => (square_error(&a, &b), 1),
                };
                (total, n) = (total + sum, n + count);
            }
        }
        let loss = total / n.max(1) as f64;
        // What overflows loses everything.
        Ok(if loss.is_nan() { f64::INFINITY } else { loss })
    }
}

/// The sum over rows of the Kullback–Leibler divergence of softmax(a) from softmax(b), in nats.
fn divergences(a: &[f64], b: &[f64], width: usize) -> f64 {
    let normaliser = |row: &[f64]| {
        let largest = row.iter().fold(f64::NEG_INFINITY, |m, x| m.max(*x));
        largest + row.iter().map(|x| (x - largest).exp()).sum::<f64>().ln()
    };
    let rows = a.chunks(width).zip(b.chunks(width));
    let divergence = |(a, b): (&[f64], &[f64])| {
        let (za, zb) = (normaliser(a), normaliser(b));
        a.iter().zip(b).map(|(a, b)| (b - zb).exp() * ((b - zb) - (a - za))).sum::<f64>()
    };
    rows.map(divergence).sum()
}

/// ‖a − b‖² / ‖b‖².
fn square_error(a: &[f64], b: &[f64]) -> f64 {
    let noise: f64 = a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum();
    noise / b.iter().map(|b| b * b).sum::<f64>().max(f64::MIN_POSITIVE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn divergence_is_of_distributions_not_of_logits() {
        let b = [1.0, 2.0, 0.5];
        assert!(divergences(&[11.0, 12.0, 10.5], &b, 3).abs() < 1e-12);
        // (1/2, 1/2) from (3/4, 1/4): 3/4 ln(3/2) + 1/4 ln(1/2).
        let d = divergences(&[0.0, 0.0], &[3f64.ln(), 0.0], 2);
        assert!((d - (0.75 * 1.5f64.ln() + 0.25 * 0.5f64.ln())).abs() < 1e-12, "{d}");
    }

    #[test]
    fn square_error_is_relative() {
        assert_eq!(square_error(&[1.0, 3.0], &[1.0, 2.0]), 0.2);
    }
}
