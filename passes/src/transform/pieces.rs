//! Cutting a function at its residual stream: one piece a block, so that equal blocks share one e-graph and the work grows linearly with
//! depth.
//!
//! The stream is cut where a value enters a normalisation, but not inside a block: where the stream as it was is still read (behind a
//! normalisation of queries or keys), or between layers that share their input. Whatever else crosses a cut (rotary tables, masks, what an
//! encoder made) stays as it is.

use std::collections::{HashMap, HashSet};
use std::fmt::Write;

use qcc_ir::{Function, Op, OpId, ValueId};

use super::site::Group;
use crate::equivalence::convert::is_leaf;

/// How many operations a block may have: what is read over more than that lies beside the blocks and does not hold them together.
const LONGEST_BLOCK: usize = 256;

/// A run of operations between two cuts.
#[derive(Clone, Debug)]
pub struct Piece {
    /// The operations, in order; weights and constants are not among them.
    pub nodes: Vec<OpId>,
    /// The value of the stream it starts from, but for the first piece.
    pub input: Option<ValueId>,
    /// The value of the stream it ends with, but for the last piece.
    pub output: Option<ValueId>,
    /// Values it makes that must be there as they are: for the caller and for pieces further on.
    pub results: Vec<ValueId>,
    /// All values it mentions, in order of appearance.
    pub values: Vec<ValueId>,
    /// Its structure as text; pieces with equal structure are the same but for the numbers of their weights.
    pub key: String,
}

/// The pieces of a function, in order. `weights` are the values that are computed from weights alone; the layers of `groups` share their
/// inputs.
pub fn pieces(function: &Function, weights: &HashSet<ValueId>, groups: &[Group]) -> Vec<Piece> {
    let works = |id: &OpId| {
        let node = function.node(*id);
        !is_leaf(node) && !node.results.iter().all(|r| weights.contains(r))
    };
    let nodes: Vec<OpId> = function.order().iter().copied().filter(works).collect();
    let stream = stream(function, &nodes, groups);
    let mut pieces: Vec<(Vec<OpId>, Option<ValueId>)> = vec![(Vec::new(), None)];
    for id in nodes {
        let last = pieces.last_mut().expect("invariant: there is a piece");
        last.0.push(id);
        if let [result] = function.node(id).results.as_slice()
            && stream.contains(result)
        {
            last.1 = Some(*result);
            pieces.push((Vec::new(), None));
        }
    }
    if pieces.last().is_some_and(|p| p.0.is_empty()) {
        pieces.pop();
        if let Some(last) = pieces.last_mut() {
            last.1 = None;
        }
    }
    let mut home: HashMap<OpId, usize> = HashMap::new();
    for (i, (nodes, _)) in pieces.iter().enumerate() {
        home.extend(nodes.iter().map(|id| (*id, i)));
    }
    let uses = function.uses();
    let mut input = None;
    let mut made = Vec::new();
    for (i, (nodes, output)) in pieces.into_iter().enumerate() {
        let crosses = |v: &ValueId| {
            let used = uses.get(v).map_or(&[][..], Vec::as_slice).iter();
            let mut elsewhere = used.map(|(op, _)| home.get(op).copied()).filter(|at| *at != Some(i));
            function.results.contains(v) || elsewhere.any(|at| output != Some(*v) || at != Some(i + 1))
        };
        let all = nodes.iter().flat_map(|id| function.node(*id).results.clone());
        let results: Vec<ValueId> = all.filter(crosses).collect();
        let mut piece = Piece { nodes, input, output, results, values: Vec::new(), key: String::new() };
        describe(function, weights, &mut piece);
        made.push(piece);
        input = output;
    }
    made
}

/// Values that a normalisation over features takes and that blocks lie between.
fn stream(function: &Function, nodes: &[OpId], groups: &[Group]) -> HashSet<ValueId> {
    let place: HashMap<OpId, usize> = nodes.iter().enumerate().map(|(at, id)| (*id, at)).collect();
    let uses = function.uses();
    let last_use = |v: ValueId| {
        let used = uses.get(&v).map_or(&[][..], Vec::as_slice).iter();
        used.filter_map(|(user, _)| place.get(user)).max().copied()
    };
    let norm = |op: &Op| matches!(op, Op::RmsNorm { .. } | Op::LayerNorm { .. });
    let normalised: HashSet<ValueId> = nodes
        .iter()
        .map(|id| function.node(*id))
        .filter(|node| norm(&node.op))
        .filter_map(|node| node.operands[0])
        .filter(|v| function.ty(*v).dims.last().is_some_and(|d| d.constant().is_some()))
        .collect();
    let of_group = |group: &Group| {
        let at = || group.layers.iter().filter_map(|layer| place.get(&layer.op).copied());
        Some((at().min()?, at().max()?))
    };
    // What holds a block together: layers that share an input, and the stream until it is last read.
    let short = |(from, to): &(usize, usize)| to - from <= LONGEST_BLOCK;
    let shared: Vec<(usize, usize)> = groups.iter().filter_map(of_group).filter(short).collect();
    let mut cuts: Vec<(usize, usize)> = Vec::new();
    let mut stream = HashSet::new();
    for (at, id) in nodes.iter().enumerate() {
        let [value] = function.node(*id).results.as_slice() else { continue };
        let last = last_use(*value).unwrap_or(at);
        let divides = shared.iter().any(|(from, to)| *from <= at && at < *to);
        let outlived = cuts.iter().filter(|cut| short(cut)).any(|(_, to)| *to > last);
        if normalised.contains(value) && !divides && !outlived {
            stream.insert(*value);
            cuts.push((at, last));
        }
    }
    stream
}

/// Numbers the values of a piece and writes its structure down.
fn describe(function: &Function, weights: &HashSet<ValueId>, piece: &mut Piece) {
    let mut numbers: HashMap<ValueId, usize> = HashMap::new();
    let (mut values, mut key) = (Vec::new(), String::new());
    let mut number = |v: ValueId, key: &mut String| {
        let next = numbers.len();
        let at = *numbers.entry(v).or_insert(next);
        if at == next {
            values.push(v);
            let _ = write!(key, "{at}:{}{:?} ", if weights.contains(&v) { "w" } else { "" }, function.ty(v));
        } else {
            let _ = write!(key, "{at} ");
        }
    };
    if let Some(input) = piece.input {
        number(input, &mut key);
    }
    for &id in &piece.nodes {
        let node = function.node(id);
        let _ = write!(key, "\n{:?} ", node.op);
        for operand in &node.operands {
            match operand {
                Some(v) => number(*v, &mut key),
                None => key.push_str("- "),
            }
        }
        key.push_str("= ");
        for &result in &node.results {
            number(result, &mut key);
        }
    }
    key.push_str("\n> ");
    for &result in piece.output.iter().chain(&piece.results) {
        number(result, &mut key);
    }
    let _ = write!(key, "{}", piece.output.is_some());
    (piece.values, piece.key) = (values, key);
}
