//! Memory-mapped files.
#![allow(unsafe_code)]

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use memmap2::Mmap;

use super::ArchiveError;
use crate::parameters::SharedBytes;

/// The whole of a regular file.
pub(super) fn map(path: &Path) -> Result<SharedBytes, ArchiveError> {
    let fail = |message: String| ArchiveError::file(path, message);
    let metadata = std::fs::metadata(path).map_err(|e| fail(e.to_string()))?;
    if !metadata.is_file() {
        return Err(fail("it is not a regular file".into()));
    }
    let bytes: Arc<dyn AsRef<[u8]> + Send + Sync> = if metadata.len() == 0 {
        // An empty file cannot be mapped.
        Arc::new(Vec::new())
    } else {
        let file = File::open(path).map_err(|e| fail(e.to_string()))?;
        // SAFETY: the map is only read. Model files are not written to while they are compiled; a file that shrinks meanwhile ends the
        // process with a bus error, as with every program that maps its input.
        Arc::new(unsafe { Mmap::map(&file) }.map_err(|e| fail(e.to_string()))?)
    };
    let len = (*bytes).as_ref().len();
    SharedBytes::new(bytes, 0, len).ok_or_else(|| fail("it is larger than memory can be".into()))
}
