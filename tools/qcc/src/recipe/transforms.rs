//! Names of function-preserving transforms: a list, `none`, or `auto`.

use crate::Failure;

/// What this build has. `auto` applies all of it: each is exact and never costs.
const KNOWN: [&str; 2] = ["fold-batch-norm", "equalize"];

/// What is to come.
const TO_COME: [&str; 10] = [
    "rotate-residual",
    "rotate-heads",
    "rotate-online",
    "smooth",
    "split",
    "low-rank",
    "outlier-columns",
    "permute",
    "awq",
    "rearrange-kv-channels",
];

/// Which transforms to apply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transforms {
    /// Those that fit.
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

    /// Their passes, in order.
    pub fn list(self) -> Vec<&'static str> {
        match self {
            Transforms::Auto => KNOWN.to_vec(),
            Transforms::Named(names) => names,
        }
    }
}
