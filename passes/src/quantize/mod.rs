//! `quantize`: applies number formats to linear layers and convolutions, rounding to nearest; `lower-quantized`: turns the
//! quantize–dequantize form into integer operations.
//!
//! `quantize` writes the *meaning*: `linear(dequantize(quantize(x)), dequantize(codes(w)))`. It chooses what to quantize from dataflow alone:
//! every linear and convolution on a weight, but for the output head of a language model (the linear that yields a result of a function
//! that embeds tokens), which keeps its type unless a head format is given.

mod hoist;
mod lower;
mod range;

use std::collections::HashMap;

use qcc_ir::format::{Format, Role};
use qcc_ir::{Dense, ElementType, Function, Granularity, InferError, Module, Op, OpId, QuantType, TensorType, ValueId, ops::Rounding};

use crate::calibrate::Statistics;
use crate::context::Context;
use crate::pass::{Options, Outcome, Pass, PassError, PassInfo, Preservation};

pub use lower::INFO as LOWER_INFO;

/// The registry entry.
pub const INFO: PassInfo = PassInfo {
    name: "quantize",
    summary: "applies number formats to linear layers and convolutions, rounding to nearest",
    options: &[
        ("weights", "format of weights, e.g. int8:channel"),
        ("activations", "format of activations, e.g. int8:token:dynamic; omitted: f32"),
        ("head", "format of the output head's weight; omitted: it keeps its type"),
    ],
    make: |options| Ok(Box::new(Quantize::new(options)?)),
};

const NAME: &str = "quantize";

struct Quantize {
    weights: Format,
    activations: Option<Format>,
    head: Option<Format>,
}

impl Quantize {
    fn new(options: &mut Options) -> Result<Quantize, String> {
        let mut format = |name: &str, role: Role| -> Result<Option<Format>, String> {
            let Some(text) = options.take::<String>(name)? else { return Ok(None) };
            let format = Format::parse(&text, role).map_err(|e| e.to_string())?;
            if format.is_float() {
                return match (name, text.as_str()) {
                    ("activations", "f32") => Ok(None),
                    _ => Err(format!("`{name}={text}` is a float format; leave the option out to keep floats")),
                };
            }
            format.check_executable().map_err(|e| e.to_string())?;
            Ok(Some(format))
        };
        let weights = format("weights", Role::Weight)?.ok_or("the option `weights=FORMAT` is needed")?;
        Ok(Quantize { weights, activations: format("activations", Role::Activation)?, head: format("head", Role::Weight)? })
    }
}

impl Pass for Quantize {
    fn preservation(&self) -> Preservation {
        Preservation::Approximate
    }

    fn run(&self, module: &mut Module, context: &mut Context<'_>) -> Result<Outcome, PassError> {
        let mut quantized = 0;
        let mut skipped = Vec::new();
        let function = module.functions.first_mut().ok_or_else(|| PassError::failed(NAME, "the module has no function"))?;
        let mut activations: HashMap<ValueId, ValueId> = HashMap::new();
        for id in function.order().to_vec() {
            match site(function, id) {
                Site::None => {}
                Site::NoWeight => skipped.push((id, "its second operand is not a weight".to_string())),
                Site::Head => {
                    if let Some(format) = &self.head {
                        match self.apply(function, id, format, None, &mut activations, &context.statistics)? {
                            Ok(()) => quantized += 1,
                            Err(why) => skipped.push((id, why)),
                        }
                    }
                }
                Site::Layer => {
                    let format = self.activations.as_ref();
                    match self.apply(function, id, &self.weights, format, &mut activations, &context.statistics)? {
                        Ok(()) => quantized += 1,
                        Err(why) => skipped.push((id, why)),
                    }
                }
            }
        }
        function.sort();
        for (id, why) in &skipped {
            let node = function.node(*id);
            let message = format!("`{}` (qcc.{}) keeps its type: {why}", node.location, node.op.name());
            context.warn(NAME, message);
        }
        if quantized == 0 {
            context.warn(NAME, "no linear layer or convolution was quantized");
        }
        Ok(Outcome::of([("quantized", quantized), ("skipped", skipped.len())]))
    }
}

/// What an operation is to quantization.
enum Site {
    None,
    NoWeight,
    Head,
    Layer,
}

fn site(function: &Function, id: OpId) -> Site {
    let node = function.node(id);
    if !matches!(node.op, Op::Linear {} | Op::Conv { .. }) {
        return Site::None;
    }
    let Some(weight) = node.operands[1] else { return Site::None };
    if function.parameter_name(weight).is_none() {
        return Site::NoWeight;
    }
    let embeds = function.order().iter().any(|o| matches!(function.node(*o).op, Op::Embedding {}));
    if embeds && function.results.contains(&node.results[0]) { Site::Head } else { Site::Layer }
}

impl Quantize {
    /// Quantizes one layer; the inner error says why the layer cannot have the format.
    fn apply(
        &self,
        function: &mut Function,
        id: OpId,
        weights: &Format,
        activations: Option<&Format>,
        done: &mut HashMap<ValueId, ValueId>,
        statistics: &Statistics,
    ) -> Result<Result<(), String>, PassError> {
        let node = function.node(id).clone();
        let at = |e: InferError| PassError::at(NAME, &node.location, e);
        let (Some(x), Some(weight)) = (node.operands[0], node.operands[1]) else { return Ok(Ok(())) };
        if !function.ty(x).element.is_float() {
            return Ok(Err("its input is not a float".into()));
        }
        let conv = matches!(node.op, Op::Conv { .. });
        let to = match weight_type(weights, conv) {
            Ok(to) => to,
            Err(why) => return Ok(Err(why)),
        };
        let new_x = match activations {
            None => x,
            Some(_) if done.contains_key(&x) => done[&x],
            Some(format) => {
                let y = match activation(function, x, format, conv, statistics) {
                    Ok(y) => y.map_err(at)?,
                    Err(why) => return Ok(Err(why)),
                };
                done.insert(x, y);
                y
            }
        };
        let quantize = Op::DynamicQuantize { to: ElementType::Quant(to), narrow: weights.narrow(), rounding: Rounding::HalfEven };
        let codes = function.add(quantize, [weight], &node.location).map_err(at)?;
        let new_weight = function.add_one(Op::Dequantize {}, [codes[0], codes[1]], &node.location).map_err(at)?;
        let node = function.node_mut(id);
        node.operands[0] = Some(new_x);
        node.operands[1] = Some(new_weight);
        Ok(Ok(()))
    }
}

fn weight_type(format: &Format, conv: bool) -> Result<QuantType, String> {
    let granularity = match format.granularity() {
        qcc_ir::format::Sharing::Tensor => Granularity::Tensor,
        qcc_ir::format::Sharing::Channel => Granularity::Channel { axis: 0 },
        qcc_ir::format::Sharing::Block(block) if !conv => Granularity::Block { axis: 1, block },
        qcc_ir::format::Sharing::Block(_) => return Err("block formats of convolutions are not supported yet".into()),
        qcc_ir::format::Sharing::Token => return Err("weights have no tokens".into()),
    };
    if format.asymmetric() {
        return Err("asymmetric weights are not supported yet".into());
    }
    Ok(QuantType { storage: format.storage(), granularity, scale: format.scale(), zero_point: false })
}

/// Adds quantize and dequantize of an activation; the outer error says why the format does not fit.
fn activation(
    function: &mut Function,
    x: ValueId,
    format: &Format,
    conv: bool,
    statistics: &Statistics,
) -> Result<Result<ValueId, InferError>, String> {
    let location = function.value(x).name.clone();
    let mut q = QuantType {
        storage: format.storage(),
        granularity: Granularity::Tensor,
        scale: format.scale(),
        zero_point: format.asymmetric(),
    };
    if format.dynamic() {
        q.granularity = match format.granularity() {
            qcc_ir::format::Sharing::Token if conv => return Err("convolutions have no tokens; use a per-tensor format".into()),
            qcc_ir::format::Sharing::Token => Granularity::Token,
            qcc_ir::format::Sharing::Tensor => Granularity::Tensor,
            _ => return Err("dynamic activations are quantized per token or per tensor".into()),
        };
        if q.zero_point {
            return Err("dynamic asymmetric activations are not supported yet".into());
        }
        let op = Op::DynamicQuantize { to: ElementType::Quant(q), narrow: format.narrow(), rounding: Rounding::HalfEven };
        let result = (|| {
            let codes = function.add(op, [x], &location)?;
            function.add_one(Op::Dequantize {}, [codes[0], codes[1]], &location)
        })();
        return Ok(result);
    }
    if format.granularity() != qcc_ir::format::Sharing::Tensor {
        return Err("static activations are quantized per tensor".into());
    }
    let range = statistics.range(x).ok_or("its input was not calibrated; run `calibrate` first")?;
    let parameters = range::parameters(range, &q, format.narrow());
    let scale = function.add_constant(Dense::scalar(parameters.scale), &location);
    let zero_point = q.zero_point.then(|| {
        let value = Dense { dims: Vec::new(), data: qcc_ir::DenseData::I32(vec![parameters.zero_point]) };
        function.add_constant(value, &location)
    });
    let op = Op::Quantize { to: ElementType::Quant(q), narrow: format.narrow(), rounding: Rounding::HalfEven };
    let result = (|| {
        let codes = function.add_one(op, [Some(x), Some(scale), zero_point], &location)?;
        function.add_one(Op::Dequantize {}, [Some(codes), Some(scale), zero_point], &location)
    })();
    Ok(result)
}

/// The type of `x` with quantized elements.
pub(crate) fn quantized_type(ty: &TensorType, q: QuantType) -> TensorType {
    ty.with_element(ElementType::Quant(q))
}
