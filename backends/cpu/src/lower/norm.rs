//! Normalisation of rows.

use qcc_ir::{Dim, Node, Op};
use qcc_runtime::program::Expr;

use super::rows::Sink;
use super::{LowerError, Lowering, Operand};
use crate::kernels::norm::{self, NormSpec, Statistics};
use crate::loops::storage::Storage;

impl Lowering<'_> {
    /// Norms that are no row operations were legalised.
    pub(super) fn norm(
        &mut self,
        node: &Node,
        rows: &Dim,
        columns: i64,
        sink: Sink,
    ) -> Result<(), LowerError> {
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
        let from = self.strided(operand(0).expect("invariant: arity was checked"))?;
        let mut vector = |value: Option<qcc_ir::ValueId>| -> Result<Operand, LowerError> {
            match value {
                None => Ok(Operand::Bits(0)),
                Some(v) => match self.place(v)? {
                    place if place.storage == Storage::F32 => Ok(Operand::Buffer(place.buffer)),
                    other => Err(LowerError::new(format!(
                        "a gain or bias stored as {:?} is not supported",
                        other.storage
                    ))),
                },
            }
        };
        let (gain, bias) = (vector(operand(1))?, vector(operand(2))?);
        let spec = NormSpec {
            statistics,
            epsilon: (epsilon.0 as f32).into(),
            gain: operand(1).is_some(),
            bias: operand(2).is_some(),
            output: sink.output,
        };
        let kernel = self.kernel(&format!("{spec:?}"), |name, caps| norm::generate(&spec, name, caps));
        let operands = vec![
            from.start,
            from.stride,
            gain,
            bias,
            Operand::Buffer(sink.y),
            Operand::Bits(sink.bytes * columns as u64),
            sink.scale,
            sink.zero,
            sink.scales,
            sink.sums,
            Operand::Size(rows.clone()),
            Operand::Bits(columns as u64),
        ];
        let items = self.expr(rows)?;
        self.step_with(
            &node.location,
            kernel,
            operands,
            items,
            4,
            Expr::Const(spec.scratch_bytes(columns as u64)),
        );
        Ok(())
    }
}
