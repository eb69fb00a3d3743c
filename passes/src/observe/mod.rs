//! Values of the entry function over the calibration samples. The function is run in [parts](cut): memory holds the weights of one part, of
//! every sample what later parts read (a [file](store) the rest of it, where that is much), and nothing that no value needs, such as logits.

mod cut;
mod store;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};

use qcc_ir::{Function, Module, ValueId};
use qcc_params::{Parameters, Tensor};

use crate::context::{Context, Executor, Samples};
use crate::pass::PassError;
pub use cut::cut;
use store::Store;

/// Bytes of the weights of a part, in f32, where one value alone does not need more.
const PART: u64 = 512 << 20;

/// Bytes of what is known of samples that are held in memory, and of their inputs.
const HELD: u64 = 256 << 20;
const INPUTS: u64 = 128 << 20;

/// Shows values over all samples: `see(round, indices, tensors)` gets some of them, named by their indices, of one sample. In each round each
/// value is seen once of each sample, samples in order; the rounds of a value follow each other.
///
/// # Errors
/// When there are no samples (`needs` says what needs them), or the module cannot be run.
pub(crate) fn observe(
    pass: &'static str,
    needs: &str,
    module: &Module,
    values: &[ValueId],
    rounds: usize,
    context: &Context<'_>,
    see: impl FnMut(usize, &[usize], &[&Tensor]),
) -> Result<(), PassError> {
    let parts = cut::parts(&module.functions[0], values, PART);
    observe_parts(Walk::new(pass, needs, context)?, module, values, &parts, rounds, context, see)
}

/// [`observe`] in these parts.
fn observe_parts(
    mut walk: Walk<'_>,
    module: &Module,
    values: &[ValueId],
    parts: &[Vec<usize>],
    rounds: usize,
    context: &Context<'_>,
    mut see: impl FnMut(usize, &[usize], &[&Tensor]),
) -> Result<(), PassError> {
    let total = parts.len() * rounds * walk.samples.len();
    let mut done = 0;
    for (at, part) in parts.iter().enumerate() {
        let of = |part: &Vec<usize>| part.iter().map(|i| values[*i]).collect::<Vec<_>>();
        let wanted = of(part);
        let later: Vec<ValueId> = parts[at + 1..].iter().flat_map(of).collect();
        for round in 0..rounds {
            let mut seen = |tensors: &[&Tensor]| {
                context.progress.report("calibrating", done, total);
                done += 1;
                see(round, part, tensors);
                Ok(())
            };
            let parameters = &context.parameters;
            match round + 1 < rounds {
                true => walk.look(module, parameters, &wanted, &mut seen)?,
                false => walk.advance(module, parameters, &wanted, &wanted, &later, &mut seen)?,
            }
        }
    }
    context.progress.report("calibrating", total, total);
    Ok(())
}

/// A walk through the entry function, which may change in front of it.
pub(crate) struct Walk<'a> {
    pass: &'static str,
    executor: &'a dyn Executor,
    samples: &'a dyn Samples,
    /// What is known of each sample, and the tensors of each.
    held: Vec<ValueId>,
    tensors: Store,
    /// Bytes of what is known that are held in memory.
    budget: u64,
    /// The inputs of the first samples, and bytes that may still be held of others.
    inputs: Vec<Option<Vec<Tensor>>>,
    left: u64,
}

impl<'a> Walk<'a> {
    /// At the arguments.
    ///
    /// # Errors
    /// When there are no samples: `needs` says what needs them.
    pub(crate) fn new(pass: &'static str, needs: &str, context: &Context<'a>) -> Result<Walk<'a>, PassError> {
        let (Some(executor), Some(samples)) = (context.executor, context.samples.filter(|s| !s.is_empty()))
        else {
            return Err(PassError::failed(pass, format!("{needs}: pass `--calibration FILE|DIR`")));
        };
        let (held, tensors) = (Vec::new(), Store::new(samples.len(), HELD));
        let inputs = vec![None; samples.len()];
        Ok(Walk { pass, executor, samples, held, tensors, budget: HELD, inputs, left: INPUTS })
    }

    /// The inputs of a sample; images are decoded once where they fit.
    fn inputs(&mut self, sample: usize, function: &Function) -> Result<Vec<Tensor>, String> {
        if let Some(inputs) = &self.inputs[sample] {
            return Ok(inputs.clone());
        }
        let inputs = self.samples.inputs(sample, function)?;
        let bytes = inputs.iter().map(store::bytes).fold(0, u64::saturating_add);
        if let Some(left) = self.left.checked_sub(bytes) {
            self.left = left;
            self.inputs[sample] = Some(inputs.clone());
        }
        Ok(inputs)
    }

    /// Shows values of each sample, from where the walk is.
    ///
    /// # Errors
    /// When the function cannot be run, or what sees the values fails.
    pub(crate) fn look(
        &mut self,
        module: &Module,
        parameters: &Parameters,
        wanted: &[ValueId],
        see: impl FnMut(&[&Tensor]) -> Result<(), String>,
    ) -> Result<(), PassError> {
        let stay = self.held.clone();
        self.run(module, parameters, wanted, &stay, see).map_err(|e| PassError::failed(self.pass, e))
    }

    /// Shows values, and walks on to `to`: what `later` values are computed from is held, as far as `to` is.
    ///
    /// # Errors
    /// As [`Walk::look`].
    pub(crate) fn advance(
        &mut self,
        module: &Module,
        parameters: &Parameters,
        wanted: &[ValueId],
        to: &[ValueId],
        later: &[ValueId],
        see: impl FnMut(&[&Tensor]) -> Result<(), String>,
    ) -> Result<(), PassError> {
        let function = &module.functions[0];
        let held: HashSet<ValueId> = self.held.iter().copied().collect();
        let done = cut::operations(function, &held, to);
        let live = cut::live(function, &held, &done, later);
        self.run(module, parameters, wanted, &live, see).map_err(|e| PassError::failed(self.pass, e))
    }

    /// Shows `wanted` values; afterwards `live` ones are held.
    fn run(
        &mut self,
        module: &Module,
        parameters: &Parameters,
        wanted: &[ValueId],
        live: &[ValueId],
        mut see: impl FnMut(&[&Tensor]) -> Result<(), String>,
    ) -> Result<(), String> {
        let function = &module.functions[0];
        let mut results: Vec<ValueId> = Vec::new();
        for value in wanted.iter().chain(live) {
            if !self.held.contains(value) && !results.contains(value) {
                results.push(*value);
            }
        }
        // Arguments say what sizes are, even where nothing reads them.
        let inputs: Vec<ValueId> = function.arguments().iter().chain(&self.held).copied().collect();
        let mut prepared = None;
        let part = Module { functions: vec![cut(function, &results, &inputs)?] };
        if !results.is_empty() {
            prepared = Some(self.executor.prepare(&part, parameters)?);
        }
        // Where a value is: among what is held, then among the results.
        let places: HashMap<ValueId, usize> =
            self.held.iter().chain(&results).enumerate().map(|(at, value)| (*value, at)).collect();
        let mut held = Store::new(self.samples.len(), self.budget);
        for i in 0..self.samples.len() {
            let mut all = self.tensors.take(i)?;
            if let Some(prepared) = &mut prepared {
                // Of the whole function, which knows which of its arguments are states.
                let mut inputs = self.inputs(i, function)?;
                let arguments = inputs.len();
                inputs.append(&mut all);
                let made = prepared.run(&inputs)?;
                all = inputs.split_off(arguments);
                all.extend(made);
            }
            let seen: Option<Vec<&Tensor>> =
                wanted.iter().map(|value| all.get(*places.get(value)?)).collect();
            see(&seen.ok_or("a part of the function has too few results")?)?;
            let mut all: Vec<Option<Tensor>> = all.into_iter().map(Some).collect();
            let kept: Option<Vec<Tensor>> =
                live.iter().map(|value| all.get_mut(*places.get(value)?)?.take()).collect();
            held.put(i, kept.ok_or("a part of the function has too few results")?)?;
        }
        self.tensors = held;
        self.held = live.to_vec();
        Ok(())
    }
}
