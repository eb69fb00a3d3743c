//! Architectures written down plainly in f64, one sequence at a time, from a checkpoint's own tensors: what an import must compute.

pub mod llama;
pub mod mamba;

use crate::checkpoint::Checkpoint;

/// `[out, inner] · [inner]`, and a bias where the checkpoint has one.
pub(super) fn linear(c: &Checkpoint, module: &str, x: &[f64]) -> Vec<f64> {
    let weight = c.tensor(&format!("{module}.weight"));
    let mut y: Vec<f64> =
        weight.chunks(x.len()).map(|row| row.iter().zip(x).map(|(w, x)| w * x).sum()).collect();
    if c.tensors.contains_key(&format!("{module}.bias")) {
        y.iter_mut().zip(c.tensor(&format!("{module}.bias"))).for_each(|(y, b)| *y += b);
    }
    y
}

pub(super) fn norm(c: &Checkpoint, module: &str, x: &[f64]) -> Vec<f64> {
    let mean = x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64;
    let weight = c.tensor(&format!("{module}.weight"));
    x.iter().zip(weight).map(|(x, w)| x / (mean + 1e-5).sqrt() * w).collect()
}

pub(super) fn silu(x: f64) -> f64 {
    x / (1.0 + (-x).exp())
}
