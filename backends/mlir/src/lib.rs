//! The only crate that touches MLIR and LLVM (through `melior`, `mlir-sys` and `inkwell`): kernel text to object code, code in process,
//! bytecode, verification, and shared libraries. Nothing of theirs appears in its interface.
//!
//! Every call makes its own contexts, so calls from several threads do not meet.
#![allow(unsafe_code)]

mod codegen;
mod context;
mod error;
mod jit;
mod link;
mod target;
mod text;

pub use codegen::{CodegenOptions, compile_object, emit_assembly, emit_llvm_ir};
pub use error::MlirError;
pub use jit::Jit;
pub use link::{LinkInputs, link_shared};
pub use target::Target;
pub use text::{from_bytecode, to_bytecode, verify_text};
