//! Weights in the form kernels read, made one after the other: a few are packed at the same time, and handed on in the program's order.

use qcc_params::OpEvaluator;
use qcc_passes::Progress;
use qcc_runtime::program::ParameterSlot;
use rayon::prelude::*;

use crate::CpuError;
use crate::compile::Compiled;
use crate::lower::Weights;

/// Packs all parameters, a few at a time, and gives each to `sink` in the program's order.
///
/// # Errors
/// When a weight cannot be evaluated, or the sink fails.
pub(crate) fn pack_all(
    compiled: &Compiled,
    evaluator: &dyn OpEvaluator,
    threads: usize,
    progress: &dyn Progress,
    mut sink: impl FnMut(&ParameterSlot, &[u8]) -> Result<(), CpuError>,
) -> Result<(), CpuError> {
    let total = compiled.packed.len();
    let window = threads.max(1) * 2;
    let slots = &compiled.program.parameters;
    for (start, chunk) in (0..).step_by(window).zip(compiled.packed.chunks(window)) {
        let packed: Vec<_> = chunk
            .par_iter()
            .map(|parameter| parameter.pack(&Weights { parameters: &compiled.parameters, evaluator }))
            .collect();
        for (i, bytes) in packed.into_iter().enumerate() {
            sink(&slots[start + i], &bytes?)?;
            progress.report("packing weights", start + i + 1, total);
        }
    }
    Ok(())
}
