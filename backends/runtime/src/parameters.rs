//! The weights as kernels read them: memory-mapped from `parameters.safetensors`, or in memory where a model is compiled and run in one
//! process. Offsets and sizes are checked against the file's length when it is opened, alignment and presence when a model takes them.

#![allow(unsafe_code)]

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;

use memmap2::Mmap;
use safetensors::SafeTensors;

use crate::program::ParameterSlot;
use crate::{ALIGNMENT, AlignedBuffer, RuntimeError};

enum Place {
    /// From and to, in the file.
    Mapped(usize, usize),
    Memory(AlignedBuffer),
}

/// Named byte buffers that do not change or move.
#[derive(Default)]
pub struct Parameters {
    map: Option<Mmap>,
    places: HashMap<String, Place>,
}

impl Parameters {
    /// Parameters in memory; none for a model without weights.
    pub fn from_buffers(buffers: impl IntoIterator<Item = (String, AlignedBuffer)>) -> Parameters {
        let places = buffers.into_iter().map(|(name, buffer)| (name, Place::Memory(buffer))).collect();
        Parameters { map: None, places }
    }

    /// Maps a safetensors file, as [`ParameterWriter`](crate::ParameterWriter) makes it.
    ///
    /// # Errors
    /// [`RuntimeError::File`] when it cannot be read or its header does not describe it.
    pub fn open(path: &Path) -> Result<Parameters, RuntimeError> {
        let fail = |message: String| RuntimeError::File { path: path.display().to_string(), message };
        let file = File::open(path).map_err(|e| fail(e.to_string()))?;
        if !file.metadata().map_err(|e| fail(e.to_string()))?.is_file() {
            return Err(fail("it is not a regular file".into()));
        }
        // SAFETY: the artifact is not written to while it is in use: compiling again puts a new file in its place.
        let map = unsafe { Mmap::map(&file) }.map_err(|e| fail(e.to_string()))?;
        // All of it will be read: once for its hash, then again and again.
        #[cfg(target_os = "linux")]
        let _ = map.advise(memmap2::Advice::WillNeed);
        let (header, metadata) = SafeTensors::read_metadata(&map)
            .map_err(|e| fail(format!("its header is damaged ({e}): compile the model again")))?;
        // The header was found to be within the file, behind the 8 bytes of its length.
        let base = header + 8;
        let mut places = HashMap::new();
        for (name, info) in metadata.tensors() {
            let (begin, end) = info.data_offsets;
            let place = base.checked_add(begin).zip(base.checked_add(end));
            let (begin, end) =
                place.filter(|(begin, end)| begin <= end && *end <= map.len()).ok_or_else(|| {
                    fail(format!(
                        "the data of `{name}` ends beyond the file: it was cut off, copy or compile it again"
                    ))
                })?;
            places.insert(name, Place::Mapped(begin, end));
        }
        Ok(Parameters { map: Some(map), places })
    }

    /// The bytes of a parameter.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        match self.places.get(name)? {
            Place::Memory(buffer) => Some(buffer),
            Place::Mapped(begin, end) => self.map.as_ref()?.get(*begin..*end),
        }
    }

    /// The whole file, where there is one.
    pub fn file_bytes(&self) -> Option<&[u8]> {
        self.map.as_deref()
    }

    /// Addresses of what a program asks for. They stay valid while this lives.
    ///
    /// # Errors
    /// [`RuntimeError::Parameter`] when one is missing, has another size, or is not aligned.
    pub(crate) fn resolve(&self, slots: &[ParameterSlot]) -> Result<Vec<u64>, RuntimeError> {
        slots
            .iter()
            .map(|slot| {
                let fail = |message: String| RuntimeError::Parameter { name: slot.name.clone(), message };
                let bytes = self.get(&slot.name).ok_or_else(|| fail("the model needs it and it is missing".into()))?;
                let stored = bytes.len() as u64;
                if stored != slot.bytes && Some(stored) != slot.bytes.checked_next_multiple_of(ALIGNMENT as u64) {
                    return Err(fail(format!("it has {stored} bytes where the model needs {}", slot.bytes)));
                }
                let address = bytes.as_ptr() as u64;
                if !address.is_multiple_of(ALIGNMENT as u64) {
                    return Err(fail(format!(
                        "its data does not start at a multiple of {ALIGNMENT} bytes of the file: compile the model again"
                    )));
                }
                Ok(address)
            })
            .collect()
    }
}

impl std::fmt::Debug for Parameters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Parameters({} of them)", self.places.len())
    }
}
