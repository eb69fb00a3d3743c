//! The e-graph of one piece, with all that candidates introduce in it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use egg::{Id, Subst, Var};
use qcc_ir::ValueId;

use super::{Binding, Errors, Placed, Problem};
use crate::equivalence::convert::{Converted, convert_part, leaf};
use crate::equivalence::extract::{Arena, Selection};
use crate::equivalence::facts::{Facts, Graph};
use crate::equivalence::language::Term;
use crate::equivalence::{EquivalenceError, Limits, Report, saturate};
use crate::transform::pieces::Piece;

/// The e-graph of all pieces with the same structure.
pub(super) struct Shape {
    pub converted: Converted,
    pub arena: Arena,
    /// For each e-node of the arena.
    pub marks: Vec<Mark>,
    /// Seconds of each e-node.
    pub seconds: Vec<f64>,
    /// The stream's value that it starts from.
    pub input: Option<ValueId>,
    /// The class of the stream's value at the end, in each frame.
    pub outputs: Vec<Option<Id>>,
    /// Values that must be there as they are, and their classes.
    pub results: Vec<(ValueId, Id)>,
}

/// What an e-node is to the search.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Mark {
    /// Any operation.
    Plain,
    /// The stream in a frame.
    Stream(usize),
    /// A layer of a group under a candidate.
    Layer { group: usize, layer: usize, candidate: usize },
    /// Nothing that may be chosen.
    Never,
}

impl Shape {
    pub fn new(
        problem: &Problem<'_>,
        piece: &Piece,
        groups: &[usize],
        free: &HashSet<ValueId>,
    ) -> Result<(Shape, Report), EquivalenceError> {
        let function = problem.function;
        let mut converted = convert_part(function, &piece.nodes, free);
        for (value, properties) in problem.properties {
            if let Some(class) = converted.classes.get(value)
                && let Facts::Tensor(facts) = &mut converted.graph[*class].data
            {
                facts.properties = *properties;
            }
        }
        let mut builder = Builder { problem, converted };
        let mut layers: Vec<(Id, Id, [usize; 3])> = Vec::new();
        for (local, &group) in groups.iter().enumerate() {
            builder.introduce(local, group, &mut layers).map_err(EquivalenceError::Type)?;
        }
        let ends = builder.frames(piece).map_err(EquivalenceError::Type)?;
        let (converted, report) = saturate(builder.converted, problem.rules, Limits::default())?;
        let graph = &converted.graph;
        let arena = Arena::new(graph);
        let mut candidates: HashMap<(Id, ValueId), [usize; 3]> = HashMap::new();
        for (x, w, mark) in layers {
            if let Some(root) = graph[w].data.tensor().and_then(|t| t.root) {
                candidates.entry((graph.find(x), root)).or_insert(mark);
            }
        }
        let known: HashSet<ValueId> =
            groups.iter().flat_map(|g| &problem.groups[*g].layers).map(|l| l.weight).collect();
        let mark = |term: &Term| mark(graph, term, piece.input, &candidates, &known);
        let marks = arena.nodes.iter().map(|n| mark(&n.term)).collect();
        let seconds = arena
            .nodes
            .iter()
            .map(|n| problem.target.seconds(graph, arena.classes[n.class], &n.term))
            .collect();
        let outputs = ends.into_iter().map(|id| id.map(|id| graph.find(id))).collect();
        let results = piece.results.iter().map(|v| (*v, graph.find(converted.classes[v]))).collect();
        let shape = Shape { arena, marks, seconds, input: piece.input, outputs, results, converted };
        Ok((shape, report))
    }

    /// The cost of each e-node in one of the pieces, whatever the frame.
    pub fn costs(&self, placed: &Placed, errors: &Errors, weight: f64, unit: f64) -> Vec<f64> {
        let cost = |(mark, seconds): (&Mark, &f64)| {
            let error = match mark {
                Mark::Layer { group, layer, candidate } => errors[placed.groups[*group]][*candidate][*layer],
                Mark::Never => f64::INFINITY,
                Mark::Plain | Mark::Stream(_) => 0.0,
            };
            seconds / unit + weight * error
        };
        self.marks.iter().zip(&self.seconds).map(cost).collect()
    }

    /// The costs when the stream comes in this frame.
    pub fn in_frame(&self, costs: &[f64], frame: usize) -> Vec<f64> {
        let allowed = |mark: &Mark| !matches!(mark, Mark::Stream(f) if *f != frame);
        self.marks.iter().zip(costs).map(|(m, c)| if allowed(m) { *c } else { f64::INFINITY }).collect()
    }

    /// Seconds that the input of a layer's e-node is transformed for while the model runs.
    pub fn online(&self, layer: usize, selection: &Selection) -> f64 {
        let input = match &self.arena.nodes[layer].term {
            Term::Apply(_, children) => children.first().map(|x| self.converted.graph.find(*x)),
            _ => None,
        };
        let node = input.and_then(|x| self.arena.number(x)).and_then(|class| selection.node(class));
        let transforms = |node: &usize| self.arena.nodes[*node].term.head() == Some("hadamard");
        node.filter(transforms).map_or(0.0, |node| self.seconds[node])
    }

    /// The frames that the stream can end in: 0, as it is, and those of its width.
    pub fn ends(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.outputs.len().max(1)).filter(|to| self.outputs.get(*to).is_none_or(Option::is_some))
    }

    /// What must be made when the stream leaves in this frame.
    pub fn roots(&self, frame: usize) -> Vec<usize> {
        let ends = self.results.iter().map(|(_, id)| *id).chain(self.outputs.get(frame).copied().flatten());
        ends.filter_map(|id| self.arena.number(id)).collect()
    }
}

/// What an e-node is to the search.
fn mark(
    graph: &Graph,
    term: &Term,
    input: Option<ValueId>,
    candidates: &HashMap<(Id, ValueId), [usize; 3]>,
    known: &HashSet<ValueId>,
) -> Mark {
    match term {
        Term::Value(v) if input == Some(*v) => Mark::Stream(0),
        Term::Framed(_, frame) => Mark::Stream(usize::from(*frame)),
        Term::Apply("linear", children) => {
            let root = graph[children[1]].data.tensor().and_then(|t| t.root);
            let Some(root) = root.filter(|_| graph[children[1]].data.is_free()) else { return Mark::Plain };
            match candidates.get(&(graph.find(children[0]), root)) {
                Some([group, layer, candidate]) => {
                    Mark::Layer { group: *group, layer: *layer, candidate: *candidate }
                }
                None if known.contains(&root) => Mark::Never,
                None => Mark::Plain,
            }
        }
        // Dense products with a rotation while the model runs are never worth it, nor is moving features about.
        Term::Apply("rotate" | "rotate_back" | "permute" | "permute_state", _) => Mark::Never,
        _ => Mark::Plain,
    }
}

/// An e-graph before saturation.
struct Builder<'a> {
    problem: &'a Problem<'a>,
    converted: Converted,
}

impl Builder<'_> {
    /// The class of a weight.
    fn weight(&mut self, value: ValueId) -> Id {
        let properties = self.problem.properties.get(&value).copied().unwrap_or_default();
        self.converted.weight(self.problem.function, value, properties)
    }

    fn apply(&mut self, head: &'static str, value: ValueId) -> Id {
        let class = self.weight(value);
        self.converted.graph.add(Term::Apply(head, [class].into_iter().collect()))
    }

    fn bind(&mut self, binding: &Binding) -> Id {
        match binding {
            Binding::Value(v) => self.weight(*v),
            Binding::ReciprocalOf(v) => self.apply("reciprocal", *v),
            Binding::NegativeOf(v) => self.apply("neg", *v),
            Binding::Attributes(op) => self.converted.graph.add(Term::Attributes(Arc::new(op.clone()))),
        }
    }

    /// Fires the introductions of a group's candidates at its layers; notes each one's input, weight and (group, layer, candidate).
    fn introduce(
        &mut self,
        local: usize,
        group: usize,
        layers: &mut Vec<(Id, Id, [usize; 3])>,
    ) -> Result<(), String> {
        let problem = self.problem;
        for (candidate, introductions) in problem.candidates[group].iter().enumerate() {
            for (at, layer) in problem.groups[group].layers.iter().enumerate() {
                let node = problem.function.node(layer.op);
                let result = self.converted.classes[&node.results[0]];
                let mut operands: Vec<Id> = Vec::new();
                for slot in 0..3 {
                    operands.push(match node.operands.get(slot).copied().flatten() {
                        Some(v) => self.converted.classes[&v],
                        None => self.converted.graph.add(Term::Absent),
                    });
                }
                for introduction in introductions {
                    let rule = problem
                        .rules
                        .iter()
                        .find(|r| r.name == introduction.rule)
                        .ok_or_else(|| format!("there is no rule `{}`", introduction.rule))?;
                    let mut subst = Subst::default();
                    let var = |name: &str| name.parse::<Var>().map_err(|e| e.to_string());
                    for (name, id) in ["?x", "?w", "?b"].into_iter().zip(&operands) {
                        subst.insert(var(name)?, *id);
                    }
                    for (name, binding) in &introduction.free {
                        let id = self.bind(binding);
                        subst.insert(var(name)?, id);
                    }
                    if !rule.guards_hold(&self.converted.graph, &subst) {
                        return Err(format!("rule `{}` does not hold at `{}`", rule.name, node.location));
                    }
                    let term = rule.introduce(&mut self.converted.graph, result, &subst)?;
                    operands = egg::Language::children(&term).to_vec();
                }
                layers.push((operands[0], operands[1], [local, at, candidate]));
            }
        }
        Ok(())
    }

    /// Adds the stream in every frame, at both ends; returns the classes of its value at the end, in each frame that is
    /// as wide.
    fn frames(&mut self, piece: &Piece) -> Result<Vec<Option<Id>>, String> {
        let fits = |v: ValueId, r: ValueId| {
            self.problem.function.ty(v).dims.last() == self.problem.function.ty(r).dims.first()
        };
        let apply = |graph: &mut Graph, head: &'static str, x: Id, r: Id| {
            graph.add(Term::Apply(head, [x, r].into_iter().collect()))
        };
        let centred = self.problem.centred;
        let middle = |graph: &mut Graph, x: Id| match centred {
            true => graph.add(Term::Apply("centre", [x].into_iter().collect())),
            false => x,
        };
        let frames = self.problem.frames;
        if let Some(input) = piece.input {
            let class = match self.converted.classes.get(&input) {
                Some(class) => *class,
                None => return Ok(self.output(piece).into_iter().map(Some).collect()),
            };
            self.converted.graph.analysis.values[input.index()] =
                Some(leaf(self.problem.function, input, false));
            for (i, &r) in frames.iter().enumerate().filter(|(_, r)| fits(input, **r)) {
                let rotation = self.weight(r);
                let graph = &mut self.converted.graph;
                let framed = graph.add(Term::Framed(input, u8::try_from(i + 1).map_err(|e| e.to_string())?));
                let middle = middle(graph, class);
                let rotated = apply(graph, "rotate", middle, rotation);
                graph.union(framed, rotated);
                let back = apply(graph, "rotate_back", framed, rotation);
                graph.union(back, middle);
            }
        }
        let mut ends: Vec<Option<Id>> = self.output(piece).into_iter().map(Some).collect();
        if let (Some(output), Some(&Some(class))) = (piece.output, ends.first()) {
            for &r in frames {
                if !fits(output, r) {
                    ends.push(None);
                    continue;
                }
                let rotation = self.weight(r);
                let graph = &mut self.converted.graph;
                let middle = middle(graph, class);
                ends.push(Some(apply(graph, "rotate", middle, rotation)));
            }
        }
        self.converted.graph.rebuild();
        Ok(ends)
    }

    fn output(&self, piece: &Piece) -> Vec<Id> {
        piece.output.iter().map(|v| self.converted.classes[v]).collect()
    }
}
