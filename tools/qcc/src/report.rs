//! How results are shown: one JSON object, or a table for people.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets::UTF8_BORDERS_ONLY};
use serde_json::Value;

use crate::{Failure, Streams};

/// Prints one JSON object.
///
/// # Errors
/// When the output cannot be written.
pub fn json(streams: &mut Streams<'_>, object: &Value) -> Result<(), Failure> {
    Ok(writeln!(streams.stdout, "{object}")?)
}

/// Prints names with their values.
///
/// # Errors
/// When the output cannot be written.
pub fn pairs(
    streams: &mut Streams<'_>,
    rows: impl IntoIterator<Item = (impl Into<String>, String)>,
) -> Result<(), Failure> {
    table(streams, &[], rows.into_iter().map(|(name, value)| vec![name.into(), value]), &[1])
}

/// Prints rows under a header (none if empty); the columns in `numbers` are aligned to the right.
///
/// # Errors
/// When the output cannot be written.
pub fn table(
    streams: &mut Streams<'_>,
    header: &[&str],
    rows: impl IntoIterator<Item = Vec<String>>,
    numbers: &[usize],
) -> Result<(), Failure> {
    let mut table = Table::new();
    table.load_style(UTF8_BORDERS_ONLY).set_content_arrangement(ContentArrangement::Disabled);
    if !header.is_empty() {
        table.set_header(header.iter().copied());
    }
    table.add_rows(rows);
    for &number in numbers {
        if let Some(column) = table.column_mut(number) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    Ok(writeln!(streams.stdout, "{table}")?)
}

/// A number of bytes for people.
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let mut value = n as f64;
    let mut unit = "B";
    for next in UNITS {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    if unit == "B" { format!("{n} B") } else { format!("{value:.1} {unit}") }
}

#[cfg(test)]
mod tests {
    #[test]
    fn bytes_take_the_largest_unit_that_fits() {
        assert_eq!(super::bytes(1023), "1023 B");
        assert_eq!(super::bytes(1536), "1.5 KiB");
        assert_eq!(super::bytes(3 << 30), "3.0 GiB");
    }
}
