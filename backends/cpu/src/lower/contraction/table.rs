//! Embedding from a quantized table: rows are read from the panels of the matrix product that has the table as its weight.

use qcc_ir::{Node, ValueId};
use qcc_runtime::program::Expr;

use super::super::{LowerError, Lowering, Operand};
use super::weights::Columns;
use super::{Form, Shape, weight_form};
use crate::kernels::gemm::{GemmSpec, Product};
use crate::loops::packed_rows::{PackedRows, SCRATCH_BYTES};
use crate::loops::storage::Storage;

impl Lowering<'_> {
    pub(in super::super) fn packed_embedding(&mut self, node: &Node) -> Result<(), LowerError> {
        let (table, index, scale, more) = self.table(node)?;
        let ty = self.function.ty(table);
        let dims = ty.constant_dims().ok_or_else(LowerError::too_large)?;
        let element = ty.element;
        if dims[0] == 0 {
            return Err(LowerError::new("an embedding from a table without rows"));
        }
        let shape = Shape::of_matrix(dims[0], dims[1]);
        let Form { product, coded } = match element.quantized() {
            Some(q) => weight_form(q, Storage::F32, &shape)?,
            None => Form::of_floats(element),
        };
        let (_, nr) = GemmSpec::tile(self.caps, product);
        let panels = match coded {
            Some(coded) => self.packed_codes(table, (scale, &more), coded, &shape, nr)?,
            None => self.packed_weights((table, scale), product, &shape, nr)?,
        };
        let multipliers = match product {
            Product::F32Block(_) | Product::F32F32 => Operand::Bits(0),
            _ => self.packed_scales(scale, None, dims[0] as usize, Columns::Panels(nr))?,
        };
        let ids = self.place(index)?;
        let spec = PackedRows { panels: product, coded, nr, wide: ids.index_is_wide()? };
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
            Operand::Fault,
        ];
        let items = self.expr_ceil_div(&count, 1)?;
        self.step_with(&node.location, kernel, operands, items, 4, Expr::Const(SCRATCH_BYTES));
        Ok(())
    }

    /// The codes of the table, the indices, the scales of codes, and what else comes with them.
    fn table(&self, node: &Node) -> Result<(ValueId, ValueId, Option<ValueId>, Vec<ValueId>), LowerError> {
        let missing = || LowerError::new("an operand is missing");
        let operand = |i: usize| node.operands.get(i).copied().flatten();
        let (table, index) = (operand(0).ok_or_else(missing)?, operand(1).ok_or_else(missing)?);
        if let Some(scale) = operand(2) {
            return Ok((table, index, Some(scale), Vec::new()));
        }
        let decoded = self.function.defining(table).ok_or_else(missing)?.1;
        let mut operands = decoded.operands.iter().copied().flatten();
        let (codes, scale) = (operands.next().ok_or_else(missing)?, operands.next());
        Ok((codes, index, scale, operands.collect()))
    }
}
