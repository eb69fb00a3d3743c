//! `canonicalize`: constant folding, identities, common subexpressions, dead code.
//!
//! One forward walk: each operation first gets its operands redirected, then is folded (its operands are constants or weights), simplified
//! (it is an identity), or merged with an equal earlier one. Folding an operation on weights makes a *weight expression*, evaluated later.

mod fold;
mod norm;
mod simplify;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use qcc_ir::{Function, Module, Op, ValueId};

use crate::context::Context;
use crate::pass::{Outcome, Pass, PassError, PassInfo, Preservation};

/// The registry entry.
pub const INFO: PassInfo = PassInfo {
    name: "canonicalize",
    summary: "folds constants and weight expressions, removes identities, duplicates and dead operations",
    options: &[],
    make: |_| Ok(Box::new(Canonicalize)),
};

const NAME: &str = "canonicalize";

struct Canonicalize;

impl Pass for Canonicalize {
    fn preservation(&self) -> Preservation {
        Preservation::Relative(1e-9)
    }

    fn run(&self, module: &mut Module, context: &mut Context<'_>) -> Result<Outcome, PassError> {
        let mut counts = Counts::default();
        for function in &mut module.functions {
            canonicalize(function, context, &mut counts)?;
        }
        Ok(Outcome::of([
            ("folded", counts.folded),
            ("simplified", counts.simplified),
            ("merged", counts.merged),
            ("removed", counts.removed),
        ]))
    }
}

#[derive(Default)]
struct Counts {
    folded: usize,
    simplified: usize,
    merged: usize,
    removed: usize,
}

/// The results of each operation met so far, by what it computes.
type Seen = HashMap<(Op, Vec<Option<ValueId>>), Vec<ValueId>>;

/// The earlier value that equals `value`, or `value` itself, remembered for later.
fn intern(function: &Function, seen: &mut Seen, value: ValueId) -> ValueId {
    let Some((_, node)) = function.defining(value) else { return value };
    let index = node.results.iter().position(|r| *r == value).expect("invariant: a node has its results");
    seen.entry((node.op.clone(), node.operands.to_vec())).or_insert_with(|| node.results.to_vec())[index]
}

fn canonicalize(
    function: &mut Function,
    context: &mut Context<'_>,
    counts: &mut Counts,
) -> Result<(), PassError> {
    let mut replaced: HashMap<ValueId, ValueId> = HashMap::new();
    let mut seen = Seen::new();
    for id in function.order().to_vec() {
        for operand in function.node_mut(id).operands.iter_mut().flatten() {
            *operand = *replaced.get(operand).unwrap_or(operand);
        }
        let results = function.node(id).results.clone();
        if let Some(new) = fold::fold(function, id, context)? {
            counts.folded += 1;
            for (result, new) in results.into_iter().zip(new) {
                replaced.insert(result, intern(function, &mut seen, new));
            }
            continue;
        }
        if let Some(new) = simplify::simplify(function, id) {
            counts.simplified += 1;
            replaced.insert(results[0], intern(function, &mut seen, new));
            continue;
        }
        let node = function.node(id);
        let key = (node.op.clone(), node.operands.to_vec());
        if let Some(earlier) = seen.get(&key) {
            counts.merged += 1;
            replaced.extend(results.into_iter().zip(earlier.iter().copied()));
        } else {
            seen.insert(key, results.to_vec());
        }
    }
    for result in &mut function.results {
        *result = *replaced.get(result).unwrap_or(result);
    }
    function.sort();
    counts.removed += function.remove_dead();
    Ok(())
}
