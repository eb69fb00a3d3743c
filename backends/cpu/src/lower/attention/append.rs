//! The steps that put tokens behind those of a cache, rounded where it holds codes.

use qcc_ir::format::CacheFormat;
use qcc_ir::{Dim, Node, QuantType, ValueId};
use qcc_runtime::program::Expr;

use super::super::buffers::Buffer;
use super::super::coded::found;
use super::super::packing::{PackedParameter, f32_bytes};
use super::super::{LowerError, Lowering, Operand};
use super::{Cache, Held, plus, small};
use crate::kernels::cache::{self, AppendCodes, AppendSpec, BlockSpec, BlockStep, Layout, PANEL};
use crate::kernels::coded::encode::Nearest;
use crate::kernels::coded::rows::{self, Direction, Groups, RowSpec};
use crate::kernels::coded::{Coded, Sharing};

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

impl Lowering<'_> {
    /// Puts tokens behind those of a cache.
    pub(super) fn append(&mut self, node: &Node, new: ValueId, cache: &mut Cache) -> Result<(), LowerError> {
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
}
