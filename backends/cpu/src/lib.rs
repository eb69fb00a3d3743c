//! The CPU backend: kernels as data with generators of their MLIR text, packed weights, lowering of modules to programs, and compiled
//! models in this process ([`load`]) or as artifacts ([`artifact`]).
//!
//! | stage | module |
//! | --- | --- |
//! | to operations that have kernels | [`pipeline`], [`legalize`] |
//! | an entry point for the last position alone | [`next`](mod@next) |
//! | to a table of kernel calls and packed parameters | [`lower`] |
//! | kernel text | [`kernels`] (products, norms, scans), [`loops`] (elementwise, movement) |
//! | machine code | [`compile`] |
//! | what weights take | [`stored_bits`] |
//! | what this machine can do | [`machine`] |
//! | what layers take on a described one | [`estimate`] |
//!
//! **Architecture invariants.** Sizes stay symbolic: one program serves every length. A kernel is a pure function of its spec and the
//! target, so the same module gives the same bytes. Weights are packed after everything is decided, a few at a time.

pub mod artifact;
pub mod compile;
mod error;
pub mod estimate;
mod executor;
pub mod halves;
mod kernel_cache;
pub mod kernels;
pub mod legalize;
mod load;
pub mod loops;
pub mod lower;
pub mod machine;
pub mod next;
mod pack;
pub mod pipeline;
mod stored;

pub use error::CpuError;
pub use executor::CpuExecutor;
pub use kernel_cache::{KernelCache, KernelCounts};
pub use load::load;
pub use lower::is_transform;
pub use stored::stored_bits;
