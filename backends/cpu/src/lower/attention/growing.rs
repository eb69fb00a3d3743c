//! States that grow by a concatenation: keys and values that attention reads in place.

use qcc_ir::format::CacheFormat;
use qcc_ir::{Dim, Node, Op, ValueId};
use qcc_runtime::program::{Blocks, Growth};

use super::super::buffers::Buffer;
use super::super::{LowerError, Lowering, argument_name};
use super::{Cache, Held, small};
use crate::kernels::cache::{Layout, TILE};
use crate::loops::storage::Storage;

/// States that grow, and what they grow by.
#[derive(Default)]
pub(in crate::lower) struct Growing {
    /// The size that says how many tokens they hold, and what a call adds.
    symbol: Option<(String, Dim)>,
    states: Vec<Blocks>,
}

/// The size that stands for the room of states that hold so many tokens.
fn room(held: &str) -> String {
    format!("{held}.capacity")
}

impl Lowering<'_> {
    /// A state whose result is longer than itself: keys or values that attention reads.
    pub(in crate::lower) fn growing_state(&mut self, index: usize, next: ValueId) -> Result<(), LowerError> {
        let value = self.function.arguments()[index];
        let name = argument_name(self.function, index);
        let (from, to) = (self.function.ty(value), self.function.ty(next));
        let refuse = |why: &str| {
            Err(LowerError::new(format!(
                "the state `{name}` grows from {from:?} to {to:?}, and {why}; states grow where attention reads them and nothing else does"
            )))
        };
        let ([batch, held, heads, features], true) = (from.dims.as_slice(), to.rank() == 4) else {
            return refuse("has not the axes batch, token, head and feature");
        };
        let (Some(symbol), Some(added)) = (held.as_symbol(), to.dims[1].checked_sub(held)) else {
            return refuse("not by its second axis alone");
        };
        let mut grown = from.dims.clone();
        grown[1] = to.dims[1].clone();
        if grown != to.dims || from.element != to.element {
            return refuse("not by its second axis alone");
        }
        let appended = match self.function.defining(next) {
            Some((_, node)) if node.op == (Op::Concat { axis: 1 }) => {
                node.operands.len() == 2 && node.operands[0] == Some(value)
            }
            _ => false,
        };
        if !appended {
            return refuse("not by a concatenation of what is new");
        }
        let mut results = self.function.results.iter().enumerate().filter(|(_, result)| **result == next);
        let is_state = |i: usize| self.function.states.iter().any(|s| s.argument == index && s.result == i);
        if !results.all(|(i, _)| is_state(i)) {
            return refuse("is a result besides");
        }
        let readers = self.uses.get(&value).map(Vec::as_slice).unwrap_or_default();
        let knows = |id: &qcc_ir::OpId| match self.function.node(*id).op {
            Op::Positions { axis: 1 } => true,
            _ => self.function.node(*id).results.first() == Some(&next),
        };
        if !readers.iter().all(|(id, _)| knows(id)) {
            return refuse("something reads it as it was");
        }
        let Some((keys, format)) = self.read_by_attention(next) else {
            return refuse("something else than attention reads it");
        };
        let known = self.growing.symbol.get_or_insert_with(|| (symbol.to_string(), added.clone()));
        if *known != (symbol.to_string(), added) {
            return refuse(&format!("others by {} from {}", known.1, known.0));
        }
        for needed in [symbol.to_string(), room(symbol)] {
            if !self.symbols.contains(&needed) {
                self.symbols.push(needed);
            }
        }
        if self.storage_of(value)? != Storage::F32 {
            return refuse("is not of f32");
        }
        let (heads, batch) = (heads.clone(), batch.clone());
        let held_as = Held::new(format, keys, small(features)?)?;
        let rows = batch.checked_mul(&heads).ok_or_else(LowerError::too_large)?;
        let past = held.clone();
        let capacity = Dim::symbol(&room(symbol));
        let blocks = Blocks {
            state: self.states.len() as u32,
            rows: self.expr(&rows)?,
            tokens: u64::from(held_as.layout.tokens()),
            bytes: held_as.layout.bytes(held_as.features),
            packed: held_as.is_packed(),
        };
        self.growing.states.push(blocks);
        let mut port = self.port(value, &name, held_as.storage())?;
        self.states.push(port.clone());
        let buffer = Buffer::State(self.states.len() as u32 - 1);
        let waiting = match held_as.layout {
            Layout::Blocks(_, block) => {
                port.name = format!("{name}.waiting");
                port.element = "f16".into();
                let features = i64::from(held_as.features);
                let dims = [batch, heads, Dim::Const(i64::from(block)), Dim::Const(features)];
                port.dims = dims.iter().map(|d| self.expr(d)).collect::<Result<_, _>>()?;
                self.states.push(port);
                Some(Buffer::State(self.states.len() as u32 - 1))
            }
            _ => None,
        };
        let total = to.dims[1].clone();
        let cache = Cache { buffer, held: held_as, past, total, capacity, waiting, window: None };
        self.caches.insert(next, cache);
        Ok(())
    }

    /// Whether the attention that alone reads a value reads it as keys, and the format it is held in.
    fn read_by_attention(&self, value: ValueId) -> Option<(bool, CacheFormat)> {
        let users = self.uses.get(&value)?;
        let read = |(user, slot): &(qcc_ir::OpId, usize)| match (&self.function.node(*user).op, slot) {
            (Op::Attention { keys, .. }, 1) => Some((true, *keys)),
            (Op::Attention { values, .. }, 2) => Some((false, *values)),
            _ => None,
        };
        let first = read(users.first()?)?;
        users.iter().all(|user| read(user) == Some(first)).then_some(first)
    }

    /// How states grow, for the program.
    pub(in crate::lower) fn growth(&mut self) -> Result<Option<Growth>, LowerError> {
        let Growing { symbol, states } = std::mem::take(&mut self.growing);
        let Some((held, added)) = symbol else { return Ok(None) };
        let index = |name: &str| self.symbols.iter().position(|s| s == name).map(|at| at as u32);
        let (Some(held), Some(capacity)) = (index(&held), index(&room(&held))) else {
            return Err(LowerError::new("states grow by unknown sizes"));
        };
        let step = u64::from(TILE);
        Ok(Some(Growth { held, capacity, added: self.expr(&added)?, step, states }))
    }

    /// Whether a value is a state with what a call adds.
    pub(in crate::lower) fn is_grown(&self, value: ValueId) -> bool {
        self.caches.contains_key(&value)
    }

    /// The concatenation by which a state grows.
    pub(in crate::lower) fn grow(&mut self, node: &Node) -> Result<(), LowerError> {
        let new = node.operands[1].ok_or_else(|| LowerError::new("an operand is missing"))?;
        let mut cache = self.caches[&node.results[0]].clone();
        self.append(node, new, &mut cache)?;
        self.caches.insert(node.results[0], cache);
        Ok(())
    }
}
