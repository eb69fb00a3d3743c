//! `low-rank`: the directions in which a weight is largest go into a branch of low rank that keeps floats, and what is left, with smaller
//! numbers, is what will be rounded (SVDQuant, arXiv 2411.05007): `linear(x, w) = linear(linear(x, v), u) + linear(x, w − u · v)`.
//!
//! `u` and `v` are the factors of the singular value decomposition in f64, rounded to f32; the rest is a weight expression of them, so the
//! sum is the old function whatever they are. Layers that share an input share `v`, as in the paper.

use qcc_ir::{Function, Module, Op, OpId, Patch, Str, ValueId};
use qcc_params::{Parameters, Tensor};

use super::Failed;
use super::branch::Branch;
use crate::context::Context;
use crate::pass::{Options, Outcome, Pass, PassError, PassInfo, Preservation};
use crate::transform::Explanation;
use crate::transform::explanation::{LayerChoice, Refusal};
use crate::transform::matrix::{Matrix, low_rank};
use crate::transform::site::{Group, Layer, groups};
use crate::weights::{computed, tensor, value};

/// The registry entry.
pub const INFO: PassInfo = PassInfo {
    name: NAME,
    summary: "gives linear layers a branch of low rank that keeps floats, so that what is rounded is small",
    options: &[("rank", "of the branch (default 32), at most a quarter of the weight's smaller side")],
    make: |options| Ok(Box::new(LowRank::new(options)?)),
};

const NAME: &str = "low-rank";
/// The rank of the paper.
const RANK: usize = 32;

struct LowRank {
    rank: usize,
}

impl LowRank {
    fn new(options: &mut Options) -> Result<LowRank, String> {
        match options.take("rank")?.unwrap_or(RANK) {
            0 => Err("`rank=0` is no branch; use at least 1".into()),
            rank => Ok(LowRank { rank }),
        }
    }
}

impl Pass for LowRank {
    fn preservation(&self) -> Preservation {
        Preservation::Relative(1e-9)
    }

    fn run(&self, module: &mut Module, context: &mut Context<'_>) -> Result<Outcome, PassError> {
        let mut explanation = Explanation { pass: NAME, ..Explanation::default() };
        for function in &mut module.functions {
            let (groups, refused) = groups(function);
            for refused in refused {
                context.warn(NAME, format!("`{}` stays as it is: {}", refused.layer, refused.reason));
                explanation.refused.push(Refusal::new(&refused.layer, NAME, refused.reason));
            }
            for group in groups {
                let layers = whole_layers(function, &group);
                let Some(first) = layers.first() else { continue };
                let name = first.name.clone();
                let done = self.group(function, group.width, &layers, context);
                match done {
                    Ok(true) => {
                        explanation.layers.extend(layers.iter().map(|l| LayerChoice::done(&l.name, NAME)))
                    }
                    Ok(false) => {
                        let reason = "a quarter of its weight's smaller side is less than one";
                        explanation
                            .refused
                            .extend(layers.iter().map(|l| Refusal::new(&l.name, NAME, reason)));
                    }
                    Err(Failed::Unfit(why)) => {
                        explanation.refused.extend(layers.iter().map(|l| Refusal::new(&l.name, NAME, why)));
                        context.warn(NAME, format!("`{name}` stays as it is: {why}"));
                    }
                    Err(Failed::Broken(why)) => return Err(PassError::at(NAME, &name, why)),
                }
            }
        }
        let mut outcome = Outcome::of([("layers", explanation.layers.len())]);
        outcome.measures.insert("left", explanation.refused.len());
        context.explanations.push(explanation);
        Ok(outcome)
    }
}

/// The layers of a group that are neither the output head nor a branch already.
pub(super) fn whole_layers(function: &Function, group: &Group) -> Vec<Layer> {
    let whole = |l: &&Layer| !l.head && Branch::of(function.node(l.op)).is_none();
    group.layers.iter().filter(whole).cloned().collect()
}

/// A weight of a function as a matrix with `columns` columns.
fn matrix(
    function: &Function,
    weight: ValueId,
    columns: usize,
    context: &Context<'_>,
) -> Result<Matrix, String> {
    let name = function.parameter_name(weight).ok_or("its weight is no parameter")?;
    let tensor = context.parameters.evaluate(name, context.evaluator).map_err(|e| e.to_string())?;
    let data = tensor.to_f64_vec();
    Ok(Matrix::new(data.len() / columns.max(1), columns, data))
}

/// Adds a matrix, rounded to f32.
fn rounded(parameters: &mut Parameters, name: &str, m: &Matrix) -> Result<Str, String> {
    #[allow(clippy::cast_possible_truncation, reason = "weights are f32")]
    let data = m.data.iter().map(|x| *x as f32).collect();
    tensor(parameters, name, Tensor::f32(&[m.rows, m.columns], data).map_err(|e| e.to_string())?)
}

impl LowRank {
    /// Gives the layers of one group their branches; false where they are too small for any.
    fn group(
        &self,
        function: &mut Function,
        width: usize,
        layers: &[Layer],
        context: &mut Context<'_>,
    ) -> Result<bool, Failed> {
        let mut all = Matrix::new(0, width, Vec::new());
        let mut rows = Vec::new();
        for layer in layers {
            let w = matrix(function, layer.weight, width, context)?;
            rows.push(w.rows);
            all.rows += w.rows;
            all.data.extend(w.data);
        }
        let rank = self.rank.min(all.rows.min(all.columns) / 4);
        if rank == 0 {
            return Ok(false);
        }
        if all.data.iter().any(|x| !x.is_finite()) {
            return Err(Failed::Unfit("its weight has NaN or infinite elements"));
        }
        let (up, down) = low_rank(&all, rank)?;
        let first = weight_name(function, &layers[0])?;
        let down = rounded(&mut context.parameters, &format!("{first}.low_rank.down"), &down)?;
        let v = value(function, &context.parameters, &down)?;
        let fail = |e: qcc_ir::InferError| e.to_string();
        let x = input(function, layers)?;
        let mut patch = Patch::new();
        let inner = patch.add(function, Op::Linear {}, [x, v], &layers[0].name).map_err(fail)?;
        Branch::LowRank.mark(function, inner);
        let mut start = 0;
        for (layer, rows) in layers.iter().zip(rows) {
            let part = &up.data[start * rank..(start + rows) * rank];
            start += rows;
            let name = weight_name(function, layer)?;
            let up = Matrix::new(rows, rank, part.to_vec());
            let up = rounded(&mut context.parameters, &format!("{name}.low_rank.up"), &up)?;
            let near =
                computed(&mut context.parameters, &format!("{name}.low_rank"), Op::Matmul {}, &[&up, &down])?;
            let rest =
                computed(&mut context.parameters, &format!("{name}.rest"), Op::Sub {}, &[&name, &near])?;
            let u = value(function, &context.parameters, &up)?;
            let outer = patch.add(function, Op::Linear {}, [inner, u], &layer.name).map_err(fail)?;
            Branch::LowRank.mark(function, outer);
            add_rest(function, layer.op, (x, &rest), outer, context, &mut patch)?;
        }
        patch.apply(function).map_err(|e| e.to_string())?;
        Ok(true)
    }
}

/// The input that layers share. That of their group may have been replaced by the sum that the layer before has become.
pub(super) fn input(function: &Function, layers: &[Layer]) -> Result<ValueId, String> {
    let input = layers.first().and_then(|l| function.node(l.op).operands[0]);
    input.ok_or_else(|| "it has no input".into())
}

/// The name of a layer's weight.
pub(super) fn weight_name(function: &Function, layer: &Layer) -> Result<Str, String> {
    function.parameter_name(layer.weight).cloned().ok_or_else(|| "its weight is no parameter".into())
}

/// Replaces a layer by a branch plus the layer with another input and weight.
pub(super) fn add_rest(
    function: &mut Function,
    layer: OpId,
    (x, weight): (ValueId, &Str),
    branch: ValueId,
    context: &Context<'_>,
    patch: &mut Patch,
) -> Result<(), String> {
    let fail = |e: qcc_ir::InferError| e.to_string();
    let node = function.node(layer).clone();
    let weight = value(function, &context.parameters, weight)?;
    let operands = [Some(x), Some(weight), node.operands.get(2).copied().flatten()];
    let rest = patch.add(function, node.op, operands, &node.location).map_err(fail)?;
    Branch::Rest.mark(function, rest);
    let sum = patch.add(function, Op::Add {}, [branch, rest], &node.location).map_err(fail)?;
    patch.redirect(node.results[0], sum);
    Ok(())
}
