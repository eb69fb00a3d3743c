//! What can go wrong between text and machine code.

/// An error of MLIR, LLVM or the linker, with what they said.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MlirError {
    /// The text does not parse or verify.
    #[error("MLIR: {0}")]
    Parse(String),
    /// A conversion failed.
    #[error("lowering to LLVM: {0}")]
    Lower(String),
    /// The target is unknown or cannot emit code.
    #[error("target `{target}`: {message}")]
    Target {
        /// Triple or name.
        target: String,
        /// Why.
        message: String,
    },
    /// LLVM failed.
    #[error("LLVM: {0}")]
    Llvm(String),
    /// A symbol is missing in compiled code.
    #[error("compiled code has no symbol `{0}`")]
    Symbol(String),
    /// Linking failed.
    #[error("linking {path}: {message}")]
    Link {
        /// What was being made.
        path: String,
        /// What the linker said, or why there is none.
        message: String,
    },
}
