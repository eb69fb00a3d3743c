//! Codes of layers found by what the layers read, layer after layer.

use std::collections::HashMap;

use qcc_interpreter::formats::{self, Rules, Scales, quantize_dynamic, tensor::held};
use qcc_ir::{ElementType, Function, Module, OpId, QuantType, ValueId};
use qcc_params::{Data, Parameters, Tensor};

use super::site::Site;
use super::{NAME, Prepared};
use crate::context::Context;
use crate::observe::Walk;
use crate::pass::PassError;
use crate::rounding::moments::{NEEDS, Read, batch, distinct, moments};
use crate::rounding::{Gram, Settings, Weight, error, solve, unfit};
use crate::weights;

/// Layers that a warning names.
const NAMED: usize = 3;

/// What is known of a function's layers so far.
pub(super) struct ByMoments<'a> {
    settings: Settings,
    walk: Walk<'a>,
    /// The layers, in order.
    layers: Vec<OpId>,
    /// The model as it was, where layers do not see what rounded ones make of the samples.
    float: Option<(Module, Parameters)>,
    /// Second moments of what layers read.
    grams: HashMap<Read, Vec<Gram>>,
    /// Layers whose damping rose, and what to.
    raised: Vec<(String, f64)>,
}

impl<'a> ByMoments<'a> {
    /// Nothing is measured yet.
    pub(super) fn new(
        settings: Settings,
        module: &Module,
        sites: &[(OpId, Site)],
        context: &Context<'a>,
    ) -> Result<ByMoments<'a>, PassError> {
        let float = (!settings.sequential).then(|| (module.clone(), context.parameters.clone()));
        let layers = sites.iter().map(|(id, _)| *id).collect();
        let walk = Walk::new(NAME, NEEDS, context)?;
        Ok(ByMoments { settings, walk, layers, float, grams: HashMap::new(), raised: Vec::new() })
    }

    /// Measures what a layer reads: in sequence alone, else with what the next ones read.
    fn measure(
        &mut self,
        module: &Module,
        id: OpId,
        read: &Read,
        context: &Context<'_>,
    ) -> Result<(), PassError> {
        let at = self.layers.iter().position(|layer| *layer == id).map_or(self.layers.len(), |at| at + 1);
        let (module, parameters) = match &self.float {
            Some((module, parameters)) => (module, parameters),
            None => (module, &context.parameters),
        };
        let function = &module.functions[0];
        let input = |id: &OpId| function.node(*id).operands[0];
        let mut reads = vec![read.clone()];
        let mut later = &self.layers[at..];
        if self.float.is_some() {
            let of_layer = |id: &OpId| Some(self::read(function, *id, input(id)?));
            let all: Vec<Option<Read>> = later.iter().map(|id| of_layer(id).flatten()).collect();
            // Up to the first one that reads nothing that is measured.
            reads.extend(all.iter().map_while(Clone::clone));
            reads.truncate(batch(function, &reads));
            later = &later[reads.len() - 1..];
        }
        let later: Vec<ValueId> = later.iter().filter_map(input).collect();
        let together = distinct(&reads);
        let measured = moments(NAME, &mut self.walk, module, parameters, &together, &later)?;
        // The input of a layer is read by its neighbours alone: those before are not needed any more.
        self.grams = together.into_iter().zip(measured).collect();
        Ok(())
    }

    /// Warns of what rose.
    pub(super) fn finish(self, context: &mut Context<'_>) {
        say_raised(&self.raised, self.settings.damping, context);
    }

    /// The codes of a layer's weight and what comes with them, as weights; `None` where it is rounded to nearest, which is a warning where it
    /// gets codes.
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
        // Nothing is gained where floats become narrower ones.
        let Some(to) = layer.to.quantized() else { return Ok(None) };
        if let Some(why) = unfit(self.settings.method, to) {
            context.warn(NAME, format!("`{location}` is rounded to nearest: {why}"));
            return Ok(None);
        }
        let Some(name) = module.functions[0].parameter_name(layer.weight).cloned() else { return Ok(None) };
        // What the layer reads: in sequence the rounded input, else the input as it was.
        let input = if self.settings.sequential { Some(layer.x) } else { node.operands[0] };
        let Some(read) = input.and_then(|x| read(&module.functions[0], id, x)) else { return Ok(None) };
        if !self.grams.contains_key(&read) {
            self.measure(module, id, &read, context)?;
        }
        let tensor = context.parameters.evaluate(&name, context.evaluator).map_err(|e| at(&e))?;
        let (dims, values) = (tensor.dims.clone(), tensor.to_f32_vec());
        drop(tensor);
        let rules = Rules::nearest(layer.narrow);
        let parameters = quantize_dynamic(&values, &dims, to, rules, None).map_err(|e| at(&e))?.parameters;
        let weight = Weight { values: &values, dims: &dims, to, rules, parameters };
        let solution = solve(&weight, &self.grams[&read], self.settings).map_err(|e| at(&e))?;
        if solution.damping > self.settings.damping {
            self.raised.push((location.to_string(), solution.damping));
        }
        if tracing::enabled!(tracing::Level::DEBUG) {
            let found = error(&weight, &solution.parameters, &solution.codes, &self.grams[&read]);
            tracing::debug!("{location}: error {:.3e}", found.map_err(|e| at(&e))?);
        }
        let codes = held(to.storage, solution.codes.into_iter());
        let tensors = tensors(to, dims, codes, solution.parameters).map_err(|e| at(&e))?;
        let mut values = Vec::new();
        for (part, tensor) in tensors {
            let added = weights::tensor(&mut context.parameters, &format!("{name}.rounded.{part}"), tensor);
            let added = added.map_err(|e| at(&e))?;
            values.push(
                weights::value(&mut module.functions[0], &context.parameters, &added).map_err(|e| at(&e))?,
            );
        }
        Ok(Some(values))
    }
}

/// Says which dampings rose.
fn say_raised(raised: &[(String, f64)], asked: f64, context: &mut Context<'_>) {
    let Some((_, most)) = raised.iter().max_by(|a, b| a.1.total_cmp(&b.1)) else { return };
    let named: Vec<String> =
        raised.iter().take(NAMED).map(|(layer, d)| format!("`{layer}` to {d}")).collect();
    let more = if raised.len() > NAMED { ", …" } else { "" };
    let what = format!(
        "the damping {asked} was too small for the second moments of {} layer(s) to be positive definite and rose, to {most} at \
         most ({}{more}); more calibration samples or a larger `damping` help",
        raised.len(),
        named.join(", ")
    );
    context.warn(NAME, what);
}

/// What a layer reads of `x`.
fn read(function: &Function, id: OpId, x: ValueId) -> Option<Read> {
    let node = function.node(id);
    let dims = function.ty((*node.operands.get(1)?)?).constant_dims()?;
    let dims: Option<Vec<usize>> = dims.into_iter().map(|d| usize::try_from(d).ok()).collect();
    Read::of(&node.op, x, &dims?)
}

/// Codes and what comes with them as tensors, in order.
fn tensors(
    to: QuantType,
    dims: Vec<usize>,
    codes: Data,
    found: formats::Parameters<f32>,
) -> Result<Vec<(&'static str, Tensor)>, String> {
    let codes = Tensor::new(dims, ElementType::Quant(to), codes).map_err(|e| e.to_string())?;
    let types = codes.ty().quantization_parameters(to);
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
            ("scale", formats::Parameters { scales: Scales::Floats(scales), .. }) => floats(scales.clone()),
            ("scale", formats::Parameters { scales: Scales::Codes(codes), .. }) => Data::U8(codes.clone()),
            ("zero point", formats::Parameters { zero_points: Some(zeros), .. }) => Data::I32(zeros.clone()),
            ("tensor scale", formats::Parameters { tensor_scale: Some(scale), .. }) => {
                Data::F32(vec![*scale])
            }
            #[allow(clippy::cast_possible_truncation, reason = "codebooks are f32")]
            ("codebook", formats::Parameters { codebook: Some(levels), .. }) => {
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
