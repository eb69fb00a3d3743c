//! Files of weights, memory-mapped: safetensors archives (one file or shards with an index) and external data of ONNX models. Nothing is
//! copied: a tensor is a region of a mapped file.
//!
//! Every file is untrusted. Offsets and sizes are compared with the file before use, names of further files stay inside the model's folder.

mod header;
mod inside;
mod mapped;
mod safetensors;

use std::path::Path;

pub use self::safetensors::{Archive, open_safetensors};

use crate::parameters::SharedBytes;

/// What can go wrong with a file of weights.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArchiveError {
    /// The file cannot be read.
    #[error("`{path}`: {message}")]
    File {
        /// Which.
        path: String,
        /// Why, and what to do.
        message: String,
    },
    /// A tensor in it is not what its header says.
    #[error("`{path}`: tensor `{tensor}`: {message}")]
    Tensor {
        /// The file.
        path: String,
        /// The tensor.
        tensor: String,
        /// Why.
        message: String,
    },
}

impl ArchiveError {
    pub(crate) fn file(path: &Path, message: impl ToString) -> ArchiveError {
        ArchiveError::File { path: path.display().to_string(), message: message.to_string() }
    }

    fn tensor(path: &Path, tensor: &str, message: impl ToString) -> ArchiveError {
        ArchiveError::Tensor {
            path: path.display().to_string(),
            tensor: tensor.into(),
            message: message.to_string(),
        }
    }
}

/// The whole of a file, mapped.
///
/// # Errors
/// When it is no regular file or cannot be mapped.
pub fn map_file(path: &Path) -> Result<SharedBytes, ArchiveError> {
    mapped::map(path)
}

/// A region of a file beside a model, as ONNX's external data names it: `location` is relative to `folder` and may not leave it. No
/// `length` means up to the end of the file.
///
/// # Errors
/// When the path leaves the folder, the file cannot be mapped, or the region is not inside it.
pub fn open_external(
    folder: &Path,
    location: &str,
    offset: u64,
    length: Option<u64>,
) -> Result<SharedBytes, ArchiveError> {
    let path = inside::resolve(folder, location)?;
    let whole = mapped::map(&path)?;
    let size = whole.as_slice().len() as u64;
    let rest = size.checked_sub(offset).filter(|rest| length.is_none_or(|n| n <= *rest));
    let length = rest.map(|rest| length.unwrap_or(rest));
    length
        .and_then(|n| whole.region(usize::try_from(offset).ok()?, usize::try_from(n).ok()?))
        .ok_or_else(|| {
            let wanted = length.map_or_else(String::new, |n| format!("{n} "));
            ArchiveError::file(
                &path,
                format!("{wanted}bytes at {offset} are asked for, the file has {size}: it was cut off, copy it again"),
            )
        })
}
