//! Attention, rotary positions, and the states that hold keys and values. A state grows by a concatenation, which writes the new tokens behind
//! those that are there; attention reads them in place.

use qcc_ir::{Dim, Node, Op, ValueId};
use qcc_runtime::program::{Blocks, Expr, Growth};

use super::buffers::Buffer;
use super::{LowerError, Lowering, Operand, argument_name};
use crate::kernels::attention::{self, AttentionSpec, ROWS};
use crate::kernels::cache::{self, AppendSpec, Layout, TILE};
use crate::kernels::rotary::{self, AnglesSpec, RotarySpec};
use crate::loops::storage::Storage;

/// States that grow, and what they grow by.
#[derive(Default)]
pub(super) struct Growing {
    /// The size that says how many tokens they hold, and what a call adds.
    symbol: Option<(String, Dim)>,
    states: Vec<Blocks>,
}

/// Keys or values where attention reads them.
#[derive(Clone, Debug)]
pub(super) struct Cache {
    buffer: Buffer,
    layout: Layout,
    /// Tokens that were there before those of the call.
    past: Dim,
    /// Tokens there is room for.
    capacity: Dim,
}

/// Cosines and sines of the positions of a call.
#[derive(Clone, Copy)]
pub(super) struct Angles {
    buffer: Buffer,
    spec: AnglesSpec,
}

/// The size that stands for the room of states that hold so many tokens.
fn room(held: &str) -> String {
    format!("{held}.capacity")
}

impl Lowering<'_> {
    /// A state whose result is longer than itself: keys or values that attention reads.
    pub(super) fn growing_state(&mut self, index: usize, next: ValueId) -> Result<(), LowerError> {
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
        let readers = self.uses.get(&value).map(Vec::as_slice).unwrap_or_default();
        let knows = |id: &qcc_ir::OpId| match self.function.node(*id).op {
            Op::Positions { axis: 1 } => true,
            _ => self.function.node(*id).results.first() == Some(&next),
        };
        if !readers.iter().all(|(id, _)| knows(id)) {
            return refuse("something reads it as it was");
        }
        let Some(layout) = self.read_by_attention(next) else {
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
        let (Some(count), Storage::F32) = (features.constant(), self.storage_of(value)?) else {
            return refuse("is not of f32");
        };
        let bytes = 4 * count as u64 * u64::from(layout.block());
        let rows = batch.checked_mul(heads).ok_or_else(LowerError::too_large)?;
        let blocks = Blocks {
            state: self.states.len() as u32,
            rows: self.expr(&rows)?,
            tokens: u64::from(layout.block()),
            bytes,
        };
        self.growing.states.push(blocks);
        let port = self.port(value, &name, Storage::F32)?;
        self.states.push(port);
        let buffer = Buffer::State(self.states.len() as u32 - 1);
        let capacity = Dim::symbol(&room(symbol));
        self.caches.insert(next, Cache { buffer, layout, past: held.clone(), capacity });
        Ok(())
    }

    /// How keys or values lie for the attention that alone reads them.
    fn read_by_attention(&self, value: ValueId) -> Option<Layout> {
        let users = self.uses.get(&value)?;
        let slot = users.first()?.1;
        let attends = |(user, at): &(qcc_ir::OpId, usize)| {
            *at == slot && matches!(self.function.node(*user).op, Op::Attention { .. })
        };
        let layout = [None, Some(Layout::Panels), Some(Layout::Rows)].get(slot).copied().flatten()?;
        users.iter().all(attends).then_some(layout)
    }

    /// How states grow, for the program.
    pub(super) fn growth(&mut self) -> Result<Option<Growth>, LowerError> {
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
    pub(super) fn is_grown(&self, value: ValueId) -> bool {
        self.caches.contains_key(&value)
    }

    /// The concatenation by which a state grows.
    pub(super) fn grow(&mut self, node: &Node) -> Result<(), LowerError> {
        let new = node.operands[1].ok_or_else(|| LowerError::new("an operand is missing"))?;
        let cache = self.caches[&node.results[0]].clone();
        self.append(node, new, &cache)
    }

    /// Puts tokens behind those of a cache.
    fn append(&mut self, node: &Node, new: ValueId, cache: &Cache) -> Result<(), LowerError> {
        let dims = self.function.ty(new).dims.clone();
        let [batch, time, heads, features] = dims.as_slice() else {
            return Err(LowerError::new("keys and values have the axes batch, token, head and feature"));
        };
        let (heads, features) = (small(heads)?, small(features)?);
        let from = self.f32_place(new)?;
        let spec = AppendSpec { layout: cache.layout, heads, features };
        let kernel = self.kernel(&format!("{spec:?}"), |name, caps| cache::append(&spec, name, caps));
        let operands = vec![
            Operand::Buffer(from),
            Operand::Bits(4 * u64::from(heads) * u64::from(features)),
            Operand::Buffer(cache.buffer),
            Operand::Size(time.clone()),
            Operand::Size(cache.past.clone()),
            Operand::Size(cache.capacity.clone()),
        ];
        let tokens = batch.checked_mul(time).ok_or_else(LowerError::too_large)?;
        self.step(&node.location, kernel, operands, &tokens, 16)
    }

    pub(super) fn attention(&mut self, node: &Node) -> Result<(), LowerError> {
        let Op::Attention { scale, causal, window } = node.op else {
            return Err(LowerError::new(format!("qcc.{} does not attend", node.op.name())));
        };
        let operand = |i: usize| node.operands[i].expect("invariant: arity was checked");
        let [q, k, v] = [0, 1, 2].map(operand);
        let dims = |value: ValueId| self.function.ty(value).dims.clone();
        let (q_dims, k_dims, v_dims) = (dims(q), dims(k), dims(v));
        let spec = AttentionSpec {
            heads: small(&q_dims[2])?,
            shared: small(&k_dims[2])?,
            features: small(&q_dims[3])?,
            width: small(&v_dims[3])?,
            causal,
            windowed: window > 0,
        };
        let queries = self.f32_place(q)?;
        let [keys, values] =
            [(k, Layout::Panels), (v, Layout::Rows)].map(|(value, layout)| match self.caches.get(&value) {
                Some(cache) => Ok(cache.clone()),
                None => self.keys_of_call(node, value, &q_dims[1], layout),
            });
        let (keys, values) = (keys?, values?);
        if keys.past != values.past || keys.capacity != values.capacity {
            return Err(LowerError::new("reads keys and values of different lengths"));
        }
        let to = self.result(node.results[0])?;
        if to.storage != Storage::F32 {
            return Err(LowerError::new(format!("works on f32, not on {:?}", to.storage)));
        }
        let kernel = self.kernel(&format!("{spec:?}"), |name, caps| attention::generate(&spec, name, caps));
        #[allow(clippy::cast_possible_truncation, reason = "kernels compute in f32")]
        let scale = (scale.0 as f32).to_bits();
        let operands = vec![
            Operand::Buffer(queries),
            Operand::Bits(4 * u64::from(spec.heads) * u64::from(spec.features)),
            Operand::Buffer(keys.buffer),
            Operand::Buffer(values.buffer),
            Operand::Buffer(to.buffer),
            Operand::Bits(u64::from(scale)),
            Operand::Size(q_dims[1].clone()),
            Operand::Size(keys.past),
            Operand::Size(keys.capacity),
            Operand::Bits(window as u64),
        ];
        let group = Dim::Const(i64::from(spec.heads / spec.shared));
        let rows = q_dims[1].checked_mul(&group).ok_or_else(LowerError::too_large)?;
        let heads = q_dims[0].checked_mul(&k_dims[2]).ok_or_else(LowerError::too_large)?;
        let blocks = self.expr_ceil_div(&rows, u64::from(ROWS))?;
        let items = Expr::Mul(Box::new(self.expr(&heads)?), Box::new(blocks));
        self.step_with(&node.location, kernel, operands, items, 1, Expr::Const(spec.scratch_bytes()));
        Ok(())
    }

    /// Keys or values that no state holds, in the layout that attention reads.
    fn keys_of_call(
        &mut self,
        node: &Node,
        value: ValueId,
        queries: &Dim,
        layout: Layout,
    ) -> Result<Cache, LowerError> {
        let dims = self.function.ty(value).dims.clone();
        let past = dims[1].checked_sub(queries).ok_or_else(LowerError::too_large)?;
        let bytes = 4 * i64::from(TILE) * i64::from(small(&dims[3])?);
        let rows = [&dims[0], &dims[2]].into_iter().try_fold(Dim::Const(bytes), |n, d| n.checked_mul(d));
        let rows = self.expr(&rows.ok_or_else(LowerError::too_large)?)?;
        let tiles = self.expr_ceil_div(&dims[1], u64::from(TILE))?;
        let buffer = self.buffers.add(Expr::Mul(Box::new(rows), Box::new(tiles)));
        let cache = Cache { buffer, layout, past: Dim::Const(0), capacity: dims[1].clone() };
        self.append(node, value, &cache)?;
        Ok(Cache { past, ..cache })
    }

    pub(super) fn positions(&mut self, node: &Node, axis: i64) -> Result<(), LowerError> {
        let past = node.operands[1].expect("invariant: arity was checked");
        let past = self.function.ty(past).dims[axis as usize].clone();
        let count = self.function.ty(node.results[0]).dims[0].clone();
        let to = self.result(node.results[0])?;
        let kernel = self.kernel("positions", rotary::positions);
        self.step(&node.location, kernel, vec![Operand::Buffer(to.buffer), Operand::Size(past)], &count, 4096)
    }

    pub(super) fn rotary_embedding(&mut self, node: &Node, interleaved: bool) -> Result<(), LowerError> {
        let operand = |i: usize| node.operands[i].expect("invariant: arity was checked");
        let [x, positions, frequencies] = [0, 1, 2].map(operand);
        let dims = self.function.ty(x).dims.clone();
        let (heads, features) = (small(&dims[2])?, small(&dims[3])?);
        let angles = self.angles(node, positions, frequencies)?;
        let spec = RotarySpec { angles: angles.spec, heads, features, interleaved };
        let from = self.f32_place(x)?;
        let to = self.result(node.results[0])?;
        let kernel = self.kernel(&format!("{spec:?}"), |name, caps| rotary::rotary(&spec, name, caps));
        let period = Self::count(&self.function.ty(positions).dims)?;
        let operands = vec![
            Operand::Buffer(from),
            Operand::Bits(4 * u64::from(heads) * u64::from(features)),
            Operand::Buffer(to.buffer),
            Operand::Buffer(angles.buffer),
            Operand::Size(period),
        ];
        let tokens = Self::count(&dims[..2])?;
        self.step(&node.location, kernel, operands, &tokens, 16)
    }

    /// The table of angles; made once for all that turn by it.
    fn angles(
        &mut self,
        node: &Node,
        positions: ValueId,
        frequencies: ValueId,
    ) -> Result<Angles, LowerError> {
        if let Some(angles) = self.angles.get(&(positions, frequencies)) {
            return Ok(*angles);
        }
        let place = self.place(positions)?;
        let dims = self.function.ty(frequencies).dims.clone();
        let vectors = match dims.as_slice() {
            [vectors, _] => small(vectors)?,
            _ => 1,
        };
        let pairs = small(dims.last().ok_or_else(|| LowerError::new("there are no frequencies"))?)?;
        let spec = AnglesSpec { wide: place.index_is_wide()?, vectors, pairs };
        let from = self.f32_place(frequencies)?;
        let count = Self::count(&self.function.ty(positions).dims)?;
        let bytes = i64::try_from(spec.row_bytes()).map_err(|_| LowerError::too_large())?;
        let buffer =
            self.temporary(&count.checked_mul(&Dim::Const(bytes)).ok_or_else(LowerError::too_large)?)?;
        let kernel = self.kernel(&format!("{spec:?}"), |name, caps| rotary::angles(spec, name, caps));
        let operands = [place.buffer, from, buffer].map(Operand::Buffer).to_vec();
        self.step(&node.location, kernel, operands, &count, 16)?;
        let angles = Angles { buffer, spec };
        self.angles.insert((positions, frequencies), angles);
        Ok(angles)
    }

    /// Where an f32 value is, dense.
    fn f32_place(&mut self, value: ValueId) -> Result<Buffer, LowerError> {
        let place = self.place(value)?;
        match place.storage {
            Storage::F32 => Ok(place.buffer),
            other => Err(LowerError::new(format!("works on f32, not on {other:?}"))),
        }
    }
}

/// A constant size that kernels are generated for.
fn small(dim: &Dim) -> Result<u32, LowerError> {
    let constant = dim.constant().and_then(|n| u32::try_from(n).ok()).filter(|n| *n <= 1 << 16);
    constant.ok_or_else(|| {
        LowerError::new(format!("heads or features of symbolic or huge size {dim} have no CPU kernel"))
    })
}
