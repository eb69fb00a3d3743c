//! Operations that move elements: one strided copy each (and a fill for pads). A reshape moves nothing.

use qcc_ir::{Dim, Node, Op};
use qcc_runtime::program::{Expr, Limit};

use super::axes::{Axes, broadcast, contiguous};
use super::{LowerError, Lowering, Operand, Place};
use crate::loops::gather::Gather;
use crate::loops::movement::{Copy, Fill};
use crate::loops::storage::Storage;

/// A strided block: where it starts and how it is walked, in elements.
struct Block {
    place: Place,
    offset: Dim,
    strides: Vec<Dim>,
}

/// Codes of one format may be stored in two ways; a copy does not convert them.
fn same_storage(from: Place, to: Place) -> Result<(), LowerError> {
    if from.storage == to.storage {
        return Ok(());
    }
    Err(LowerError::new(format!(
        "moves elements stored as {:?} to where they are stored as {:?}",
        from.storage, to.storage
    )))
}

impl Lowering<'_> {
    pub(super) fn alias(&mut self, node: &Node) -> Result<(), LowerError> {
        let x = node.operands[0].expect("invariant: arity was checked");
        let place = self.place(x)?;
        self.places.insert(node.results[0], place);
        Ok(())
    }

    /// Copies a whole contiguous tensor.
    pub(super) fn copy_all(
        &mut self,
        to: Place,
        from: Place,
        dims: &[Dim],
        name: &str,
    ) -> Result<(), LowerError> {
        let strides = contiguous(dims)?;
        let block = |place| Block { place, offset: Dim::Const(0), strides: strides.clone() };
        self.copy(block(to), block(from), dims, name)
    }

    /// Copies columns of a wider tensor: `strides` are those of the source, in elements.
    pub(super) fn copy_columns(
        &mut self,
        to: Place,
        from: Place,
        column: i64,
        strides: Vec<Dim>,
        dims: &[Dim],
    ) -> Result<(), LowerError> {
        let whole = Block { place: to, offset: Dim::Const(0), strides: contiguous(dims)? };
        self.copy(whole, Block { place: from, offset: Dim::Const(column), strides }, dims, "slice")
    }

    fn copy(&mut self, to: Block, from: Block, dims: &[Dim], name: &str) -> Result<(), LowerError> {
        same_storage(from.place, to.place)?;
        let axes = Axes { dims: dims.to_vec(), strides: vec![to.strides, from.strides] }.merged()?;
        let mut axes = axes;
        let one = Dim::Const(1);
        // A long contiguous run is cut into pieces of 4096 elements, so that several threads can share it.
        const PIECE: i64 = 4096;
        let last = axes.dims.len() - 1;
        if let Some(n) = axes.dims[last].constant().filter(|n| *n > PIECE && *n % PIECE == 0) {
            axes.dims[last] = Dim::Const(n / PIECE);
            axes.dims.push(Dim::Const(PIECE));
            for strides in &mut axes.strides {
                let inner = strides[last].clone();
                strides[last] = inner.checked_mul(&Dim::Const(PIECE)).ok_or_else(LowerError::too_large)?;
                strides.push(inner);
            }
        }
        let rank = axes.dims.len();
        let spec = Copy {
            rank,
            bytes: to.place.storage.bytes(),
            contiguous: axes.strides.iter().all(|s| s[rank - 1] == one),
        };
        let kernel = self.kernel(&format!("{spec:?}"), |name, caps| spec.generate(name, caps));
        let mut operands = vec![Operand::Buffer(to.place.buffer), Operand::Buffer(from.place.buffer)];
        operands.extend([Operand::Size(to.offset), Operand::Size(from.offset)]);
        operands.extend(axes.dims.iter().cloned().map(Operand::Size));
        operands.extend(axes.strides.iter().flatten().cloned().map(Operand::Size));
        let rows = Self::count(&axes.dims[..rank - 1])?;
        self.step(name, kernel, operands, &rows, 8)
    }

    pub(super) fn movement(&mut self, node: &Node) -> Result<(), LowerError> {
        let operand = |i: usize| node.operands[i].expect("invariant: arity was checked");
        let dims = self.function.ty(node.results[0]).dims.clone();
        let name = node.location.to_string();
        if let Op::Concat { axis } = &node.op {
            return self.concat(node, *axis as usize);
        }
        let x = operand(0);
        let from_dims = self.function.ty(x).dims.clone();
        let from = self.place(x)?;
        let to = self.result(node.results[0])?;
        let own = contiguous(&from_dims)?;
        let whole = Block { place: to, offset: Dim::Const(0), strides: contiguous(&dims)? };
        match &node.op {
            Op::Transpose { permutation } => {
                let strides = permutation.iter().map(|&p| own[p as usize].clone()).collect();
                self.copy(whole, Block { place: from, offset: Dim::Const(0), strides }, &dims, &name)
            }
            Op::Broadcast { .. } => {
                let strides = broadcast(&from_dims, dims.len())?;
                self.copy(whole, Block { place: from, offset: Dim::Const(0), strides }, &dims, &name)
            }
            Op::Slice { axes, starts, steps, .. } => {
                if steps.iter().any(|s| *s < 0) {
                    return Err(LowerError::new("a negative step was not legalised"));
                }
                let (mut strides, mut offset) = (own, Dim::Const(0));
                for ((&axis, &start), &step) in axes.iter().zip(starts).zip(steps) {
                    let stride = strides[axis as usize].clone();
                    let skip = stride.checked_mul(&Dim::Const(start)).ok_or_else(LowerError::too_large)?;
                    offset = offset.checked_add(&skip).ok_or_else(LowerError::too_large)?;
                    strides[axis as usize] =
                        stride.checked_mul(&Dim::Const(step)).ok_or_else(LowerError::too_large)?;
                }
                self.copy(whole, Block { place: from, offset, strides }, &dims, &name)
            }
            Op::Pad { pads, value, mode } => {
                if *mode != qcc_ir::ops::PadMode::Constant {
                    return Err(LowerError::new("a non-constant pad was not legalised"));
                }
                let codes = self.function.ty(x).element.quantized().is_some();
                let bits = match to.storage {
                    Storage::F32 => u64::from((value.0 as f32).to_bits()),
                    _ if value.0 == 0.0 => self.zero_code(node.results[0])?,
                    other if codes => {
                        return Err(LowerError::new(format!(
                            "cannot pad codes stored as {other:?} by {}",
                            value.0
                        )));
                    }
                    // Conversion saturates, as `cast` does.
                    Storage::Bool => 1,
                    Storage::I64 => value.0 as i64 as u64,
                    Storage::I32 => value.0 as i32 as u64,
                    Storage::I8 => value.0 as i8 as u64,
                    Storage::U8 => u64::from(value.0 as u8),
                    other => return Err(LowerError::new(format!("cannot pad {other:?} by {}", value.0))),
                };
                self.fill(to, &dims, bits, &name)?;
                let mut offset = Dim::Const(0);
                for (stride, &begin) in whole.strides.iter().zip(pads) {
                    let skip = stride.checked_mul(&Dim::Const(begin)).ok_or_else(LowerError::too_large)?;
                    offset = offset.checked_add(&skip).ok_or_else(LowerError::too_large)?;
                }
                let inside = Block { offset, ..whole };
                self.copy(
                    inside,
                    Block { place: from, offset: Dim::Const(0), strides: own },
                    &from_dims,
                    &name,
                )
            }
            other => Err(LowerError::new(format!("qcc.{} does not move elements", other.name()))),
        }
    }

    fn concat(&mut self, node: &Node, axis: usize) -> Result<(), LowerError> {
        let to = self.result(node.results[0])?;
        let strides = contiguous(&self.function.ty(node.results[0]).dims)?;
        let mut start = Dim::Const(0);
        for &x in node.operands.iter().flatten() {
            let dims = self.function.ty(x).dims.clone();
            let from = Block { place: self.place(x)?, offset: Dim::Const(0), strides: contiguous(&dims)? };
            let offset = start.checked_mul(&strides[axis]).ok_or_else(LowerError::too_large)?;
            self.copy(Block { place: to, offset, strides: strides.clone() }, from, &dims, &node.location)?;
            start = start.checked_add(&dims[axis]).ok_or_else(LowerError::too_large)?;
        }
        Ok(())
    }

    /// Fills a tensor with an element given by its bits.
    pub(super) fn fill(&mut self, to: Place, dims: &[Dim], bits: u64, name: &str) -> Result<(), LowerError> {
        let spec = Fill { bytes: to.storage.bytes() };
        let kernel = self.kernel(&format!("{spec:?}"), |name, caps| spec.generate(name, caps));
        let count = Self::count(dims)?;
        let items = self.expr_ceil_div(&count, 64)?;
        let operands = vec![Operand::Buffer(to.buffer), Operand::Size(count), Operand::Bits(bits)];
        self.step_with(name, kernel, operands, items, 64, Expr::Const(0));
        Ok(())
    }

    /// A size that only run time knows, and what it may be at most.
    fn limit(&mut self, node: &Node, size: &Dim, most: &Dim) -> Result<(), LowerError> {
        let limit = Limit {
            size: self.expr(size)?,
            most: self.expr(most)?,
            name: size.to_string(),
            place: node.location.to_string(),
        };
        if !self.limits.contains(&limit) {
            self.limits.push(limit);
        }
        Ok(())
    }

    pub(super) fn gather(&mut self, node: &Node) -> Result<(), LowerError> {
        let operand = |i: usize| node.operands[i].expect("invariant: arity was checked");
        let (x, index) = (operand(0), operand(1));
        let axis = match &node.op {
            Op::Gather { axis } => *axis as usize,
            _ => 0,
        };
        let dims = self.function.ty(x).dims.clone();
        let (from, ids) = (self.place(x)?, self.place(index)?);
        let function = self.function;
        if let Some((_, Node { op: Op::Iota { size }, .. })) = function.defining(index)
            && *size != dims[axis]
        {
            self.limit(node, size, &dims[axis])?;
        }
        let to = self.result(node.results[0])?;
        same_storage(from, to)?;
        let spec = Gather { bytes: from.storage.bytes(), wide: ids.index_is_wide()? };
        let kernel = self.kernel(&format!("{spec:?}"), |name, caps| spec.generate(name, caps));
        let count = Self::count(&self.function.ty(index).dims)?;
        let inner = Self::count(&dims[axis + 1..])?;
        let outer = Self::count(&dims[..axis])?;
        let mut operands =
            vec![Operand::Buffer(to.buffer), Operand::Buffer(from.buffer), Operand::Buffer(ids.buffer)];
        operands.extend([count.clone(), dims[axis].clone(), inner].map(Operand::Size));
        operands.push(Operand::Fault);
        let items = outer.checked_mul(&count).ok_or_else(LowerError::too_large)?;
        self.step(&node.location, kernel, operands, &items, 16)
    }
}
