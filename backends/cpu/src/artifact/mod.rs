//! Artifacts: a compiled model as a directory that needs nothing of the compiler.
//!
//! | file | holds |
//! | --- | --- |
//! | `manifest.json` | schema, target, CPU features, entry points, sizes and hashes of the other files, and what the compiler adds |
//! | `model.so`, `model.h` | kernels, program and runtime behind a plain C interface |
//! | `parameters.safetensors` | packed weights, memory-mapped at run time |
//! | `module.mlirbc` | the IR before lowering, MLIR bytecode |
//! | `tokenizer.json` | for language models |
//!
//! A directory is written beside its destination and exchanged with it at once, so no reader ever sees half of one.

mod data;
mod entry;
mod exchange;
mod open;
mod write;

use std::path::PathBuf;

use crate::KernelCache;
use serde_json::{Map, Value};

pub use exchange::abandon;
pub use open::{open, read_module};
pub use write::{check_target, write};

/// Name of the shared library.
pub const LIBRARY_FILE: &str = "model.so";
/// Name of the IR.
pub const MODULE_FILE: &str = "module.mlirbc";
/// Name of the tokenizer.
pub const TOKENIZER_FILE: &str = "tokenizer.json";
/// Name of the manifest.
pub const MANIFEST_FILE: &str = "manifest.json";

/// What an artifact carries besides the compiled model.
#[derive(Debug, Default)]
pub struct ArtifactExtras {
    /// A `tokenizer.json` to copy.
    pub tokenizer: Option<PathBuf>,
    /// More keys of the manifest: recipe, hash of the source, formats a layer.
    pub manifest: Map<String, Value>,
    /// Where object code of kernels is kept.
    pub kernels: Option<KernelCache>,
}

/// What was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Bytes of all files.
    pub bytes: u64,
    /// Bytes of the packed weights.
    pub parameter_bytes: u64,
    /// Number of kernels.
    pub kernels: usize,
}
