//! What choices by cost read: rewrite rules of one's own and a description of the target. Files, never a clock.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use qcc_passes::Registry;
use qcc_passes::equivalence::proof::prove;
use qcc_passes::equivalence::rules::{BUILTIN, Rule, parse};
use qcc_passes::transform::Target;

use crate::Failure;

/// The rules of plugins and those of a file, each proved by example.
///
/// # Errors
/// When the file cannot be read or parsed, has no rules, or one that is not proved, introduces something or has the name of another.
pub fn rules(path: Option<&Path>, registry: &Registry) -> Result<Vec<Arc<Rule>>, Failure> {
    let mut rules = Vec::new();
    for text in registry.rules() {
        // These were proved when they were registered.
        rules.extend(text.parse().map_err(Failure::input)?);
    }
    let Some(path) = path else { return Ok(rules) };
    let own = parse(&path.display().to_string(), &qcc_data::read::text(path)?).map_err(Failure::input)?;
    if own.is_empty() {
        return Err(Failure::file(path, "it has no `rule NAME LEFT => RIGHT`"));
    }
    let mut taken: HashSet<String> = rules.iter().map(|r: &Arc<Rule>| r.name.clone()).collect();
    for (file, text) in BUILTIN {
        taken.extend(parse(file, text).map_err(Failure::input)?.iter().map(|r| r.name.clone()));
    }
    for rule in &own {
        let name = &rule.name;
        if taken.contains(name) {
            return Err(Failure::file(
                path,
                format!("there is a rule `{name}` already; give this one another name"),
            ));
        }
        if !rule.free.is_empty() {
            let message = format!("`{name}` introduces something, and no proposal binds it: write a `rule`");
            return Err(Failure::file(path, message));
        }
        prove(rule).map_err(|e| Failure::file(path, e))?;
    }
    rules.extend(own);
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
