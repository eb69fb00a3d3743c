//! Evaluated weights on disk, by content hash. The cache only saves time: a file that is missing, damaged or of another type counts as
//! absent, and one that cannot be written is counted, not an error.
//!
//! A file is `qccweigh`, the blake3 hash of the rest, the length of the type's text, that text, and the elements little-endian. It is
//! written beside and renamed, so readers see whole files, whoever else writes.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use blake3::{Hash, Hasher};
use qcc_ir::{Str, TensorType};

use crate::hash;
use crate::parameters::{OpEvaluator, ParameterError, Parameters, Source};
use crate::plan::Plan;
use crate::tensor::Tensor;
use crate::trim::{trim, used};

const EXTENSION: &str = "weight";
const MAGIC: &[u8; 8] = b"qccweigh";

/// A folder of evaluated weights.
#[derive(Debug)]
pub struct WeightCache {
    folder: PathBuf,
    build: String,
    found: AtomicUsize,
    stored: AtomicUsize,
    refused: AtomicUsize,
}

/// What a cache did so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheCounts {
    /// Weights that were there.
    pub found: usize,
    /// Weights that were computed and stored.
    pub stored: usize,
    /// Weights that were computed and could not be stored: the disk is full, the folder is not writable.
    pub refused: usize,
}

impl WeightCache {
    /// A cache in `folder`, which is made when first needed. `build` names the program that computes: another one, which may round
    /// otherwise, does not take its results.
    pub fn new(folder: &Path, build: &str) -> WeightCache {
        WeightCache {
            folder: folder.to_path_buf(),
            build: build.to_string(),
            found: AtomicUsize::new(0),
            stored: AtomicUsize::new(0),
            refused: AtomicUsize::new(0),
        }
    }

    /// What was found, stored and not stored so far.
    pub fn counts(&self) -> CacheCounts {
        CacheCounts {
            found: self.found.load(Ordering::Relaxed),
            stored: self.stored.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
        }
    }

    /// Removes what was used longest ago until the files together hold at most so many bytes.
    pub fn trim(&self, most: u64) {
        trim(&self.folder, EXTENSION, most);
    }

    /// The values of a plan's parameters as an evaluator of these semantics computes them.
    pub(crate) fn run(
        &self,
        parameters: &Parameters,
        plan: &Plan<'_>,
        evaluator: &dyn OpEvaluator,
        semantics: &str,
    ) -> Result<Vec<Arc<Tensor>>, ParameterError> {
        // What is not computed is where it is already.
        let computed = |name: &Str| matches!(parameters.source(name), Some(Source::Expression(_)));
        let names: Vec<Str> = plan.names().iter().filter(|n| computed(n)).cloned().collect();
        let hashes = hash::of_plan(parameters, &names, plan)?;
        let files: Vec<_> = hashes.into_iter().map(|hash| self.file(hash, semantics)).collect();
        let types: Vec<_> = names.iter().filter_map(|n| parameters.ty(n)).collect();
        let found: Option<Vec<_>> =
            files.iter().zip(&types).map(|(file, ty)| read(file, ty).map(Arc::new)).collect();
        if let Some(found) = found {
            self.found.fetch_add(found.len(), Ordering::Relaxed);
            let mut found = found.into_iter();
            let value = |name| if computed(name) { found.next().map(Ok) } else { Some(plan.given(name)) };
            return plan.names().iter().map_while(value).collect();
        }
        let values = plan.run_in_pieces(evaluator)?;
        let stored = plan.names().iter().zip(&values).filter(|(name, _)| computed(name));
        for ((file, ty), (_, value)) in files.iter().zip(types).zip(stored) {
            let done = write(file, ty, value).is_ok();
            let counter = if done { &self.stored } else { &self.refused };
            counter.fetch_add(1, Ordering::Relaxed);
        }
        Ok(values)
    }

    fn file(&self, content: Hash, semantics: &str) -> PathBuf {
        let mut hasher = Hasher::new_derive_key("qcc weight cache");
        hash::field(&mut hasher, self.build.as_bytes());
        hash::field(&mut hasher, semantics.as_bytes());
        hash::field(&mut hasher, content.as_bytes());
        self.folder.join(format!("{}.{EXTENSION}", hasher.finalize().to_hex()))
    }
}

/// What follows the hash: the type, then the elements; `None` for tensors that are held wider than their type.
fn payload(ty: &TensorType, tensor: &Tensor) -> Option<Vec<u8>> {
    let bytes = tensor.to_le_bytes();
    if tensor.ty() != *ty || bytes.len() as u64 != element_bytes(ty)? {
        return None;
    }
    let mut payload = head(ty);
    payload.extend(bytes);
    Some(payload)
}

fn head(ty: &TensorType) -> Vec<u8> {
    let text = ty.to_string();
    let mut head = (text.len() as u64).to_le_bytes().to_vec();
    head.extend(text.as_bytes());
    head
}

fn element_bytes(ty: &TensorType) -> Option<u64> {
    let elements = u64::try_from(ty.elements()?.constant()?).ok()?;
    elements.checked_mul(u64::from(ty.element.bits().div_ceil(8)))
}

fn read(path: &Path, ty: &TensorType) -> Option<Tensor> {
    let head = head(ty);
    let prefix = (MAGIC.len() + blake3::OUT_LEN) as u64;
    let expected = element_bytes(ty)?.checked_add(prefix)?.checked_add(head.len() as u64)?;
    let metadata = std::fs::metadata(path).ok()?;
    if !metadata.is_file() || metadata.len() != expected {
        return None;
    }
    let mut file = File::open(path).ok()?;
    let (mut magic, mut hash) = ([0; MAGIC.len()], [0; blake3::OUT_LEN]);
    file.read_exact(&mut magic).ok()?;
    file.read_exact(&mut hash).ok()?;
    let mut payload = Vec::with_capacity(usize::try_from(expected - prefix).ok()?);
    file.take(expected - prefix).read_to_end(&mut payload).ok()?;
    let intact = magic == *MAGIC && blake3::hash(&payload) == Hash::from_bytes(hash);
    let elements = payload.strip_prefix(head.as_slice()).filter(|_| intact)?;
    used(path);
    Tensor::from_le_bytes(ty, elements).ok()
}

fn write(path: &Path, ty: &TensorType, tensor: &Tensor) -> std::io::Result<()> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let payload = payload(ty, tensor).ok_or(std::io::ErrorKind::Unsupported)?;
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let beside = path.with_extension(format!("{}-{number}.partial", std::process::id()));
    let written = File::create_new(&beside).and_then(|mut file| {
        file.write_all(MAGIC)?;
        file.write_all(blake3::hash(&payload).as_bytes())?;
        file.write_all(&payload)?;
        drop(file);
        std::fs::rename(&beside, path)
    });
    if written.is_err() {
        let _ = std::fs::remove_file(&beside);
    }
    written
}
