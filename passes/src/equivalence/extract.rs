//! Extraction: one e-node for each class that is needed, so that the whole DAG costs little. First greedily: the cost of a choice is the sum
//! over the *distinct* classes below it, so shared work counts once (a tree's cost would double at every residual connection). Then, where
//! it is asked for, each choice is reconsidered in the light of all others, which finds what pays only when several change together.
//! What is computed from weights alone costs nothing while the model runs; there the smallest term is taken.

use std::collections::{BTreeMap, HashMap, VecDeque};

use egg::{Id, Language};
use smallvec::SmallVec;

use super::facts::Graph;
use super::language::Term;

/// The chosen e-node of each class.
pub type Choice = HashMap<Id, Term>;

/// Chooses e-nodes; `cost` is what one e-node of a class costs by itself, positive for what is no weight.
pub fn extract(graph: &Graph, cost: &dyn Fn(Id, &Term) -> f64) -> Choice {
    let arena = Arena::new(graph);
    let costs: Vec<f64> = arena.nodes.iter().map(|n| cost(arena.classes[n.class], &n.term)).collect();
    arena.choice(&arena.greedy(&costs))
}

/// An e-graph as arrays: the classes that cost something, their e-nodes, and the choices for the rest.
pub struct Arena {
    /// The classes, by number.
    pub classes: Vec<Id>,
    /// All e-nodes of these classes whose weights can be made, those of a class together.
    pub nodes: Vec<Node>,
    numbers: BTreeMap<Id, usize>,
    /// Where the e-nodes of each class are.
    pub options: Vec<std::ops::Range<usize>>,
    users: Vec<Vec<usize>>,
    free: Choice,
}

/// An e-node.
pub struct Node {
    /// Its class, by number.
    pub class: usize,
    /// The term.
    pub term: Term,
    /// Its children that cost something, by number.
    pub children: SmallVec<[usize; 4]>,
}

/// The chosen e-node of each class, by numbers.
#[derive(Clone, Debug)]
pub struct Selection(Vec<Option<usize>>);

impl Selection {
    /// The e-node of a class.
    pub fn node(&self, class: usize) -> Option<usize> {
        self.0.get(class).copied().flatten()
    }
}

impl Arena {
    /// The arrays of a graph.
    pub fn new(graph: &Graph) -> Arena {
        let free = free_choice(graph);
        let mut classes: Vec<Id> = graph.classes().filter(|c| !c.data.is_free()).map(|c| c.id).collect();
        classes.sort_unstable();
        let numbers: BTreeMap<Id, usize> = classes.iter().enumerate().map(|(i, id)| (*id, i)).collect();
        let (mut nodes, mut options): (Vec<Node>, Vec<std::ops::Range<usize>>) = (Vec::new(), Vec::new());
        let mut users: Vec<Vec<usize>> = vec![Vec::new(); classes.len()];
        for (class, id) in classes.iter().enumerate() {
            let start = nodes.len();
            for term in graph[*id].iter() {
                let mut children: SmallVec<[usize; 4]> = SmallVec::new();
                let mut made = true;
                for child in term.children().iter().map(|c| graph.find(*c)) {
                    match numbers.get(&child) {
                        Some(number) => children.push(*number),
                        None => made &= free.contains_key(&child),
                    }
                }
                if made {
                    children.sort_unstable();
                    children.dedup();
                    for &child in &children {
                        users[child].push(class);
                    }
                    nodes.push(Node { class, term: term.clone(), children });
                }
            }
            options.push(start..nodes.len());
        }
        users.iter_mut().for_each(|u| u.dedup());
        Arena { classes, nodes, numbers, options, users, free }
    }

    /// The number of a class; `None` for what costs nothing.
    pub fn number(&self, class: Id) -> Option<usize> {
        self.numbers.get(&class).copied()
    }

    /// The choices as terms, weights included.
    pub fn choice(&self, selection: &Selection) -> Choice {
        let mut choice = self.free.clone();
        for (class, node) in selection.0.iter().enumerate() {
            if let Some(node) = node {
                choice.insert(self.classes[class], self.nodes[*node].term.clone());
            }
        }
        choice
    }

    /// Greedy choices; `costs` are those of the e-nodes, infinite for what must not be.
    pub fn greedy(&self, costs: &[f64]) -> Selection {
        let n = self.classes.len();
        let mut below: Vec<Option<Reach>> = vec![None; n];
        let mut own = vec![0.0; n];
        let mut chosen: Vec<Option<usize>> = vec![None; n];
        let mut waiting: VecDeque<usize> = (0..n).collect();
        let mut queued = vec![true; n];
        // Costs only fall, so the loop ends by itself; the bound is for sets that grow and shrink with their children's choices.
        let mut steps = n.saturating_mul(64);
        while let Some(class) = waiting.pop_front() {
            queued[class] = false;
            if steps == 0 {
                break;
            }
            steps -= 1;
            let mut best: Option<(f64, Reach, usize)> = None;
            for node in self.options[class].clone().filter(|node| costs[*node].is_finite()) {
                let Some(mut reach) = reach_of(&self.nodes[node], n, &below) else { continue };
                if reach.contains(class) {
                    continue;
                }
                let total = costs[node] + reach.members().map(|i| own[i]).sum::<f64>();
                reach.insert(class);
                if best.as_ref().is_none_or(|(least, ..)| total < *least) {
                    best = Some((total, reach, node));
                }
            }
            let Some((_, reach, node)) = best else { continue };
            if below[class].as_ref() != Some(&reach) || chosen[class] != Some(node) {
                chosen[class] = Some(node);
                below[class] = Some(reach);
                own[class] = costs[node];
                for &user in &self.users[class] {
                    if !std::mem::replace(&mut queued[user], true) {
                        waiting.push_back(user);
                    }
                }
            }
        }
        Selection(chosen)
    }

    /// What the roots cost together under these choices; infinite when they need each other in a circle or cannot be made.
    pub fn total(&self, selection: &Selection, roots: &[usize], costs: &[f64]) -> f64 {
        self.walk(selection, roots, costs).0
    }

    /// The e-nodes that the roots need.
    pub fn needed(&self, selection: &Selection, roots: &[usize]) -> Vec<usize> {
        let costs = vec![0.0; self.nodes.len()];
        let (_, classes) = self.walk(selection, roots, &costs);
        classes.into_iter().filter_map(|class| selection.0[class]).collect()
    }

    /// The cost of the roots, and the classes they need.
    fn walk(&self, selection: &Selection, roots: &[usize], costs: &[f64]) -> (f64, Vec<usize>) {
        // 0 = unvisited, 1 = open, 2 = done.
        let mut mark = vec![0u8; self.classes.len()];
        let (mut total, mut needed) = (0.0, Vec::new());
        let mut stack: Vec<(usize, usize)> = Vec::new();
        for &root in roots {
            if mark[root] == 0 {
                stack.push((root, 0));
            }
            while let Some((class, next)) = stack.pop() {
                let Some(node) = selection.0[class] else { return (f64::INFINITY, needed) };
                if next == 0 {
                    if mark[class] == 2 {
                        continue;
                    }
                    mark[class] = 1;
                }
                match self.nodes[node].children.get(next) {
                    Some(&child) => {
                        stack.push((class, next + 1));
                        match mark[child] {
                            0 => stack.push((child, 0)),
                            1 => return (f64::INFINITY, needed),
                            _ => {}
                        }
                    }
                    None => {
                        mark[class] = 2;
                        total += costs[node];
                        needed.push(class);
                    }
                }
            }
        }
        (total, needed)
    }

    /// Greedy choices, each then reconsidered until none improves the whole. `None` when the roots cannot be made.
    pub fn best(&self, roots: &[usize], costs: &[f64]) -> Option<(f64, Selection)> {
        const ROUNDS: usize = 8;
        let mut selection = self.greedy(costs);
        let (mut total, mut needed) = self.walk(&selection, roots, costs);
        if !total.is_finite() {
            return None;
        }
        for _ in 0..ROUNDS {
            let mut improved = false;
            for &class in &needed.clone() {
                for node in self.options[class].clone().filter(|node| costs[*node].is_finite()) {
                    let before = selection.0[class];
                    if before == Some(node) {
                        continue;
                    }
                    selection.0[class] = Some(node);
                    let other = self.walk(&selection, roots, costs);
                    if other.0 < total - 1e-9 * total.abs() {
                        (total, needed) = other;
                        improved = true;
                    } else {
                        selection.0[class] = before;
                    }
                }
            }
            if !improved {
                break;
            }
        }
        Some((total, selection))
    }
}

/// The classes that an e-node needs, its own excluded; `None` while a child has no choice.
fn reach_of(node: &Node, classes: usize, below: &[Option<Reach>]) -> Option<Reach> {
    let mut reach = Reach::new(classes);
    for &child in &node.children {
        reach.extend(below[child].as_ref()?);
    }
    Some(reach)
}

/// The smallest term of each class that costs nothing.
fn free_choice(graph: &Graph) -> Choice {
    let mut ids: Vec<Id> = graph.classes().filter(|c| c.data.is_free()).map(|c| c.id).collect();
    ids.sort_unstable();
    let mut size: HashMap<Id, u64> = HashMap::new();
    let mut choice = Choice::new();
    let mut changed = true;
    while std::mem::take(&mut changed) {
        for &id in &ids {
            for term in graph[id].iter() {
                let children: Option<Vec<u64>> =
                    term.children().iter().map(|c| size.get(&graph.find(*c)).copied()).collect();
                let Some(children) = children else { continue };
                let total = children.into_iter().fold(1u64, u64::saturating_add);
                if size.get(&id).is_none_or(|s| total < *s) {
                    size.insert(id, total);
                    choice.insert(id, term.clone());
                    changed = true;
                }
            }
        }
    }
    choice
}

/// A set of classes by number.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Reach(Vec<u64>);

impl Reach {
    fn new(size: usize) -> Reach {
        Reach(vec![0; size.div_ceil(64)])
    }

    fn insert(&mut self, i: usize) {
        self.0[i / 64] |= 1 << (i % 64);
    }

    fn contains(&self, i: usize) -> bool {
        self.0[i / 64] >> (i % 64) & 1 == 1
    }

    fn extend(&mut self, other: &Reach) {
        for (a, b) in self.0.iter_mut().zip(&other.0) {
            *a |= b;
        }
    }

    fn members(&self) -> impl Iterator<Item = usize> {
        self.0.iter().enumerate().flat_map(|(w, &bits)| {
            let some = |bits: u64| (bits != 0).then_some(bits);
            // Each step clears the lowest bit.
            std::iter::successors(some(bits), move |b| some(b & (b - 1)))
                .map(move |b| w * 64 + b.trailing_zeros() as usize)
        })
    }
}
