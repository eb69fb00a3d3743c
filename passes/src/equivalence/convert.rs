//! From a function to an e-graph.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use egg::Id;
use qcc_ir::{Function, Node, Op, ValueId};
use smallvec::SmallVec;

use super::facts::{Facts, Graph, Properties, TensorFacts, Typing};
use super::heads::{FIRST, SECOND};
use super::language::{Term, has_attributes};

/// A function as an e-graph.
pub struct Converted {
    /// The graph.
    pub graph: Graph,
    /// The class of each value that is in the graph.
    pub classes: HashMap<ValueId, Id>,
    /// Values that must be made in any case: results, and operands of operations that stay as they are.
    pub roots: Vec<ValueId>,
    /// The operations of the function as they were converted.
    pub origins: Vec<Origin>,
}

/// An operation of the function and its term.
pub struct Origin {
    /// Its results.
    pub results: SmallVec<[ValueId; 2]>,
    /// Its term, as it was added.
    pub term: Term,
    /// Its operands in the order of the term's children.
    pub operands: Vec<Option<ValueId>>,
}

/// The facts of a value that is taken as it is.
pub fn leaf(function: &Function, value: ValueId) -> TensorFacts {
    let weight = function.defining(value).is_some_and(|(_, node)| is_weight(node));
    TensorFacts {
        ty: function.ty(value).clone(),
        weight,
        users: 0,
        name: function.value(value).name.clone(),
        root: weight.then_some(value),
        leaf: weight,
        properties: Properties::default(),
    }
}

/// The e-graph of a function.
pub fn convert(function: &Function) -> Converted {
    let mut typing = Typing { values: vec![None; function.value_count()], ..Typing::default() };
    for &argument in function.arguments() {
        typing.values[argument.index()] = Some(leaf(function, argument));
    }
    for &id in function.order() {
        let node = function.node(id);
        if is_leaf(node) {
            for &result in &node.results {
                typing.values[result.index()] = Some(leaf(function, result));
            }
        }
    }
    let mut graph = Graph::new(typing);
    let mut classes = HashMap::new();
    for &argument in function.arguments() {
        classes.insert(argument, graph.add(Term::Value(argument)));
    }
    let (mut roots, mut origins) = (Vec::new(), Vec::new());
    for &id in function.order() {
        let node = function.node(id);
        if is_leaf(node) {
            roots.extend(node.operands.iter().flatten());
            for &result in &node.results {
                classes.insert(result, graph.add(Term::Value(result)));
            }
            continue;
        }
        let origin = apply(&mut graph, node, &classes);
        graph.analysis.sources.entry(origin.term.clone()).or_insert_with(|| node.location.clone());
        let class = graph.add(origin.term.clone());
        match origin.results.as_slice() {
            [only] => {
                classes.insert(*only, class);
            }
            several => {
                for (head, &result) in [FIRST, SECOND].into_iter().zip(several) {
                    let projection = Term::Apply(head, [class].into_iter().collect());
                    graph.analysis.sources.entry(projection.clone()).or_insert_with(|| node.location.clone());
                    classes.insert(result, graph.add(projection));
                }
            }
        }
        origins.push(origin);
    }
    roots.extend(&function.results);
    let mut seen = HashSet::new();
    roots.retain(|r| seen.insert(*r));
    count_users(function, &mut graph, &classes);
    graph.rebuild();
    Converted { graph, classes, roots, origins }
}

fn is_weight(node: &Node) -> bool {
    matches!(node.op, Op::Parameter { .. } | Op::Constant { .. })
}

/// Operations that stay as they are: weights, and those with more results than heads name.
fn is_leaf(node: &Node) -> bool {
    is_weight(node) || !(1..=2).contains(&node.results.len())
}

fn apply(graph: &mut Graph, node: &Node, classes: &HashMap<ValueId, Id>) -> Origin {
    let spec = node.op.spec();
    let slots = spec.operands.len().max(node.operands.len());
    let mut operands: Vec<Option<ValueId>> =
        (0..slots).map(|slot| node.operands.get(slot).copied().flatten()).collect();
    // Rules for sums and products have the weight on the right.
    let weight = |v: Option<ValueId>| v.is_some_and(|v| graph[classes[&v]].data.is_free());
    if matches!(node.op, Op::Add {} | Op::Mul {}) && weight(operands[0]) && !weight(operands[1]) {
        operands.swap(0, 1);
    }
    let mut children: SmallVec<[Id; 6]> = SmallVec::new();
    if has_attributes(spec) {
        children.push(graph.add(Term::Attributes(Arc::new(node.op.clone()))));
    }
    for operand in &operands {
        children.push(operand.map_or_else(|| graph.add(Term::Absent), |v| classes[&v]));
    }
    Origin { results: node.results.clone(), term: Term::Apply(spec.name, children), operands }
}

/// Counts the operations and results of the function that use each class.
fn count_users(function: &Function, graph: &mut Graph, classes: &HashMap<ValueId, Id>) {
    let mut users: HashMap<Id, usize> = HashMap::new();
    for (value, uses) in function.uses() {
        let operations: HashSet<_> = uses.iter().map(|(op, _)| op).collect();
        *users.entry(classes[&value]).or_default() += operations.len();
    }
    for result in &function.results {
        *users.entry(classes[result]).or_default() += 1;
    }
    for (id, n) in users {
        if let Facts::Tensor(facts) = &mut graph[id].data {
            facts.users = n;
        }
    }
}
