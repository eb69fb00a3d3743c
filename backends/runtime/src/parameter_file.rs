//! Writes `parameters.safetensors`: a plain safetensors file in which every parameter starts at a multiple of 64 bytes. The format allows
//! no holes, so each parameter is stored as bytes, filled up with zeros to such a multiple. Parameters are written one after the other, so
//! that only one has to be in memory.

use std::io::Write;

use crate::program::ParameterSlot;
use crate::{ALIGNMENT, RuntimeError};

/// A parameter file in the making.
pub struct ParameterWriter<W: Write> {
    out: W,
    hasher: blake3::Hasher,
    bytes: u64,
    /// Those still to be written, the next one last.
    slots: Vec<ParameterSlot>,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrittenParameters {
    /// Length of the file.
    pub bytes: u64,
    /// BLAKE3 hash of the file, in hexadecimal.
    pub blake3: String,
}

impl<W: Write> ParameterWriter<W> {
    /// Writes the header for these parameters.
    ///
    /// # Errors
    /// When two have the same name, sizes overflow, or writing fails.
    pub fn new(out: W, slots: &[ParameterSlot]) -> Result<ParameterWriter<W>, RuntimeError> {
        let mut header = serde_json::Map::new();
        header.insert("__metadata__".into(), serde_json::json!({ "format": "qcc" }));
        let mut begin = 0u64;
        for slot in slots {
            let fail =
                |message: &str| RuntimeError::Parameter { name: slot.name.clone(), message: message.into() };
            let stored = slot
                .bytes
                .checked_next_multiple_of(ALIGNMENT as u64)
                .ok_or_else(|| fail("its size overflows"))?;
            let end = begin.checked_add(stored).ok_or_else(|| fail("the file's size overflows"))?;
            let entry = serde_json::json!({ "dtype": "U8", "shape": [stored], "data_offsets": [begin, end] });
            if header.insert(slot.name.clone(), entry).is_some() {
                return Err(fail("there are two of this name"));
            }
            begin = end;
        }
        let mut header = serde_json::Value::Object(header).to_string().into_bytes();
        let padded = (header.len() + 8).next_multiple_of(ALIGNMENT) - 8;
        header.resize(padded, b' ');
        let slots = slots.iter().rev().cloned().collect();
        let mut writer = ParameterWriter { out, hasher: blake3::Hasher::new(), bytes: 0, slots };
        writer.put(&(header.len() as u64).to_le_bytes())?;
        writer.put(&header)?;
        Ok(writer)
    }

    /// Writes the next parameter, in the order they were announced.
    ///
    /// # Errors
    /// When there is none left, it does not have the announced size, or writing fails.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), RuntimeError> {
        let slot = self.slots.pop().ok_or_else(|| io_error("all announced parameters have been written"))?;
        if bytes.len() as u64 != slot.bytes {
            let message = format!("{} bytes where {} were announced", bytes.len(), slot.bytes);
            return Err(RuntimeError::Parameter { name: slot.name, message });
        }
        self.put(bytes)?;
        self.put(&[0; ALIGNMENT][..bytes.len().next_multiple_of(ALIGNMENT) - bytes.len()])
    }

    /// Ends the file.
    ///
    /// # Errors
    /// When a parameter has not been written, or writing fails.
    pub fn finish(mut self) -> Result<WrittenParameters, RuntimeError> {
        if let Some(slot) = self.slots.pop() {
            return Err(RuntimeError::Parameter {
                name: slot.name,
                message: "it has not been written".into(),
            });
        }
        self.out.flush().map_err(io_error)?;
        Ok(WrittenParameters { bytes: self.bytes, blake3: self.hasher.finalize().to_hex().to_string() })
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), RuntimeError> {
        self.out.write_all(bytes).map_err(io_error)?;
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(())
    }
}

fn io_error(message: impl ToString) -> RuntimeError {
    RuntimeError::File { path: crate::PARAMETER_FILE.into(), message: message.to_string() }
}
