//! Attention, rotary positions, and the states that hold keys and values. A state grows by a concatenation, which writes the new tokens behind
//! those that are there; attention reads them in place.

use qcc_ir::format::{CacheFormat, FloatElement};
use qcc_ir::{Dim, Node, Op, QuantType, ValueId};
use qcc_runtime::program::{Blocks, Expr, Growth};

use super::axes::contiguous;
use super::buffers::Buffer;
use super::coded::found;
use super::packing::{PackedParameter, f32_bytes};
use super::{LowerError, Lowering, Operand, argument_name};
use crate::kernels::attention::{self, AttentionSpec, ROWS};
use crate::kernels::cache::{self, AppendCodes, AppendSpec, BlockSpec, BlockStep, Layout, PANEL, TILE};
use crate::kernels::coded::encode::Nearest;
use crate::kernels::coded::rows::{self, Direction, Groups, RowSpec};
use crate::kernels::coded::{Coded, Levels, Sharing};
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
    held: Held,
    /// Tokens that were there before those of the call.
    past: Dim,
    /// Tokens there are with those of the call.
    total: Dim,
    /// Tokens there is room for.
    capacity: Dim,
    /// Where values wait whose block is not complete.
    waiting: Option<Buffer>,
    /// Such values and those of the call, once they are there.
    window: Option<Buffer>,
}

/// The format and layout of keys or values.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    layout: Layout,
    format: CacheFormat,
    features: u32,
}

impl Held {
    fn new(format: CacheFormat, keys: bool, features: u32) -> Result<Held, LowerError> {
        let coded = match (format.rows(), format.float()) {
            (None, Some(float)) => match Coded::of_float(float.element()) {
                None if keys => return Ok(Held { layout: Layout::Panels, format, features }),
                None => return Ok(Held { layout: Layout::Rows, format, features }),
                Some(coded) => coded,
            },
            (Some(q), _) => {
                let block = format.block().filter(|block| keys && *block < features);
                let sharing = match block {
                    Some(block) => Sharing::Block { block, run: None },
                    None if format.is_by_channel() => Sharing::Tensor,
                    None => Sharing::Column,
                };
                let levels = Levels::of(q).filter(|_| Nearest::of(q, format.narrow()).is_some());
                let (Some(levels), Ok(bits)) = (levels, u8::try_from(q.storage.bits())) else {
                    return Err(LowerError::new(format!("keys and values in {format} have no CPU kernel")));
                };
                Coded { bits, levels, scale: q.scale, sharing, zero_points: false }
            }
            _ => return Err(LowerError::new(format!("keys and values in {format} have no CPU kernel"))),
        };
        let layout = match format.block() {
            _ if keys => Layout::CodedPanels(coded),
            None => Layout::CodedRows(coded),
            Some(block) if block >= 8 && TILE.is_multiple_of(block) => Layout::Blocks(coded, block),
            Some(block) => {
                return Err(LowerError::new(format!(
                    "values in {format} have no CPU kernel: blocks of {block} tokens; blocks of 8, 16, 32 and 64 do"
                )));
            }
        };
        Ok(Held { layout, format, features })
    }

    /// Whether values wait until a block of theirs is complete.
    fn waits(self) -> bool {
        matches!(self.layout, Layout::Blocks(..))
    }

    /// Whether blocks are no plain array of features and tokens.
    fn is_packed(self) -> bool {
        let whole = self.features.is_multiple_of(16);
        match self.layout {
            Layout::Panels | Layout::Rows => false,
            Layout::CodedPanels(_) => self.format.float().is_none(),
            Layout::CodedRows(_) => self.format.float().is_none() || !whole,
            Layout::Blocks(..) => true,
        }
    }

    /// What elements are called at the border of the program.
    fn storage(self) -> Storage {
        match self.format.float() {
            Some(FloatElement::F32) => Storage::F32,
            Some(FloatElement::F16) => Storage::F16,
            Some(FloatElement::BF16) => Storage::BF16,
            None => Storage::U8,
        }
    }
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
        let mut cache = self.caches[&node.results[0]].clone();
        self.append(node, new, &mut cache)?;
        self.caches.insert(node.results[0], cache);
        Ok(())
    }

    /// Puts tokens behind those of a cache.
    fn append(&mut self, node: &Node, new: ValueId, cache: &mut Cache) -> Result<(), LowerError> {
        let dims = self.function.ty(new).dims.clone();
        let [batch, time, heads, features] = dims.as_slice() else {
            return Err(LowerError::new("keys and values have the axes batch, token, head and feature"));
        };
        let (heads, features) = (small(heads)?, small(features)?);
        let from = self.f32_place(new)?;
        let tokens = batch.checked_mul(time).ok_or_else(LowerError::too_large)?;
        let call = Call { batch: batch.clone(), time: time.clone(), tokens, heads };
        let Held { layout, .. } = cache.held;
        match layout {
            Layout::Panels | Layout::Rows => {
                let spec = AppendSpec { panels: layout == Layout::Panels, heads, features };
                let kernel = self.kernel(&format!("{spec:?}"), |name, caps| cache::append(&spec, name, caps));
                let operands = vec![
                    Operand::Buffer(from),
                    Operand::Bits(4 * u64::from(heads) * u64::from(features)),
                    Operand::Buffer(cache.buffer),
                    Operand::Size(call.time.clone()),
                    Operand::Size(cache.past.clone()),
                    Operand::Size(cache.capacity.clone()),
                ];
                self.step(&node.location, kernel, operands, &call.tokens, 16)
            }
            Layout::CodedPanels(coded) | Layout::CodedRows(coded) => {
                self.append_codes(node, from, cache, coded, &call)
            }
            Layout::Blocks(coded, block) => self.append_blocks(node, from, cache, (coded, block), &call),
        }
    }

    /// Rounds tokens and puts their codes where they belong.
    fn append_codes(
        &mut self,
        node: &Node,
        from: Buffer,
        cache: &Cache,
        coded: Coded,
        call: &Call,
    ) -> Result<(), LowerError> {
        let Held { layout, format, features } = cache.held;
        let row = i64::from(call.heads) * i64::from(features);
        let numbers = call.tokens.checked_mul(&Dim::Const(row)).ok_or_else(LowerError::too_large)?;
        let (codes, scales) = match format.rows() {
            None => {
                let bytes = numbers.checked_mul(&Dim::Const(2)).ok_or_else(LowerError::too_large)?;
                let codes = self.temporary(&bytes)?;
                let storage = cache.held.storage();
                let key = format!("halves {storage:?}");
                let kernel = self.kernel(&key, |name, caps| cache::halves(storage, name, caps));
                let items = self.expr_ceil_div(&numbers, 64)?;
                let operands = vec![Operand::Buffer(from), Operand::Buffer(codes), Operand::Size(numbers)];
                self.step_with(&node.location, kernel, operands, items, 16, Expr::Const(64));
                (codes, Operand::Bits(0))
            }
            Some(q) => {
                let heads = Dim::Const(i64::from(call.heads));
                let rows = call.tokens.checked_mul(&heads).ok_or_else(LowerError::too_large)?;
                let rows = self.expr(&rows)?;
                let groups = match coded.sharing {
                    Sharing::Block { block, .. } => Groups::Block(block),
                    Sharing::Tensor => Groups::Tensor,
                    _ => Groups::Row,
                };
                let (codes, scales) = self.round(node, from, rows, features, (q, format), groups)?;
                (codes, Operand::Buffer(scales))
            }
        };
        let spec = AppendCodes { layout, coded, heads: call.heads, features };
        let kernel = self.kernel(&format!("{spec:?}"), |name, caps| cache::append_codes(&spec, name, caps));
        let operands = vec![
            Operand::Buffer(codes),
            scales,
            Operand::Buffer(cache.buffer),
            Operand::Size(call.time.clone()),
            Operand::Size(cache.past.clone()),
            Operand::Size(cache.capacity.clone()),
        ];
        let items = match layout {
            Layout::CodedPanels(_) => {
                // A call may begin so many panels.
                let panels = self.expr_ceil_div(&plus(&call.time, 15)?, u64::from(PANEL))?;
                Expr::Mul(Box::new(self.rows_of(call)?), Box::new(panels))
            }
            _ => self.expr(&call.tokens)?,
        };
        self.step_with(&node.location, kernel, operands, items, 4, Expr::Const(spec.scratch_bytes()));
        Ok(())
    }

    /// Heads of all sequences.
    fn rows_of(&self, call: &Call) -> Result<Expr, LowerError> {
        let heads = Dim::Const(i64::from(call.heads));
        self.expr(&call.batch.checked_mul(&heads).ok_or_else(LowerError::too_large)?)
    }

    /// Codes (a byte each) and scales of rows of `columns` numbers.
    fn round(
        &mut self,
        node: &Node,
        from: Buffer,
        rows: Expr,
        columns: u32,
        (q, format): (QuantType, CacheFormat),
        groups: Groups,
    ) -> Result<(Buffer, Buffer), LowerError> {
        let narrow = format.narrow();
        let nearest = Nearest::of(q, narrow)
            .ok_or_else(|| LowerError::new(format!("keys and values in {format} have no CPU kernel")))?;
        let direction = match groups {
            Groups::Tensor => Direction::Encode(nearest),
            _ => Direction::Find(nearest, found(q, narrow)?),
        };
        let spec = RowSpec { direction, groups, scale: q.scale, zero_points: false, offset: 0 };
        let of_row = match groups {
            Groups::Block(block) => columns.div_ceil(block),
            _ => 1,
        };
        let times = |rows: &Expr, n: u64| Expr::Mul(Box::new(rows.clone()), Box::new(Expr::Const(n)));
        let codes = self.buffers.add(times(&rows, u64::from(columns)));
        let scales = match groups {
            Groups::Tensor => {
                self.parameter(PackedParameter::given("scale of all".into(), f32_bytes(&[1.0])))
            }
            _ => self.buffers.add(times(&rows, u64::from(of_row) * u64::from(q.scale.bits()) / 8)),
        };
        let table = match Coded::fixed_table(q.storage) {
            Some(levels) => {
                let name = format!("{} levels", q.storage.name());
                Operand::Buffer(self.parameter(PackedParameter::given(name, f32_bytes(&levels))))
            }
            None => Operand::Bits(0),
        };
        let kernel = self.kernel(&format!("{spec:?}"), |name, caps| rows::generate(&spec, name, caps));
        let none = || Operand::Bits(0);
        let operands = vec![
            Operand::Buffer(from),
            Operand::Buffer(codes),
            Operand::Buffer(scales),
            none(),
            none(),
            Operand::Bits(u64::from(columns)),
            table,
        ];
        self.step_with(&node.location, kernel, operands, rows, 4, Expr::Const(0));
        Ok((codes, scales))
    }

    /// Values with scales along tokens: see [`cache::BlockStep`].
    fn append_blocks(
        &mut self,
        node: &Node,
        from: Buffer,
        cache: &mut Cache,
        (coded, block): (Coded, u32),
        call: &Call,
    ) -> Result<(), LowerError> {
        let Held { format, features, .. } = cache.held;
        let heads = self.rows_of(call)?;
        let product = |a: &Expr, b: &Expr| Expr::Mul(Box::new(a.clone()), Box::new(b.clone()));
        let token = 2 * u64::from(features);
        let tokens = self.expr(&plus(&call.time, i64::from(block))?)?;
        let window = self.buffers.add(product(&product(&heads, &tokens), &Expr::Const(token)));
        // Without a state nothing waits; a buffer is there all the same.
        let waiting = match cache.waiting {
            Some(waiting) => waiting,
            None => self.buffers.add(product(&heads, &Expr::Const(token * u64::from(block)))),
        };
        let begun = self.expr_ceil_div(&plus(&call.time, i64::from(block) - 1)?, u64::from(block))?;
        let begun = product(&heads, &begun);
        let turned = product(&begun, &Expr::Const(u64::from(features)));
        let q = format.rows().ok_or_else(|| LowerError::new("there are no codes"))?;
        let rows = self.buffers.add(product(&turned, &Expr::Const(4 * u64::from(block))));
        let mut buffers =
            Buffers { x: from, waiting, window, rows, codes: None, scales: None, cache: cache.buffer };
        let step = |this: &mut Self, step: BlockStep, items: &Expr, buffers: &Buffers| {
            let spec = BlockSpec { step, coded, block, heads: call.heads, features };
            let kernel = this.kernel(&format!("{spec:?}"), |name, caps| cache::block_step(&spec, name, caps));
            let mut operands = buffers.operands(step);
            operands.extend([&call.time, &cache.past, &cache.capacity].map(|d| Operand::Size(d.clone())));
            let scratch = Expr::Const(spec.scratch_bytes());
            this.step_with(&node.location, kernel, operands, items.clone(), 1, scratch);
        };
        step(self, BlockStep::Window, &heads, &buffers);
        step(self, BlockStep::Rows, &begun, &buffers);
        let (codes, scales) = self.round(node, rows, turned, block, (q, format), Groups::Row)?;
        (buffers.codes, buffers.scales) = (Some(codes), Some(scales));
        step(self, BlockStep::Seal, &begun, &buffers);
        step(self, BlockStep::Keep, &heads, &buffers);
        cache.window = Some(window);
        Ok(())
    }

    /// What precedes panels of codes: the levels of a table, and a scale of all, which is 1.
    fn header(&mut self, held: Held) -> Operand {
        let Some(coded) = held.layout.coded() else { return Operand::Bits(0) };
        let storage = held.format.rows().map(|q| q.storage);
        let mut bytes =
            storage.and_then(Coded::fixed_table).map(|levels| f32_bytes(&levels)).unwrap_or_default();
        bytes.extend(1f32.to_le_bytes());
        bytes.resize(coded.header_bytes() as usize, 0);
        let name = format!("header of {} codes in a cache", held.format);
        Operand::Buffer(self.parameter(PackedParameter::given(name, bytes)))
    }

    pub(super) fn attention(&mut self, node: &Node) -> Result<(), LowerError> {
        let Op::Attention { scale, causal, window, keys, values } = node.op else {
            return Err(LowerError::new(format!("qcc.{} does not attend", node.op.name())));
        };
        let operand = |i: usize| node.operands[i].expect("invariant: arity was checked");
        let [q, k, v] = [0, 1, 2].map(operand);
        let dims = |value: ValueId| self.function.ty(value).dims.clone();
        let (q_dims, k_dims, v_dims) = (dims(q), dims(k), dims(v));
        let queries = self.f32_place(q)?;
        // Where queries are among keys matters where some see fewer.
        let queries_of = (causal || window > 0).then_some(&q_dims[1]);
        let [keys, values] = [(k, true, keys), (v, false, values)].map(|(value, keys, format)| {
            match self.caches.get(&value) {
                Some(cache) => Ok(cache.clone()),
                None => self.keys_of_call(node, value, queries_of, (keys, format)),
            }
        });
        let (keys, values) = (keys?, values?);
        let spec = AttentionSpec {
            heads: small(&q_dims[2])?,
            shared: small(&k_dims[2])?,
            features: small(&q_dims[3])?,
            width: small(&v_dims[3])?,
            causal,
            windowed: window > 0,
            keys: keys.held.layout,
            values: values.held.layout,
            biased: node.operands.get(3).copied().flatten().is_some(),
        };
        if (&keys.past, &keys.total, &keys.capacity) != (&values.past, &values.total, &values.capacity) {
            return Err(LowerError::new("reads keys and values of different lengths"));
        }
        let to = self.result(node.results[0])?;
        if to.storage != Storage::F32 {
            return Err(LowerError::new(format!("works on f32, not on {:?}", to.storage)));
        }
        let kernel = self.kernel(&format!("{spec:?}"), |name, caps| attention::generate(&spec, name, caps));
        #[allow(clippy::cast_possible_truncation, reason = "kernels compute in f32")]
        let scale = (scale.0 as f32).to_bits();
        let mut operands = vec![
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
            self.header(keys.held),
            self.header(values.held),
            values.window.map_or(Operand::Bits(0), Operand::Buffer),
        ];
        operands.extend(self.bias(node, &q_dims)?);
        // Each query with each key that it sees, and its value: of a key `features` products and sums, of a value `width`.
        let each = Dim::Const(i64::from(spec.features + spec.width));
        let twice = keys.total.checked_mul(&Dim::Const(2)).ok_or_else(LowerError::too_large)?;
        let seen = if causal {
            let hidden = q_dims[1].checked_mul(&Dim::Const(-1)).ok_or_else(LowerError::too_large)?;
            twice.checked_add(&plus(&hidden, 1)?).ok_or_else(LowerError::too_large)?
        } else {
            twice
        };
        let operations = Self::count(&[q_dims[0].clone(), q_dims[1].clone(), q_dims[2].clone(), seen, each])?;
        operands.push(Operand::Size(keys.total));
        let group = Dim::Const(i64::from(spec.heads / spec.shared));
        let rows = q_dims[1].checked_mul(&group).ok_or_else(LowerError::too_large)?;
        let heads = q_dims[0].checked_mul(&k_dims[2]).ok_or_else(LowerError::too_large)?;
        let blocks = self.expr_ceil_div(&rows, u64::from(ROWS))?;
        let items = Expr::Mul(Box::new(self.expr(&heads)?), Box::new(blocks));
        self.step_with(&node.location, kernel, operands, items, 1, Expr::Const(spec.scratch_bytes()));
        self.works_on_floats(&operations)
    }

    /// Where what is added to scores is, and the bytes to that of the next sequence, head and token.
    fn bias(&mut self, node: &Node, queries: &[Dim]) -> Result<[Operand; 4], LowerError> {
        let none = || Operand::Bits(0);
        let Some(bias) = node.operands.get(3).copied().flatten() else {
            return Ok([none(), none(), none(), none()]);
        };
        let from = self.f32_place(bias)?;
        let own = self.function.ty(bias).dims.clone();
        let strides = contiguous(&own)?;
        let stride = |axis: usize, of: &Dim| match own[axis] == Dim::Const(1) && *of != own[axis] {
            true => Ok(none()),
            false => {
                strides[axis].checked_mul(&Dim::Const(4)).map(Operand::Size).ok_or_else(LowerError::too_large)
            }
        };
        Ok([Operand::Buffer(from), stride(0, &queries[0])?, stride(1, &queries[2])?, stride(2, &queries[1])?])
    }

    /// Keys or values that no state holds, as attention reads them.
    fn keys_of_call(
        &mut self,
        node: &Node,
        value: ValueId,
        queries: Option<&Dim>,
        (keys, format): (bool, CacheFormat),
    ) -> Result<Cache, LowerError> {
        let dims = self.function.ty(value).dims.clone();
        let past = match queries {
            Some(queries) => dims[1].checked_sub(queries).ok_or_else(LowerError::too_large)?,
            None => Dim::Const(0),
        };
        let held = Held::new(format, keys, small(&dims[3])?)?;
        if held.waits() && (past != Dim::Const(0) || queries.is_none()) {
            return Err(LowerError::new(format!(
                "values in {format} are not as many as queries, and no state"
            )));
        }
        let tile = held.layout.bytes(held.features) * u64::from(TILE / held.layout.tokens());
        let rows = dims[0].checked_mul(&dims[2]).ok_or_else(LowerError::too_large)?;
        let rows = Expr::Mul(Box::new(self.expr(&rows)?), Box::new(Expr::Const(tile)));
        let tiles = self.expr_ceil_div(&dims[1], u64::from(TILE))?;
        let buffer = self.buffers.add(Expr::Mul(Box::new(rows), Box::new(tiles)));
        let (total, capacity, none) = (dims[1].clone(), dims[1].clone(), Dim::Const(0));
        let mut cache = Cache { buffer, held, past: none, total, capacity, waiting: None, window: None };
        self.append(node, value, &mut cache)?;
        Ok(Cache { past, ..cache })
    }

    pub(super) fn iota(&mut self, node: &Node, size: &Dim) -> Result<(), LowerError> {
        let to = self.result(node.results[0])?;
        let kernel = self.kernel("positions", rotary::positions);
        let none = Operand::Size(Dim::Const(0));
        self.step(&node.location, kernel, vec![Operand::Buffer(to.buffer), none], size, 4096)
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

/// Sizes of the tokens of a call.
struct Call {
    batch: Dim,
    time: Dim,
    /// Of all sequences.
    tokens: Dim,
    heads: u32,
}

/// What the steps of values in blocks work on.
struct Buffers {
    x: Buffer,
    waiting: Buffer,
    window: Buffer,
    rows: Buffer,
    codes: Option<Buffer>,
    scales: Option<Buffer>,
    cache: Buffer,
}

impl Buffers {
    /// The addresses that a step reads or writes, in the order of [`cache::BLOCKS`].
    fn operands(&self, step: BlockStep) -> Vec<Operand> {
        let Buffers { x, waiting, window, rows, codes, scales, cache } = *self;
        let uses =
            |steps: &[BlockStep], buffer: Option<Buffer>| match buffer.filter(|_| steps.contains(&step)) {
                Some(buffer) => Operand::Buffer(buffer),
                None => Operand::Bits(0),
            };
        let (make, turn, seal, keep) = (BlockStep::Window, BlockStep::Rows, BlockStep::Seal, BlockStep::Keep);
        vec![
            uses(&[make], Some(x)),
            uses(&[make, keep], Some(waiting)),
            uses(&[make, turn, keep], Some(window)),
            uses(&[turn], Some(rows)),
            uses(&[seal], codes),
            uses(&[seal], scales),
            uses(&[seal], Some(cache)),
        ]
    }
}

/// A size and a little more.
fn plus(dim: &Dim, more: i64) -> Result<Dim, LowerError> {
    dim.checked_add(&Dim::Const(more)).ok_or_else(LowerError::too_large)
}

/// Most heads, and features of a head, that kernels are generated for; the largest published models have some hundreds.
const LARGEST_HEAD: u32 = 1024;

/// A constant size that kernels are generated for.
fn small(dim: &Dim) -> Result<u32, LowerError> {
    let constant = dim.constant().and_then(|n| u32::try_from(n).ok()).filter(|n| *n <= LARGEST_HEAD);
    constant.ok_or_else(|| {
        LowerError::new(format!(
            "{dim} heads or features of a head have no CPU kernel; up to {LARGEST_HEAD} do"
        ))
    })
}
