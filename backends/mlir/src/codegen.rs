//! MLIR text to LLVM to machine code.

use inkwell::OptimizationLevel;
use inkwell::attributes::AttributeLoc;
use inkwell::context::Context as LlvmContext;
use inkwell::module::Module as LlvmModule;
use inkwell::passes::PassBuilderOptions;
use inkwell::targets::{FileType, TargetMachine};
use melior::ir::Module;
use melior::pass::PassManager;

use crate::context::{Messages, context, parse};
use crate::{MlirError, Target};

/// How hard to optimise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodegenOptions {
    /// LLVM's level, 0 to 3.
    pub optimization: u8,
}

impl Default for CodegenOptions {
    fn default() -> Self {
        CodegenOptions { optimization: 2 }
    }
}

impl CodegenOptions {
    pub(crate) fn level(&self) -> OptimizationLevel {
        match self.optimization {
            0 => OptimizationLevel::None,
            1 => OptimizationLevel::Less,
            2 => OptimizationLevel::Default,
            _ => OptimizationLevel::Aggressive,
        }
    }
}

/// From kernel dialects to the LLVM dialect.
const PIPELINE: &str = "builtin.module(canonicalize,cse,convert-scf-to-cf,convert-vector-to-llvm,convert-arith-to-llvm,\
convert-index-to-llvm,convert-cf-to-llvm,convert-func-to-llvm,convert-ub-to-llvm,reconcile-unrealized-casts)";

/// Object code (position independent) of a kernel module.
///
/// # Errors
/// When the text does not parse, verify or lower, or the target cannot emit code.
pub fn compile_object(text: &str, target: &Target, options: &CodegenOptions) -> Result<Vec<u8>, MlirError> {
    with_llvm(text, target, options, true, |module, machine| {
        let buffer = machine
            .write_to_memory_buffer(module, FileType::Object)
            .map_err(|e| MlirError::Llvm(e.to_string()))?;
        Ok(buffer.as_slice().to_vec())
    })
}

/// Assembly text of a kernel module.
///
/// # Errors
/// As [`compile_object`].
pub fn emit_assembly(text: &str, target: &Target, options: &CodegenOptions) -> Result<String, MlirError> {
    with_llvm(text, target, options, true, |module, machine| {
        let buffer = machine
            .write_to_memory_buffer(module, FileType::Assembly)
            .map_err(|e| MlirError::Llvm(e.to_string()))?;
        Ok(String::from_utf8_lossy(buffer.as_slice()).trim_end_matches('\0').to_string())
    })
}

/// LLVM IR of a kernel module after optimisation.
///
/// # Errors
/// As [`compile_object`].
pub fn emit_llvm_ir(text: &str, target: &Target, options: &CodegenOptions) -> Result<String, MlirError> {
    with_llvm(text, target, options, true, |module, _| Ok(module.print_to_string().to_string()))
}

fn with_llvm<R>(
    text: &str,
    target: &Target,
    options: &CodegenOptions,
    optimize: bool,
    then: impl FnOnce(&LlvmModule<'_>, &TargetMachine) -> Result<R, MlirError>,
) -> Result<R, MlirError> {
    let machine = target.machine(options)?;
    let (mlir, messages) = context(true);
    let mut module = parse(&mlir, &messages, text)?;
    lower(&mlir, &messages, &mut module)?;
    let llvm = LlvmContext::create();
    // SAFETY: the operation is a module of the LLVM dialect with its translations registered; the context outlives the result, which
    // is owned by the inkwell module from here on.
    let llvm_module = unsafe {
        let raw = mlir_sys::mlirTranslateModuleToLLVMIR(module.as_operation().to_raw(), llvm.raw().cast());
        if raw.is_null() {
            return Err(MlirError::Lower(messages.text("translation to LLVM IR failed")));
        }
        LlvmModule::new(raw.cast())
    };
    llvm_module.set_triple(&machine.get_triple());
    llvm_module.set_data_layout(&machine.get_target_data().get_data_layout());
    let attributes = [("target-cpu", target.cpu.as_str()), ("target-features", target.features.as_str())];
    for function in llvm_module.get_functions().filter(|f| f.count_basic_blocks() > 0) {
        for (name, value) in attributes {
            function.add_attribute(AttributeLoc::Function, llvm.create_string_attribute(name, value));
        }
    }
    if optimize && options.optimization > 0 {
        let passes = format!("default<O{}>", options.optimization.min(3));
        // Generators unroll what pays: unrolled again, tiles that fill the registers spill (a tile of 12 x 32 sums took 2.5 times as long
        // tuned for znver5).
        let pass_options = PassBuilderOptions::create();
        pass_options.set_loop_unrolling(false);
        llvm_module
            .run_passes(&passes, &machine, pass_options)
            .map_err(|e| MlirError::Llvm(e.to_string()))?;
    }
    then(&llvm_module, &machine)
}

fn lower(context: &melior::Context, messages: &Messages, module: &mut Module<'_>) -> Result<(), MlirError> {
    let manager = PassManager::new(context);
    manager.enable_verifier(false);
    melior::utility::parse_pass_pipeline(manager.as_operation_pass_manager(), PIPELINE)
        .map_err(|e| MlirError::Lower(format!("pipeline: {e}")))?;
    manager.run(module).map_err(|e| MlirError::Lower(messages.text(&e.to_string())))
}
