//! Operations on rows (the last axis): normalisation, softmax, dynamic quantization.

use qcc_ir::{Dim, Granularity, Node, Op};
use qcc_runtime::program::Expr;

use super::{LowerError, Lowering, Operand};
use crate::kernels::epilogue::Output;
use crate::kernels::norm::{self, NormSpec, RowOutput, Statistics};
use crate::kernels::quantize::{self, QuantizeSpec, TokenFormat};
use crate::kernels::softmax;
use crate::loops::storage::Storage;

impl Lowering<'_> {
    pub(super) fn rows(&mut self, node: &Node) -> Result<(), LowerError> {
        let x = node.operands[0].expect("invariant: arity was checked");
        let dims = self.function.ty(x).dims.clone();
        let Some((columns, outer)) = dims.split_last() else {
            return Err(LowerError::new("a row operation needs rank 1 or more"));
        };
        let columns = columns.constant().ok_or_else(|| LowerError::new(format!("rows of symbolic length {columns} have no CPU kernel")))?;
        let rows = Self::count(outer)?;
        let from = self.place(x)?;
        if from.storage != Storage::F32 {
            return Err(LowerError::new(format!("works on f32 rows, not on {:?}", from.storage)));
        }
        let stride = Operand::Bits(4 * columns as u64);
        match &node.op {
            Op::Softmax { axis } => {
                if *axis as usize + 1 != dims.len() {
                    return Err(LowerError::new("a softmax along another axis than the last was not legalised"));
                }
                let to = self.result(node.results[0])?;
                let kernel = self.kernel("softmax", softmax::generate);
                let operands = vec![
                    Operand::Buffer(from.buffer),
                    stride.clone(),
                    Operand::Buffer(to.buffer),
                    stride,
                    Operand::Size(rows.clone()),
                    Operand::Bits(columns as u64),
                ];
                self.step(&node.location, kernel, operands, &rows, 4)
            }
            Op::DynamicQuantize { to, narrow, .. } => {
                let q = to.quantized().expect("invariant: the type rule demands it");
                let (lo, hi) = match (q.granularity, q.storage.integer_range(*narrow)) {
                    (Granularity::Token, Some(range)) => range,
                    _ => return Err(LowerError::new("only integer formats with a scale a token are quantized at run time")),
                };
                if lo != -hi {
                    return Err(LowerError::new("`:full` and unsigned formats have no dynamic CPU kernel"));
                }
                let y = self.result(node.results[0])?;
                let scales = self.result(node.results[1])?;
                let block = self.block_of_users(node.results[0])?;
                let format = TokenFormat {
                    limit: hi as i16,
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
                let spec = QuantizeSpec::Token(format);
                let kernel = self.kernel(&format!("{spec:?}"), |name, caps| quantize::generate(&spec, name, caps));
                let operands = vec![
                    Operand::Buffer(from.buffer),
                    stride,
                    Operand::Buffer(y.buffer),
                    Operand::Bits(columns as u64),
                    Operand::Buffer(scales.buffer),
                    sums,
                    Operand::Size(rows.clone()),
                    Operand::Bits(columns as u64),
                ];
                self.step(&node.location, kernel, operands, &rows, 4)
            }
            _ => self.norm(node, &rows, columns),
        }
    }

    fn norm(&mut self, node: &Node, rows: &Dim, columns: i64) -> Result<(), LowerError> {
        let operand = |i: usize| node.operands.get(i).copied().flatten();
        let (statistics, epsilon) = match &node.op {
            Op::RmsNorm { epsilon } => (Statistics::RootMeanSquare, epsilon),
            Op::LayerNorm { axis, epsilon } => {
                let rank = operand(0).map_or(0, |x| self.function.ty(x).rank());
                if *axis as usize + 1 != rank {
                    return Err(LowerError::new("a layer_norm over several axes was not legalised"));
                }
                (Statistics::MeanVariance, epsilon)
            }
            other => return Err(LowerError::new(format!("qcc.{} is no row operation", other.name()))),
        };
        let from = self.place(operand(0).expect("invariant: arity was checked"))?;
        let mut vector = |value: Option<qcc_ir::ValueId>| -> Result<Operand, LowerError> {
            match value {
                None => Ok(Operand::Bits(0)),
                Some(v) => match self.place(v)? {
                    place if place.storage == Storage::F32 => Ok(Operand::Buffer(place.buffer)),
                    other => Err(LowerError::new(format!("a gain or bias stored as {:?} is not supported", other.storage))),
                },
            }
        };
        let (gain, bias) = (vector(operand(1))?, vector(operand(2))?);
        let spec = NormSpec {
            statistics,
            epsilon: (epsilon.0 as f32).into(),
            gain: operand(1).is_some(),
            bias: operand(2).is_some(),
            output: RowOutput::Plain(Output::F32),
        };
        let to = self.result(node.results[0])?;
        let kernel = self.kernel(&format!("{spec:?}"), |name, caps| norm::generate(&spec, name, caps));
        let stride = Operand::Bits(4 * columns as u64);
        let operands = vec![
            Operand::Buffer(from.buffer),
            stride.clone(),
            gain,
            bias,
            Operand::Buffer(to.buffer),
            stride,
            Operand::Bits(0),
            Operand::Bits(0),
            Operand::Bits(0),
            Operand::Bits(0),
            Operand::Size(rows.clone()),
            Operand::Bits(columns as u64),
        ];
        let items = self.expr(rows)?;
        self.step_with(&node.location, kernel, operands, items, 4, Expr::Const(spec.scratch_bytes(columns as u64)));
        Ok(())
    }

    /// The block size of the block-scaled weights that read a value; they must agree.
    fn block_of_users(&self, value: qcc_ir::ValueId) -> Result<Option<u32>, LowerError> {
        let mut found = None;
        for (user, _) in self.uses.get(&value).into_iter().flatten() {
            let user = self.function.node(*user);
            let weight = user.operands.get(1).copied().flatten();
            let q = weight.and_then(|w| self.function.ty(w).element.quantized());
            if let (Op::QuantizedLinear { .. }, Some(Granularity::Block { block, .. })) = (&user.op, q.map(|q| q.granularity)) {
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
