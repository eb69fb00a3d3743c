//! The registry of architectures: one file each. To add one, write its file and name it in [`KNOWN`].

mod llama;
mod mamba;
mod mistral;
mod qwen;
mod transformer;

use serde_json::Value;

use crate::config::{Config, shown};
use crate::error::ImportError;
use crate::graph::Graph;

/// A kind of model that can be imported.
pub(crate) struct Architecture {
    /// As `architectures` of `config.json` says.
    pub name: &'static str,
    /// As `model_type` says, for files without `architectures`.
    model_type: &'static str,
    /// Builds `main`. Weights that are missing or do not fit are reported when it is done.
    pub build: fn(&Config, &mut Graph<'_>) -> Result<(), ImportError>,
}

/// Every architecture that can be imported.
const KNOWN: &[Architecture] =
    &[mamba::ARCHITECTURE, llama::ARCHITECTURE, mistral::ARCHITECTURE, qwen::QWEN2, qwen::QWEN3];

/// The architecture that a configuration is of. `architectures` counts where it is there: the same `model_type` also stands for models
/// without a head.
pub(crate) fn of(config: &Config) -> Result<&'static Architecture, ImportError> {
    let Some((field, value)) = config.find(&["architectures", "model_type"]) else {
        let known = KNOWN[0].name;
        return Err(config.error(
            "architectures",
            format!("is missing, and so is `model_type`; {}, e.g. [\"{known}\"]", known_names()),
        ));
    };
    let is = |name: &str, known: &Architecture| match field {
        "architectures" => known.name == name,
        _ => known.model_type == name,
    };
    let names: Vec<&str> = match value {
        Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
        one => one.as_str().into_iter().collect(),
    };
    KNOWN.iter().find(|known| names.iter().any(|name| is(name, known))).ok_or_else(|| {
        config.error(field, format!("is {}, which cannot be imported; {}", shown(value), known_names()))
    })
}

fn known_names() -> String {
    let names: Vec<String> =
        KNOWN.iter().map(|a| format!("{} (model type `{}`)", a.name, a.model_type)).collect();
    format!("known architectures are {}", names.join(", "))
}
