//! Opening artifacts. Sizes, hashes and CPU features are checked before any code of it is loaded.

#![allow(unsafe_code)]

use std::path::Path;
use std::sync::Arc;

use libloading::Library;
use qcc_runtime::program::Program;
use qcc_runtime::{KernelFn, Manifest, Model, RuntimeError};
use serde_json::Value;

use super::{LIBRARY_FILE, MANIFEST_FILE, MODULE_FILE, TOKENIZER_FILE};
use crate::CpuError;

/// The model of an artifact, and its manifest.
///
/// # Errors
/// When the directory is no artifact, a file differs from what the manifest says, or this machine lacks a CPU feature.
pub fn open(directory: &Path) -> Result<(Model, Value), CpuError> {
    let (manifest, value) = read_manifest(directory)?;
    checked(&manifest, directory, LIBRARY_FILE)?;
    if manifest.files.contains_key(TOKENIZER_FILE) {
        checked(&manifest, directory, TOKENIZER_FILE)?;
    }
    let path = std::path::absolute(directory.join(LIBRARY_FILE)).map_err(|e| CpuError::file(directory, e))?;
    let damaged = |e: libloading::Error| {
        CpuError::file(&path, format!("it does not load ({e}); compile the model again"))
    };
    // SAFETY: the file is the one the manifest was written for; its initialisers are those of the runtime.
    let library = unsafe { Library::new(&path) }.map_err(damaged)?;
    // SAFETY: the compiler defines the symbols with these types; `Program::decode` checks the bytes, and the table has one entry for each of
    // the program's kernels.
    let (program, kernels) = unsafe {
        let size = **library.get::<*const u64>(b"qcc_program_size\0").map_err(damaged)?;
        let data = *library.get::<*const u8>(b"qcc_program_data\0").map_err(damaged)?;
        let program = Program::decode(std::slice::from_raw_parts(data, size as usize))
            .map_err(|e| located(directory, e))?;
        let table = *library.get::<*const KernelFn>(b"qcc_kernel_table\0").map_err(damaged)?;
        let kernels = std::slice::from_raw_parts(table, program.kernels.len()).to_vec();
        (program, kernels)
    };
    // SAFETY: program and kernels come from one compilation.
    let model = unsafe { Model::open(directory, program, kernels) }.map_err(|e| located(directory, e))?;
    Ok((model.keeping(Arc::new(library)), value))
}

/// The IR of an artifact, as text.
///
/// # Errors
/// When the file is missing or differs from what the manifest says.
pub fn read_module(directory: &Path) -> Result<String, CpuError> {
    let (manifest, _) = read_manifest(directory)?;
    Ok(qcc_mlir::from_bytecode(&checked(&manifest, directory, MODULE_FILE)?)?)
}

/// An error of the runtime with the artifact it is about.
fn located(directory: &Path, error: RuntimeError) -> CpuError {
    match error {
        RuntimeError::File { .. } => CpuError::Runtime(error),
        other => CpuError::file(directory, other),
    }
}

fn read_manifest(directory: &Path) -> Result<(Manifest, Value), CpuError> {
    let manifest = Manifest::open(directory).map_err(|e| located(directory, e))?;
    let path = directory.join(MANIFEST_FILE);
    let bytes = std::fs::read(&path).map_err(|e| CpuError::file(&path, e))?;
    let value = serde_json::from_slice(&bytes)
        .map_err(|e| CpuError::file(&path, format!("{e}: the file is damaged, compile the model again")))?;
    Ok((manifest, value))
}

/// The bytes of a file, their hash checked.
fn checked(manifest: &Manifest, directory: &Path, name: &str) -> Result<Vec<u8>, CpuError> {
    let path = directory.join(name);
    let bytes = std::fs::read(&path).map_err(|e| CpuError::file(&path, e))?;
    manifest.check_hash(directory, name, &bytes)?;
    Ok(bytes)
}
