//! Writing artifacts.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use qcc_ir::Module;
use qcc_mlir::{CodegenOptions, LinkInputs, Target, compile_object, link_shared};
use qcc_params::{OpEvaluator, Parameters};
use qcc_passes::Progress;
use qcc_runtime::{FileRecord, MANIFEST_SCHEMA, PARAMETER_FILE, ParameterWriter};
use qcc_runtime_archive::{HEADER, Linkage};
use serde_json::{Map, Value, json};

use super::exchange::Staging;
use super::{ArtifactExtras, LIBRARY_FILE, MANIFEST_FILE, MODULE_FILE, TOKENIZER_FILE, Written, data, entry};
use crate::CpuError;
use crate::compile::{Compiled, compile};
use crate::pack::pack_all;

/// Name of the C header.
const HEADER_FILE: &str = "model.h";

/// Compiles a module and writes it as an artifact; an artifact that was there is replaced at once.
///
/// # Errors
/// When the module does not compile for the target, a weight cannot be evaluated, or the directory cannot be written. Nothing is left
/// behind then, and an existing artifact stays as it was.
pub fn write(
    module: &Module,
    parameters: &Parameters,
    evaluator: &dyn OpEvaluator,
    target: &Target,
    extras: &ArtifactExtras,
    out: &Path,
    progress: &dyn Progress,
) -> Result<Written, CpuError> {
    let staging = Staging::new(out)?;
    let compiled = compile(module, parameters, evaluator, target, progress, extras.kernels.as_ref())?;
    let mut files = BTreeMap::new();
    let folder = staging.path();
    let parameter_bytes = write_parameters(&compiled, evaluator, progress, folder, &mut files)?;
    write_library(&compiled, target, folder)?;
    let text = qcc_ir::print::print_module(module, qcc_ir::print::Options::default());
    let bytecode = qcc_mlir::to_bytecode(&text)?;
    put(folder, MODULE_FILE, &bytecode)?;
    put(folder, HEADER_FILE, HEADER.as_bytes())?;
    if let Some(tokenizer) = &extras.tokenizer {
        let bytes = std::fs::read(tokenizer).map_err(|e| CpuError::file(tokenizer, e))?;
        put(folder, TOKENIZER_FILE, &bytes)?;
    }
    for name in [LIBRARY_FILE, MODULE_FILE, HEADER_FILE, TOKENIZER_FILE] {
        let path = folder.join(name);
        if path.is_file() {
            let bytes = std::fs::read(&path).map_err(|e| CpuError::file(&path, e))?;
            let record =
                FileRecord { bytes: bytes.len() as u64, blake3: blake3::hash(&bytes).to_hex().to_string() };
            files.insert(name.to_string(), record);
        }
    }
    let mut manifest = Map::new();
    manifest.insert("schema".into(), json!(MANIFEST_SCHEMA));
    manifest.insert("target".into(), json!({ "triple": target.triple, "cpu": target.cpu }));
    manifest.insert("features".into(), json!(compiled.program.features));
    manifest.insert("entries".into(), entry::describe(&compiled.program));
    manifest.insert("files".into(), json!(files));
    for (key, value) in &extras.manifest {
        manifest.entry(key.clone()).or_insert_with(|| value.clone());
    }
    let text = format!("{:#}\n", Value::Object(manifest));
    put(folder, MANIFEST_FILE, text.as_bytes())?;
    let bytes = files.values().map(|f| f.bytes).sum::<u64>() + text.len() as u64;
    let kernels = compiled.kernels.len();
    staging.place()?;
    Ok(Written { bytes, parameter_bytes, kernels })
}

fn put(folder: &Path, name: &str, bytes: &[u8]) -> Result<(), CpuError> {
    let path = folder.join(name);
    std::fs::write(&path, bytes).map_err(|e| CpuError::file(&path, e))
}

fn write_parameters(
    compiled: &Compiled,
    evaluator: &dyn OpEvaluator,
    progress: &dyn Progress,
    folder: &Path,
    files: &mut BTreeMap<String, FileRecord>,
) -> Result<u64, CpuError> {
    let path = folder.join(PARAMETER_FILE);
    let file = File::create(&path).map_err(|e| CpuError::file(&path, e))?;
    let mut writer = ParameterWriter::new(BufWriter::new(file), &compiled.program.parameters)?;
    pack_all(compiled, evaluator, progress, |_, bytes| Ok(writer.write(bytes)?))?;
    let written = writer.finish()?;
    files.insert(PARAMETER_FILE.into(), FileRecord { bytes: written.bytes, blake3: written.blake3 });
    Ok(compiled.program.parameters.iter().map(|p| p.bytes).sum())
}

/// Whether artifacts for a target can be linked: better asked before minutes of work.
///
/// # Errors
/// When this build has no runtime for that kind of machine.
pub fn check_target(target: &Target) -> Result<(), CpuError> {
    if qcc_runtime_archive::library(&target.triple).is_some() {
        return Ok(());
    }
    Err(CpuError::Mlir(qcc_mlir::MlirError::Target {
        target: target.triple.clone(),
        message: "this build carries no runtime for it: `rustup target add` its standard library and build qcc again".into(),
    }))
}

/// Empty shared libraries that stand for those another kind of machine has.
fn stand_ins(target: &Target, folder: &Path) -> Result<Vec<PathBuf>, CpuError> {
    let object = folder.join("nothing.o");
    let code = compile_object("", target, &CodegenOptions::default())?;
    std::fs::write(&object, code).map_err(|e| CpuError::file(&object, e))?;
    let mut libraries = Vec::new();
    for name in qcc_runtime_archive::NEEDED {
        let path = folder.join(name);
        let flags = vec!["-soname".into(), name.into()];
        link_shared(&LinkInputs { objects: vec![object.clone()], flags, ..LinkInputs::default() }, &path)?;
        libraries.push(path);
    }
    Ok(libraries)
}

fn write_library(compiled: &Compiled, target: &Target, folder: &Path) -> Result<(), CpuError> {
    check_target(target)?;
    let work = tempfile::tempdir().map_err(|e| CpuError::file(Path::new("a temporary folder"), e))?;
    let program = compiled.program.encode()?;
    let table = compile_object(&data::text(&program, &compiled.kernels), target, &CodegenOptions::default())?;
    let mut objects = Vec::with_capacity(compiled.kernels.len() + 1);
    let all = compiled.kernels.iter().map(|k| k.object.as_slice()).chain([table.as_slice()]);
    for (i, object) in all.enumerate() {
        let path = work.path().join(format!("{i}.o"));
        std::fs::write(&path, object).map_err(|e| CpuError::file(&path, e))?;
        objects.push(path);
    }
    let linkage =
        Linkage::write_for(&target.triple, work.path()).map_err(|e| CpuError::file(work.path(), e))?;
    let foreign = qcc_runtime_archive::is_foreign(&target.triple);
    let libraries = if foreign { stand_ins(target, work.path())? } else { linkage.libraries };
    let inputs = LinkInputs { objects, archives: vec![linkage.archive], flags: linkage.flags, libraries };
    link_shared(&inputs, &folder.join(LIBRARY_FILE))?;
    Ok(())
}
