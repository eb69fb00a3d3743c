//! Choosing: dynamic programming over the frames between pieces, extraction inside them.

use super::shape::Mark;
use super::{Errors, Search};
use crate::equivalence::extract::Selection;

/// A way through all pieces.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The candidate of each layer of each group.
    pub chosen: Vec<Vec<usize>>,
    /// Seconds of a token that each layer's input is transformed for while the model runs.
    pub online: Vec<Vec<f64>>,
    /// Seconds of a token, of all operations.
    pub seconds: f64,
    /// The sum of the errors.
    pub error: f64,
    /// For each piece: the frames it starts and ends in, and its e-nodes.
    pub(super) steps: Vec<(usize, usize, Selection)>,
}

impl Search {
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
                for to in shape.ends() {
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
        let layers = |g: &Vec<Vec<f64>>| g.first().map_or(0, Vec::len);
        let mut chosen: Vec<Vec<usize>> = errors.iter().map(|g| vec![0; layers(g)]).collect();
        let mut online: Vec<Vec<f64>> = errors.iter().map(|g| vec![0.0; layers(g)]).collect();
        let (mut seconds, mut error) = (0.0, 0.0);
        for (placed, (_, to, selection)) in self.pieces.iter().zip(&steps) {
            let shape = &self.shapes[placed.shape];
            for node in shape.arena.needed(selection, &shape.roots(*to)) {
                seconds += shape.seconds[node];
                if let Mark::Layer { group, layer, candidate } = shape.marks[node] {
                    let group = placed.groups[group];
                    chosen[group][layer] = candidate;
                    online[group][layer] = shape.online(node, selection);
                    error += errors[group][candidate][layer];
                }
            }
        }
        Plan { chosen, online, seconds, error, steps }
    }

    /// The fastest plan that leaves every layer as it is.
    pub fn unchanged(&self, errors: &Errors) -> Option<Plan> {
        let only = |group: &Vec<Vec<f64>>| {
            let of = |(candidate, layers): (usize, &Vec<f64>)| {
                vec![if candidate == 0 { 0.0 } else { f64::INFINITY }; layers.len()]
            };
            group.iter().enumerate().map(of).collect()
        };
        let allowed: Errors = errors.iter().map(only).collect();
        let plan = self.plan(&allowed, 1.0, 1.0)?;
        Some(self.measured(plan.steps, errors))
    }

    /// The plan with what it costs by these errors.
    pub fn priced(&self, plan: Plan, errors: &Errors) -> Plan {
        self.measured(plan.steps, errors)
    }

    /// Plans that no other beats in both latency and error, the fastest first: those that minimise `seconds / unit + λ · error` for each λ.
    pub fn trade_offs(&self, errors: &Errors, weights: &[f64], unit: f64) -> Vec<Plan> {
        let mut plans: Vec<Plan> = weights.iter().filter_map(|w| self.plan(errors, *w, unit)).collect();
        plans.sort_by(|a, b| a.seconds.total_cmp(&b.seconds).then(a.error.total_cmp(&b.error)));
        let mut front: Vec<Plan> = Vec::new();
        for plan in plans {
            if front.last().is_none_or(|last| plan.error < last.error) {
                front.push(plan);
            }
        }
        front
    }
}
