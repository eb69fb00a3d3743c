//! Weights in the form kernels read. Neighbours that read one weight are made together, so that it is evaluated once.

use std::sync::Arc;

use qcc_ir::Str;
use qcc_params::{OpEvaluator, Tensor};
use qcc_passes::Progress;
use qcc_runtime::program::ParameterSlot;

use crate::CpuError;
use crate::compile::Compiled;
use crate::lower::PackedParameter;

/// Packs all parameters, some at a time, and gives each to `sink` in the program's order.
///
/// # Errors
/// When a weight cannot be evaluated, or the sink fails.
pub(crate) fn pack_all(
    compiled: &Compiled,
    evaluator: &dyn OpEvaluator,
    progress: &dyn Progress,
    mut sink: impl FnMut(&ParameterSlot, &[u8]) -> Result<(), CpuError>,
) -> Result<(), CpuError> {
    let related = |a: &PackedParameter, b: &PackedParameter| {
        let pairs = a.reads.iter().flat_map(|a| b.reads.iter().map(move |b| (a, b)));
        pairs.into_iter().any(|(a, b)| a == b || compiled.parameters.same_operation(a, b))
    };
    let groups: Vec<&[PackedParameter]> = compiled.packed.chunk_by(related).collect();
    let reads: Vec<Vec<Str>> = groups.iter().map(|group| reads(group)).collect();
    let pack = |i: usize, values: &[Arc<Tensor>]| {
        let pack = |parameter: &PackedParameter| {
            let position = |name| reads[i].iter().position(|read| read == name);
            let own = parameter.reads.iter().filter_map(position).map(|at| values[at].clone());
            Ok(parameter.pack(&own.collect::<Vec<_>>())?)
        };
        groups[i].iter().map(pack).collect::<Result<Vec<_>, CpuError>>()
    };
    let mut slots = compiled.program.parameters.iter();
    let mut done = 0;
    compiled.parameters.stream(&reads, evaluator, pack, |_, packed| {
        for (bytes, slot) in packed.iter().zip(&mut slots) {
            sink(slot, bytes)?;
            done += 1;
            progress.report("packing weights", done, compiled.packed.len());
        }
        Ok(())
    })
}

/// The weights that some parameters read, each once.
fn reads(group: &[PackedParameter]) -> Vec<Str> {
    let mut names: Vec<Str> = Vec::new();
    for name in group.iter().flat_map(|p| &p.reads) {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    names
}
