//! Kernels against plain references: integer results bit for bit, f32 within 1e-5 · Σ|x||w|, on every feature level of the machine.
#![allow(unsafe_code)]

mod attention;
mod convolution;
mod gemm;
mod hadamard;
mod harness;
mod mamba;
mod math;
mod rows;
