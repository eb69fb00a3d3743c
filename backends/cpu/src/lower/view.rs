//! Views: a slice of the last axis moves nothing where its readers take rows with a stride of their own.

use qcc_ir::{Node, Op, ValueId};

use super::axes::contiguous;
use super::buffers::Buffer;
use super::{LowerError, Lowering, Operand, Place};
use crate::loops::storage::Storage;

/// Some columns of another value.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View {
    /// The value, no view itself.
    pub base: ValueId,
    /// First column.
    pub column: i64,
}

/// Rows of f32 as kernels read them.
pub(crate) struct StridedRows {
    /// The first row.
    pub start: Operand,
    /// Bytes from one row to the next.
    pub stride: Operand,
}

impl StridedRows {
    /// The buffer they lie in.
    pub(super) fn buffer(&self) -> Buffer {
        match self.start {
            Operand::Buffer(buffer) | Operand::At(buffer, _) => buffer,
            _ => unreachable!("invariant: rows start in a buffer"),
        }
    }
}

impl Lowering<'_> {
    /// A slice: a view if it can be one, else a copy.
    pub(super) fn slice(&mut self, node: &Node) -> Result<(), LowerError> {
        match self.view_of(node) {
            Some(view) => {
                self.views.insert(node.results[0], view);
                Ok(())
            }
            None => self.movement(node),
        }
    }

    fn view_of(&self, node: &Node) -> Option<View> {
        let Op::Slice { axes, starts, steps, .. } = &node.op else { return None };
        let (x, y) = (node.operands[0]?, node.results[0]);
        let last = self.function.ty(x).rank().checked_sub(1)?;
        let columns = axes.as_slice() == [last as i64] && steps.as_slice() == [1];
        let View { base, column } = self.views.get(&x).copied().unwrap_or(View { base: x, column: 0 });
        let place = self.places.get(&base)?;
        let fits = matches!(place.buffer, Buffer::Virtual(_)) && place.storage == Storage::F32;
        let constant = self.function.ty(base).dims[last].constant().is_some();
        (columns && fits && constant && !self.targets.contains_key(&y))
            .then(|| View { base, column: column + starts[0] })
    }

    /// The rows of an f32 value, wherever they are.
    pub(crate) fn strided(&mut self, value: ValueId) -> Result<StridedRows, LowerError> {
        if let Some(view) = self.views.get(&value).copied() {
            let width = self.width(view.base)?;
            let start = Operand::At(self.places[&view.base].buffer, 4 * view.column);
            return Ok(StridedRows { start, stride: Operand::Bits(4 * width as u64) });
        }
        let place = self.place(value)?;
        if place.storage != Storage::F32 {
            return Err(LowerError::new(format!("works on f32 rows, not on {:?}", place.storage)));
        }
        let width = self.width(value)?;
        Ok(StridedRows { start: Operand::Buffer(place.buffer), stride: Operand::Bits(4 * width as u64) })
    }

    /// The view's columns as a tensor of their own.
    pub(super) fn materialise(&mut self, value: ValueId, view: View) -> Result<Place, LowerError> {
        let dims = self.function.ty(value).dims.clone();
        let from = self.places[&view.base];
        let own = Place { buffer: self.new_buffer(&dims, Storage::F32)?, storage: Storage::F32 };
        let strides = contiguous(&self.function.ty(view.base).dims)?;
        self.copy_columns(own, from, view.column, strides, &dims)?;
        self.places.insert(value, own);
        Ok(own)
    }

    fn width(&self, value: ValueId) -> Result<i64, LowerError> {
        let width = self.function.ty(value).dims.last().and_then(qcc_ir::Dim::constant);
        width.ok_or_else(|| LowerError::new("rows of symbolic length have no CPU kernel"))
    }
}
