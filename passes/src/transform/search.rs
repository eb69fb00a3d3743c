//! The search: every piece of a function becomes an e-graph with all that the candidates introduce and the rules make of it; a choice of
//! frames between the pieces (dynamic programming over the stream) and of e-nodes inside them costs latency and error, and the cheapest
//! whole wins.
//!
//! A *frame* is how the residual stream is held between two pieces: frame 0 as the model has it, the others rotated. Formats are not in
//! the e-graph: they are approximations. Each candidate at each layer has an error, measured beforehand, which its e-nodes carry.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use egg::{Id, Subst, Var};
use qcc_ir::{Function, Op, Patch, ValueId};

use super::pieces::{Piece, pieces};
use super::site::Group;
use super::target::Target;
use crate::equivalence::convert::{Converted, convert_part, leaf, weights};
use crate::equivalence::emit::{Emitter, Instance};
use crate::equivalence::extract::{Arena, Selection};
use crate::equivalence::facts::{Facts, Graph, Properties};
use crate::equivalence::language::Term;
use crate::equivalence::rules::Rule;
use crate::equivalence::{EquivalenceError, Limits, Report, saturate};

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

/// The e-graph of all pieces with the same structure.
struct Shape {
    converted: Converted,
    arena: Arena,
    /// For each e-node of the arena.
    marks: Vec<Mark>,
    /// Seconds of each e-node.
    seconds: Vec<f64>,
    /// The stream's value that it starts from.
    input: Option<ValueId>,
    /// The class of the stream's value at the end, in each frame.
    outputs: Vec<Id>,
    /// Values that must be there as they are, and their classes.
    results: Vec<(ValueId, Id)>,
}

/// What an e-node is to the search.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mark {
    /// Any operation.
    Plain,
    /// The stream in a frame.
    Stream(usize),
    /// A layer of a group under a candidate.
    Layer { group: usize, layer: usize, candidate: usize },
    /// Nothing that may be chosen.
    Never,
}

/// The error of each layer under each candidate: `[group][candidate][layer]`.
pub type Errors = Vec<Vec<Vec<f64>>>;

/// A way through all pieces.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The candidate of each layer of each group.
    pub chosen: Vec<Vec<usize>>,
    /// Seconds of a token.
    pub seconds: f64,
    /// The sum of the errors.
    pub error: f64,
    steps: Vec<(usize, usize, Selection)>,
}

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
        for piece in pieces(function, &free) {
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

    /// The plan that minimises `seconds / unit + weight · error`, among those the frames allow; `None` when no plan can be made.
    pub fn plan(&self, errors: &Errors, weight: f64, unit: f64) -> Option<Plan> {
        // For each frame: the cost so far, and the step that led to it.
        let mut so_far: Vec<Option<f64>> = vec![None; self.frames];
        so_far[0] = Some(0.0);
        let mut back: Vec<Vec<Option<(usize, Selection)>>> = Vec::new();
        for placed in &self.pieces {
            let shape = &self.shapes[placed.shape];
            let base = shape.costs(placed, errors, weight, unit);
            let mut next: Vec<Option<f64>> = vec![None; self.frames];
            let mut step: Vec<Option<(usize, Selection)>> = vec![None; self.frames];
            for from in (0..self.frames).filter(|f| so_far[*f].is_some()) {
                let costs = shape.in_frame(&base, from);
                for to in 0..shape.outputs.len().max(1) {
                    let Some((cost, selection)) = shape.arena.best(&shape.roots(to), &costs) else {
                        continue;
                    };
                    let total = so_far[from].unwrap_or(0.0) + cost;
                    if next[to].is_none_or(|best| total < best) {
                        next[to] = Some(total);
                        step[to] = Some((from, selection));
                    }
                }
            }
            so_far = next;
            back.push(step);
        }
        so_far[0]?;
        let mut steps = Vec::new();
        let mut at = 0;
        for step in back.iter().rev() {
            let (from, selection) = step[at].clone()?;
            steps.push((from, at, selection));
            at = from;
        }
        steps.reverse();
        Some(self.measured(steps, errors))
    }

    fn measured(&self, steps: Vec<(usize, usize, Selection)>, errors: &Errors) -> Plan {
        let mut chosen: Vec<Vec<usize>> =
            errors.iter().map(|g| vec![0; g.first().map_or(0, Vec::len)]).collect();
        let (mut seconds, mut error) = (0.0, 0.0);
        for (placed, (_, to, selection)) in self.pieces.iter().zip(&steps) {
            let shape = &self.shapes[placed.shape];
            for node in shape.arena.needed(selection, &shape.roots(*to)) {
                seconds += shape.seconds[node];
                if let Mark::Layer { group, layer, candidate } = shape.marks[node] {
                    let group = placed.groups[group];
                    chosen[group][layer] = candidate;
                    error += errors[group][candidate][layer];
                }
            }
        }
        Plan { chosen, seconds, error, steps }
    }

    /// Rewrites the function as the plan says; returns how many values were replaced.
    ///
    /// # Errors
    /// When a rule broke its promises.
    pub fn apply(&self, function: &mut Function, plan: &Plan) -> Result<usize, String> {
        let mut patch = Patch::new();
        let mut redirects: Vec<(ValueId, ValueId)> = Vec::new();
        let mut stream_out: Option<(usize, ValueId)> = None;
        for (placed, (_, to, selection)) in self.pieces.iter().zip(&plan.steps) {
            let shape = &self.shapes[placed.shape];
            let stream = &stream_out;
            let mut instance = placed.instance.clone();
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
                }
            }
            let Some(old) = placed.piece.output else { continue };
            let class = *shape.outputs.get(*to).ok_or("there is no such frame")?;
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

impl Shape {
    fn new(
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
        let outputs = ends.into_iter().map(|id| graph.find(id)).collect();
        let results = piece.results.iter().map(|v| (*v, graph.find(converted.classes[v]))).collect();
        let shape = Shape { arena, marks, seconds, input: piece.input, outputs, results, converted };
        Ok((shape, report))
    }

    /// The cost of each e-node in one of the pieces, whatever the frame.
    fn costs(&self, placed: &Placed, errors: &Errors, weight: f64, unit: f64) -> Vec<f64> {
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
    fn in_frame(&self, costs: &[f64], frame: usize) -> Vec<f64> {
        let allowed = |mark: &Mark| !matches!(mark, Mark::Stream(f) if *f != frame);
        self.marks.iter().zip(costs).map(|(m, c)| if allowed(m) { *c } else { f64::INFINITY }).collect()
    }

    /// What must be made when the stream leaves in this frame.
    fn roots(&self, frame: usize) -> Vec<usize> {
        let ends = self.results.iter().map(|(_, id)| *id).chain(self.outputs.get(frame).copied());
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
        if let Some(class) = self.converted.classes.get(&value) {
            return *class;
        }
        let mut facts = leaf(self.problem.function, value, true);
        facts.properties = self.problem.properties.get(&value).copied().unwrap_or_default();
        let graph = &mut self.converted.graph;
        graph.analysis.values[value.index()] = Some(facts);
        let class = graph.add(Term::Value(value));
        self.converted.classes.insert(value, class);
        class
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

    /// Adds the stream in every frame, at both ends; returns the classes of its value at the end, in each frame.
    fn frames(&mut self, piece: &Piece) -> Result<Vec<Id>, String> {
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
                None => return Ok(self.output(piece)),
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
        let mut ends = self.output(piece);
        if let (Some(output), Some(&class)) = (piece.output, ends.first()) {
            for &r in frames.iter().filter(|r| fits(output, **r)) {
                let rotation = self.weight(r);
                let graph = &mut self.converted.graph;
                let middle = middle(graph, class);
                ends.push(apply(graph, "rotate", middle, rotation));
            }
        }
        self.converted.graph.rebuild();
        Ok(ends)
    }

    fn output(&self, piece: &Piece) -> Vec<Id> {
        piece.output.iter().map(|v| self.converted.classes[v]).collect()
    }
}
