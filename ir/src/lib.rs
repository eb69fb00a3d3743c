//! The typed, quantized, MLIR-like tensor IR of `qcc`.
//!
//! A [`Module`] holds [`Function`]s; a function is a DAG of tensor operations in SSA form ([`Op`], one enum variant an operation,
//! all of it generated from the one op table in [`ops`]). Its only text form is MLIR generic assembly of the dialect `qcc`.
//!
//! **Architecture invariants.** This crate knows no weights (parameters are names), no frontend, no backend, and never links LLVM.
//! Everything is owned, `Send + Sync`, and addressed by `u32` newtypes.

pub mod attribute;
pub mod diagnostics;
pub mod dim;
pub mod element;
pub mod entity;
pub mod format;
pub mod function;
pub mod hadamard;
pub mod infer;
pub mod irdl;
pub mod levels;
pub mod names;
pub mod ops;
pub mod parse;
pub mod patch;
pub mod print;
pub mod types;
pub mod verify;

pub use attribute::{Attribute, Dense, DenseData, Float, Str};
pub use diagnostics::{Diagnostic, Severity};
pub use dim::Dim;
pub use element::{ElementType, Granularity, QuantType, ScaleType, Storage};
pub use entity::{OpId, ValueId};
pub use format::{Format, FormatError, Role, Sharing};
pub use function::{Definition, Function, Module, Node, StateBinding, Value};
pub use infer::InferError;
pub use ops::{Arity, Op, OpSpec, TABLE};
pub use patch::Patch;
pub use types::{Layout, TensorType};
