//! The CPU backend: kernels as data with generators of their MLIR text, packed weights, and lowering of modules to programs.

pub mod kernels;
