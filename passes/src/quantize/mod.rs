//! `quantize`: applies number formats to linear layers and convolutions, rounding to nearest or by [what layers
//! read](crate::rounding); `lower-quantized`: turns the quantize–dequantize form into integer operations.
//!
//! `quantize` writes the *meaning*: `linear(dequantize(quantize(x)), dequantize(codes(w)))`. It chooses what to quantize from dataflow alone:
//! every linear and convolution on a weight, but for the output head of a language model (the linear that yields a result of a function
//! that embeds tokens), which keeps its type unless a head format is given, and but for
//! [branches](crate::decompose::Branch) that keep floats. Whatever keeps its type against the wish is a warning.

mod activation;
mod bias;
mod by_moments;
mod hoist;
mod lower;
pub(crate) mod range;
pub(crate) mod site;
#[cfg(test)]
mod tests;

use qcc_ir::format::{Format, Role, Sharing};
use qcc_ir::{
    ElementType, Function, Granularity, Module, Node, Op, OpId, QuantType, Storage, ValueId,
    ops::{Rounding, Special},
};

use crate::assign::Requested;
use crate::calibrate::{Range, Statistics};
use crate::context::Context;
use crate::pass::{Options, Outcome, Pass, PassError, PassInfo, Preservation};
use crate::rounding::{self, Method};
use activation::Activations;
use by_moments::ByMoments;
use site::Site;

pub use lower::{INFO as LOWER_INFO, float_operations};

/// The registry entry.
pub const INFO: PassInfo = PassInfo {
    name: "quantize",
    summary: "applies number formats to linear layers and convolutions",
    options: &[
        ("weights", "format of weights, e.g. int8:channel"),
        ("activations", "format of activations, e.g. int8:token:dynamic; omitted: f32"),
        ("head", "format of the output head's weight; omitted: it keeps its type"),
        (
            "range",
            "LOW..HIGH: the range of activations that were not measured; omitted: they keep their type",
        ),
        (
            "rounding",
            "of weights: nearest (default), gptq, which makes up for errors by what layers read, or decoupleq, which solves for scales too",
        ),
        (
            "damping",
            "of gptq and decoupleq: share of the mean second moment that is added to each (default 0.01); rises where it must",
        ),
        ("block", "of gptq and decoupleq: columns whose errors are carried on together (default 128)"),
        (
            "activation-order",
            "of gptq and decoupleq: true (default) to round columns with large inputs first",
        ),
        (
            "sequential",
            "of gptq and decoupleq: true (default) to let layers see what rounded ones make of the samples, a run for each",
        ),
        (
            "bias-correction",
            "true to take off biases what rounding adds to the mean of outputs over the samples (default false)",
        ),
        ("rounds", "of decoupleq: turns of codes and scales at most (default 4)"),
    ],
    make: |options| Ok(Box::new(Quantize::new(options)?)),
};

const NAME: &str = "quantize";

struct Quantize {
    weights: Format,
    activations: Option<Format>,
    head: Option<Format>,
    /// The range of activations that were not measured.
    range: Option<Range>,
    /// How weights are rounded by what layers read; none to nearest.
    rounding: Option<rounding::Settings>,
    bias_correction: bool,
}

/// Why an operation keeps its type although a format was asked for.
pub(crate) type Refused = String;

impl Quantize {
    fn new(options: &mut Options) -> Result<Quantize, String> {
        let mut format = |name: &str, role: Role| -> Result<Option<Format>, String> {
            let Some(text) = options.take::<String>(name)? else { return Ok(None) };
            let format = Format::parse(&text, role).map_err(|e| e.to_string())?;
            if format.is_f32() {
                return match name {
                    "activations" => Ok(None),
                    _ => Err(format!(
                        "`{name}={text}` is what weights are in; leave the option out to keep them"
                    )),
                };
            }
            format.check_executable().map_err(|e| e.to_string())?;
            Ok(Some(format))
        };
        let weights = format("weights", Role::Weight)?.ok_or("the option `weights=FORMAT` is needed")?;
        let activations = format("activations", Role::Activation)?;
        let head = format("head", Role::Weight)?;
        let range = options.take::<String>("range")?.map(|text| parse_range(&text)).transpose()?;
        let bias_correction = options.take("bias-correction")?.unwrap_or(false);
        let rounding = rounding(options)?;
        if rounding.is_some() && weights.is_float() {
            return Err(format!("`rounding` is of codes, but `weights={weights}` are floats"));
        }
        Ok(Quantize { weights, activations, head, range, rounding, bias_correction })
    }

    /// The formats of weight and activation of a layer, if it shall have any: its own where it has some.
    fn formats(&self, node: &Node, site: &Site) -> Result<Option<(Format, Option<Format>)>, PassError> {
        let (weights, activations) = match site {
            Site::Layer => (Some(self.weights), self.activations),
            Site::Head => (self.head, None),
            Site::None | Site::Floats | Site::Unfit(_) => return Ok(None),
        };
        let own = Requested::of(node).map_err(|e| PassError::at(NAME, &node.location, e))?;
        let quantized = |format: Option<Format>| format.filter(|f| !f.is_f32());
        let weights = quantized(own.weights.or(weights));
        Ok(weights.map(|weights| (weights, quantized(own.activations.or(activations)))))
    }
}

impl Pass for Quantize {
    fn preservation(&self) -> Preservation {
        Preservation::Approximate
    }

    fn run(&self, module: &mut Module, context: &mut Context<'_>) -> Result<Outcome, PassError> {
        let mut counts = Counts::default();
        let before = self.bias_correction.then(|| (module.clone(), context.parameters.clone()));
        for index in 0..module.functions.len() {
            // Calibration measures the entry function.
            let statistics =
                if index == 0 { std::mem::take(&mut context.statistics) } else { Statistics::default() };
            self.function(module, index, &statistics, context, &mut counts)?;
            module.functions[index].sort();
            if index == 0 {
                context.statistics = statistics;
            }
        }
        if let Some(before) = before.filter(|_| !counts.layers.is_empty()) {
            counts.corrected = bias::correct(&before, module, &counts.layers, context)?;
        }
        if counts.quantized == 0 {
            context.warn(NAME, "no linear layer or convolution was quantized");
        }
        let mut outcome = Outcome::of([("quantized", counts.quantized)]);
        outcome.measures.insert("skipped", counts.skipped);
        if self.rounding.is_some() {
            outcome.measures.insert("by_moments", counts.by_moments);
        }
        if self.bias_correction {
            outcome.measures.insert("biases_corrected", counts.corrected);
        }
        Ok(outcome)
    }
}

/// What was done.
#[derive(Default)]
struct Counts {
    quantized: usize,
    skipped: usize,
    by_moments: usize,
    corrected: usize,
    /// The quantized layers of the entry function, in order.
    layers: Vec<OpId>,
}

impl Quantize {
    fn function(
        &self,
        module: &mut Module,
        index: usize,
        statistics: &Statistics,
        context: &mut Context<'_>,
        counts: &mut Counts,
    ) -> Result<(), PassError> {
        let mut activations = Activations::new(statistics, self.range);
        let sites = site::sites(&module.functions[index]);
        let mut by_moments = match self.rounding {
            Some(settings) if index == 0 => Some(ByMoments::new(settings, module, &sites, context)?),
            Some(_) => {
                let name = &module.functions[index].name;
                let what =
                    format!("`@{name}` is rounded to nearest: the samples are inputs of the entry function");
                context.warn(NAME, what);
                None
            }
            None => None,
        };
        for (done, (id, site)) in sites.iter().enumerate() {
            let function = &mut module.functions[index];
            let node = function.node(*id);
            let formats = self.formats(node, site)?;
            let own = Requested::of(node).map_err(|e| PassError::at(NAME, &node.location, e))?;
            if formats.is_none() && own.activations.is_some_and(|a| !a.is_f32()) {
                let what =
                    format!("`{}` keeps its input: activations are rounded where weights are", node.location);
                context.warn(NAME, what);
            }
            let prepared = match (site, &formats) {
                (Site::Unfit(why), _) => Err(why.clone()),
                (_, Some((weights, format))) => {
                    prepare(function, *id, weights, format.as_ref(), &mut activations)?.map(Some)
                }
                (_, None) => Ok(None),
            };
            match prepared {
                Ok(Some(prepared)) => {
                    if self.rounding.is_some() {
                        context.progress.report("rounding", done, sites.len());
                    }
                    let codes = match &mut by_moments {
                        Some(found) => found.codes(module, *id, &prepared, context)?,
                        None => None,
                    };
                    counts.by_moments += usize::from(codes.is_some());
                    apply(&mut module.functions[index], *id, &prepared, codes)?;
                    counts.quantized += 1;
                    if index == 0 {
                        counts.layers.push(*id);
                    }
                }
                Ok(None) => {}
                Err(why) => {
                    counts.skipped += 1;
                    let node = module.functions[index].node(*id);
                    let message =
                        format!("`{}` (qcc.{}) keeps its type: {why}", node.location, node.op.name());
                    context.warn(NAME, message);
                }
            }
        }
        if let Some(found) = by_moments {
            found.finish(context);
        }
        Ok(())
    }
}

/// How weights are rounded by what layers read, if they are.
fn rounding(options: &mut Options) -> Result<Option<rounding::Settings>, String> {
    let name: Option<String> = options.take("rounding")?;
    let (damping, block) = (options.take::<f64>("damping")?, options.take::<usize>("block")?);
    let (order, sequential) =
        (options.take::<bool>("activation-order")?, options.take::<bool>("sequential")?);
    let rounds = options.take::<usize>("rounds")?;
    let method = match name.as_deref() {
        Some("gptq") if rounds.is_some() => return Err("`rounds` needs `rounding=decoupleq`".into()),
        Some("gptq") => Method::Gptq,
        Some("decoupleq") => Method::DecoupleQ { rounds: rounds.unwrap_or(4) },
        None | Some("nearest")
            if damping.is_none()
                && block.is_none()
                && order.is_none()
                && sequential.is_none()
                && rounds.is_none() =>
        {
            return Ok(None);
        }
        None | Some("nearest") => {
            return Err("`damping`, `block`, `activation-order`, `sequential` and `rounds` need `rounding=gptq` or `rounding=decoupleq`".into());
        }
        Some(other) => {
            return Err(format!("unknown rounding `{other}`; there are nearest, gptq and decoupleq"));
        }
    };
    let usual = rounding::Settings::of(method);
    let settings = rounding::Settings {
        method,
        damping: damping.unwrap_or(usual.damping),
        block: block.unwrap_or(usual.block),
        activation_order: order.unwrap_or(usual.activation_order),
        sequential: sequential.unwrap_or(usual.sequential),
    };
    if !(settings.damping >= 0.0 && settings.damping.is_finite()) || settings.block == 0 {
        return Err("`damping` is a number from 0 on, and `block` at least 1".into());
    }
    Ok(Some(settings))
}

fn parse_range(text: &str) -> Result<Range, String> {
    let range = text.split_once("..").and_then(|(low, high)| {
        let (min, max) = (low.parse().ok()?, high.parse().ok()?);
        Some(Range { min, max }).filter(|r| r.min.is_finite() && r.max.is_finite() && r.min <= r.max)
    });
    range.ok_or_else(|| format!("`range={text}` is no range; write LOW..HIGH, e.g. -1..1"))
}

/// A layer that is about to be quantized.
struct Prepared {
    /// Its input, in its format.
    x: ValueId,
    weight: ValueId,
    /// What its elements become: codes, or narrower floats.
    to: ElementType,
    narrow: bool,
    /// Embeddings that read the same table.
    tables: Vec<OpId>,
}

/// Chooses the types of one layer, and quantizes its input; the inner error says why it cannot have the format.
fn prepare(
    function: &mut Function,
    id: OpId,
    weights: &Format,
    format: Option<&Format>,
    activations: &mut Activations<'_>,
) -> Result<Result<Prepared, Refused>, PassError> {
    let node = function.node(id).clone();
    let at = |e: qcc_ir::InferError| PassError::at(NAME, &node.location, e);
    let (Some(x), Some(weight)) = (node.operands[0], node.operands[1]) else {
        return Ok(Err("an operand is missing".into()));
    };
    if !function.ty(x).element.is_float() {
        return Ok(Err("its input is not a float".into()));
    }
    let tables = embeddings(function, weight);
    if !tables.is_empty() && weights.storage().is_some_and(Storage::is_split) {
        return Ok(Err("its weight is also the table of an embedding, which reads no split codes".into()));
    }
    let conv = matches!(node.op, Op::Conv { .. });
    let depth = function.ty(weight).dims.get(1).and_then(qcc_ir::Dim::constant);
    let to = match weights.float() {
        Some(float) => float.element(),
        None => match weight_type(weights, conv, depth) {
            Ok(to) => ElementType::Quant(to),
            Err(why) => return Ok(Err(why)),
        },
    };
    // Narrower floats hold no halves of the other kind.
    let own = function.ty(weight).element;
    if weights.float().is_some() && own != ElementType::F32 && own != to {
        return Ok(Err(format!("its weight is in {own} and stays in it")));
    }
    let x = match format {
        None => x,
        Some(format) => match activations.quantized(function, x, format, conv) {
            Ok(x) => x.map_err(at)?,
            Err(why) => return Ok(Err(why)),
        },
    };
    Ok(Ok(Prepared { x, weight, to, narrow: weights.narrow(), tables }))
}

/// Quantizes one layer. `codes` are those of its weight with what comes with them; without, they are a weight expression: the nearest ones.
/// Narrower floats are widened again in front of the layer.
fn apply(
    function: &mut Function,
    id: OpId,
    prepared: &Prepared,
    codes: Option<Vec<ValueId>>,
) -> Result<(), PassError> {
    let location = function.node(id).location.clone();
    let at = |e: qcc_ir::InferError| PassError::at(NAME, &location, e);
    let new_weight = match (codes, prepared.to) {
        (Some(codes), _) => function.add_one(Op::Dequantize {}, codes, &location).map_err(at)?,
        (None, to @ ElementType::Quant(_)) => {
            let (rounding, special) = (Rounding::HalfEven, Special::Saturate);
            let quantize = Op::DynamicQuantize { to, narrow: prepared.narrow, rounding, special };
            let codes = function.add(quantize, [prepared.weight], &location).map_err(at)?.to_vec();
            function.add_one(Op::Dequantize {}, codes, &location).map_err(at)?
        }
        (None, to) => activation::narrowed(function, prepared.weight, to, &location).map_err(at)?,
    };
    let node = function.node_mut(id);
    node.operands[0] = Some(prepared.x);
    node.operands[1] = Some(new_weight);
    // A head's table that also embeds tokens is one weight, stored once.
    for user in &prepared.tables {
        function.node_mut(*user).operands[0] = Some(new_weight);
    }
    Ok(())
}

/// The embeddings whose table a value is.
fn embeddings(function: &Function, value: ValueId) -> Vec<OpId> {
    let users = function.uses().remove(&value).unwrap_or_default();
    let reads = |(user, slot): (OpId, usize)| {
        (slot == 0 && matches!(function.node(user).op, Op::Embedding {})).then_some(user)
    };
    users.into_iter().filter_map(reads).collect()
}

/// The type of a weight of `depth` values along the reduced axis. A block longer than that is as long as it, rounded up to what integer
/// kernels take where the block is one of theirs.
pub(crate) fn weight_type(format: &Format, conv: bool, depth: Option<i64>) -> Result<QuantType, Refused> {
    let shorter = |block: u32| {
        let depth = depth.and_then(|n| u32::try_from(n).ok()).map(|n| n.max(1));
        let step = match depth {
            _ if !sums_in_blocks(block) || conv => 1,
            Some(n) if n > 64 => 32,
            _ => 8,
        };
        depth.and_then(|n| n.checked_next_multiple_of(step)).map_or(block, |whole| block.min(whole))
    };
    let granularity = match format.sharing() {
        Sharing::Tensor => Granularity::Tensor,
        Sharing::Channel => Granularity::Channel { axis: 0 },
        Sharing::Kernel if conv => Granularity::Channel { axis: 0 },
        Sharing::Kernel => Granularity::Tensor,
        Sharing::Block(block) => Granularity::Block { axis: 1, block: shorter(block) },
        Sharing::Token => return Err("weights have no tokens".into()),
    };
    Ok(QuantType {
        storage: codes(format)?,
        granularity,
        scale: format.scale(),
        zero_point: format.asymmetric(),
    })
}

/// Whether sums of integer codes are scaled block by block in blocks of so many: a multiple of 8, above 64 of 32.
pub(crate) fn sums_in_blocks(block: u32) -> bool {
    block.is_multiple_of(8) && (block <= 64 || block.is_multiple_of(32))
}

/// The codes of a quantized format.
fn codes(format: &Format) -> Result<Storage, Refused> {
    format.storage().ok_or_else(|| format!("`{format}` is a float format"))
}
