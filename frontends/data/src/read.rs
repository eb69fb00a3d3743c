//! Whole-file reads with a ceiling, so that a wrong path (a device, a disk image) ends in an error and not in memory
//! exhaustion.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::error::{DataError, Result};

/// The largest text that is read, in bytes.
pub const TEXT_LIMIT: u64 = 1 << 30;

/// Reads all of `path`, which is refused when longer than `limit` bytes. `what` names the kind of file in the error.
pub fn bytes(path: &Path, limit: u64, what: &str) -> Result<Vec<u8>> {
    let file = File::open(path).map_err(DataError::reading(path))?;
    let mut bytes = Vec::new();
    // One byte past the limit tells "exactly full" from "too long", also for pipes whose length nobody knows.
    file.take(limit + 1).read_to_end(&mut bytes).map_err(DataError::reading(path))?;
    if bytes.len() as u64 > limit {
        return Err(DataError::malformed(path, format!("longer than the {limit} bytes allowed for {what}")));
    }
    Ok(bytes)
}

/// Reads all of `path` as UTF-8 text. An invalid byte is located by its offset.
pub fn text(path: &Path) -> Result<String> {
    String::from_utf8(bytes(path, TEXT_LIMIT, "a text")?).map_err(|error| {
        let offset = error.utf8_error().valid_up_to();
        DataError::malformed(
            path,
            format!("not UTF-8 text: invalid byte at offset {offset}; convert the file to UTF-8"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_longer_than_the_limit_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        std::fs::write(&path, b"12345").unwrap();
        assert_eq!(bytes(&path, 5, "a test").unwrap(), b"12345");
        assert!(bytes(&path, 4, "a test").unwrap_err().to_string().contains("longer than the 4 bytes"));
    }

    #[test]
    fn invalid_utf8_is_located() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.txt");
        std::fs::write(&path, b"abc\xff").unwrap();
        assert!(
            text(&path)
                .unwrap_err()
                .to_string()
                .ends_with("x.txt: not UTF-8 text: invalid byte at offset 3; convert the file to UTF-8")
        );
    }

    #[test]
    fn a_folder_is_an_error() {
        assert!(matches!(text(tempfile::tempdir().unwrap().path()), Err(DataError::Read { .. })));
    }
}
