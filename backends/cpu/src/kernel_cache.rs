//! Object code of kernels, kept from one compilation to the next: models of one kind, and the same model in another recipe, share most.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use blake3::Hasher;
use qcc_mlir::{CodegenOptions, MlirError, Target, compile_object};
use qcc_passes::KeptFiles;

/// A folder of object files, by the text and the machine they were made for.
#[derive(Debug)]
pub struct KernelCache {
    files: KeptFiles,
    build: String,
    found: AtomicUsize,
    stored: AtomicUsize,
    refused: AtomicUsize,
}

/// What a cache did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelCounts {
    /// Kernels that were there.
    pub found: usize,
    /// Kernels that were compiled and kept.
    pub stored: usize,
    /// Kernels that were compiled and could not be kept.
    pub refused: usize,
}

impl KernelCache {
    /// A cache in `folder`, which is made when first needed. `build` names the compiler: another one does not take its code.
    pub fn new(folder: &Path, build: &str) -> KernelCache {
        KernelCache {
            files: KeptFiles::new(folder, "o"),
            build: build.to_string(),
            found: AtomicUsize::new(0),
            stored: AtomicUsize::new(0),
            refused: AtomicUsize::new(0),
        }
    }

    /// The object code of a text.
    pub(crate) fn object(
        &self,
        text: &str,
        target: &Target,
        options: &CodegenOptions,
    ) -> Result<Vec<u8>, MlirError> {
        let mut hasher = Hasher::new_derive_key("qcc kernel");
        for field in
            [&self.build, &target.triple, &target.cpu, &target.features, &format!("{options:?}"), text]
        {
            hasher.update(&(field.len() as u64).to_le_bytes());
            hasher.update(field.as_bytes());
        }
        let key = hasher.finalize();
        if let Some(object) = self.files.load(&key) {
            self.found.fetch_add(1, Ordering::Relaxed);
            return Ok(object);
        }
        let object = compile_object(text, target, options)?;
        let count = if self.files.store(&key, &object) { &self.stored } else { &self.refused };
        count.fetch_add(1, Ordering::Relaxed);
        Ok(object)
    }

    /// What it did so far.
    pub fn counts(&self) -> KernelCounts {
        let [found, stored, refused] =
            [&self.found, &self.stored, &self.refused].map(|count| count.load(Ordering::Relaxed));
        KernelCounts { found, stored, refused }
    }

    /// Removes what was used longest ago until the files together hold at most so many bytes.
    pub fn trim(&self, most: u64) {
        self.files.trim(most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_is_compiled_once_for_a_machine() {
        let folder = tempfile::tempdir().unwrap();
        let text = "llvm.func @nothing() { llvm.return }";
        let make = |build: &str, target: &str| {
            let cache = KernelCache::new(folder.path(), build);
            let target = Target::named(target).unwrap();
            let object = cache.object(text, &target, &CodegenOptions::default()).unwrap();
            let KernelCounts { found, stored, refused } = cache.counts();
            assert_eq!(refused, 0);
            (object, (found, stored))
        };
        let (first, counts) = make("a", "x86-64-v2");
        assert_eq!(counts, (0, 1));
        assert_eq!(make("a", "x86-64-v2"), (first, (1, 0)));
        assert_eq!(make("a", "x86-64-v3").1, (0, 1), "another machine");
        assert_eq!(make("b", "x86-64-v2").1, (0, 1), "another compiler");
    }
}
