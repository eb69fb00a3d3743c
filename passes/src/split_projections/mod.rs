//! `split-projections`: a linear layer whose result is only read in slices of its features becomes one layer for each slice, so that each
//! is transformed and rounded by itself (the first step of MambaQuant, arXiv 2501.13484, section 1.2):
//! `slice(linear(x, w, b)) = linear(x, w[rows], b[rows])`, named `layer[a:b]`.

#[cfg(test)]
mod tests;

use std::collections::HashMap;

use qcc_ir::{Function, Module, Op, OpId, Patch, Str, ValueId};
use qcc_params::Parameters;

use crate::context::Context;
use crate::decompose::Branch;
use crate::pass::{Outcome, Pass, PassError, PassInfo, Preservation};
use crate::transform::Explanation;
use crate::transform::explanation::LayerChoice;
use crate::weights::{computed, value};

/// The registry entry.
pub const INFO: PassInfo = PassInfo {
    name: NAME,
    summary: "makes a layer of its own of each slice that a linear layer's result is read in",
    options: &[],
    make: |_| Ok(Box::new(SplitProjections)),
};

const NAME: &str = "split-projections";

struct SplitProjections;

impl Pass for SplitProjections {
    fn preservation(&self) -> Preservation {
        Preservation::Relative(1e-9)
    }

    fn run(&self, module: &mut Module, context: &mut Context<'_>) -> Result<Outcome, PassError> {
        let mut slices = 0;
        let mut explanation = Explanation { pass: NAME, ..Explanation::default() };
        for function in &mut module.functions {
            let uses = function.uses();
            let mut patch = Patch::new();
            for layer in function.order().to_vec() {
                let Some(parts) = parts(function, &uses, layer) else { continue };
                let name = function.node(layer).location.clone();
                for part in &parts {
                    split_off(function, layer, part, &mut context.parameters, &mut patch)
                        .map_err(|e| PassError::at(NAME, &name, e))?;
                }
                explanation.layers.push(LayerChoice::done(&name, NAME));
                slices += parts.len();
            }
            patch.apply(function).map_err(|e| PassError::failed(NAME, e))?;
        }
        let outcome = Outcome::of([("layers", explanation.layers.len()), ("slices", slices)]);
        context.explanations.push(explanation);
        Ok(outcome)
    }
}

/// A slice of a layer's result.
struct Part {
    slice: ValueId,
    start: i64,
    end: i64,
}

/// The slices of a layer's result, in order, when nothing else uses it and they do not overlap.
fn parts(function: &Function, uses: &HashMap<ValueId, Vec<(OpId, usize)>>, layer: OpId) -> Option<Vec<Part>> {
    let node = function.node(layer);
    let (Op::Linear {}, [y]) = (&node.op, node.results.as_slice()) else { return None };
    if Branch::of(node).is_some() || function.results.contains(y) {
        return None;
    }
    let mut weights = node.operands.iter().skip(1).flatten();
    if !weights.all(|w| function.parameter_name(*w).is_some()) {
        return None;
    }
    let ty = function.ty(*y);
    let last = i64::try_from(ty.rank().checked_sub(1)?).ok()?;
    let width = ty.dims.last()?.constant()?;
    let part = |(user, _): &(OpId, usize)| {
        let user = function.node(*user);
        match (&user.op, user.results.as_slice()) {
            (Op::Slice { axes, starts, ends, steps }, [slice]) if *axes == [last] && *steps == [1] => {
                let (start, end) = (*starts.first()?, *ends.first()?);
                (0 <= start && start < end && end <= width).then_some(Part { slice: *slice, start, end })
            }
            _ => None,
        }
    };
    let mut parts = uses.get(y)?.iter().map(part).collect::<Option<Vec<Part>>>()?;
    parts.sort_by_key(|p| p.start);
    let apart = parts.windows(2).all(|pair| pair[0].end <= pair[1].start);
    let whole = parts.iter().any(|p| p.end - p.start == width);
    (apart && !whole).then_some(parts)
}

/// Replaces a slice by a layer with its rows of weight and bias.
fn split_off(
    function: &mut Function,
    layer: OpId,
    part: &Part,
    parameters: &mut Parameters,
    patch: &mut Patch,
) -> Result<(), String> {
    let node = function.node(layer).clone();
    let Part { slice, start, end } = *part;
    let rows = Op::Slice { axes: vec![0], starts: vec![start], ends: vec![end], steps: vec![1] };
    let mut operands = vec![node.operands[0]];
    for weight in node.operands.iter().skip(1) {
        let Some(weight) = *weight else { continue };
        let name: Str = function.parameter_name(weight).cloned().ok_or("its weight is no parameter")?;
        let name = computed(parameters, &format!("{name}[{start}:{end}]"), rows.clone(), &[&name])?;
        operands.push(Some(value(function, parameters, &name)?));
    }
    let location = format!("{}[{start}:{end}]", node.location);
    let new = patch.add(function, Op::Linear {}, operands, &location).map_err(|e| e.to_string())?;
    patch.redirect(slice, new);
    Ok(())
}
