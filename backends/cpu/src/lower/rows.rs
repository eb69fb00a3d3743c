//! Operations on rows (the last axis): softmax, dynamic quantization, and the norms and transforms that a quantize takes into its kernel.

use qcc_ir::ops::{Rounding, Special};
use qcc_ir::{Dim, Granularity, Node, Op, ValueId};

use super::buffers::Buffer;
use super::coded::{is_plain, is_plain_token};
use super::{LowerError, Lowering, Operand};
use crate::kernels::epilogue::Output;
use crate::kernels::norm::RowOutput;
use crate::kernels::quantize::{self, QuantizeSpec, TokenFormat};
use crate::kernels::softmax;
use crate::loops::storage::Storage;

/// Where the rows of a norm or transform go.
pub(super) struct Sink {
    pub output: RowOutput,
    pub y: Buffer,
    /// Bytes of an element.
    pub bytes: u64,
    /// Scale and stored zero point of codes.
    pub scale: Operand,
    pub zero: Operand,
    /// Scales and block sums of codes with a scale a row.
    pub scales: Operand,
    pub sums: Operand,
}

impl Default for Sink {
    fn default() -> Sink {
        let none = || Operand::Bits(0);
        Sink {
            output: RowOutput::Plain(Output::F32),
            y: Buffer::Virtual(0),
            bytes: 4,
            scale: none(),
            zero: none(),
            scales: none(),
            sums: none(),
        }
    }
}

/// Whether an operation quantizes rows, each with a scale of its own, by a kernel that others can end with.
pub(super) fn quantizes_rows(op: &Op) -> bool {
    match op {
        Op::DynamicQuantize { to, narrow, rounding: Rounding::HalfEven, special: Special::Saturate } => {
            to.quantized().is_some_and(|q| is_plain_token(q) && q.storage.integer_range(*narrow).is_some())
        }
        _ => false,
    }
}

impl<'a> Lowering<'a> {
    pub(super) fn rows(&mut self, node: &Node) -> Result<(), LowerError> {
        let x = node.operands[0].expect("invariant: arity was checked");
        let dims = self.function.ty(x).dims.clone();
        let Some((columns, outer)) = dims.split_last() else {
            return Err(LowerError::new("a row operation needs rank 1 or more"));
        };
        let rows = Self::count(outer)?;
        if let Op::Softmax { axis } = &node.op {
            return self.softmax(node, *axis, &rows, columns);
        }
        if matches!(&node.op, Op::DynamicQuantize { to, .. } if !to.quantized().is_some_and(is_plain_token)) {
            return self.coded_rows(node);
        }
        let columns = columns.constant().ok_or_else(|| {
            LowerError::new(format!("rows of symbolic length {columns} have no CPU kernel"))
        })?;
        match &node.op {
            Op::DynamicQuantize { .. } => self.dynamic_quantize(node, &rows, columns),
            _ if self.quantize_takes(node) => Ok(()),
            _ => {
                let place = self.result(node.results[0])?;
                let sink = Sink {
                    output: RowOutput::Plain(Output::F32),
                    y: place.buffer,
                    bytes: 4,
                    ..Sink::default()
                };
                self.produce(node, &rows, columns, sink)
            }
        }
    }

    /// Softmax along the last axis, which may have a symbolic size.
    fn softmax(&mut self, node: &Node, axis: i64, rows: &Dim, columns: &Dim) -> Result<(), LowerError> {
        let x = node.operands[0].expect("invariant: arity was checked");
        if axis as usize + 1 != self.function.ty(x).rank() {
            return Err(LowerError::new("a softmax along another axis than the last was not legalised"));
        }
        let stride = columns.checked_mul(&Dim::Const(4)).ok_or_else(LowerError::too_large)?;
        let (start, x_stride) = match columns.constant() {
            Some(_) => {
                let from = self.strided(x)?;
                (from.start, from.stride)
            }
            None => {
                let place = self.place(x)?;
                if place.storage != Storage::F32 {
                    return Err(LowerError::new(format!("works on f32 rows, not on {:?}", place.storage)));
                }
                (Operand::Buffer(place.buffer), Operand::Size(stride.clone()))
            }
        };
        let to = self.result(node.results[0])?;
        let kernel = self.kernel("softmax", softmax::generate);
        let operands = vec![
            start,
            x_stride,
            Operand::Buffer(to.buffer),
            Operand::Size(stride),
            Operand::Size(rows.clone()),
            Operand::Size(columns.clone()),
        ];
        self.step(&node.location, kernel, operands, rows, 4)
    }

    /// Codes with a scale a row; a norm or transform that only this reads runs in the same kernel.
    fn dynamic_quantize(&mut self, node: &Node, rows: &Dim, columns: i64) -> Result<(), LowerError> {
        let Op::DynamicQuantize { to, narrow, rounding, special } = &node.op else {
            return Err(LowerError::new(format!("qcc.{} does not quantize", node.op.name())));
        };
        let x = node.operands[0].expect("invariant: arity was checked");
        let q = to.quantized().expect("invariant: the type rule demands it");
        let Some((lo, hi)) = q.storage.integer_range(*narrow).filter(|_| is_plain_token(q)) else {
            return self.coded_rows(node);
        };
        if *rounding != Rounding::HalfEven || *special != Special::Saturate {
            return Err(LowerError::new(
                "codes are computed at run time with ties to the even code, saturating",
            ));
        }
        let group = self.made_by_quantize.remove(&x);
        let from = match self.producer_of(x) {
            None if group.is_none() => Some(self.strided(x)?),
            _ => None,
        };
        let y = self.result(node.results[0])?;
        let scales = self.result(node.results[1])?;
        let block = self.block_of_users(node.results[0])?;
        let format = TokenFormat {
            limit: hi as i16,
            full: lo < -hi,
            offset: if y.storage == Storage::Biased { 128 } else { 0 },
            block_sums: block,
        };
        let sums = match block {
            None => Operand::Bits(0),
            Some(block) => {
                let per_row = 4 * (columns as u64).div_ceil(u64::from(block)) as i64;
                let bytes = rows.checked_mul(&Dim::Const(per_row)).ok_or_else(LowerError::too_large)?;
                let buffer = self.temporary(&bytes)?;
                self.block_sums.insert(node.results[0], (buffer, block));
                Operand::Buffer(buffer)
            }
        };
        let scales = Operand::Buffer(scales.buffer);
        if let (Some(group), Some((_, made))) = (group, self.function.defining(x)) {
            return self.quantized_group((made, &group), format, (y.buffer, scales, sums));
        }
        let Some(from) = from else {
            let producer = self.producer_of(x).expect("invariant: asked above");
            let sink = Sink {
                output: RowOutput::Token(format),
                y: y.buffer,
                bytes: 1,
                scales,
                sums,
                ..Sink::default()
            };
            return self.produce(producer, rows, columns, sink);
        };
        let spec = QuantizeSpec::Token(format);
        let kernel = self.kernel(&format!("{spec:?}"), |name, caps| quantize::generate(&spec, name, caps));
        let operands = vec![
            from.start,
            from.stride,
            Operand::Buffer(y.buffer),
            Operand::Bits(columns as u64),
            scales,
            sums,
            Operand::Size(rows.clone()),
            Operand::Bits(columns as u64),
        ];
        self.step(&node.location, kernel, operands, rows, 4)
    }

    /// A static quantize of the rows of a norm or transform, in the same kernel; false when `node` is something else.
    pub(super) fn quantized_rows(&mut self, node: &Node) -> Result<bool, LowerError> {
        let (Op::Quantize { to, narrow, rounding: Rounding::HalfEven, .. }, Some(Some(x))) =
            (&node.op, node.operands.first())
        else {
            return Ok(false);
        };
        let Some(producer) = self.producer_of(*x) else { return Ok(false) };
        let dims = self.function.ty(*x).dims.clone();
        let (columns, outer) = dims.split_last().expect("invariant: the producer has rows");
        let columns = columns.constant().expect("invariant: the producer was checked");
        let q = to.quantized().expect("invariant: the type rule demands it");
        let (lo, hi) = q
            .storage
            .integer_range(*narrow)
            .ok_or_else(|| LowerError::new("the result is no integer format"))?;
        let scale = node.operands[1].expect("invariant: arity was checked");
        let zero = self.static_zero(node.operands.get(2).copied().flatten())?;
        let y = self.result(node.results[0])?;
        let offset = if y.storage == Storage::Biased { 128 } else { 0 };
        let sink = Sink {
            output: RowOutput::Plain(Output::Codes { lo: (lo + offset) as i16, hi: (hi + offset) as i16 }),
            y: y.buffer,
            bytes: 1,
            scale: Operand::Buffer(self.place(scale)?.buffer),
            zero: Operand::Bits((zero + i64::from(offset)) as u64),
            ..Sink::default()
        };
        self.produce(producer, &Self::count(outer)?, columns, sink)?;
        Ok(true)
    }

    /// The norm or transform whose result `value` is, when a quantize takes it into its kernel.
    fn producer_of(&self, value: ValueId) -> Option<&'a Node> {
        let (_, node) = self.function.defining(value)?;
        self.quantize_takes(node).then_some(node)
    }

    /// Whether the only reader of a norm or transform of constant rows is a quantize with a kernel that does both.
    fn quantize_takes(&self, node: &Node) -> bool {
        let last = |value: ValueId| self.function.ty(value).rank() as i64 - 1;
        let over_rows = match &node.op {
            Op::RmsNorm { .. } | Op::Hadamard { .. } => true,
            Op::LayerNorm { axis, .. } => *axis == last(node.results[0]),
            _ => false,
        };
        let y = node.results[0];
        let constant = self.function.ty(y).dims.last().is_some_and(|d| d.constant().is_some());
        if !over_rows || !constant || self.targets.contains_key(&y) {
            return false;
        }
        match self.uses.get(&y).map(Vec::as_slice) {
            Some([(user, 0)]) => match &self.function.node(*user).op {
                op @ Op::DynamicQuantize { .. } => quantizes_rows(op),
                Op::Quantize { to, special: Special::Saturate, .. } => {
                    to.quantized().is_some_and(|q| q.granularity == Granularity::Tensor && is_plain(q))
                }
                _ => false,
            },
            _ => false,
        }
    }

    /// The step of a norm or transform, its results going to `sink`.
    fn produce(&mut self, node: &Node, rows: &Dim, columns: i64, sink: Sink) -> Result<(), LowerError> {
        match &node.op {
            Op::Hadamard { size, transpose } => self.hadamard(node, *size, *transpose, (rows, columns), sink),
            _ => self.norm(node, rows, columns, sink),
        }
    }

    /// The block size of the block-scaled weights that read a value; they must agree.
    fn block_of_users(&self, value: qcc_ir::ValueId) -> Result<Option<u32>, LowerError> {
        let mut found = None;
        for (user, _) in self.uses.get(&value).into_iter().flatten() {
            let user = self.function.node(*user);
            let weight = user.operands.get(1).copied().flatten();
            let q = weight.and_then(|w| self.function.ty(w).element.quantized());
            if let (Op::QuantizedLinear { .. }, Some(Granularity::Block { block, .. })) =
                (&user.op, q.map(|q| q.granularity))
            {
                if found.is_some_and(|b| b != block) {
                    return Err(LowerError::new("layers of different block sizes read one quantized value"));
                }
                found = Some(block);
            } else if found.is_some() {
                return Err(LowerError::new("block-scaled and other layers read one quantized value"));
            }
        }
        Ok(found)
    }
}
