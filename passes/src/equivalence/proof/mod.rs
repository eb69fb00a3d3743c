//! Proof by example: a rule is instantiated with random shapes, attributes and numbers that satisfy its guards, and both sides are run in
//! f64. A rule that is exact in real arithmetic differs by rounding only (1e-9); one that is wrong does not survive a handful of examples.
//!
//! The left side is [built](example) from the inside out: what a variable may be follows from the operation it stands in. Heads of left
//! sides that this cannot make up are refused, so no rule goes unproved. Variables that only the right side has are made up for the head
//! they stand in, too.

mod example;
mod recipes;

use std::sync::Arc;

use egg::{Id, PatternAst, Subst, Var};
use qcc_interpreter::{Interpreter, Precision};
use qcc_ir::Function;
use qcc_params::{Parameters, Tensor};

use super::convert::leaf;
use super::facts::{Graph, Typing};
use super::language::Term;
use super::rules::Rule;
use crate::verify_each::{random_inputs, relative_error};
use example::{Bound, Example, Trouble};

/// How close both sides must be.
pub const TOLERANCE: f64 = 1e-9;
/// Examples a rule must survive.
const EXAMPLES: usize = 24;
/// Fewer than so many are luck.
const LEAST_EXAMPLES: usize = 8;
/// Examples tried; most fail a guard.
const ATTEMPTS: u64 = 4000;

/// Why a rule is not accepted.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("rule `{rule}` is not proved: {reason}")]
pub struct Unproved {
    /// The rule.
    pub rule: String,
    /// Why.
    pub reason: String,
}

/// Proves a rule by example; returns how many examples it survived. Those of one channel, where orders and means are trivial, do not count.
///
/// # Errors
/// When both sides differ, when the right side is ill-typed, or when hardly any example satisfies the guards.
pub fn prove(rule: &Arc<Rule>) -> Result<usize, Unproved> {
    let fail = |reason: String| Unproved { rule: rule.name.clone(), reason };
    let mut proved = 0;
    for seed in 0..ATTEMPTS {
        if proved == EXAMPLES {
            break;
        }
        match attempt(rule, seed) {
            Ok(Some(channels)) => proved += usize::from(channels > 1),
            Ok(None) => {}
            Err(reason) => return Err(fail(reason)),
        }
    }
    if proved < LEAST_EXAMPLES {
        let reason =
            format!("its guards hold on {proved} of {ATTEMPTS} examples, and {LEAST_EXAMPLES} are needed");
        return Err(fail(reason));
    }
    Ok(proved)
}

/// One example; the channels of its activations, if there is one for this seed.
fn attempt(rule: &Arc<Rule>, seed: u64) -> Result<Option<i64>, String> {
    let mut left = Example::new(seed);
    let equations = || [(&rule.left, &rule.right)].into_iter().chain(rule.also.iter().map(|(l, r)| (l, r)));
    for (ast, _) in equations() {
        match left.result(ast) {
            Ok(()) => {}
            Err(Trouble::Unlucky) => return Ok(None),
            Err(Trouble::Unknown(head)) => {
                return Err(format!(
                    "there is no example of `{head}` in a left side; teach `equivalence/proof/recipes.rs` to make one"
                ));
            }
        }
    }
    let arguments = left.function.arguments().len();
    let mut right = left.clone();
    right.clear_results();
    for (_, ast) in equations() {
        match right.result(ast) {
            Ok(()) => {}
            // What is introduced is made up without knowing all places where it must fit.
            Err(Trouble::Unlucky) if !rule.free.is_empty() || !guards_hold(rule, &right)? => {
                return Ok(None);
            }
            Err(Trouble::Unlucky) => {
                return Err("its right side is ill-typed on an example that the guards allow".into());
            }
            Err(Trouble::Unknown(head)) => return Err(format!("there is no example of `{head}`")),
        }
    }
    if right.function.arguments().len() != arguments {
        return Ok(None);
    }
    if !guards_hold(rule, &right)? {
        return Ok(None);
    }
    let types = |f: &Function| f.results.iter().map(|r| f.ty(*r).clone()).collect::<Vec<_>>();
    if types(&left.function) != types(&right.function) {
        return match rule.free.is_empty() {
            true => Err("its sides differ in type on an example that the guards allow".into()),
            false => Ok(None),
        };
    }
    let error = compare(&left.function, &right.function, &right.parameters)?;
    if error > TOLERANCE {
        let text = qcc_ir::print::print_function(&left.function);
        return Err(format!("both sides differ by {error:.2e} (relative) on\n{text}"));
    }
    Ok(left.shape.get(1).copied())
}

/// Whether the guards hold on an example: the left side and its variables in a graph of their own.
fn guards_hold(rule: &Rule, example: &Example) -> Result<bool, String> {
    let function = &example.function;
    let mut typing = Typing { values: vec![None; function.value_count()], ..Typing::default() };
    for bound in example.bound.values() {
        if let Bound::Value(v) = bound {
            let mut facts = leaf(function, *v, function.parameter_name(*v).is_some());
            facts.properties = example.properties.get(v).copied().unwrap_or_default();
            typing.values[v.index()] = Some(facts);
        }
    }
    let mut graph = Graph::new(typing);
    let mut subst = Subst::default();
    for (var, bound) in &example.bound {
        let term = match bound {
            Bound::Value(v) => Term::Value(*v),
            Bound::Attributes(op) => Term::Attributes(Arc::new(op.clone())),
            Bound::Absent => Term::Absent,
        };
        let id = graph.add(term);
        subst.insert(*var, id);
    }
    add(&mut graph, &rule.left, &subst)?;
    Ok(rule.guards_hold(&graph, &subst))
}

/// Adds a term with all variables bound.
fn add(graph: &mut Graph, ast: &PatternAst<Term>, subst: &Subst) -> Result<Id, String> {
    let mut ids: Vec<Id> = Vec::with_capacity(ast.len());
    for node in ast.as_ref() {
        ids.push(match node {
            egg::ENodeOrVar::Var(v) => *subst.get(*v).ok_or_else(|| unbound(*v))?,
            egg::ENodeOrVar::ENode(term) => {
                let term = egg::Language::map_children(term.clone(), |c| ids[usize::from(c)]);
                super::facts::facts(graph, &term)?;
                graph.add(term)
            }
        });
    }
    ids.last().copied().ok_or_else(|| "a side is empty".into())
}

fn unbound(var: Var) -> String {
    format!("`{var}` is not bound")
}

/// The relative error between two functions of the same arguments, in f64.
fn compare(left: &Function, right: &Function, parameters: &Parameters) -> Result<f64, String> {
    let interpreter = Interpreter::new(Precision::F64);
    let inputs: Vec<Tensor> = random_inputs(left)?;
    let run = |f: &Function| interpreter.run(f, parameters, &inputs).map_err(|e| e.to_string());
    let (a, b) = (run(right)?, run(left)?);
    Ok(a.iter().zip(&b).map(|(a, b)| relative_error(a, b)).fold(0.0, f64::max))
}
