//! Formats of single layers: passes write what a layer shall have beside it, `quantize` reads it instead of its own options.
//!
//! | pass | chooses by | file |
//! | --- | --- | --- |
//! | `override` | name, kind and shape, as the user says | [`overrides`] |
//! | `search-formats` | the error of outputs, among formats of so many bits | [`search`] |
//! | `protect` | the model's loss, until it is small enough | [`protect`] |
//!
//! In the IR these are the annotations `qcc.weights` and `qcc.activations` of an operation, formats as users write them.

mod loss;
pub mod overrides;
mod protect;
mod search;
#[cfg(test)]
mod tests;

use qcc_ir::format::{Format, Role};
use qcc_ir::{Attribute, Node};

pub use overrides::Override;

/// The registry entries.
pub const INFOS: [crate::pass::PassInfo; 3] = [overrides::INFO, search::INFO, protect::INFO];

const WEIGHTS: &str = "weights";
const ACTIVATIONS: &str = "activations";

/// The format that a layer shall have, where something else than that of all is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Requested {
    /// Of its weight.
    pub weights: Option<Format>,
    /// Of its input.
    pub activations: Option<Format>,
}

impl Requested {
    /// What is written beside an operation.
    ///
    /// # Errors
    /// When it is no format.
    pub fn of(node: &Node) -> Result<Requested, String> {
        let format = |name: &str, role: Role| match node.annotations.get(name) {
            None => Ok(None),
            Some(Attribute::String(text)) => {
                let format = Format::parse(text, role).map_err(|e| format!("`qcc.{name}`: {e}"))?;
                format.check_executable().map(|()| Some(format)).map_err(|e| format!("`qcc.{name}`: {e}"))
            }
            Some(_) => Err(format!("`qcc.{name}` is no text")),
        };
        Ok(Requested {
            weights: format(WEIGHTS, Role::Weight)?,
            activations: format(ACTIVATIONS, Role::Activation)?,
        })
    }

    /// Writes it beside an operation; what is none stays as it was.
    pub fn annotate(&self, node: &mut Node) {
        for (name, format) in [(WEIGHTS, &self.weights), (ACTIVATIONS, &self.activations)] {
            if let Some(format) = format {
                node.annotations.insert(name.to_string(), Attribute::String(format.to_string().into()));
            }
        }
    }
}

/// What passes found out about formats of single layers, for `--explain`, `--json` and reports.
#[derive(Clone, Debug, Default)]
pub struct Choices {
    /// What `search-formats` tried, layer by layer, the best first.
    pub tried: Vec<Tried>,
    /// What each layer loses when it alone is quantized, the worst first.
    pub sensitivities: Vec<Sensitivity>,
    /// Layers that were given more bits, and the loss before and after all of them.
    pub kept: Vec<Kept>,
    /// The loss in percent with all layers in the formats that were asked for, and with those kept.
    pub loss: Option<(f64, f64)>,
}

/// A format that a layer might have had.
#[derive(Clone, Debug, PartialEq)]
pub struct Tried {
    /// The layer.
    pub layer: String,
    /// The format of its weight.
    pub format: String,
    /// Bits of a weight, scales included.
    pub bits: f64,
    /// Mean square error of its output, relative to the mean square of the output.
    pub error: f64,
}

/// What a layer loses.
#[derive(Clone, Debug, PartialEq)]
pub struct Sensitivity {
    /// The layer.
    pub layer: String,
    /// Loss above the float model's, in percent.
    pub loss: f64,
}

/// A layer that was given more bits.
#[derive(Clone, Debug, PartialEq)]
pub struct Kept {
    /// The layer.
    pub layer: String,
    /// What its weight gets.
    pub format: String,
    /// Its loss alone in the format that was asked for, in percent.
    pub loss: f64,
}
