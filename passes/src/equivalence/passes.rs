//! The passes on the e-graph: `fold-batch-norm` with the built-in rules, `rewrite` with rules from a file.

use std::collections::BTreeMap;
use std::sync::Arc;

use qcc_ir::{Function, Module, Op, Str};

use super::left::left;
use super::rules::{Rule, parse};
use super::{Limits, Report, proof, rewrite};
use crate::context::Context;
use crate::pass::{Options, Outcome, Pass, PassError, PassInfo, Preservation};
use crate::transform::explanation::{LayerChoice, Saturation};
use crate::transform::{Explanation, tell};

/// The rules about batch normalisation.
pub const BATCH_NORM: &str = include_str!("rules/batch_norm.rules");

const FOLD: &str = "fold-batch-norm";

/// The registry entry of `fold-batch-norm`.
pub const FOLD_BATCH_NORM: PassInfo = PassInfo {
    name: FOLD,
    summary: "folds batch normalisations into the convolutions and linear layers beside them",
    options: &[],
    make: |_| {
        let rules = parse("batch_norm.rules", BATCH_NORM).map_err(|e| e.to_string())?;
        Ok(Box::new(Equivalence { name: FOLD, rules }))
    },
};

/// The registry entry of `rewrite`.
pub const REWRITE: PassInfo = PassInfo {
    name: "rewrite",
    summary: "applies the rewrite rules of a file, after proving each by example",
    options: &[("rules", "the rule file")],
    make: |options| {
        let rules = read(options)?;
        Ok(Box::new(Equivalence { name: "rewrite", rules }))
    },
};

/// The pass of this name, made of rules that are proved.
pub(crate) fn applying(name: &'static str, rules: Vec<Arc<Rule>>) -> Box<dyn Pass> {
    Box::new(Equivalence { name, rules })
}

fn read(options: &mut Options) -> Result<Vec<Arc<Rule>>, String> {
    let file: String = options.take("rules")?.ok_or("the option `rules=FILE` is needed")?;
    let text = std::fs::read_to_string(&file).map_err(|e| format!("cannot read the rules `{file}`: {e}"))?;
    let rules = parse(&file, &text).map_err(|e| e.to_string())?;
    for rule in &rules {
        proof::prove(rule).map_err(|e| e.to_string())?;
    }
    Ok(rules)
}

struct Equivalence {
    name: &'static str,
    rules: Vec<Arc<Rule>>,
}

/// The sources of all batch normalisations.
fn batch_norms(function: &Function) -> Vec<Str> {
    let nodes = function.order().iter().map(|id| function.node(*id));
    nodes.filter(|node| matches!(node.op, Op::BatchNorm { .. })).map(|node| node.location.clone()).collect()
}

impl Pass for Equivalence {
    fn preservation(&self) -> Preservation {
        Preservation::Relative(1e-9)
    }

    fn run(&self, module: &mut Module, context: &mut Context<'_>) -> Result<Outcome, PassError> {
        let mut outcome = Outcome::default();
        let (mut before, mut after) = (0, 0);
        let mut explanation = Explanation { pass: self.name, ..Explanation::default() };
        for function in &mut module.functions {
            let norms = batch_norms(function);
            before += norms.len();
            let report: Report = rewrite(function, &self.rules, Limits::default())
                .map_err(|e| PassError::failed(self.name, e))?;
            let still = batch_norms(function);
            after += still.len();
            if self.name == FOLD {
                let folded = norms.iter().filter(|norm| !still.contains(norm));
                explanation.layers.extend(folded.map(|norm| LayerChoice::done(norm, FOLD)));
                explanation.refused.extend(left(function));
            }
            explanation.saturations.push(Saturation::from(&report));
            explanation.search += report.time;
            *outcome.statistics.entry("replaced").or_default() += report.replaced;
            *outcome.measures.entry("e_nodes").or_default() += report.nodes;
            *outcome.measures.entry("iterations").or_default() += report.iterations;
        }
        outcome.statistics.insert("folded", before.saturating_sub(after));
        outcome.measures.insert("batch_norms_left", after);
        let mut applied: BTreeMap<&str, usize> = BTreeMap::new();
        for (rule, n) in explanation.saturations.iter().flat_map(|s| &s.applied) {
            *applied.entry(rule).or_default() += n;
        }
        tracing::info!(?applied, folded = before.saturating_sub(after), left = after, "{}", self.name);
        tell(&explanation);
        context.explanations.push(explanation);
        Ok(outcome)
    }
}
