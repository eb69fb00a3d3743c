//! Where values are: in which buffer, at which strides, as which elements.

use qcc_ir::{Definition, Dim, ElementType, Op, OpId, ValueId};

use super::buffers::Buffer;
use super::packing::PackedParameter;
use super::{LowerError, Lowering, contraction};
use crate::loops::storage::Storage;

/// Where a value is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub buffer: Buffer,
    pub storage: Storage,
}

impl Place {
    /// Whether the indices stored here are 64-bit, not 32-bit.
    pub(super) fn index_is_wide(self) -> Result<bool, LowerError> {
        match self.storage {
            Storage::I64 => Ok(true),
            Storage::I32 => Ok(false),
            other => Err(LowerError::new(format!("indices stored as {other:?} are not supported"))),
        }
    }
}

impl Lowering<'_> {
    pub(crate) fn new_buffer(&mut self, dims: &[Dim], storage: Storage) -> Result<Buffer, LowerError> {
        let bytes =
            Self::count(dims)?.checked_mul(&Dim::Const(storage.bytes())).ok_or_else(LowerError::too_large)?;
        let bytes = self.expr(&bytes)?;
        Ok(self.buffers.add(bytes))
    }

    /// A buffer of so many bytes that no value owns.
    pub(crate) fn temporary(&mut self, bytes: &Dim) -> Result<Buffer, LowerError> {
        let bytes = self.expr(bytes)?;
        Ok(self.buffers.add(bytes))
    }

    /// How a value's elements lie in memory.
    pub(crate) fn storage_of(&self, value: ValueId) -> Result<Storage, LowerError> {
        Ok(match self.function.ty(value).element {
            ElementType::F32 => Storage::F32,
            ElementType::F16 => Storage::F16,
            ElementType::BF16 => Storage::BF16,
            ElementType::Bool => Storage::Bool,
            ElementType::I8 => Storage::I8,
            ElementType::U8 => Storage::U8,
            ElementType::I32 => Storage::I32,
            ElementType::I64 => Storage::I64,
            ElementType::Quant(q) => match q.storage {
                qcc_ir::Storage::UInt(_) => Storage::U8,
                // Block-scaled weights take signed activations; everything else the unsigned operand of `vpdpbusd`.
                qcc_ir::Storage::Int(_)
                    if contraction::feeds_block_weights(self.function, &self.uses, value) =>
                {
                    Storage::I8
                }
                qcc_ir::Storage::Int(_) => Storage::Biased,
                // All others as bit patterns.
                other if other.bits() <= 8 => Storage::U8,
                other => {
                    return Err(LowerError::new(format!("codes of {} are wider than a byte", other.name())));
                }
            },
            other => return Err(LowerError::new(format!("elements of type {other} have no CPU kernels"))),
        })
    }

    /// Where an operand is; parameters and constants become program parameters here.
    pub(crate) fn place(&mut self, value: ValueId) -> Result<Place, LowerError> {
        if let Some(place) = self.places.get(&value) {
            return Ok(*place);
        }
        if let Some(view) = self.views.get(&value).copied() {
            return self.materialise(value, view);
        }
        let storage = self.storage_of(value)?;
        if let Some(input) = self.callers.get(&value).copied() {
            let dims = self.function.ty(value).dims.clone();
            let own = Place { buffer: self.new_buffer(&dims, storage)?, storage };
            self.copy_all(own, input, &dims, "input")?;
            self.places.insert(value, own);
            return Ok(own);
        }
        let Definition::Result(op, _) = self.function.value(value).definition else {
            return Err(LowerError::new("an argument was not lowered"));
        };
        let node = self.function.node(op);
        let packed = match &node.op {
            Op::Parameter { name } => PackedParameter::plain(name, self.function.ty(value), storage)?,
            Op::Constant { value } => PackedParameter::constant(value, storage)?,
            other => {
                return Err(LowerError::new(format!(
                    "the result of `qcc.{}` is used before it is made",
                    other.name()
                )));
            }
        };
        let place = Place { buffer: self.parameter(packed), storage };
        self.places.insert(value, place);
        Ok(place)
    }

    /// Where an operand is, for a kernel that reads nothing past its end.
    pub(crate) fn exact_place(&mut self, value: ValueId) -> Result<Place, LowerError> {
        match self.callers.get(&value) {
            Some(input) if !self.places.contains_key(&value) => Ok(*input),
            _ => self.place(value),
        }
    }

    /// Whether an input need not be copied before its readers are known to need that: they read its elements in order, or move them.
    pub(super) fn may_wait(&self, value: ValueId) -> bool {
        let readers = self.uses.get(&value).map(Vec::as_slice).unwrap_or_default();
        let plain = |(user, _): &(OpId, usize)| {
            let node = self.function.node(*user);
            matches!(node.op, Op::Transpose { .. } | Op::Quantize { .. })
        };
        !self.targets.contains_key(&value) && readers.iter().all(plain)
    }

    /// A buffer for a result: the output itself where that is its only target, else a virtual one that is copied there.
    pub(crate) fn result(&mut self, value: ValueId) -> Result<Place, LowerError> {
        let storage = self.storage_of(value)?;
        let unused = self.uses.get(&value).is_none_or(Vec::is_empty);
        let buffer = match self.targets.get(&value).map(Vec::as_slice) {
            Some([only @ Buffer::Output(_)]) if unused => *only,
            _ => self.new_buffer(&self.function.ty(value).dims, storage)?,
        };
        let place = Place { buffer, storage };
        self.places.insert(value, place);
        Ok(place)
    }
}
