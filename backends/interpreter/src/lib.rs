//! The oracle: reference semantics of every operation of the dialect, in f32 and f64, and bit-exact quantized arithmetic.
//!
//! The operation table says what an operation is called and takes, `qcc_ir::infer` what it yields, this crate what it *means*. Backends are
//! tested against it, constants and weight expressions are evaluated by it, and equivalences are proved in its f64 mode.
//!
//! **Float operations** are computed in f64 and rounded once to the element type of the result (sums run in ascending order of their
//! index). For `+ − × ÷ √` on f32 this is exactly IEEE arithmetic in f32, for all else it is the correctly rounded result but for rare ties.
//! **Quantized operations** follow the f32 arithmetic that [`formats`] and the `quantized_*` operations prescribe, bit by bit.
//!
//! **Architecture invariants.** No input makes it panic: an operation is evaluated only after its type rule held on the actual operands.
//! Clarity goes before speed, but inner loops run over contiguous memory, so that real models run in seconds.

pub mod formats;
pub mod precision;
pub mod real;

mod attention;
mod contraction;
mod convolution;
mod elementwise;
mod error;
mod evaluate;
mod hadamard;
mod movement;
mod normalization;
mod pool;
mod quantized;
mod reduction;
mod resize;
mod session;
mod state_space;
mod symbols;
mod walk;
mod window;

pub use convolution::patches;
pub use error::InterpretError;
pub use evaluate::Interpreter;
pub use formats::FormatError;
pub use precision::Precision;
pub use session::Session;
