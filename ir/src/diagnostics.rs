//! Diagnostics: what is wrong, where, and what belongs to it. A place is either a position in a text (IR that was parsed) or the source
//! of an operation (a checkpoint path, an ONNX node), since most modules never were text.

use std::fmt::{self, Write};

use crate::attribute::Str;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The input is not usable.
    Error,
    /// Usable, but probably not what was meant.
    Warning,
    /// For information.
    Remark,
}

impl Severity {
    /// `error`, `warning` or `remark`.
    pub fn keyword(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Remark => "remark",
        }
    }
}

/// Where something is.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Location {
    /// Nowhere in particular.
    #[default]
    Unknown,
    /// In a text.
    Text {
        /// File name, as given.
        file: Str,
        /// Line, from 1.
        line: u32,
        /// Column in characters, from 1.
        column: u32,
    },
    /// At an operation of a module.
    Source {
        /// The function.
        function: String,
        /// The operation's name without the dialect; empty for the function itself.
        op: &'static str,
        /// The operation's source; empty if unknown.
        name: Str,
    },
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Location::Unknown => f.write_str("<unknown>"),
            Location::Text { file, line, column } => write!(f, "{file}:{line}:{column}"),
            Location::Source { function, op, name } => {
                if !name.is_empty() {
                    write!(f, "{name}: ")?;
                }
                write!(f, "@{function}")?;
                if op.is_empty() { Ok(()) } else { write!(f, ": qcc.{op}") }
            }
        }
    }
}

/// A message about the input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// Where it is.
    pub location: Location,
    /// What is wrong, and what to do about it.
    pub message: String,
    /// What belongs to it, elsewhere.
    pub notes: Vec<(Location, String)>,
}

impl Diagnostic {
    /// An error.
    pub fn error(location: Location, message: impl Into<String>) -> Diagnostic {
        Diagnostic { severity: Severity::Error, location, message: message.into(), notes: Vec::new() }
    }

    /// The same with a note.
    #[must_use]
    pub fn with_note(mut self, location: Location, message: impl Into<String>) -> Diagnostic {
        self.notes.push((location, message.into()));
        self
    }

    /// The message with the line it is about and a caret below the place; `text` is the text that the location counts in, from its line
    /// `first_line` on.
    pub fn render(&self, text: &str, first_line: u32) -> String {
        let mut out = String::new();
        let head = format!("{}: {}", self.severity.keyword(), self.message);
        render_one(&mut out, &self.location, &head, text, first_line);
        for (location, note) in &self.notes {
            render_one(&mut out, location, &format!("note: {note}"), text, first_line);
        }
        out
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.location, self.severity.keyword(), self.message)?;
        self.notes.iter().try_for_each(|(location, note)| write!(f, "\n{location}: note: {note}"))
    }
}

impl std::error::Error for Diagnostic {}

/// Long lines (a constant of thousands of numbers) are cut to this many characters around the caret.
const MAX_SHOWN: usize = 120;

fn render_one(out: &mut String, location: &Location, head: &str, text: &str, first_line: u32) {
    match location {
        Location::Unknown => out.push_str(head),
        _ => write!(out, "{location}: {head}").expect("invariant: writing to a string succeeds"),
    }
    out.push('\n');
    let Location::Text { line, column, .. } = location else { return };
    let Some(shown) = line.checked_sub(first_line).and_then(|i| text.lines().nth(i as usize)) else { return };
    let at = (*column as usize).saturating_sub(1);
    let skip = if at > MAX_SHOWN * 3 / 4 { at - MAX_SHOWN / 2 } else { 0 };
    let clipped: String =
        shown.chars().skip(skip).take(MAX_SHOWN).map(|c| if c.is_control() { ' ' } else { c }).collect();
    writeln!(out, "{clipped}\n{}^", " ".repeat(at - skip)).expect("invariant: writing to a string succeeds");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caret_stands_below_the_place() {
        let location = Location::Text { file: "a.mlir".into(), line: 3, column: 5 };
        let rendered = Diagnostic::error(location, "no such value").render("x\nä%y z\n", 2);
        assert_eq!(rendered, "a.mlir:3:5: error: no such value\nä%y z\n    ^\n");
    }

    #[test]
    fn a_place_outside_the_text_is_still_reported() {
        let location = Location::Text { file: "a.mlir".into(), line: 9, column: 400 };
        assert_eq!(
            Diagnostic::error(location, "end of file").render("", 1),
            "a.mlir:9:400: error: end of file\n"
        );
        let source = Location::Source { function: "main".into(), op: "linear", name: "layers.0.up".into() };
        let rendered =
            Diagnostic::error(source, "bad weight").with_note(Location::Unknown, "because").render("", 1);
        assert_eq!(rendered, "layers.0.up: @main: qcc.linear: error: bad weight\nnote: because\n");
    }
}
