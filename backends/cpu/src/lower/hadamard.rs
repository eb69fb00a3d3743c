//! Hadamard transforms of rows.

use qcc_ir::hadamard::Order;
use qcc_ir::{Dim, Node};
use qcc_runtime::program::Expr;

use super::packing::{PackedParameter, f32_bytes};
use super::rows::Sink;
use super::{LowerError, Lowering, Operand};
use crate::kernels::hadamard::{self, HadamardSpec};

impl Lowering<'_> {
    /// The transform of blocks of `size` of so many rows of so many columns. Base matrices are parameters of the program.
    pub(super) fn hadamard(
        &mut self,
        node: &Node,
        size: i64,
        transpose: bool,
        (rows, columns): (&Dim, i64),
        sink: Sink,
    ) -> Result<(), LowerError> {
        let order = Order::of(size)
            .ok_or_else(|| LowerError::new(format!("no Hadamard matrix of order {size} is known")))?;
        let x = node.operands[0].expect("invariant: arity was checked");
        let from = self.strided(x)?;
        let matrix = match order.base() {
            1 => Operand::Bits(0),
            _ => {
                let name = format!("hadamard {size}{}", if transpose { " transposed" } else { "" });
                let bytes = f32_bytes(&hadamard::pack_matrix(order, transpose));
                Operand::Buffer(self.parameter(PackedParameter::given(name, bytes)))
            }
        };
        let spec = HadamardSpec { order, output: sink.output };
        let kernel = self.kernel(&format!("{spec:?}"), |name, caps| hadamard::generate(&spec, name, caps));
        let operands = vec![
            from.start,
            from.stride,
            matrix,
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
        let scratch = Expr::Const(spec.scratch_bytes(columns as u64));
        self.step_with(&node.location, kernel, operands, items, grain(columns), scratch);
        Ok(())
    }
}

/// Rows that are worth another thread: some thousand elements.
fn grain(columns: i64) -> u64 {
    4096 / (columns as u64).max(1)
}
