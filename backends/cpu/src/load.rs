//! Models in this process: kernels loaded beside the compiler, weights packed in memory.

#![allow(unsafe_code)]

use std::sync::Arc;

use qcc_ir::Module;
use qcc_mlir::{Jit, Target};
use qcc_params::{OpEvaluator, Parameters};
use qcc_passes::Progress;
use qcc_runtime::{AlignedBuffer, KernelFn, Model};

use crate::CpuError;
use crate::compile::{Compiled, compile};
use crate::pack::pack_all;

/// Compiles a module and loads it.
///
/// # Errors
/// When it does not compile, a weight cannot be evaluated, or this machine lacks what the target has.
pub fn load(
    module: &Module,
    parameters: &Parameters,
    evaluator: &dyn OpEvaluator,
    target: &Target,
    progress: &dyn Progress,
) -> Result<Model, CpuError> {
    let compiled = compile(module, parameters, evaluator, target, progress, None)?;
    load_compiled(compiled, evaluator, progress)
}

fn load_compiled(
    compiled: Compiled,
    evaluator: &dyn OpEvaluator,
    progress: &dyn Progress,
) -> Result<Model, CpuError> {
    let mut buffers = Vec::with_capacity(compiled.packed.len());
    pack_all(&compiled, evaluator, progress, |slot, bytes| {
        buffers.push((slot.name.clone(), AlignedBuffer::copy_of(bytes, "weights")?));
        Ok(())
    })?;
    let objects: Vec<&[u8]> = compiled.kernels.iter().map(|k| k.object.as_slice()).collect();
    let jit = Jit::load_objects(&objects)?;
    let kernels = compiled
        .kernels
        .iter()
        .map(|kernel| {
            let address = jit.address(&kernel.name)?;
            // SAFETY: the generators define every kernel with this signature.
            Ok(unsafe { std::mem::transmute::<usize, KernelFn>(address) })
        })
        .collect::<Result<Vec<_>, CpuError>>()?;
    // SAFETY: program and kernels come from one lowering, which gives each kernel the arguments its generator states.
    let model =
        unsafe { Model::new(compiled.program, kernels, qcc_runtime::Parameters::from_buffers(buffers)) }?;
    Ok(model.keeping(Arc::new(jit)))
}
