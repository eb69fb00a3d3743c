//! `qcc formats`: the number formats, one a line.

use qcc_ir::format::CATALOGUE;

use crate::{Failure, Streams};

/// Runs the command.
///
/// # Errors
/// When the output cannot be written.
pub fn run(streams: &mut Streams<'_>) -> Result<(), Failure> {
    let width = CATALOGUE.iter().map(|(names, _)| names.len()).max().unwrap_or(0);
    for (names, sentence) in CATALOGUE {
        writeln!(streams.stdout, "{names:width$}  {sentence}")?;
    }
    Ok(())
}
