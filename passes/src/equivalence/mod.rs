//! Equality saturation: rewrites that are exact in real arithmetic, found all at once in an e-graph and chosen by cost.
//!
//! A function becomes an e-graph, [rules](rules) add what is equal until nothing new appears, and the cheapest DAG is
//! [extracted](extract). Rules are data (`rules/*.rules`), and every one is [proved by example](proof) in f64 before it is used. A limit
//! that is hit is an error: rules that do not saturate are wrong rules. After egg (Willsey et al. 2021) and cranelift's e-graph mid-end.
//!
//! **Architecture invariant.** Only what is exact in real arithmetic is in here; number formats are approximations and never unioned.

pub mod convert;
pub mod cost;
pub mod emit;
pub mod extract;
pub mod facts;
pub mod guard;
pub mod heads;
pub mod language;
mod left;
pub mod passes;
pub mod proof;
pub mod rules;
mod text;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use egg::{Id, Runner, SimpleScheduler, StopReason};
use qcc_ir::Function;

use convert::{Converted, convert};
use facts::canonical;
use language::Term;
use rules::{Rule, rewrites};

/// How far saturation may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// E-nodes.
    pub nodes: usize,
    /// Rounds of all rules.
    pub iterations: usize,
    /// Time.
    pub time: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { nodes: 1_000_000, iterations: 256, time: Duration::from_secs(120) }
    }
}

/// What saturation did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Rounds of all rules.
    pub iterations: usize,
    /// E-nodes at the end.
    pub nodes: usize,
    /// E-classes at the end.
    pub classes: usize,
    /// How long it took.
    pub time: Duration,
    /// How far it might have gone.
    pub limits: Limits,
    /// How often each rule found something new.
    pub applied: BTreeMap<String, usize>,
    /// How many values of the function were replaced.
    pub replaced: usize,
}

/// Why rewriting failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EquivalenceError {
    /// A limit was hit.
    #[error("the rules do not saturate: {reason} after {nodes} e-nodes; the rule applied most is `{rule}`")]
    Limit {
        /// Which limit.
        reason: String,
        /// E-nodes then.
        nodes: usize,
        /// The rule that fired most.
        rule: String,
    },
    /// A rule's right side is ill-typed.
    #[error("{0}")]
    Type(String),
    /// The rewritten function cannot be built.
    #[error("cannot build the rewritten function: {0}")]
    Emit(String),
}

/// Adds to the graph all that the rules say is equal.
///
/// # Errors
/// When a limit is hit or a rule is ill-typed.
pub fn saturate(
    mut converted: Converted,
    rules: &[Arc<Rule>],
    limits: Limits,
) -> Result<(Converted, Report), EquivalenceError> {
    let start = Instant::now();
    let graph = std::mem::replace(&mut converted.graph, facts::Graph::new(facts::Typing::default()));
    let mut runner: Runner<Term, facts::Typing> = Runner::new(facts::Typing::default())
        .with_egraph(graph)
        .with_scheduler(SimpleScheduler)
        .with_node_limit(limits.nodes)
        .with_iter_limit(limits.iterations)
        .with_time_limit(limits.time)
        .run(&rewrites(rules));
    let mut applied: BTreeMap<String, usize> = BTreeMap::new();
    for iteration in &runner.iterations {
        for (rule, n) in &iteration.applied {
            *applied.entry(rule.to_string()).or_default() += n;
        }
    }
    let nodes = runner.egraph.total_number_of_nodes();
    if let Some(error) = runner.egraph.analysis.errors.first() {
        return Err(EquivalenceError::Type(error.clone()));
    }
    if !matches!(runner.stop_reason, Some(StopReason::Saturated)) {
        let rule = applied.iter().max_by_key(|(_, n)| **n).map_or_else(String::new, |(rule, _)| rule.clone());
        let reason = runner.stop_reason.map_or_else(|| "no reason".to_string(), |r| format!("{r:?}"));
        return Err(EquivalenceError::Limit { reason, nodes, rule });
    }
    for (term, name) in std::mem::take(&mut runner.egraph.analysis.sources) {
        let term = canonical(&runner.egraph, &term);
        runner.egraph.analysis.sources.entry(term).or_insert(name);
    }
    let report = Report {
        iterations: runner.iterations.len(),
        nodes,
        classes: runner.egraph.number_of_classes(),
        time: start.elapsed(),
        limits,
        applied,
        replaced: 0,
    };
    converted.graph = runner.egraph;
    Ok((converted, report))
}

/// Rewrites a function to the cheapest form that the rules find.
///
/// # Errors
/// When a limit is hit, a rule is ill-typed, or the function cannot be rebuilt; the function is then as it was.
pub fn rewrite(
    function: &mut Function,
    rules: &[Arc<Rule>],
    limits: Limits,
) -> Result<Report, EquivalenceError> {
    let (converted, mut report) = saturate(convert(function), rules, limits)?;
    if report.applied.is_empty() {
        return Ok(report);
    }
    let graph = &converted.graph;
    let originals: std::collections::HashSet<Term> =
        converted.origins.iter().map(|o| canonical(graph, &o.term)).collect();
    // What is new must gain something.
    let cost = |class: Id, term: &Term| {
        cost::cost(graph, class, term) + if originals.contains(term) { 0.0 } else { 0.5 }
    };
    let choice = extract::extract(graph, &cost);
    report.replaced = emit::emit(function, &converted, &choice).map_err(EquivalenceError::Emit)?;
    tracing::debug!(
        iterations = report.iterations,
        nodes = report.nodes,
        classes = report.classes,
        replaced = report.replaced,
        "saturated"
    );
    Ok(report)
}
