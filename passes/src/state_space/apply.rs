//! Fires introducing rules at sites, lets the other rules carry what was introduced into weights, and takes the form that has it, wherever
//! it costs nothing but what is asked for.

use std::collections::HashSet;
use std::sync::Arc;

use egg::{Subst, Var};
use qcc_ir::{Function, Op, ValueId};

use super::site::Site;
use crate::equivalence::convert::convert;
use crate::equivalence::emit::emit;
use crate::equivalence::extract::Arena;
use crate::equivalence::facts::{Graph, Properties, canonical};
use crate::equivalence::language::Term;
use crate::equivalence::rules::{BUILTIN, Rule, parse};
use crate::equivalence::{Limits, Report, saturate};
use crate::transform::Target;

/// What makes a site as it was undesirable, against any time an operation takes.
const UNWANTED: f64 = 1e6;
/// What makes a new form undesirable that gains nothing.
const NEW: f64 = 1e-15;

/// The operand of a site that is the state before the first token.
pub(super) const STATE: &str = "?h";

/// What the free variable of a rule is bound to.
#[derive(Clone, Debug)]
pub(super) enum Free {
    /// A weight of the function.
    Scale(ValueId),
    /// Attributes.
    Attributes(Op),
}

/// A rule to fire at a site.
#[derive(Clone, Debug)]
pub(super) struct Introduction<'a> {
    /// Where.
    pub site: &'a Site,
    /// The rule; its variables are the operands in order.
    pub rule: &'static str,
    /// Names of the operands in the rule.
    pub operands: &'static [&'static str],
    /// Its free variable.
    pub free: (&'static str, Free),
}

/// Rewrites the function; says for each introduction whether it was made.
///
/// # Errors
/// When rules do not saturate or are ill-typed.
pub(super) fn apply(
    function: &mut Function,
    introductions: &[Introduction<'_>],
    more: &[Arc<Rule>],
    target: &Target,
) -> Result<(Vec<bool>, Report), String> {
    let mut rules = Vec::new();
    for (file, text) in BUILTIN.iter().filter(|(file, _)| carries(file)) {
        rules.extend(parse(file, text).map_err(|e| e.to_string())?);
    }
    rules.extend(more.iter().cloned());
    let mut converted = convert(function);
    let mut old: Vec<Term> = Vec::new();
    for introduction in introductions {
        let node = function.node(introduction.site.op).clone();
        let rule = rules.iter().find(|r| r.name == introduction.rule);
        let rule = rule.ok_or_else(|| format!("there is no rule `{}`", introduction.rule))?.clone();
        let origin = converted.origins.iter().find(|o| o.results == node.results);
        old.push(origin.ok_or("an operation is not in the graph")?.term.clone());
        let mut subst = Subst::default();
        let var = |name: &str| name.parse::<Var>().map_err(|e| e.to_string());
        for (slot, name) in introduction.operands.iter().enumerate() {
            let id = match node.operands.get(slot).copied().flatten() {
                Some(value) => converted.classes[&value],
                None => converted.graph.add(Term::Absent),
            };
            subst.insert(var(name)?, id);
        }
        let (name, free) = &introduction.free;
        let id = match free {
            Free::Scale(value) => converted.weight(function, *value, Properties::POSITIVE),
            Free::Attributes(op) => converted.graph.add(Term::Attributes(Arc::new(op.clone()))),
        };
        subst.insert(var(name)?, id);
        if rule.guards_hold(&converted.graph, &subst) {
            rule.introduce(&mut converted.graph, converted.classes[&node.results[0]], &subst)?;
        }
    }
    converted.graph.rebuild();
    let (converted, report) = saturate(converted, &rules, Limits::default()).map_err(|e| e.to_string())?;
    let graph = &converted.graph;
    let state = |i: &Introduction<'_>| {
        let slot = i.operands.iter().position(|name| *name == STATE)?;
        i.site.operand(function, slot)
    };
    let states: HashSet<ValueId> = introductions.iter().filter_map(state).collect();
    let old: Vec<Term> = old.iter().map(|term| canonical(graph, term)).collect();
    let unwanted: HashSet<&Term> = old.iter().collect();
    let known: HashSet<Term> = converted.origins.iter().map(|o| canonical(graph, &o.term)).collect();
    let arena = Arena::new(graph);
    let costs: Vec<f64> = arena
        .nodes
        .iter()
        .map(|node| {
            let seconds = match dear(graph, &node.term, &states) {
                true => f64::INFINITY,
                false => target.seconds(graph, arena.classes[node.class], &node.term),
            };
            let unwanted = if unwanted.contains(&node.term) { UNWANTED } else { 0.0 };
            seconds + unwanted + if known.contains(&node.term) { 0.0 } else { NEW }
        })
        .collect();
    let selection = arena.greedy(&costs);
    let roots: Vec<usize> =
        converted.roots.iter().filter_map(|r| arena.number(graph.find(converted.classes[r]))).collect();
    let kept: HashSet<&Term> =
        arena.needed(&selection, &roots).into_iter().map(|n| &arena.nodes[n].term).collect();
    let made = old.iter().map(|term| !kept.contains(term)).collect();
    emit(function, &converted, &arena.choice(&selection))?;
    Ok((made, report))
}

/// Whether a rule file carries scales and rotations about.
fn carries(file: &str) -> bool {
    ["scale.rules", "rotate.rules", "state.rules"].contains(&file)
}

/// Whether this is a scale on an activation other than a state that comes or goes: weights shall take it up.
fn dear(graph: &Graph, term: &Term, states: &HashSet<ValueId>) -> bool {
    let Term::Apply("scale", children) = term else { return false };
    let state = |child: &Term| match child {
        Term::Value(v) => states.contains(v),
        Term::Apply("second" | "contract", _) => true,
        _ => false,
    };
    !graph[children[0]].nodes.iter().any(state)
}
