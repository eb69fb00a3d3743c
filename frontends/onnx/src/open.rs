//! Reading the file: mapped, and decoded so that tensors are regions of the map.

use std::path::Path;

use bytes::Bytes;
use prost::Message;
use qcc_params::{SharedBytes, map_file};

use crate::error::ImportError;
use crate::proto::ModelProto;

/// Lends a mapped file to [`Bytes`].
struct Mapped(SharedBytes);

impl AsRef<[u8]> for Mapped {
    fn as_ref(&self) -> &[u8] {
        self.0.as_slice()
    }
}

/// The decoded model.
pub(crate) fn open(file: &Path) -> Result<ModelProto, ImportError> {
    let bytes = Bytes::from_owner(Mapped(map_file(file)?));
    ModelProto::decode(bytes)
        .map_err(|e| ImportError::Malformed { path: file.to_path_buf(), message: e.to_string() })
}
