//! Why a candidate cannot be had: how far the rules carried its transform, and what they could not carry it past.

use std::collections::HashSet;

use qcc_ir::ValueId;

use super::shape::{Mark, Shape};
use super::{Placed, Problem, Search};
use crate::equivalence::extract::Selection;
use crate::equivalence::language::Term;

impl Search {
    /// Why no form of the function has this candidate at all layers of the group; `None` when one has.
    pub fn obstacle(&self, problem: &Problem<'_>, group: usize, candidate: usize) -> Option<String> {
        let local = |placed: &Placed| placed.groups.iter().position(|g| *g == group);
        let found =
            self.pieces.iter().enumerate().find_map(|(at, placed)| Some((at, placed, local(placed)?)));
        let Some((at, placed, local)) = found else {
            return Some(
                "its layers lie in several blocks, between which all but the stream stays as it is".into(),
            );
        };
        let shape = &self.shapes[placed.shape];
        let costs = shape.forcing(local, candidate);
        let ways: Vec<(usize, usize)> = shape.ways(&costs, self.frames);
        if ways.is_empty() {
            let reasons = (0..self.frames).rev().flat_map(|from| shape.ends().map(move |to| (from, to)));
            let mut reasons =
                reasons.filter_map(|(from, to)| shape.blocker(problem, placed, &costs, from, to));
            return Some(reasons.next().unwrap_or_else(|| "the rules do not carry it to any weight".into()));
        }
        let (ahead, behind) = (self.reachable_from_start(), self.reachable_from_end());
        if ways.iter().any(|(from, to)| ahead[at][*from] && behind[at][*to]) {
            return None;
        }
        let (from, to) = ways[0];
        match ahead[at][from] {
            false => self.stream_obstacle(problem, &self.pieces[..at], from),
            true => self.stream_obstacle(problem, &self.pieces[at + 1..], to),
        }
    }

    /// Why the stream cannot be in a frame all along these pieces, nor change into it.
    fn stream_obstacle(&self, problem: &Problem<'_>, pieces: &[Placed], frame: usize) -> Option<String> {
        let reasons = pieces.iter().filter_map(|placed| {
            let shape = &self.shapes[placed.shape];
            let (from, to) = match (shape.input, placed.piece.output) {
                (None, _) => (0, frame),
                (_, None) => (frame, 0),
                _ => (frame, frame),
            };
            shape.blocker(problem, placed, &shape.forcing(usize::MAX, 0), from, to)
        });
        let reason = reasons.into_iter().next();
        Some(reason.unwrap_or_else(|| "the residual stream cannot be rotated".into()))
    }

    /// For each piece, the frames in which the stream can come.
    fn reachable_from_start(&self) -> Vec<Vec<bool>> {
        let mut frames = vec![false; self.frames];
        frames[0] = true;
        let mut all = Vec::new();
        for placed in &self.pieces {
            all.push(frames.clone());
            let shape = &self.shapes[placed.shape];
            let mut next = vec![false; self.frames];
            for (from, to) in shape.ways(&shape.forcing(usize::MAX, 0), self.frames) {
                next[to] |= frames[from];
            }
            frames = next;
        }
        all
    }

    /// For each piece, the frames in which the stream can leave so that the end is reached.
    fn reachable_from_end(&self) -> Vec<Vec<bool>> {
        let mut frames = vec![false; self.frames];
        frames[0] = true;
        let mut all = Vec::new();
        for placed in self.pieces.iter().rev() {
            all.push(frames.clone());
            let shape = &self.shapes[placed.shape];
            let mut before = vec![false; self.frames];
            for (from, to) in shape.ways(&shape.forcing(usize::MAX, 0), self.frames) {
                before[from] |= frames[to];
            }
            frames = before;
        }
        all.reverse();
        all
    }
}

impl Shape {
    /// Costs that allow a group only this candidate.
    fn forcing(&self, group: usize, candidate: usize) -> Vec<f64> {
        let allowed = |mark: &Mark| match mark {
            Mark::Never => false,
            Mark::Layer { group: g, candidate: c, .. } => *g != group || *c == candidate,
            Mark::Plain | Mark::Stream(_) => true,
        };
        self.marks.iter().map(|m| if allowed(m) { 0.0 } else { f64::INFINITY }).collect()
    }

    /// The frames it can go between.
    fn ways(&self, costs: &[f64], frames: usize) -> Vec<(usize, usize)> {
        let starts = if self.input.is_some() { frames } else { 1 };
        let mut ways = Vec::new();
        for from in 0..starts {
            let costs = self.in_frame(costs, from);
            let selection = self.arena.greedy(&costs);
            let made = |to: &usize| self.arena.total(&selection, &self.roots(*to), &costs).is_finite();
            ways.extend(self.ends().filter(made).map(|to| (from, to)));
        }
        ways
    }

    /// What stops the transforms between these frames.
    fn blocker(
        &self,
        problem: &Problem<'_>,
        placed: &Placed,
        costs: &[f64],
        from: usize,
        to: usize,
    ) -> Option<String> {
        let costs = self.in_frame(costs, from);
        let selection = self.arena.greedy(&costs);
        let missing = |class: &usize| selection.node(*class).is_none();
        let root = self.roots(to).into_iter().find(missing)?;
        self.descend(problem, placed, &costs, &selection, root)
    }

    /// From a class that cannot be made down to the operation that a transform does not pass.
    fn descend(
        &self,
        problem: &Problem<'_>,
        placed: &Placed,
        costs: &[f64],
        selection: &Selection,
        root: usize,
    ) -> Option<String> {
        let mut seen = HashSet::new();
        let (mut class, mut user) = (root, None);
        loop {
            seen.insert(class);
            let mut next = None;
            for node in self.arena.options[class].clone().filter(|node| costs[*node].is_finite()) {
                let child = |child: &&usize| selection.node(**child).is_none() && !seen.contains(*child);
                if let Some(child) = self.arena.nodes[node].children.iter().find(child) {
                    next = Some((*child, node));
                    break;
                }
            }
            match next {
                Some((child, node)) => (class, user) = (child, Some(node)),
                None => break,
            }
        }
        let stuck = self.arena.options[class].clone().find_map(|node| {
            let Term::Apply(head, _) = &self.arena.nodes[node].term else { return None };
            transform(head).map(|_| *head)
        });
        let place = |node: usize| self.place(problem, placed, &self.arena.nodes[node].term);
        match stuck {
            Some("rotate_back") => Some(format!(
                "{} needs the residual stream as it was",
                user.map_or("something".into(), place)
            )),
            Some(_) => {
                let (what, operation) = self.meeting(class)?;
                Some(format!("{what} does not pass {}", place(operation)))
            }
            None => user.map(|node| format!("{} stands in the way", place(node))),
        }
    }

    /// The e-node of a class that is in the model, not one that rules made.
    fn original(&self, class: usize) -> Option<usize> {
        let plain = |node: &usize| match &self.arena.nodes[*node].term {
            Term::Apply(head, _) => transform(head).is_none(),
            _ => true,
        };
        let of_model =
            |node: &usize| self.converted.graph.analysis.sources.contains_key(&self.arena.nodes[*node].term);
        let options = self.arena.options[class].clone();
        options.clone().filter(plain).find(of_model).or_else(|| options.clone().find(plain))
    }

    /// The innermost of the transforms that lie on each other in a class, and the e-node of the model that it meets.
    fn meeting(&self, mut class: usize) -> Option<(&'static str, usize)> {
        let mut innermost = None;
        // As many transforms lie on each other as there are steps to a candidate.
        for _ in 0..16 {
            if let (Some(what), Some(node)) = (innermost, self.original(class)) {
                return Some((what, node));
            }
            let mut options = self.arena.options[class].clone();
            let (what, operand) = options.find_map(|node| match &self.arena.nodes[node].term {
                // The fast transform has attributes before its operand.
                Term::Apply(head, children) if head.starts_with("hadamard") => {
                    Some((transform(head)?, *children.get(1)?))
                }
                Term::Apply(head, children) => Some((transform(head)?, *children.first()?)),
                _ => None,
            })?;
            innermost = Some(what);
            class = self.arena.number(self.converted.graph.find(operand))?;
        }
        None
    }

    /// An operation, for people.
    fn place(&self, problem: &Problem<'_>, placed: &Placed, term: &Term) -> String {
        let input = |v: &ValueId| {
            let value = placed.instance.value(*v);
            match problem.function.defining(value) {
                Some((_, node)) => format!("`{}` (qcc.{})", node.location, node.op.name()),
                None => format!("the input `{}`", problem.function.value(value).name),
            }
        };
        match term {
            Term::Value(v) | Term::Framed(v, _) => input(v),
            Term::Apply("first" | "second", children) => {
                let class = self.arena.number(self.converted.graph.find(children[0]));
                let node = class.and_then(|class| self.arena.options[class].clone().next());
                node.map_or("it".into(), |node| self.place(problem, placed, &self.arena.nodes[node].term))
            }
            Term::Apply(head, _) => {
                let source = self.converted.graph.analysis.sources.get(term);
                let name = source.map(|name| placed.instance.names.get(name).unwrap_or(name));
                match name.filter(|name| !name.is_empty()) {
                    Some(name) => format!("`{name}` (qcc.{head})"),
                    None => format!("a `qcc.{head}`"),
                }
            }
            Term::Attributes(_) | Term::Absent => "it".into(),
        }
    }
}

/// What a head that transforms features is to people.
fn transform(head: &str) -> Option<&'static str> {
    Some(match head {
        "rotate" | "rotate_back" | "rotate_rows" => "a rotation",
        "hadamard" | "hadamard_rows" => "a Hadamard transform",
        "scale" | "scale_rows" | "scale_channels" => "a scale",
        "shift" => "a shift",
        "permute" | "permute_rows" | "permute_state" => "a permutation",
        "centre" | "centre_rows" => "the removal of the mean",
        _ => return None,
    })
}
