//! From a function, or some of its operations, to an e-graph.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use egg::Id;
use qcc_ir::{Function, Node, Op, OpId, ValueId};
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

impl Converted {
    /// The class of a weight of the function, with what is known of it; added where the operations do not use it.
    pub fn weight(&mut self, function: &Function, value: ValueId, properties: Properties) -> Id {
        if let Some(class) = self.classes.get(&value) {
            return *class;
        }
        let mut facts = leaf(function, value, true);
        facts.properties = properties;
        self.graph.analysis.values[value.index()] = Some(facts);
        let class = self.graph.add(Term::Value(value));
        self.classes.insert(value, class);
        class
    }
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
pub fn leaf(function: &Function, value: ValueId, weight: bool) -> TensorFacts {
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
    let weights = weights(function);
    let (stay, inner): (Vec<OpId>, Vec<OpId>) =
        function.order().iter().partition(|id| is_leaf(function.node(**id)));
    let mut roots: Vec<ValueId> = Vec::new();
    for id in stay {
        roots.extend(function.node(id).operands.iter().flatten());
    }
    roots.extend(&function.results);
    let mut seen = HashSet::new();
    roots.retain(|r| seen.insert(*r));
    let mut converted = convert_part(function, &inner, &weights);
    for &root in &roots {
        if !converted.classes.contains_key(&root) {
            add_leaf(function, root, weights.contains(&root), &mut converted);
        }
    }
    converted.roots = roots;
    converted
}

/// The e-graph of some operations, in order; what they use and do not define are leaves. Roots are left to the caller.
pub fn convert_part(function: &Function, nodes: &[OpId], weights: &HashSet<ValueId>) -> Converted {
    let typing = Typing { values: vec![None; function.value_count()], ..Typing::default() };
    let mut converted = Converted {
        graph: Graph::new(typing),
        classes: HashMap::new(),
        roots: Vec::new(),
        origins: Vec::new(),
    };
    for &id in nodes {
        let node = function.node(id);
        for operand in node.operands.iter().flatten() {
            if !converted.classes.contains_key(operand) {
                add_leaf(function, *operand, weights.contains(operand), &mut converted);
            }
        }
        let Converted { graph, classes, origins, .. } = &mut converted;
        let origin = apply(graph, node, classes);
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
    count_users(function, &mut converted.graph, &converted.classes);
    converted.graph.rebuild();
    converted
}

/// Values that are weights, constants, or computed from such alone.
pub fn weights(function: &Function) -> HashSet<ValueId> {
    let mut weights = HashSet::new();
    for &id in function.order() {
        let node = function.node(id);
        let free = match node.op {
            Op::Parameter { .. } | Op::Constant { .. } => true,
            Op::Dequantize {} => false,
            _ => !node.operands.is_empty() && node.operands.iter().flatten().all(|v| weights.contains(v)),
        };
        if free {
            weights.extend(&node.results);
        }
    }
    weights
}

/// Adds a value that is taken as it is.
fn add_leaf(function: &Function, value: ValueId, weight: bool, converted: &mut Converted) {
    let Converted { graph, classes, .. } = converted;
    graph.analysis.values[value.index()] = Some(leaf(function, value, weight));
    classes.insert(value, graph.add(Term::Value(value)));
}

/// Operations that stay as they are: weights, and those with more results than heads name.
pub fn is_leaf(node: &Node) -> bool {
    matches!(node.op, Op::Parameter { .. } | Op::Constant { .. }) || !(1..=2).contains(&node.results.len())
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
        let Some(class) = classes.get(&value) else { continue };
        let operations: HashSet<_> = uses.iter().map(|(op, _)| op).collect();
        *users.entry(*class).or_default() += operations.len();
    }
    for class in function.results.iter().filter_map(|r| classes.get(r)) {
        *users.entry(*class).or_default() += 1;
    }
    for (id, n) in users {
        if let Facts::Tensor(facts) = &mut graph[id].data {
            facts.users = n;
        }
    }
}
