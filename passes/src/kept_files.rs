//! A folder of results that only save time, by what they were made of: a file that is missing or damaged counts as absent, and one that
//! cannot be written costs time only.

use std::io::Write;
use std::path::{Path, PathBuf};

use blake3::{Hash, OUT_LEN};
use qcc_params::trim::{trim, used};

/// See the module.
#[derive(Clone, Debug)]
pub struct KeptFiles {
    folder: PathBuf,
    extension: &'static str,
}

impl KeptFiles {
    /// Files with this extension in `folder`, which is made when first needed.
    pub fn new(folder: &Path, extension: &'static str) -> KeptFiles {
        KeptFiles { folder: folder.to_path_buf(), extension }
    }

    /// Where the file of a key is, or would be.
    pub fn path(&self, key: &Hash) -> PathBuf {
        self.folder.join(format!("{key}.{}", self.extension))
    }

    /// What is kept by a key.
    pub fn load(&self, key: &Hash) -> Option<Vec<u8>> {
        let path = self.path(key);
        let mut bytes = std::fs::read(&path).ok()?;
        used(&path);
        let (hash, payload) = bytes.split_at_checked(OUT_LEN)?;
        if blake3::hash(payload).as_bytes().as_slice() != hash {
            return None;
        }
        bytes.drain(..OUT_LEN);
        Some(bytes)
    }

    /// Keeps it: written beside and renamed, so that readers see whole files. Whether that worked.
    pub fn store(&self, key: &Hash, payload: &[u8]) -> bool {
        let write = || -> std::io::Result<()> {
            std::fs::create_dir_all(&self.folder)?;
            let mut file = tempfile::NamedTempFile::new_in(&self.folder)?;
            file.write_all(blake3::hash(payload).as_bytes())?;
            file.write_all(payload)?;
            file.persist(self.path(key))?;
            Ok(())
        };
        let written = write();
        if let Err(e) = &written {
            tracing::debug!("{} is not kept: {e}", self.path(key).display());
        }
        written.is_ok()
    }

    /// Removes what was used longest ago until the files together hold at most so many bytes.
    pub fn trim(&self, most: u64) {
        trim(&self.folder, self.extension, most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_last_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let files = KeptFiles::new(folder.path(), "kept");
        let keys = [1u8, 2, 3].map(|i| Hash::from_bytes([i; 32]));
        let hour = std::time::Duration::from_secs(3600);
        for (key, age) in keys.iter().zip([3u32, 2, 1]) {
            assert!(files.store(key, b"payload"));
            let file = std::fs::File::open(files.path(key)).expect("a file");
            file.set_modified(std::time::SystemTime::now() - age * hour).expect("its own file");
        }
        // The oldest is used again.
        assert_eq!(files.load(&keys[0]).as_deref(), Some(&b"payload"[..]));
        let one = std::fs::metadata(files.path(&keys[0])).expect("a file").len();
        files.trim(2 * one);
        let there = keys.map(|key| files.load(&key).is_some());
        assert_eq!(there, [true, false, true]);
    }

    #[test]
    fn what_cannot_be_written_is_said() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("file");
        std::fs::write(&file, b"no folder").expect("written");
        assert!(!KeptFiles::new(&file, "kept").store(&Hash::from_bytes([7; 32]), b"payload"));
    }

    #[test]
    fn what_is_damaged_is_absent() {
        let folder = tempfile::tempdir().expect("a folder");
        let files = KeptFiles::new(folder.path(), "kept");
        let key = Hash::from_bytes([7; 32]);
        assert!(files.store(&key, b"payload"));
        let mut bytes = std::fs::read(files.path(&key)).expect("a file");
        *bytes.last_mut().expect("bytes") ^= 1;
        std::fs::write(files.path(&key), &bytes).expect("written");
        assert_eq!(files.load(&key), None);
        std::fs::write(files.path(&key), b"short").expect("written");
        assert_eq!(files.load(&key), None);
    }
}
