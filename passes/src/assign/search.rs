//! `search-formats`: for each layer the format of least output error among those of at most so many bits a weight, scales included: integers,
//! minifloats of all splits into exponent and mantissa, block formats, codebooks ("Shedding the Bits", arXiv 2311.12359, asks which; the
//! answer is per layer and in numbers). The error is `Σ (w − ŵ) H (w − ŵ)ᵀ` with the [moments](crate::rounding::moments) of what the layer reads.

use faer::Mat;
use qcc_interpreter::FormatError;
use qcc_interpreter::formats::{Groups, Rules, rounded};
use qcc_ir::format::{Format, Role};
use qcc_ir::{Module, Op, OpId, QuantType, ValueId};
use rayon::prelude::*;

use super::{Requested, Tried};
use crate::context::Context;
use crate::observe::Walk;
use crate::pass::{Options, Outcome, Pass, PassError, PassInfo, Preservation};
use crate::quantize::site::{Site, sites};
use crate::quantize::weight_type;
use crate::rounding::Gram;
use crate::rounding::moments::{NEEDS, Read, batch, distinct, moments};

/// The registry entry.
pub const INFO: PassInfo = PassInfo {
    name: NAME,
    summary: "finds for each layer the format of so many bits that leaves the least error of its output",
    options: &[
        ("bits", "the most bits a weight may take, scales included"),
        ("formats", "the formats to choose among, with + between (default all within a bit of it)"),
    ],
    make: |options| Ok(Box::new(Search::new(options)?)),
};

const NAME: &str = "search-formats";

/// Formats that err hardly more than the best compete by bits.
const AS_GOOD: f64 = 1.01;

struct Search {
    bits: f64,
    formats: Vec<Format>,
}

impl Search {
    fn new(options: &mut Options) -> Result<Search, String> {
        let bits: f64 = options.take("bits")?.ok_or("the option `bits=N` is needed")?;
        let parse = |text: &str| Format::parse(text, Role::Weight).map_err(|e| e.to_string());
        let fits = |f: &Format| f.bits_per_element() <= bits && f.check_executable().is_ok() && !f.is_float();
        let listed = |text: &str| match parse(text)? {
            format if fits(&format) => Ok(format),
            format => Err(format!("`{format}` does not run as a weight, or takes more than {bits} bits")),
        };
        let formats: Vec<Format> = match options.take::<String>("formats")? {
            Some(list) => list.split('+').map(listed).collect::<Result<_, _>>()?,
            None => {
                let near = |f: &Format| f.bits_per_element() > bits - 1.0;
                catalogue().iter().filter_map(|text| parse(text).ok()).filter(near).collect()
            }
        };
        let formats: Vec<Format> = formats.into_iter().filter(fits).collect();
        if formats.is_empty() {
            return Err(format!("no format takes {bits} bits or a bit less"));
        }
        Ok(Search { bits, formats })
    }
}

/// Formats worth a try, in the grammar of formats.
fn catalogue() -> Vec<String> {
    let mut all: Vec<String> = [
        "nf4:block=64",
        "nf4:block=32",
        "mxfp4",
        "nvfp4",
        "mxfp6e2m3",
        "mxfp6e3m2",
        "mxfp8e4m3",
        "mxfp8e5m2",
        "mxint8",
        "ternary:block=32",
    ]
    .map(String::from)
    .to_vec();
    for bits in 2..=8u32 {
        for sharing in ["channel", "block=128", "block=64", "block=32", "block=16"] {
            all.push(format!("int{bits}:{sharing}"));
            all.push(format!("int{bits}:{sharing}:asym"));
            // 1 bit of sign, the others of exponent and mantissa.
            all.extend((1..bits).filter(|e| *e <= 5).map(|e| format!("e{e}m{}:{sharing}", bits - 1 - e)));
        }
        all.push(format!("bfp{bits}"));
        all.push(format!("pot{bits}:block=32"));
    }
    all
}

impl Pass for Search {
    fn preservation(&self) -> Preservation {
        Preservation::Relative(0.0)
    }

    fn run(&self, module: &mut Module, context: &mut Context<'_>) -> Result<Outcome, PassError> {
        let function = module.entry().ok_or_else(|| PassError::failed(NAME, "the module has no function"))?;
        let mut layers = Vec::new();
        for (id, site) in sites(function) {
            let node = function.node(id);
            let free = Requested::of(node).is_ok_and(|requested| requested.weights.is_none());
            let (Site::Layer, true, Some(x), Some(weight)) = (site, free, node.operands[0], node.operands[1])
            else {
                continue;
            };
            let Some(dims) = function.ty(weight).constant_dims() else { continue };
            let dims: Vec<usize> = dims.iter().filter_map(|d| usize::try_from(*d).ok()).collect();
            if let (Some(read), Some(name)) =
                (Read::of(&node.op, x, &dims), function.parameter_name(weight).cloned())
            {
                layers.push((id, read, name));
            }
        }
        let mut walk = Walk::new(NAME, NEEDS, context)?;
        let reads: Vec<Read> = layers.iter().map(|(_, read, _)| read.clone()).collect();
        let mut done = 0;
        while done < layers.len() {
            let end = done + batch(&module.functions[0], &reads[done..]);
            let together = distinct(&reads[done..end]);
            let later: Vec<ValueId> = reads[end..].iter().map(|read| read.value).collect();
            let measured = moments(NAME, &mut walk, module, &context.parameters, &together, &later)?;
            for (id, read, name) in &layers[done..end] {
                let at = together.iter().position(|r| r == read);
                let grams =
                    &measured[at.ok_or_else(|| PassError::failed(NAME, "a layer was not measured"))?];
                context.progress.report("searching formats", done, layers.len());
                done += 1;
                self.layer(module, *id, name, grams, context)?;
            }
        }
        Ok(Outcome::of([("layers", layers.len())]))
    }
}

impl Search {
    /// Finds the format of one layer.
    fn layer(
        &self,
        module: &mut Module,
        id: OpId,
        name: &str,
        grams: &[Gram],
        context: &mut Context<'_>,
    ) -> Result<(), PassError> {
        let node = module.functions[0].node(id).clone();
        let at = |e: String| PassError::at(NAME, &node.location, e);
        let tensor = context.parameters.evaluate(name, context.evaluator).map_err(|e| at(e.to_string()))?;
        let (dims, values) = (&tensor.dims, tensor.to_f32_vec());
        let conv = matches!(node.op, Op::Conv { .. });
        let error = |format: &Format| -> Result<Option<Tried>, String> {
            let depth = dims.get(1).and_then(|d| i64::try_from(*d).ok());
            let Ok(to) = weight_type(format, conv, depth) else { return Ok(None) };
            let bits = stored_bits(to, dims).map_err(|e| e.to_string())?;
            if bits > self.bits {
                return Ok(None);
            }
            let back =
                rounded(&values, dims, to, Rules::nearest(format.narrow())).map_err(|e| e.to_string())?;
            Ok(Some(Tried {
                layer: node.location.to_string(),
                format: format.to_string(),
                bits,
                error: relative(&values, &back, grams),
            }))
        };
        let tried: Result<Vec<_>, String> = self.formats.par_iter().map(error).collect();
        let mut tried: Vec<Tried> = tried.map_err(at)?.into_iter().flatten().collect();
        tried.sort_by(|a, b| a.error.total_cmp(&b.error).then(a.bits.total_cmp(&b.bits)));
        let Some(least) = tried.first().map(|t| t.error) else {
            let what = format!(
                "`{}` keeps the format of all: none takes at most {} bits here",
                node.location, self.bits
            );
            context.warn(NAME, what);
            return Ok(());
        };
        // The fewest bits among those that are as good.
        let good = tried.iter().take_while(|t| t.error <= least * AS_GOOD);
        let Some(best) = good.min_by(|a, b| a.bits.total_cmp(&b.bits)).cloned() else { return Ok(()) };
        tried.retain(|t| *t != best);
        tried.insert(0, best.clone());
        let weights = Format::parse(&best.format, Role::Weight).map_err(|e| at(e.to_string()))?;
        Requested { weights: Some(weights), activations: None }.annotate(module.functions[0].node_mut(id));
        context.choices.tried.extend(tried);
        Ok(())
    }
}

/// Bits of an element with all that comes with the codes of a weight `dims`.
fn stored_bits(to: QuantType, dims: &[usize]) -> Result<f64, FormatError> {
    let groups = Groups::new(dims, to.granularity)?;
    let codes = f64::from(to.storage.bits());
    let zero_point = if to.zero_point { codes } else { 0.0 };
    let codebook = if to.storage.has_codebook() { 32.0 * codes.exp2() } else { 0.0 };
    let of_tensor = if to.has_tensor_scale() { 32.0 } else { 0.0 };
    #[allow(clippy::cast_precision_loss, reason = "counts are below 2^53")]
    let (count, elements) = (groups.count() as f64, groups.elements().max(1) as f64);
    Ok(codes + (count * (f64::from(to.scale.bits()) + zero_point) + codebook + of_tensor) / elements)
}

/// `Σ (w − ŵ) H (w − ŵ)ᵀ / Σ w H wᵀ`, of groups of rows.
fn relative(values: &[f32], back: &[f32], grams: &[Gram]) -> f64 {
    let group = values.len() / grams.len().max(1);
    let (mut noise, mut power) = (0.0, 0.0);
    for (gram, (w, w_hat)) in grams.iter().zip(values.chunks(group.max(1)).zip(back.chunks(group.max(1)))) {
        let columns = gram.matrix.nrows().max(1);
        let energy = |of: &dyn Fn(usize) -> f64| -> f64 {
            let rows = Mat::from_fn(w.len() / columns, columns, |i, j| of(i * columns + j));
            let weighted = &rows * &gram.matrix;
            (0..columns)
                .map(|j| (0..rows.nrows()).map(|i| weighted[(i, j)] * rows[(i, j)]).sum::<f64>())
                .sum()
        };
        noise += energy(&|at| f64::from(w[at]) - f64::from(w_hat[at]));
        power += energy(&|at| f64::from(w[at]));
    }
    if power > 0.0 {
        return noise / power;
    }
    // Inputs that are always 0 say nothing: what counts is the weight itself.
    let square = |x: f64| x * x;
    let noise: f64 =
        values.iter().zip(back).map(|(w, w_hat)| square(f64::from(*w) - f64::from(*w_hat))).sum();
    let power: f64 = values.iter().map(|w| square(f64::from(*w))).sum();
    noise / power.max(f64::MIN_POSITIVE)
}
