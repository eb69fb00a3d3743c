//! What can go wrong between a module and its compiled form.

use qcc_mlir::MlirError;
use qcc_params::ParameterError;
use qcc_passes::PassError;
use qcc_runtime::RuntimeError;

use crate::lower::{LowerError, PackingError};

/// An error of the CPU backend.
#[derive(Debug, thiserror::Error)]
pub enum CpuError {
    /// The module has nothing to compile.
    #[error("the module has no function to compile")]
    Empty,
    /// A pass of the backend's pipeline failed.
    #[error(transparent)]
    Pass(#[from] PassError),
    /// An operation has no kernel.
    #[error(transparent)]
    Lower(#[from] LowerError),
    /// A weight cannot be packed.
    #[error(transparent)]
    Packing(#[from] PackingError),
    /// A weight cannot be evaluated.
    #[error(transparent)]
    Parameter(#[from] ParameterError),
    /// A kernel does not compile, or code does not link.
    #[error(transparent)]
    Mlir(#[from] MlirError),
    /// The runtime refused the model.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// A file.
    #[error("`{path}`: {message}")]
    File {
        /// Which.
        path: String,
        /// Why, and what to do.
        message: String,
    },
}

impl CpuError {
    pub(crate) fn file(path: &std::path::Path, message: impl ToString) -> CpuError {
        CpuError::File { path: path.display().to_string(), message: message.to_string() }
    }
}
