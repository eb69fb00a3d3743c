//! The Hugging Face frontend: a checkpoint folder (`config.json` and `*.safetensors`) becomes a module and its parameter table.
//!
//! `config.json` alone says what the graph is; the weights then must be there with exactly the shapes that follow from it. Nothing is
//! allocated by a number from a file: weights stay in the mapped archive, and what has to be done to one (a cast to f32, a reshape,
//! `A = −exp(A_log)`) is a weight expression, so a module from bf16 files reads like one from f32 files.
//!
//! An architecture is one file in `architectures/`: a name for the registry and a function that builds the graph.
//!
//! **Architecture invariants.** Locations are module paths of the checkpoint (`backbone.layers.3.mixer.in_proj`), parameters have the names
//! of its tensors. All arithmetic is f32. Nothing here decides on quantization or reshapes the graph for a later pass.

mod activation;
mod architectures;
mod config;
mod error;
mod graph;
mod rope;
mod weights;

use std::path::Path;

use qcc_params::{Imported, open_safetensors};

use config::Config;
use graph::Graph;

pub use error::{ImportError, WeightProblem};

/// Imports the checkpoint in `folder`. The module's entry function is `main`, from `tokens` `[B, T]` (i64, both sizes symbolic) and the
/// states to `logits` `[B, T, vocabulary]` (f32) and the new states; states start as zeros, those that grow (keys and values) without any.
///
/// Weights that the architecture does not use are reported as a warning.
///
/// # Errors
/// When a file cannot be read or is malformed, the architecture is unknown, a field of `config.json` has no meaning, or weights are
/// missing or of another shape (all of them, by name).
pub fn import(folder: &Path) -> Result<Imported, ImportError> {
    let config = Config::read(folder)?;
    let architecture = architectures::of(&config)?;
    let archive = open_safetensors(folder)?;
    let mut graph = Graph::new(&archive);
    (architecture.build)(&config, &mut graph)?;
    let (module, parameters, unused) = graph.finish(folder)?;
    let mut warnings = Vec::new();
    if !unused.is_empty() {
        warnings.push(format!(
            "{}: {} does not use {} of the checkpoint's weights: {}",
            folder.display(),
            architecture.name,
            unused.len(),
            error::listing(&unused, ", ")
        ));
    }
    let files = std::iter::once(config.path().to_path_buf()).chain(archive.files().iter().cloned()).collect();
    Ok(Imported { module, parameters, files, warnings })
}
