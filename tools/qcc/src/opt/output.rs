//! What `qcc opt` reads and writes: files or streams, messages, the table of times.

use std::io::Write;
use std::path::Path;

use qcc_ir::Diagnostic;
use qcc_ir::diagnostics::Location;
use qcc_passes::Timing;

use crate::{Failure, Streams};

/// All of a file, or of standard input for `-`.
pub fn read(path: &Path, streams: &mut Streams<'_>) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let outcome = match path.as_os_str() == "-" {
        true => streams.stdin.read_to_end(&mut bytes).map(drop),
        false => std::fs::read(path).map(|read| bytes = read),
    };
    match outcome {
        Ok(()) => Ok(bytes),
        Err(e) => Err(Failure::input(format!("cannot read `{}`: {e}", path.display()))),
    }
}

/// Writes a file, or standard output for `-`. A file is written beside its place and then moved there, so it is never half written.
pub fn write(path: &Path, text: &str, streams: &mut Streams<'_>) -> Result<(), Failure> {
    if path.as_os_str() == "-" {
        return Ok(streams.stdout.write_all(text.as_bytes())?);
    }
    let failure =
        |e: std::io::Error| Failure::input(format!("cannot write the output `{}`: {e}", path.display()));
    // Devices and pipes are written to, not replaced.
    if path.exists() && !path.is_file() {
        return std::fs::write(path, text).map_err(failure);
    }
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}.tmp", std::process::id()));
    let beside = folder.join(name);
    let outcome = std::fs::write(&beside, text).and_then(|()| std::fs::rename(&beside, path));
    outcome.map_err(|e| {
        // Whatever was written is of no use; that it cannot be removed adds nothing to the first error.
        let _ = std::fs::remove_file(&beside);
        failure(e)
    })
}

/// Writes messages with the lines they are about; `text` is the part of the file that starts at `first_line`.
pub fn report(
    diagnostics: &[Diagnostic],
    file: &str,
    text: &str,
    first_line: u32,
    stderr: &mut dyn Write,
) -> Result<(), Failure> {
    for diagnostic in diagnostics {
        if diagnostic.location == Location::Unknown {
            write!(stderr, "{file}: ")?;
        }
        write!(stderr, "{}", diagnostic.render(text, first_line))?;
    }
    Ok(())
}

/// Writes the table of times, laid out as MLIR's.
pub fn timing(timings: &[Timing], stderr: &mut dyn Write) -> Result<(), Failure> {
    let total: f64 = timings.iter().map(|t| t.seconds).sum();
    let rule = format!("===-{}-===", "-".repeat(73));
    writeln!(stderr, "{rule}\n{:^80}\n{rule}", "... Execution time report ...")?;
    writeln!(stderr, "  Total Execution Time: {total:.4} seconds\n\n  ----Wall Time----  ----Name----")?;
    let rows = timings.iter().map(|t| (t.seconds, t.name.as_str())).chain([(total, "Total")]);
    for (seconds, name) in rows {
        let percent = if total > 0.0 { 100.0 * seconds / total } else { 0.0 };
        writeln!(stderr, "  {seconds:8.4} ({percent:5.1}%)  {name}")?;
    }
    Ok(())
}
