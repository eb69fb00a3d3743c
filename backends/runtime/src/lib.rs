//! What compiled models run on. A model is machine code (kernels) and a [`program::Program`], the table of kernel calls with symbolic
//! sizes; this crate binds the sizes to the inputs, lays out memory and calls the kernels on a thread pool.
//!
//! The same code runs models in the compiler's own process (kernels loaded by the JIT) and shipped ones: `capi/` is the plain C face,
//! built as a static library that the linker puts into `model.so`, and `archive/` is that library as bytes for the compiler to embed. Its
//! `Linkage` says how to link.
//!
//! * [`program`]: the command table, its validation and serial form; [`Expr`](program::Expr): sizes.
//! * [`Model`]: program, kernels and parameters, checked against each other and against the CPU. Shared by any number of states.
//! * [`State`]: what one caller needs to run a model: persistent buffers, arena, thread pool.
//! * [`Parameters`]: bytes of the weights, memory-mapped or in memory; [`ParameterWriter`] makes the file.
//! * [`Manifest`]: what an artifact's `manifest.json` promises, and its checks.
//!
//! **Architecture invariants.** A run whose shapes have been seen before allocates nothing. Every buffer a kernel is given starts at a
//! multiple of [`ALIGNMENT`] bytes, and reading on to the next such multiple past its end is safe; but for those of the caller, which start at
//! a multiple of an element's size and end where they end. Inputs, outputs and parameters are checked before the first kernel runs.
//! Nothing here panics on bad input.

mod arena;
mod bind;
mod digest;
mod element;
mod error;
mod expr;
pub mod features;
mod growth;
mod manifest;
mod model;
mod parameter_file;
mod parameters;
mod places;
mod pool;
pub mod program;
mod schedule;
mod state;
mod validate;

pub use arena::{ALIGNMENT, AlignedBuffer};
pub use element::Element;
pub use error::RuntimeError;
pub use manifest::{FileRecord, MANIFEST_SCHEMA, Manifest, PARAMETER_FILE};
pub use model::{KernelFn, Model};
pub use parameter_file::{ParameterWriter, WrittenParameters};
pub use parameters::Parameters;
pub use places::ActivationMemory;
pub use pool::Pool;
pub use state::{InputView, OutputBuffer, State, StepTime};
