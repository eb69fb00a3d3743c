//! The search: every piece of a function becomes an e-graph with all that the candidates introduce and the rules make of it; a choice of
//! frames between the pieces (dynamic programming over the stream) and of e-nodes inside them costs latency and error, and the cheapest
//! whole wins.
//!
//! A *frame* is how the residual stream is held between two pieces: frame 0 as the model has it, the others rotated. Formats are not in
//! the e-graph: they are approximations. Each candidate at each layer has an error, measured beforehand, which its e-nodes carry.

mod legality;
mod plan;
mod shape;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use qcc_ir::{Function, Op, Patch, ValueId};

use super::pieces::{Piece, pieces};
use super::site::Group;
use super::target::Target;
use crate::equivalence::convert::weights;
use crate::equivalence::emit::{Emitter, Instance};
use crate::equivalence::facts::Properties;
use crate::equivalence::rules::Rule;
use crate::equivalence::{EquivalenceError, Report};

pub use plan::Plan;
use shape::Shape;

/// What a variable of a rule that introduces something is bound to.
#[derive(Clone, Debug, PartialEq)]
pub enum Binding {
    /// A weight of the function.
    Value(ValueId),
    /// One by each element of a weight of the function.
    ReciprocalOf(ValueId),
    /// The negative of a weight of the function.
    NegativeOf(ValueId),
    /// Attributes.
    Attributes(Op),
}

/// One rule fired at a layer, with what its free variables are bound to.
#[derive(Clone, Debug, PartialEq)]
pub struct Introduction {
    /// The rule.
    pub rule: &'static str,
    /// The free variable and what it is.
    pub free: Vec<(&'static str, Binding)>,
}

/// What the search works on.
pub struct Problem<'a> {
    /// The function.
    pub function: &'a Function,
    /// Layers that share an input.
    pub groups: &'a [Group],
    /// For each group, the introductions of each candidate; the first candidate is the layer as it is and introduces nothing.
    pub candidates: &'a [Vec<Vec<Introduction>>],
    /// The rotation of each frame but frame 0.
    pub frames: &'a [ValueId],
    /// Whether these frames hold the stream without its mean, as models with LayerNorm allow.
    pub centred: bool,
    /// What is known of weights.
    pub properties: &'a HashMap<ValueId, Properties>,
    /// All rules.
    pub rules: &'a [Arc<Rule>],
    /// What operations cost.
    pub target: &'a Target,
}

/// Pieces and their e-graphs, saturated.
pub struct Search {
    pieces: Vec<Placed>,
    shapes: Vec<Shape>,
    frames: usize,
    /// What saturation did, for each distinct piece.
    pub reports: Vec<Report>,
}

/// A piece, the shape it has, and where its groups are.
struct Placed {
    piece: Piece,
    shape: usize,
    /// The group of the problem for each group of the shape.
    groups: Vec<usize>,
    instance: Instance,
}

/// The error of each layer under each candidate: `[group][candidate][layer]`.
pub type Errors = Vec<Vec<Vec<f64>>>;

impl Search {
    /// Cuts the function, builds and saturates an e-graph for each distinct piece.
    ///
    /// # Errors
    /// When rules do not saturate or are ill-typed.
    pub fn new(problem: &Problem<'_>) -> Result<Search, EquivalenceError> {
        let function = problem.function;
        let free = weights(function);
        let mut search = Search {
            pieces: Vec::new(),
            shapes: Vec::new(),
            frames: 1 + problem.frames.len(),
            reports: Vec::new(),
        };
        let mut known: HashMap<String, (usize, Vec<ValueId>, Vec<qcc_ir::OpId>)> = HashMap::new();
        for piece in pieces(function, &free, problem.groups) {
            let inside: HashSet<_> = piece.nodes.iter().copied().collect();
            let local = |g: &&usize| problem.groups[**g].layers.iter().all(|l| inside.contains(&l.op));
            let all: Vec<usize> = (0..problem.groups.len()).collect();
            let groups: Vec<usize> = all.iter().filter(local).copied().collect();
            let (key, values) = describe(problem, &piece, &groups);
            let shape = match known.get(&key) {
                Some((shape, ..)) => *shape,
                None => {
                    let (shape, report) = Shape::new(problem, &piece, &groups, &free)?;
                    search.shapes.push(shape);
                    search.reports.push(report);
                    known.insert(key.clone(), (search.shapes.len() - 1, values.clone(), piece.nodes.clone()));
                    search.shapes.len() - 1
                }
            };
            let (_, model, nodes) = &known[&key];
            let mut instance = Instance::default();
            instance.values.extend(model.iter().copied().zip(values));
            for (a, b) in nodes.iter().zip(&piece.nodes) {
                let (a, b) = (function.node(*a), function.node(*b));
                instance.names.insert(a.location.clone(), b.location.clone());
            }
            search.pieces.push(Placed { piece, shape, groups, instance });
        }
        Ok(search)
    }

    /// Rewrites the function as the plan says; returns how many values were replaced.
    ///
    /// # Errors
    /// When a rule broke its promises.
    pub fn apply(&self, function: &mut Function, plan: &Plan) -> Result<usize, String> {
        let mut patch = Patch::new();
        let mut redirects: Vec<(ValueId, ValueId)> = Vec::new();
        let mut stream_out: Option<(usize, ValueId)> = None;
        // What later pieces read is what became of it: the old form would be computed beside the new one.
        let mut moved: HashMap<ValueId, ValueId> = HashMap::new();
        for (placed, (_, to, selection)) in self.pieces.iter().zip(&plan.steps) {
            let shape = &self.shapes[placed.shape];
            let stream = &stream_out;
            let mut instance = placed.instance.clone();
            instance.values.values_mut().for_each(|value| *value = *moved.get(value).unwrap_or(value));
            for (old, new) in &moved {
                instance.values.entry(*old).or_insert(*new);
            }
            if let (Some(input), Some((frame, value))) = (shape.input, stream) {
                match u8::try_from(*frame).unwrap_or(0) {
                    0 => drop(instance.values.insert(input, *value)),
                    frame => drop(instance.framed.insert((input, frame), *value)),
                }
            }
            let choice = shape.arena.choice(selection);
            let graph = &shape.converted.graph;
            let mut emitter = Emitter::new(graph, &shape.converted.origins, &choice, &instance, &mut patch)?;
            for (root, class) in &shape.results {
                let new = emitter.value(function, *class)?.ok_or("a result has become an absent operand")?;
                let old = placed.instance.value(*root);
                if new != old {
                    redirects.push((old, new));
                    moved.insert(old, new);
                }
            }
            let Some(old) = placed.piece.output else { continue };
            let class = *shape.outputs.get(*to).and_then(Option::as_ref).ok_or("there is no such frame")?;
            let new = emitter.value(function, class)?.ok_or("the stream has become an absent operand")?;
            if *to == 0 && new != old {
                redirects.push((old, new));
            }
            stream_out = Some((*to, new));
        }
        for (old, new) in redirects {
            patch.redirect(old, new);
        }
        patch.apply(function).map_err(|e| e.to_string())
    }
}

/// The structure of a piece with what is introduced in it, and its values with those of the candidates.
fn describe(problem: &Problem<'_>, piece: &Piece, groups: &[usize]) -> (String, Vec<ValueId>) {
    use std::fmt::Write;
    let mut key = piece.key.clone();
    let mut values = piece.values.clone();
    let mut number = |v: ValueId, key: &mut String| {
        let at = values.iter().position(|known| *known == v).unwrap_or_else(|| {
            values.push(v);
            values.len() - 1
        });
        let properties = problem.properties.get(&v);
        let _ = write!(key, "{at}:{:?}{properties:?} ", problem.function.ty(v));
    };
    for &g in groups {
        number(problem.groups[g].input, &mut key);
        for layer in &problem.groups[g].layers {
            number(layer.weight, &mut key);
        }
        for candidate in &problem.candidates[g] {
            key.push_str("\n| ");
            for introduction in candidate {
                let _ = write!(key, "{} ", introduction.rule);
                for (_, binding) in &introduction.free {
                    match binding {
                        Binding::Value(v) => number(*v, &mut key),
                        Binding::ReciprocalOf(v) | Binding::NegativeOf(v) => {
                            key.push(if matches!(binding, Binding::NegativeOf(_)) { '-' } else { '/' });
                            number(*v, &mut key);
                        }
                        Binding::Attributes(op) => drop(write!(key, "{op:?} ")),
                    }
                }
            }
        }
    }
    (key, values)
}
