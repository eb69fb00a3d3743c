//! Weights: tensors, the parameter table, memory-mapped archives, and weight expressions with their streaming evaluator.
//!
//! The IR names a weight (`"scope::key"`); this crate says what the name stands for: bytes in a mapped file, a tensor in memory, or an
//! expression over other weights that is evaluated only after all decisions are made.
//!
//! **Architecture invariants.** Nothing here decides what to compute; op semantics come in through [`OpEvaluator`] (the interpreter).
//! `unsafe` occurs in the memory-mapping file alone.

mod archive;
mod cache;
mod hash;
mod imported;
pub mod parameters;
mod plan;
mod stream;
pub mod tensor;
pub mod trim;

pub use archive::{Archive, ArchiveError, map_file, open_external, open_safetensors};
pub use cache::{CacheCounts, WeightCache};
pub use imported::Imported;
pub use parameters::{Expression, OpEvaluator, ParameterError, Parameters, SharedBytes, Source};
pub use tensor::{Data, Tensor, TensorError};
