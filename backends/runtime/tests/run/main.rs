//! Programs with kernels written by hand, run through the public interface.
#![allow(unsafe_code, missing_docs)]

mod fixture;
mod growth;
mod parameter_files;
mod programs;
mod runs;

use fixture::{WIDTH, bytes};
use qcc_runtime::{InputView, OutputBuffer, RuntimeError, State};

/// Runs `step` on these values, `batch` rows of them.
fn step(state: &mut State, batch: u64, x: &[f32]) -> Result<Vec<f32>, RuntimeError> {
    let mut y = vec![0u8; x.len() * 4];
    let x = bytes(x);
    state.run(
        "step",
        &[InputView { shape: &[batch, WIDTH], data: &x }],
        &mut [OutputBuffer { data: &mut y }],
    )?;
    Ok(y.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
}
