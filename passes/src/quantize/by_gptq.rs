//! Codes of layers found by GPTQ, layer after layer.

use std::collections::HashMap;

use qcc_interpreter::formats::{Grid, Parameters, Rules, Scales, quantize_dynamic};
use qcc_ir::{ElementType, Module, Op, OpId, ValueId};
use qcc_params::{Data, Tensor};

use super::site::Site;
use super::{NAME, Prepared};
use crate::context::Context;
use crate::gptq::{Gram, Settings, gram, solve};
use crate::pass::PassError;
use crate::weights;

/// What is known of a function's layers so far.
pub(super) struct Gptq {
    settings: Settings,
    /// Second moments of what layers read.
    grams: HashMap<ValueId, Gram>,
}

impl Gptq {
    /// Measures all inputs at once where layers do not see what rounded ones make of the samples.
    pub(super) fn new(
        settings: Settings,
        module: &Module,
        sites: &[(OpId, Site)],
        context: &Context<'_>,
    ) -> Result<Gptq, PassError> {
        let mut grams = HashMap::new();
        if !settings.sequential {
            let function = &module.functions[0];
            let linear = |id: &OpId| matches!(function.node(*id).op, Op::Linear {});
            let mut inputs: Vec<ValueId> = sites
                .iter()
                .filter(|(id, _)| linear(id))
                .filter_map(|(id, _)| function.node(*id).operands[0])
                .collect();
            inputs.sort_unstable();
            inputs.dedup();
            let measured = gram(NAME, module, &inputs, context)?;
            grams = inputs.into_iter().zip(measured).collect();
        }
        Ok(Gptq { settings, grams })
    }

    /// The codes of a layer's weight and what comes with them, as weights; `None` where it is rounded to nearest, which is a warning.
    pub(super) fn codes(
        &mut self,
        module: &mut Module,
        id: OpId,
        layer: &Prepared,
        context: &mut Context<'_>,
    ) -> Result<Option<Vec<ValueId>>, PassError> {
        let node = module.functions[0].node(id).clone();
        let location = node.location.clone();
        let at = |e: &dyn std::fmt::Display| PassError::at(NAME, &location, e);
        let refused = match node.op {
            Op::Linear {} if layer.to.storage.is_split() => Some("split codes have clusters, not levels"),
            Op::Linear {} => None,
            _ => Some("GPTQ rounds linear layers only"),
        };
        if let Some(why) = refused {
            context.warn(NAME, format!("`{location}` is rounded to nearest: {why}"));
            return Ok(None);
        }
        let Some(name) = module.functions[0].parameter_name(layer.weight).cloned() else { return Ok(None) };
        // What the layer reads: in sequence the rounded input, else the input as it was.
        let input = if self.settings.sequential { Some(layer.x) } else { node.operands[0] };
        let Some(input) = input else { return Ok(None) };
        if !self.grams.contains_key(&input) {
            let measured = gram(NAME, module, &[input], context)?;
            self.grams.extend(measured.into_iter().map(|gram| (input, gram)));
        }
        let tensor = context.parameters.evaluate(&name, context.evaluator).map_err(|e| at(&e))?;
        let (dims, values) = (tensor.dims.clone(), tensor.to_f32_vec());
        drop(tensor);
        let rules = Rules::nearest(layer.narrow);
        let found = quantize_dynamic(&values, &dims, layer.to, rules, None).map_err(|e| at(&e))?.parameters;
        let grid = Grid::new(&dims, layer.to, rules, &found).map_err(|e| at(&e))?;
        let solution = solve(&values, &self.grams[&input], &grid, self.settings).map_err(|e| at(&e))?;
        if solution.damping > self.settings.damping {
            tracing::info!(
                "{location}: damping rose to {} for its second moments to be positive definite",
                solution.damping
            );
        }
        tracing::debug!(
            "{location}: error {:.3e}, {:.3e} of nearest codes",
            solution.error,
            solution.error_of_nearest
        );
        let codes = qcc_interpreter::formats::tensor::held(layer.to.storage, solution.codes.into_iter());
        let tensors = tensors(layer, dims, codes, found).map_err(|e| at(&e))?;
        let mut values = Vec::new();
        for (part, tensor) in tensors {
            let added = weights::tensor(&mut context.parameters, &format!("{name}.gptq.{part}"), tensor);
            let added = added.map_err(|e| at(&e))?;
            values.push(
                weights::value(&mut module.functions[0], &context.parameters, &added).map_err(|e| at(&e))?,
            );
        }
        Ok(Some(values))
    }
}

/// Codes and what comes with them as tensors, in order.
fn tensors(
    layer: &Prepared,
    dims: Vec<usize>,
    codes: Data,
    found: Parameters<f32>,
) -> Result<Vec<(&'static str, Tensor)>, String> {
    let codes = Tensor::new(dims, ElementType::Quant(layer.to), codes).map_err(|e| e.to_string())?;
    let types = codes.ty().quantization_parameters(layer.to);
    let mut all = vec![("codes", codes)];
    for (name, ty) in types {
        let dims: Option<Vec<usize>> =
            ty.dims.iter().map(|d| d.constant().and_then(|d| usize::try_from(d).ok())).collect();
        let dims = dims.ok_or("its sizes are not constant")?;
        let floats = |values: Vec<f32>| match ty.element {
            ElementType::F16 => Data::F16(values.into_iter().map(half::f16::from_f32).collect()),
            ElementType::BF16 => Data::BF16(values.into_iter().map(half::bf16::from_f32).collect()),
            _ => Data::F32(values),
        };
        let data = match (name, &found) {
            ("scale", Parameters { scales: Scales::Floats(scales), .. }) => floats(scales.clone()),
            ("scale", Parameters { scales: Scales::Codes(codes), .. }) => Data::U8(codes.clone()),
            ("zero point", Parameters { zero_points: Some(zeros), .. }) => Data::I32(zeros.clone()),
            ("tensor scale", Parameters { tensor_scale: Some(scale), .. }) => Data::F32(vec![*scale]),
            #[allow(clippy::cast_possible_truncation, reason = "codebooks are f32")]
            ("codebook", Parameters { codebook: Some(levels), .. }) => {
                Data::F32(levels.iter().map(|x| *x as f32).collect())
            }
            _ => return Err(format!("its {name} is missing")),
        };
        let name = if name == "zero point" {
            "zero_point"
        } else if name == "tensor scale" {
            "tensor_scale"
        } else {
            name
        };
        all.push((name, Tensor::new(dims, ty.element, data).map_err(|e| e.to_string())?));
    }
    Ok(all)
}
