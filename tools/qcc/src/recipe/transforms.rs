//! Names of function-preserving transforms: a list, `none`, or `auto`.

use crate::Failure;

const KNOWN: [&str; 15] = [
    "fold-batch-norm",
    "equalize",
    "split-projections",
    "rotate-residual",
    "rotate-heads",
    "rotate-online",
    "smooth",
    "shift",
    "permute",
    "smooth-window",
    "smooth-state",
    "rotate-state",
    "split",
    "low-rank",
    "outlier-columns",
];

/// Those that depend on what activations look like and on formats.
const BY_FORMAT: [&str; 6] =
    ["rotate-residual", "rotate-heads", "rotate-online", "smooth", "shift", "permute"];

/// What is to come.
const TO_COME: [&str; 2] = ["awq", "rearrange-kv-channels"];

/// Which transforms to apply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transforms {
    /// Those that fit, chosen by cost where they are not free.
    Auto,
    /// These.
    Named(Vec<&'static str>),
}

impl Transforms {
    /// Parses `none`, `auto` or a list separated by commas.
    ///
    /// # Errors
    /// When a name is unknown or to come.
    pub fn parse(text: &str) -> Result<Transforms, Failure> {
        Transforms::of(text.split(',').map(str::trim))
    }

    /// As [`Transforms::parse`], of names.
    ///
    /// # Errors
    /// When a name is unknown or to come.
    pub fn of<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Transforms, Failure> {
        let names: Vec<&str> = names.into_iter().collect();
        match names.as_slice() {
            ["auto"] => return Ok(Transforms::Auto),
            ["none"] => return Ok(Transforms::Named(Vec::new())),
            _ => {}
        }
        let known = |name: &str| {
            if let Some(known) = KNOWN.iter().find(|k| **k == name) {
                return Ok(*known);
            }
            if TO_COME.contains(&name) {
                return Err(Failure::not_yet(format!("transform `{name}`")));
            }
            let hint = qcc_ir::names::near_match(name, KNOWN.into_iter().chain(TO_COME));
            Err(Failure::input(format!(
                "unknown transform `{name}`{hint}; this build knows {}, none and auto",
                KNOWN.join(", ")
            )))
        };
        Ok(Transforms::Named(names.into_iter().map(known).collect::<Result<_, _>>()?))
    }

    /// Their passes, in order, for a model that is quantized or not, with ranges measured beforehand or not: nothing is gained by making
    /// floats easier to quantize, and where equalizing helps is seen on activations.
    pub fn list(self, quantized: bool, is_static: bool) -> Vec<&'static str> {
        match self {
            Transforms::Auto if is_static => {
                vec!["fold-batch-norm", "equalize", "split-projections", "transform"]
            }
            Transforms::Auto if quantized => vec!["fold-batch-norm", "split-projections", "transform"],
            Transforms::Auto => vec!["fold-batch-norm"],
            Transforms::Named(names) => names,
        }
    }
}

/// Whether a pass looks at activations.
pub fn needs_data(name: &str) -> bool {
    by_format(name) || ["outlier-columns", "smooth-window", "smooth-state"].contains(&name)
}

/// Whether a pass takes the formats as options.
pub fn by_format(name: &str) -> bool {
    name == "transform" || BY_FORMAT.contains(&name)
}
