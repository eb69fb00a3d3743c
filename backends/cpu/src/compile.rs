//! From a module to machine code: the backend's pipeline, lowering, and one object file a kernel, compiled in parallel. The same objects
//! run in this process and ship in artifacts.

use std::sync::atomic::{AtomicUsize, Ordering};

use qcc_ir::Module;
use qcc_mlir::{CodegenOptions, Target};
use qcc_params::{OpEvaluator, Parameters};
use qcc_passes::Progress;
use qcc_runtime::features::checkable;
use qcc_runtime::program::Program;
use rayon::prelude::*;

use crate::CpuError;
use crate::kernel_cache::KernelCache;
use crate::kernels::TargetCaps;
use crate::lower::{LowerError, PackedParameter, lower};
use crate::next::next;
use crate::pipeline::legalize;

/// A compiled module: code and a table of calls; weights are still to be packed.
pub struct Compiled {
    /// The command table.
    pub program: Program,
    /// Name, MLIR text and object code of each kernel, in the order of the program's.
    pub kernels: Vec<Kernel>,
    /// The parameters, in the order of the program's.
    pub packed: Vec<PackedParameter>,
    /// The weights that packing reads.
    pub parameters: Parameters,
}

/// A compiled kernel.
pub struct Kernel {
    /// Its symbol.
    pub name: String,
    /// Its MLIR text.
    pub text: String,
    /// Its object code.
    pub object: Vec<u8>,
}

/// What a target offers, as kernels see it.
pub fn capabilities(target: &Target) -> TargetCaps {
    TargetCaps::from_features(target.is_aarch64(), target.present_features())
}

/// Compiles the entry function of a module, and what may be asked of it [for the last position alone](mod@crate::next). Kernels that a cache
/// holds are taken from there.
///
/// # Errors
/// When a pass fails, an operation has no kernel, or a kernel does not compile.
pub fn compile(
    module: &Module,
    parameters: &Parameters,
    evaluator: &dyn OpEvaluator,
    target: &Target,
    progress: &dyn Progress,
    cache: Option<&KernelCache>,
) -> Result<Compiled, CpuError> {
    let legal = legalize(module, parameters, evaluator)?;
    let function = legal.module.entry().ok_or(CpuError::Empty)?;
    let features = checkable(target.present_features());
    let next = next(function).map_err(|e| LowerError::new(e.to_string()))?;
    let lowered = lower([function].into_iter().chain(&next), &capabilities(target), features)?;
    let total = lowered.kernels.len();
    let done = AtomicUsize::new(0);
    let objects: Vec<_> = lowered
        .kernels
        .par_iter()
        .map(|(_, text)| {
            let options = CodegenOptions::default();
            let object = match cache {
                Some(cache) => cache.object(text, target, &options),
                None => qcc_mlir::compile_object(text, target, &options),
            };
            progress.report("compiling kernels", done.fetch_add(1, Ordering::Relaxed) + 1, total);
            object
        })
        .collect();
    let mut kernels = Vec::with_capacity(total);
    for ((name, text), object) in lowered.kernels.into_iter().zip(objects) {
        kernels.push(Kernel { name, text, object: object? });
    }
    Ok(Compiled {
        program: lowered.program,
        kernels,
        packed: lowered.parameters,
        parameters: legal.parameters,
    })
}
