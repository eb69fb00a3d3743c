//! `qcc targets`: the machines to compile for, one a line.

use qcc_mlir::Target;

use crate::{Failure, Streams};

/// Runs the command.
///
/// # Errors
/// When the output cannot be written.
pub fn run(streams: &mut Streams<'_>) -> Result<(), Failure> {
    for (name, sentence) in Target::NAMES {
        writeln!(streams.stdout, "{name:14} {sentence}")?;
    }
    writeln!(streams.stdout, "after the name, `x86-64-v3+avxvnni`:")?;
    for (feature, machine, sentence) in Target::FEATURES {
        writeln!(streams.stdout, "  +{feature:11} {machine}: {sentence}")?;
    }
    Ok(())
}

/// The target of this name.
///
/// # Errors
/// When it is unknown, with the nearest, or one of those to come.
pub fn named(name: &str) -> Result<Target, Failure> {
    let base = name.split('+').next().unwrap_or(name);
    if Target::NAMES.iter().any(|(known, _)| *known == base) {
        return Ok(Target::named(name)?);
    }
    if name == "nvptx" || name.starts_with("nvptx:") {
        return Err(Failure::not_yet(format!("target `{name}` (GPUs)")));
    }
    let hint = qcc_ir::names::near_match(name, Target::NAMES.map(|(known, _)| known));
    Err(Failure::input(format!("unknown target `{name}`{hint}; `qcc targets` lists all")))
}
