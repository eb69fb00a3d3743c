//! Bias correction (Nagel et al., arXiv 1906.04721, §4.2): what rounding adds to the mean of each output channel is taken off the bias,
//! `b −= E[ŷ − y]`, layer after layer, each with what the corrected ones before it make of the calibration samples.

use qcc_ir::ops::ImageLayout;
use qcc_ir::{Module, Op, OpId, ValueId};
use qcc_params::{Parameters, Tensor};

use super::NAME;
use crate::context::Context;
use crate::observe::{Walk, observe};
use crate::pass::PassError;
use crate::weights;

const NEEDS: &str = "bias correction looks at what layers make";

/// Corrects these layers of the entry function; `before` is the model before they were quantized. How many were corrected.
pub(super) fn correct(
    before: &(Module, Parameters),
    module: &mut Module,
    layers: &[OpId],
    context: &mut Context<'_>,
) -> Result<usize, PassError> {
    let expected = {
        let mut means = Means::new(&before.0, layers);
        let values = results(&before.0, layers);
        let rounded = std::mem::replace(&mut context.parameters, before.1.clone());
        let seen = observe(NAME, NEEDS, &before.0, &values, 1, context, |_, part, tensors| {
            part.iter().zip(tensors).for_each(|(i, tensor)| means.add(*i, tensor));
        });
        context.parameters = rounded;
        seen?;
        means.finish()
    };
    let mut walk = Walk::new(NAME, NEEDS, context)?;
    let mut corrected = 0;
    for (done, (&id, expected)) in layers.iter().zip(expected).enumerate() {
        context.progress.report("correcting biases", done, layers.len());
        let mut means = Means::new(module, &[id]);
        let (x, wanted) = (module.functions[0].node(id).operands[0], results(module, &[id]));
        let later = results(module, &layers[done..]);
        // As far as to the layer's input: what it makes will be another thing once it is corrected.
        walk.advance(module, &context.parameters, &wanted, x.as_slice(), &later, |tensors| {
            tensors.iter().for_each(|tensor| means.add(0, tensor));
            Ok(())
        })?;
        let Some(got) = means.finish().into_iter().next() else { continue };
        let node = module.functions[0].node(id).clone();
        let at = |e: &dyn std::fmt::Display| PassError::at(NAME, &node.location, e);
        if !expected.iter().chain(&got).all(|mean| mean.is_finite()) {
            return Err(at(&"the calibration samples give NaN or infinite outputs here"));
        }
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

/// What layers make.
fn results(module: &Module, layers: &[OpId]) -> Vec<ValueId> {
    layers.iter().map(|id| module.functions[0].node(*id).results[0]).collect()
}

/// Means of the output channels of layers.
struct Means {
    /// The axis of channels, the sum of each, and how many were added up.
    layers: Vec<(usize, Vec<f64>, f64)>,
}

impl Means {
    fn new(module: &Module, layers: &[OpId]) -> Means {
        let function = &module.functions[0];
        let axis = |id: &OpId| match &function.node(*id).op {
            Op::Conv { layout: ImageLayout::ChannelsFirst, .. } => 1,
            _ => function.ty(function.node(*id).results[0]).rank().saturating_sub(1),
        };
        Means { layers: layers.iter().map(|id| (axis(id), Vec::new(), 0.0)).collect() }
    }

    /// Adds up what a layer made, over all axes but that of channels.
    fn add(&mut self, layer: usize, tensor: &Tensor) {
        let (axis, sums, count) = &mut self.layers[layer];
        let channels = tensor.dims.get(*axis).copied().unwrap_or(1);
        let inner = tensor.dims.get(*axis + 1..).map_or(1, |rest| rest.iter().product::<usize>()).max(1);
        sums.resize(channels, 0.0);
        let values = tensor.f32_values();
        for (at, x) in values.iter().enumerate() {
            sums[at / inner % channels.max(1)] += f64::from(*x);
        }
        #[allow(clippy::cast_precision_loss, reason = "counts are below 2^53")]
        let added = (values.len() / channels.max(1)) as f64;
        *count += added;
    }

    fn finish(self) -> Vec<Vec<f64>> {
        let mean =
            |(_, sums, count): (usize, Vec<f64>, f64)| sums.iter().map(|s| s / count.max(1.0)).collect();
        self.layers.into_iter().map(mean).collect()
    }
}
