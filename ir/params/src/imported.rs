//! What a frontend returns: a module, the weights its names stand for, and the files it was read from.

use std::path::PathBuf;

use qcc_ir::Module;

use crate::Parameters;

/// An imported model.
#[derive(Clone, Debug)]
pub struct Imported {
    /// The graph; the first function is the entry point, `main`.
    pub module: Module,
    /// The weights.
    pub parameters: Parameters,
    /// Every file the import read, weights included; their bytes identify the model.
    pub files: Vec<PathBuf>,
    /// What a user should know: weights that are not used.
    pub warnings: Vec<String>,
}
