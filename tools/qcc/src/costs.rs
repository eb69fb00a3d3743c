//! What choices by cost read: rewrite rules of one's own and a description of the target. Files, never a clock.

use std::path::Path;
use std::sync::Arc;

use qcc_passes::equivalence::proof::prove;
use qcc_passes::equivalence::rules::{Rule, parse};
use qcc_passes::transform::Target;

use crate::Failure;

/// The rules of a file, each proved by example.
///
/// # Errors
/// When the file cannot be read or parsed, or a rule is not proved.
pub fn rules(path: Option<&Path>) -> Result<Vec<Arc<Rule>>, Failure> {
    let Some(path) = path else { return Ok(Vec::new()) };
    let rules = parse(&path.display().to_string(), &qcc_data::read::text(path)?).map_err(Failure::input)?;
    for rule in &rules {
        prove(rule).map_err(|e| Failure::file(path, e))?;
    }
    Ok(rules)
}

/// What the target is to costs.
pub struct Costs {
    /// The description.
    pub target: Target,
    /// `builtin`, or the hash of the file (BLAKE3, hexadecimal).
    pub hash: String,
}

/// The description in a file; without one, that of this build.
///
/// # Errors
/// When the file cannot be read or parsed.
pub fn target(path: Option<&Path>) -> Result<Costs, Failure> {
    let Some(path) = path else { return Ok(Costs { target: Target::default(), hash: "builtin".into() }) };
    let text = qcc_data::read::text(path)?;
    let target = Target::parse(&text).map_err(|e| Failure::file(path, e))?;
    Ok(Costs { target, hash: blake3::hash(text.as_bytes()).to_hex().to_string() })
}
