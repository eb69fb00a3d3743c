//! Tensors of each sample: in memory as far as a budget goes, the rest in a file without a name.

use std::fs::File;
use std::os::unix::fs::FileExt;

use qcc_ir::TensorType;
use qcc_params::Tensor;

/// Tensors of samples.
pub(super) struct Store {
    slots: Vec<Slot>,
    /// Bytes that may still be held in memory.
    left: u64,
    file: Option<File>,
    /// Bytes of the file.
    end: u64,
}

enum Slot {
    Memory(Vec<Tensor>),
    /// One after the other, from here in the file on.
    File {
        start: u64,
        types: Vec<TensorType>,
    },
}

impl Store {
    /// Nothing of each of so many samples; at most `budget` bytes will be held in memory.
    pub(super) fn new(samples: usize, budget: u64) -> Store {
        let slots = (0..samples).map(|_| Slot::Memory(Vec::new())).collect();
        Store { slots, left: budget, file: None, end: 0 }
    }

    /// Keeps the tensors of a sample.
    pub(super) fn put(&mut self, sample: usize, tensors: Vec<Tensor>) -> Result<(), String> {
        let bytes = tensors.iter().map(bytes).fold(0, u64::saturating_add);
        if let Some(left) = self.left.checked_sub(bytes) {
            self.left = left;
            self.slots[sample] = Slot::Memory(tensors);
            return Ok(());
        }
        let failed = |e: std::io::Error| {
            let folder = std::env::temp_dir();
            format!(
                "what layers read cannot be kept in `{}` (TMPDIR names another folder): {e}",
                folder.display()
            )
        };
        if self.file.is_none() {
            self.file = Some(tempfile::tempfile().map_err(failed)?);
        }
        let (start, mut types) = (self.end, Vec::new());
        for tensor in tensors {
            let bytes = tensor.to_le_bytes();
            if let Some(file) = &self.file {
                file.write_all_at(&bytes, self.end).map_err(failed)?;
            }
            self.end += bytes.len() as u64;
            types.push(tensor.ty());
        }
        self.slots[sample] = Slot::File { start, types };
        Ok(())
    }

    /// The tensors of a sample, which are not kept any longer.
    pub(super) fn take(&mut self, sample: usize) -> Result<Vec<Tensor>, String> {
        let slot = std::mem::replace(&mut self.slots[sample], Slot::Memory(Vec::new()));
        let (mut start, types) = match slot {
            Slot::Memory(tensors) => return Ok(tensors),
            Slot::File { start, types } => (start, types),
        };
        let mut tensors = Vec::new();
        for ty in types {
            let wrong = |e: &dyn std::fmt::Display| format!("what layers read cannot be read back: {e}");
            let dims = ty.constant_dims().ok_or_else(|| wrong(&"a size is not known"))?;
            let bits = i64::from(ty.element.bits());
            let bits = dims.iter().try_fold(bits, |n, d| n.checked_mul(*d));
            let count = bits.and_then(|bits| usize::try_from(bits / 8).ok());
            let mut bytes = vec![0; count.ok_or_else(|| wrong(&"a size overflows"))?];
            if let Some(file) = &self.file {
                file.read_exact_at(&mut bytes, start).map_err(|e| wrong(&e))?;
            }
            start += bytes.len() as u64;
            tensors.push(Tensor::from_le_bytes(&ty, &bytes).map_err(|e| wrong(&e))?);
        }
        Ok(tensors)
    }

    /// Whether nothing is held in memory.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.slots.iter().all(|slot| matches!(slot, Slot::Memory(tensors) if tensors.is_empty()))
    }

    /// How many samples lie in the file.
    #[cfg(test)]
    pub(super) fn in_file(&self) -> usize {
        self.slots.iter().filter(|slot| matches!(slot, Slot::File { .. })).count()
    }
}

/// Bytes that a float tensor takes.
pub(super) fn bytes(tensor: &Tensor) -> u64 {
    (tensor.len() as u64).saturating_mul(u64::from(tensor.element.bits())) / 8
}
