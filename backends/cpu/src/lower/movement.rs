//! Operations that move elements: one strided copy each (and a fill for pads). A reshape moves nothing.

use qcc_ir::{Dim, Node, Op, ValueId};
use qcc_runtime::program::{Expr, Limit};

use super::axes::{Axes, broadcast, contiguous};
use super::{LowerError, Lowering, Operand, Place};
use crate::loops::elementwise::activation;
use crate::loops::gather::Gather;
use crate::loops::movement::{Copy, Fill};
use crate::loops::planes::Planes;
use crate::loops::storage::Storage;

/// A strided block: where it starts and how it is walked, in elements.
struct Block {
    place: Place,
    offset: Dim,
    strides: Vec<Dim>,
}

/// A value that becomes columns of a concatenation where it is made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Joined {
    whole: ValueId,
    column: i64,
    width: i64,
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
        let strides = vec![to.strides.clone(), from.strides.clone()];
        let mut axes = Axes { dims: dims.to_vec(), strides }.merged()?;
        if self.planes(&axes, (&to, &from), name)? {
            return Ok(());
        }
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

    /// A copy of a few planes to pixels, by a kernel of its own; false where it is something else.
    fn planes(&mut self, axes: &Axes, (to, from): (&Block, &Block), name: &str) -> Result<bool, LowerError> {
        let bytes = to.place.storage.bytes();
        let (dims, [out, inside]) = (&axes.dims, &axes.strides[..]) else { return Ok(false) };
        let (one, rank) = (Dim::Const(1), dims.len());
        let [.., pixels, channels] = &dims[..] else { return Ok(false) };
        let Some(count) = channels.constant().filter(|n| Planes::fits(bytes, *n)) else { return Ok(false) };
        let whole = pixels.checked_mul(channels).ok_or_else(LowerError::too_large)?;
        let fits = rank <= 3
            && (to.offset == Dim::Const(0) && from.offset == Dim::Const(0))
            && (out[rank - 1] == one && out[rank - 2] == *channels && inside[rank - 2] == one)
            && (rank == 2 || out[0] == whole);
        if !fits {
            return Ok(false);
        }
        let spec = Planes { bytes, channels: count as usize };
        let kernel = self.kernel(&format!("{spec:?}"), |name, caps| spec.generate(name, caps));
        let images = if rank == 3 { dims[0].clone() } else { one };
        let stride = if rank == 3 { inside[0].clone() } else { Dim::Const(0) };
        let operands = vec![
            Operand::Buffer(to.place.buffer),
            Operand::Buffer(from.place.buffer),
            Operand::Size(pixels.clone()),
            Operand::Size(inside[rank - 1].clone()),
            Operand::Size(stride),
        ];
        let pieces = self.expr_ceil_div(pixels, Planes::PIXELS as u64)?;
        let items = Expr::Mul(Box::new(self.expr(&images)?), Box::new(pieces));
        self.step_with(name, kernel, operands, items, 4, Expr::Const(0));
        Ok(true)
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
        // Copies read exactly what they copy.
        let from = self.exact_place(x)?;
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

    /// Finds what becomes a part of a concatenation where it is made: results of products that only a concatenation of columns reads.
    pub(super) fn join(&mut self) -> Result<(), LowerError> {
        let function = self.function;
        for &id in function.order() {
            let node = function.node(id);
            let (Op::Concat { axis }, y) = (&node.op, node.results[0]) else { continue };
            let dims = &function.ty(y).dims;
            let last = *axis as usize + 1 == dims.len();
            let Some(width) = dims.last().and_then(Dim::constant).filter(|_| last) else { continue };
            if self.targets.contains_key(&y) || self.is_grown(y) {
                continue;
            }
            let storage = self.storage_of(y)?;
            let mut column = 0;
            for x in node.operands.iter().copied().flatten() {
                let own = function.ty(x).dims.last().and_then(Dim::constant).unwrap_or(0);
                let alone =
                    self.uses.get(&x).is_some_and(|uses| uses.len() == 1) && !self.targets.contains_key(&x);
                if alone && self.storage_of(x)? == storage && self.is_product(x) {
                    self.joined.insert(x, Joined { whole: y, column, width });
                }
                column += own;
            }
        }
        Ok(())
    }

    /// Whether a value is made by a matrix product, with what fuses into it.
    fn is_product(&self, value: ValueId) -> bool {
        let Some((_, node)) = self.function.defining(value) else { return false };
        let made_by = |node: &Node| match &node.op {
            Op::Conv { groups, .. } | Op::QuantizedConv { groups, .. } => *groups == 1,
            _ => false,
        };
        let before = node.operands.first().copied().flatten().and_then(|x| self.function.defining(x));
        made_by(node)
            || (activation(&node.op).is_some()
                && before.is_some_and(|(_, before)| {
                    made_by(before) && self.uses.get(&before.results[0]).is_some_and(|uses| uses.len() == 1)
                }))
    }

    /// Where a product puts a value that becomes a part of a concatenation: the place of all of it, the first column, and columns of a row.
    pub(super) fn joined_place(&mut self, value: ValueId) -> Result<Option<(Place, i64, i64)>, LowerError> {
        let Some(joined) = self.joined.get(&value).copied() else { return Ok(None) };
        let whole = match self.places.get(&joined.whole) {
            Some(place) => *place,
            None => self.result(joined.whole)?,
        };
        // Nothing else reads it.
        self.places.insert(value, whole);
        Ok(Some((whole, joined.column, joined.width)))
    }

    fn concat(&mut self, node: &Node, axis: usize) -> Result<(), LowerError> {
        let y = node.results[0];
        let to = match self.places.get(&y) {
            Some(place) => *place,
            None => self.result(y)?,
        };
        let strides = contiguous(&self.function.ty(y).dims)?;
        let mut start = Dim::Const(0);
        for &x in node.operands.iter().flatten() {
            let dims = self.function.ty(x).dims.clone();
            let in_place =
                self.joined.contains_key(&x) && self.places.get(&x).is_some_and(|p| p.buffer == to.buffer);
            if !in_place {
                let from =
                    Block { place: self.place(x)?, offset: Dim::Const(0), strides: contiguous(&dims)? };
                let offset = start.checked_mul(&strides[axis]).ok_or_else(LowerError::too_large)?;
                let to = Block { place: to, offset, strides: strides.clone() };
                self.copy(to, from, &dims, &node.location)?;
            }
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
