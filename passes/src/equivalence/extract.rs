//! Extraction: one e-node for each class that is needed, so that the whole DAG costs little. Greedy over the DAG: the cost of a choice is
//! the sum over the *distinct* classes below it, so shared work counts once (a tree's cost would double at every residual connection).
//! What is computed from weights alone costs nothing while the model runs; there the smallest term is taken.

use std::collections::{BTreeMap, HashMap, VecDeque};

use egg::{Id, Language};

use super::facts::Graph;
use super::language::Term;

/// The chosen e-node of each class.
pub type Choice = HashMap<Id, Term>;

/// Chooses e-nodes; `cost` is what one e-node of a class costs by itself, positive for what is no weight.
pub fn extract(graph: &Graph, cost: &dyn Fn(Id, &Term) -> f64) -> Choice {
    let mut choice = free_choice(graph);
    let classes: BTreeMap<Id, usize> = {
        let mut ids: Vec<Id> = graph.classes().filter(|c| !c.data.is_free()).map(|c| c.id).collect();
        ids.sort_unstable();
        ids.into_iter().enumerate().map(|(i, id)| (id, i)).collect()
    };
    let mut below: Vec<Option<Reach>> = vec![None; classes.len()];
    let mut own = vec![0.0; classes.len()];
    let mut users: Vec<Vec<Id>> = vec![Vec::new(); classes.len()];
    for &id in classes.keys() {
        for term in graph[id].iter() {
            term.for_each(|c| {
                if let Some(&child) = classes.get(&graph.find(c)) {
                    users[child].push(id);
                }
            });
        }
    }
    let mut waiting: VecDeque<Id> = classes.keys().copied().collect();
    // Costs only fall, so the loop ends by itself; the bound is for sets that grow and shrink with their children's choices.
    let mut steps = classes.len().saturating_mul(64);
    while let Some(id) = waiting.pop_front() {
        if steps == 0 {
            break;
        }
        steps -= 1;
        let at = classes[&id];
        let mut best: Option<(f64, Reach, f64, &Term)> = None;
        for term in graph[id].iter() {
            let Some(mut reach) = reach_of(graph, term, &classes, &below, &choice) else { continue };
            if reach.contains(at) {
                continue;
            }
            let cost = cost(id, term);
            let total = cost + reach.members().map(|i| own[i]).sum::<f64>();
            reach.insert(at);
            if best.as_ref().is_none_or(|(least, ..)| total < *least) {
                best = Some((total, reach, cost, term));
            }
        }
        let Some((_, reach, cost, term)) = best else { continue };
        if below[at].as_ref() != Some(&reach) || choice.get(&id) != Some(term) {
            choice.insert(id, term.clone());
            below[at] = Some(reach);
            own[at] = cost;
            waiting.extend(users[at].iter().copied());
        }
    }
    choice
}

/// The classes that a choice for a term needs, itself excluded; `None` while a child has no choice.
fn reach_of(
    graph: &Graph,
    term: &Term,
    classes: &BTreeMap<Id, usize>,
    below: &[Option<Reach>],
    choice: &Choice,
) -> Option<Reach> {
    let mut reach = Reach::new(classes.len());
    for &child in term.children() {
        let child = graph.find(child);
        match classes.get(&child) {
            Some(&i) => reach.extend(below[i].as_ref()?),
            None if choice.contains_key(&child) => {}
            None => return None,
        }
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
