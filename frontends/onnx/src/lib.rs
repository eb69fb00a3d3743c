//! The ONNX frontend: an `.onnx` file becomes a module and its parameter table.
//!
//! The file is mapped and decoded in place: initialisers stay regions of it, or of the external data files beside it. Nodes are translated
//! in file order, each by the function that the table in `import/table.rs` names for its operator; what depends on constants and shapes
//! alone is computed on the way, so that chains of `Shape`, `Gather`, `Concat` and `Reshape` leave nothing but the reshape. Sizes with a
//! symbol (a batch of any length) go through such chains as symbols.
//!
//! **Architecture invariants.** Locations are node names, or the name of the first output where a node has none; values keep their names;
//! parameters have the names of their initialisers. The file is untrusted: every length is compared with the bytes that are there.
//! Nothing here decides on quantization or reshapes the graph for a later pass.

mod attention;
mod attribute;
mod call;
mod element;
mod error;
mod graph;
mod import;
mod initializer;
mod input;
mod open;
mod proto;
mod sizes;

use std::path::Path;

use qcc_params::Imported;

pub use error::{ImportError, NodePlace};
pub use import::supported_ops;

/// Oldest version of the operator set that is understood.
pub const OLDEST_OPSET: i64 = 7;

/// Newest version of the operator set that is understood.
pub const NEWEST_OPSET: i64 = 23;

/// Imports an ONNX model. The module's entry function is `main`; its arguments and results have the names and order of the graph's inputs
/// and outputs, its symbolic sizes the names of the inputs' `dim_param`s.
///
/// # Errors
/// When the file or its external data cannot be read, is malformed, or holds what the IR cannot say; unsupported operators are all named.
pub fn import(file: &Path) -> Result<Imported, ImportError> {
    let model = open::open(file)?;
    import::import(file, model)
}
