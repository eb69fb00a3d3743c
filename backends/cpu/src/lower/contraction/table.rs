//! Embedding from a quantized table: rows are read from the panels of the matrix product that has the table as its weight.

use qcc_ir::Node;
use qcc_runtime::program::Expr;

use super::super::{LowerError, Lowering, Operand};
use super::{Shape, integer_product};
use crate::kernels::gemm::{GemmSpec, Product};
use crate::loops::packed_rows::{PackedRows, SCRATCH_BYTES};
use crate::loops::storage::Storage;

impl Lowering<'_> {
    pub(in super::super) fn packed_embedding(&mut self, node: &Node) -> Result<(), LowerError> {
        let operand = |i: usize| node.operands[i].expect("invariant: the type rule asks for it");
        let (table, index, scale) = (operand(0), operand(1), operand(2));
        let ty = self.function.ty(table);
        let dims = ty.constant_dims().ok_or_else(LowerError::too_large)?;
        let q =
            ty.element.quantized().ok_or_else(|| LowerError::new("the table has a scale and no codes"))?;
        if dims[0] == 0 {
            return Err(LowerError::new("an embedding from a table without rows"));
        }
        let shape = Shape { columns: dims[0], depth: dims[1], taps: None };
        let product = integer_product(q, Storage::F32, &shape)?;
        let (_, nr) = GemmSpec::tile(self.caps, product);
        let panels = self.packed_weights((table, Some(scale)), product, &shape, nr)?;
        let multipliers = match product {
            Product::F32Block(_) => Operand::Bits(0),
            _ => self.packed_scales(Some(scale), None, dims[0] as usize, nr)?,
        };
        let ids = self.place(index)?;
        let spec = PackedRows { panels: product, nr, wide: ids.index_is_wide()? };
        let kernel = self.kernel(&format!("{spec:?}"), |name, caps| spec.generate(name, caps));
        let to = self.result(node.results[0])?;
        let count = Self::count(&self.function.ty(index).dims)?;
        let operands = vec![
            Operand::Buffer(to.buffer),
            panels,
            Operand::Buffer(ids.buffer),
            multipliers,
            Operand::Bits(dims[0] as u64),
            Operand::Bits(dims[1] as u64),
        ];
        let items = self.expr_ceil_div(&count, 1)?;
        self.step_with(&node.location, kernel, operands, items, 4, Expr::Const(SCRATCH_BYTES));
        Ok(())
    }
}
