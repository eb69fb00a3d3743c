//! The seams to the crates below that are still moving: importers, the CPU backend, the catalogue of formats. What they are called and
//! take is known here alone.

use std::path::Path;

use qcc_interpreter::{Interpreter, Precision};
use qcc_ir::Module;
use qcc_ir::format::{FloatElement, Format, Role};
use qcc_mlir::Target;
use qcc_params::{Imported, Parameters};
use qcc_passes::Progress;
use qcc_runtime::Model;
use serde_json::Value;

use crate::Failure;

/// Imports a Hugging Face checkpoint.
pub fn import_checkpoint(path: &Path) -> Result<Imported, Failure> {
    qcc_huggingface::import(path).map_err(Failure::input)
}

/// Imports an ONNX file.
pub fn import_onnx(path: &Path) -> Result<Imported, Failure> {
    qcc_onnx::import(path).map_err(Failure::input)
}

/// Compiles a module for this process.
pub fn load(module: &Module, parameters: &Parameters, progress: &dyn Progress) -> Result<Model, Failure> {
    let _span = tracing::info_span!("compile").entered();
    let evaluator = Interpreter::new(Precision::F32);
    Ok(qcc_cpu::load(module, parameters, &evaluator, &Target::host(), progress)?)
}

/// Opens a compiled model.
pub fn open(path: &Path) -> Result<(Model, Value), Failure> {
    let _span = tracing::info_span!("open").entered();
    Ok(qcc_cpu::artifact::open(path)?)
}

/// The IR of a compiled model.
pub fn artifact_module(path: &Path) -> Result<Module, Failure> {
    let text = qcc_cpu::artifact::read_module(path)?;
    parse(&path.join("module.mlirbc"), &text)
}

/// Parses IR text.
pub fn parse(path: &Path, text: &str) -> Result<Module, Failure> {
    qcc_ir::parse::parse_module(&path.display().to_string(), text).map_err(|errors| {
        let all: Vec<String> = errors.iter().map(|e| e.render(text, 1).trim_end().to_string()).collect();
        Failure::input(format!("cannot read the IR\n{}", all.join("\n")))
    })
}

/// What a format asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chosen {
    /// No quantization.
    F32,
    /// Quantization whose ranges are known beforehand.
    Static,
    /// Quantization whose ranges are taken as values come.
    Dynamic,
}

/// Checks a format.
///
/// # Errors
/// When it is none, or this build does not run it yet.
pub fn format(text: &str, role: Role) -> Result<Chosen, Failure> {
    let format = Format::parse(text, role).map_err(Failure::input)?;
    format.check_executable().map_err(Failure::input)?;
    Ok(match format.float() {
        Some(FloatElement::F32) => Chosen::F32,
        // Nothing is measured for other floats.
        Some(_) => Chosen::Dynamic,
        None if format.dynamic() => Chosen::Dynamic,
        None => Chosen::Static,
    })
}
