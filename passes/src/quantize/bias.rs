//! Bias correction (Nagel et al., arXiv 1906.04721, §4.2): what rounding adds to the mean of each output channel is taken off the bias,
//! `b −= E[ŷ − y]`, layer after layer, each with what the corrected ones before it make of the calibration samples.

use qcc_ir::ops::ImageLayout;
use qcc_ir::{Module, Op, OpId, ValueId};
use qcc_params::{Parameters, Tensor};

use super::NAME;
use crate::calibrate::{observe, tapped};
use crate::context::Context;
use crate::pass::PassError;
use crate::weights;

/// Corrects these layers of the entry function; `before` is the model before they were quantized. How many were corrected.
pub(super) fn correct(
    before: &(Module, Parameters),
    module: &mut Module,
    layers: &[OpId],
    context: &mut Context<'_>,
) -> Result<usize, PassError> {
    let rounded = std::mem::replace(&mut context.parameters, before.1.clone());
    let expected = means(&before.0, layers, false, context);
    context.parameters = rounded;
    let mut corrected = 0;
    for (done, (&id, expected)) in layers.iter().zip(expected?).enumerate() {
        context.progress.report("correcting biases", done, layers.len());
        let Some(got) = means(module, &[id], true, context)?.into_iter().next() else { continue };
        let node = module.functions[0].node(id).clone();
        let at = |e: &dyn std::fmt::Display| PassError::at(NAME, &node.location, e);
        let bias = match node.operands.get(2).copied().flatten() {
            None => vec![0.0; got.len()],
            Some(bias) => {
                let Some(name) = module.functions[0].parameter_name(bias).cloned() else {
                    let what = format!("`{}` keeps its bias: it is not a weight", node.location);
                    context.warn(NAME, what);
                    continue;
                };
                context.parameters.evaluate(&name, context.evaluator).map_err(|e| at(&e))?.to_f64_vec()
            }
        };
        #[allow(clippy::cast_possible_truncation, reason = "biases are f32")]
        let moved: Vec<f32> = bias
            .iter()
            .zip(expected.iter().zip(&got))
            .map(|(b, (y, y_hat))| (b + y - y_hat) as f32)
            .collect();
        let tensor = Tensor::f32(&[moved.len()], moved).map_err(|e| at(&e))?;
        let name =
            weights::tensor(&mut context.parameters, &format!("{}.bias.corrected", node.location), tensor)
                .map_err(|e| at(&e))?;
        let function = &mut module.functions[0];
        let bias = weights::value(function, &context.parameters, &name).map_err(|e| at(&e))?;
        let operands = &mut function.node_mut(id).operands;
        operands.resize(operands.len().max(3), None);
        operands[2] = Some(bias);
        // The new weight stands behind its user.
        function.sort();
        corrected += 1;
    }
    Ok(corrected)
}

/// The mean of each output channel of some layers over the calibration samples; with `alone` the function is run as far as they need.
fn means(
    module: &Module,
    layers: &[OpId],
    alone: bool,
    context: &Context<'_>,
) -> Result<Vec<Vec<f64>>, PassError> {
    let (Some(executor), Some(samples)) = (context.executor, context.samples.filter(|s| !s.is_empty()))
    else {
        let needs = "bias correction looks at what layers make: pass `--calibration FILE|DIR`";
        return Err(PassError::failed(NAME, needs));
    };
    let function = &module.functions[0];
    let values: Vec<ValueId> = layers.iter().map(|id| function.node(*id).results[0]).collect();
    let mut part = tapped(module, &values);
    let mut outputs = function.results.len();
    if alone {
        let function = &mut part.functions[0];
        function.states.clear();
        function.results.drain(..outputs);
        function.result_names.drain(..outputs);
        function.remove_dead();
        outputs = 0;
    }
    let axes: Vec<usize> = layers
        .iter()
        .map(|id| match &function.node(*id).op {
            Op::Conv { layout: ImageLayout::ChannelsFirst, .. } => 1,
            _ => function.ty(function.node(*id).results[0]).rank().saturating_sub(1),
        })
        .collect();
    let mut sums: Vec<(Vec<f64>, f64)> = vec![(Vec::new(), 0.0); layers.len()];
    let mut see = |tensors: &[Tensor]| {
        for ((sums, tensor), axis) in sums.iter_mut().zip(&tensors[outputs..]).zip(&axes) {
            add(sums, tensor, *axis);
        }
    };
    if !alone {
        observe(&part, context, executor, samples, &mut see)?;
    } else {
        let failed = |e: String| PassError::failed(NAME, e);
        let mut prepared = executor.prepare(&part, &context.parameters).map_err(failed)?;
        for i in 0..samples.len() {
            // Of the whole function, which knows which of its arguments are states.
            let inputs = samples.inputs(i, function).map_err(failed)?;
            see(&prepared.run(&inputs).map_err(failed)?);
        }
    }
    let mean = |(sums, count): (Vec<f64>, f64)| sums.into_iter().map(|s| s / count.max(1.0)).collect();
    Ok(sums.into_iter().map(mean).collect())
}

/// Adds up a tensor over all axes but one, and counts what was added to each.
fn add((sums, count): &mut (Vec<f64>, f64), tensor: &Tensor, axis: usize) {
    let channels = tensor.dims.get(axis).copied().unwrap_or(1);
    let inner = tensor.dims.get(axis + 1..).map_or(1, |rest| rest.iter().product::<usize>()).max(1);
    sums.resize(channels, 0.0);
    let values = tensor.as_f32().unwrap_or(&[]);
    for (at, x) in values.iter().enumerate() {
        sums[at / inner % channels.max(1)] += f64::from(*x);
    }
    #[allow(clippy::cast_precision_loss, reason = "counts are below 2^53")]
    let added = (values.len() / channels.max(1)) as f64;
    *count += added;
}
