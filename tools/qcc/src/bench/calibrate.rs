//! `--calibrate-target`: the description of this machine that choices by cost read (`compile --target-description`).

use std::fmt::Write as _;
use std::path::Path;

use qcc_cpu::kernels::peak::Peak;
use qcc_cpu::machine::{Machine, cache_bytes};
use qcc_mlir::Target;
use qcc_passes::transform;

use crate::{Failure, emit};

/// Measures one core, and writes what it does.
///
/// # Errors
/// When the machine cannot be measured or the file not be written.
pub fn calibrate(path: &Path) -> Result<(), Failure> {
    let mut machine = Machine::new(1)?;
    let numbers = [
        ("float-operations", "additions and multiplications of f32 a second", machine.peak(Peak::F32)?),
        (
            "int8-operations",
            "additions and multiplications of 8-bit codes a second",
            machine.peak(Peak::Int8)?,
        ),
        ("memory-bytes", "bytes a second from memory", machine.bandwidth()?),
        ("cache-bytes", "bytes a second from caches", machine.cache_bandwidth()?),
        ("cached-bytes", "bytes of weights that caches hold", cache_bytes() as f64),
        ("decoded-elements", "elements a second that are expanded from codes", machine.decoding()?),
        ("start", "seconds to start an operation", Machine::new(0)?.start()),
    ];
    let mut text =
        format!("# One core of {}, measured by `qcc bench --calibrate-target`.\n", Target::host().cpu);
    for (key, meaning, value) in numbers {
        // Three digits: more is noise.
        let value: f64 = format!("{value:.2e}").parse().unwrap_or(value);
        let _ = writeln!(text, "{key} = {value:e} # {meaning}");
    }
    transform::Target::parse(&text).map_err(|e| Failure::file(path, e))?;
    emit::put(path, text.as_bytes())
}
