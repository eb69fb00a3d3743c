//! How far a scale of a site's channels can be carried: one e-graph of the whole function, in which every site has the scale that it might
//! get, and the [rules](crate::equivalence) have carried each towards the weights. A site is legal if the function can be built with its
//! layers scaled, no scale left on an activation, and not one operation more than before.

use std::collections::{HashMap, HashSet};

use egg::{Id, Language, Subst, Var};
use qcc_ir::{Function, ValueId};

use super::site::Site;
use crate::equivalence::convert::{Converted, convert, leaf};
use crate::equivalence::emit::emit;
use crate::equivalence::extract::{Arena, Selection};
use crate::equivalence::facts::{Graph, Properties};
use crate::equivalence::language::Term;
use crate::equivalence::rules::Rule;
use crate::equivalence::{EquivalenceError, Limits, Report, saturate};

/// The head of a scale on an activation.
const SCALE: &str = "scale_channels";
/// The rules that put one on a layer's input, for one group and for depthwise.
const INTRODUCTIONS: [&str; 2] = ["scaled-channels", "scaled-depthwise-channels"];

/// The saturated e-graph of a function with a scale at each site.
pub struct Carry<'a> {
    function: &'a Function,
    sites: &'a [Site],
    converted: Converted,
    arena: Arena,
    marks: Vec<Mark>,
    /// What must be there, by number.
    roots: Vec<usize>,
    /// For each site, the class of its scaled input.
    scaled: Vec<Id>,
    /// The e-nodes that the function needs as it is.
    plain: Vec<usize>,
}

/// What an e-node is to the choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    /// Any operation.
    Plain,
    /// A layer of a site, on the input as it is or scaled.
    Layer { site: usize, scaled: bool },
    /// A scale that is left on an activation.
    Scale,
}

impl<'a> Carry<'a> {
    /// Puts `scales` (weights of the function, one a site) at the sites and saturates.
    ///
    /// # Errors
    /// When the rules do not saturate or are ill-typed.
    pub fn new(
        function: &'a Function,
        sites: &'a [Site],
        scales: &[ValueId],
        rules: &[std::sync::Arc<Rule>],
    ) -> Result<(Carry<'a>, Report), EquivalenceError> {
        let mut converted = convert(function);
        let mut layers: Vec<([Id; 2], Mark)> = Vec::new();
        let mut scaled = Vec::new();
        for (index, (site, &scale)) in sites.iter().zip(scales).enumerate() {
            for layer in &site.layers {
                let rule = INTRODUCTIONS[usize::from(layer.depthwise)];
                let rule = rules
                    .iter()
                    .find(|r| r.name == rule)
                    .ok_or_else(|| EquivalenceError::Type(format!("there is no rule `{rule}`")))?;
                let [plain, new] = introduce(function, &mut converted, layer.op, scale, rule)
                    .map_err(EquivalenceError::Type)?;
                layers.push((plain, Mark::Layer { site: index, scaled: false }));
                layers.push((new, Mark::Layer { site: index, scaled: true }));
                if scaled.len() == index {
                    scaled.push(new[0]);
                }
            }
        }
        converted.graph.rebuild();
        let (converted, report) = saturate(converted, rules, Limits::default())?;
        let graph = &converted.graph;
        let mut known: HashMap<(Id, ValueId), Mark> = HashMap::new();
        for ([x, w], mark) in layers {
            if let Some(root) = graph[w].data.tensor().and_then(|t| t.root) {
                known.insert((graph.find(x), root), mark);
            }
        }
        let arena = Arena::new(graph);
        let marks = arena.nodes.iter().map(|n| mark(graph, &n.term, &known)).collect();
        let roots = converted.roots.iter().filter_map(|r| arena.number(graph.find(converted.classes[r])));
        let roots = roots.collect();
        let scaled = scaled.into_iter().map(|id| graph.find(id)).collect();
        let mut carry = Carry { function, sites, converted, arena, marks, roots, scaled, plain: Vec::new() };
        carry.plain = carry.needed(&carry.select(&vec![false; sites.len()]));
        Ok((carry, report))
    }

    /// The weights of the convolutions that take up the scale of a site.
    ///
    /// # Errors
    /// When none can, the reason.
    pub fn reach(&self, site: usize) -> Result<Vec<ValueId>, String> {
        let mut chosen = vec![false; self.sites.len()];
        chosen[site] = true;
        let selection = self.select(&chosen);
        let costs = self.costs(&chosen);
        let legal = self.arena.total(&selection, &self.roots, &costs).is_finite();
        let needed = if legal { self.needed(&selection) } else { Vec::new() };
        if needed.len() != self.plain.len() {
            return Err(self
                .obstacle(self.scaled[site], &needed, &mut HashSet::new())
                .unwrap_or_else(|| "its scale would have to be applied while the model runs".into()));
        }
        let before: HashSet<usize> = self.plain.iter().map(|n| self.arena.nodes[*n].class).collect();
        let new = needed.into_iter().filter(|n| !before.contains(&self.arena.nodes[*n].class));
        Ok(new
            .filter_map(|n| convolution(&self.converted.graph, &self.arena.nodes[n].term))
            .map(|c| c.1)
            .collect())
    }

    /// Rewrites the function with the chosen sites scaled; returns how many values were replaced.
    ///
    /// # Errors
    /// When they exclude each other, or a rule broke its promises.
    pub fn apply(&self, function: &mut Function, chosen: &[bool]) -> Result<usize, String> {
        let selection = self.select(chosen);
        let total = self.arena.total(&selection, &self.roots, &self.costs(chosen));
        if !total.is_finite() || self.needed(&selection).len() != self.plain.len() {
            return Err("the scales of all sites cannot be carried at once".into());
        }
        emit(function, &self.converted, &self.arena.choice(&selection))
    }

    fn costs(&self, chosen: &[bool]) -> Vec<f64> {
        let cost = |mark: &Mark| match mark {
            Mark::Layer { site, scaled } if chosen[*site] != *scaled => f64::INFINITY,
            Mark::Scale => f64::INFINITY,
            Mark::Layer { .. } | Mark::Plain => 1.0,
        };
        self.marks.iter().map(cost).collect()
    }

    fn select(&self, chosen: &[bool]) -> Selection {
        self.arena.greedy(&self.costs(chosen))
    }

    fn needed(&self, selection: &Selection) -> Vec<usize> {
        self.arena.needed(selection, &self.roots)
    }

    /// What a scaled value meets on its way to the weights: a value it cannot pass, or one that is `needed` as it was too.
    fn obstacle(&self, class: Id, needed: &[usize], seen: &mut HashSet<Id>) -> Option<String> {
        let graph = &self.converted.graph;
        if !seen.insert(class) {
            return None;
        }
        let original = graph[class].iter().find_map(|term| match term {
            Term::Apply(SCALE, children) => Some(graph.find(children[0])),
            _ => None,
        })?;
        let number = self.arena.number(original);
        if needed.iter().any(|n| Some(self.arena.nodes[*n].class) == number) {
            return Some(format!("{} has other users", self.describe(original)));
        }
        let mut others = graph[class].iter().filter(|t| t.head() != Some(SCALE)).peekable();
        if others.peek().is_none() {
            return Some(format!("a scale cannot pass {}", self.describe(original)));
        }
        let children: Vec<Id> = others.flat_map(|t| t.children().iter().map(|c| graph.find(*c))).collect();
        children.into_iter().find_map(|child| self.obstacle(child, needed, seen))
    }

    fn describe(&self, class: Id) -> String {
        let graph = &self.converted.graph;
        let of_class = |v: &&ValueId| graph.find(self.converted.classes[v]) == class;
        let Some(value) = self.converted.classes.keys().filter(of_class).min() else {
            return "what is before it".into();
        };
        let name = &self.function.value(*value).name;
        match self.function.defining(*value) {
            Some((_, node)) => format!("`{name}` (qcc.{})", node.op.name()),
            None => format!("`{name}`, an input of the function"),
        }
    }
}

/// Input class and weight of a convolution on weights.
fn convolution(graph: &Graph, term: &Term) -> Option<(Id, ValueId)> {
    let Term::Apply("conv", children) = term else { return None };
    let root = graph[children[2]].data.tensor().filter(|t| t.weight)?.root?;
    Some((graph.find(children[1]), root))
}

fn mark(graph: &Graph, term: &Term, known: &HashMap<(Id, ValueId), Mark>) -> Mark {
    match term {
        Term::Apply(SCALE, _) => Mark::Scale,
        _ => convolution(graph, term).and_then(|c| known.get(&c)).copied().unwrap_or(Mark::Plain),
    }
}

/// Fires an introduction at a convolution; the classes of its input and weight before and after.
fn introduce(
    function: &Function,
    converted: &mut Converted,
    op: qcc_ir::OpId,
    scale: ValueId,
    rule: &Rule,
) -> Result<[[Id; 2]; 2], String> {
    let node = function.node(op);
    let mut facts = leaf(function, scale, true);
    facts.properties = Properties::POSITIVE;
    converted.graph.analysis.values[scale.index()] = Some(facts);
    let operand = |slot: usize| node.operands.get(slot).copied().flatten();
    let graph = &mut converted.graph;
    let class = |graph: &mut Graph, value: Option<ValueId>| match value {
        Some(v) => graph.find(converted.classes[&v]),
        None => graph.add(Term::Absent),
    };
    let [x, w, b] = [0, 1, 2].map(|slot| class(graph, operand(slot)));
    let result = class(graph, node.results.first().copied());
    let a = graph.add(Term::Attributes(std::sync::Arc::new(node.op.clone())));
    let s = graph.add(Term::Value(scale));
    let mut subst = Subst::default();
    for (name, id) in [("?a", a), ("?x", x), ("?w", w), ("?b", b), ("?s", s)] {
        subst.insert(name.parse::<Var>().map_err(|e| e.to_string())?, id);
    }
    if !rule.guards_hold(graph, &subst) {
        return Err(format!("rule `{}` does not hold at `{}`", rule.name, node.location));
    }
    let new = rule.introduce(graph, result, &subst)?;
    match new.children() {
        [_, scaled, weight, ..] => Ok([[x, w], [*scaled, *weight]]),
        _ => Err(format!("rule `{}` makes no convolution", rule.name)),
    }
}
