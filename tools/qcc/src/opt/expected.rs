//! `--verify-diagnostics`: comments say which messages a text must cause, as in MLIR's tests:
//! `// expected-error@+1 {{part of the message}}`. Places are `@+N`, `@-N` (lines from here), `@above`, `@below` (the nearest line without
//! such a comment), `@unknown` (no place in the text), or this very line.

use qcc_ir::diagnostics::Location;
use qcc_ir::{Diagnostic, Severity};

/// One expectation.
#[derive(Debug, PartialEq)]
struct Expectation<'a> {
    /// `error`, `warning`, `remark` or `note`.
    kind: &'a str,
    /// The line it is about; `None` for messages without a place.
    line: Option<u32>,
    /// What the message must contain.
    part: &'a str,
    /// Where the expectation stands.
    place: Location,
}

/// Errors for messages that no comment expects, and for comments whose message did not come.
pub fn differences(file: &str, text: &str, first_line: u32, diagnostics: &[Diagnostic]) -> Vec<Diagnostic> {
    let (mut open, mut errors) = match expectations(file, text, first_line) {
        Ok(expectations) => (expectations, Vec::new()),
        Err(error) => return vec![*error],
    };
    let messages = diagnostics.iter().flat_map(|d| {
        let notes = d.notes.iter().map(|(location, note)| ("note", location, note));
        std::iter::once((d.severity.keyword(), &d.location, &d.message)).chain(notes)
    });
    for (kind, location, message) in messages {
        let line = match location {
            Location::Text { line, .. } => Some(*line),
            _ => None,
        };
        let meant = open.iter().position(|e| e.kind == kind && e.line == line && message.contains(e.part));
        match meant {
            Some(index) => drop(open.remove(index)),
            None => errors.push(Diagnostic::error(location.clone(), format!("unexpected {kind}: {message}"))),
        }
    }
    errors.extend(open.into_iter().map(|e| {
        let message = format!("expected {} \"{}\" was not produced", e.kind, e.part);
        Diagnostic::error(e.place, message)
    }));
    errors
}

const MARK: &str = "expected-";
const KINDS: [Severity; 3] = [Severity::Error, Severity::Warning, Severity::Remark];

fn expectations<'a>(
    file: &str,
    text: &'a str,
    first_line: u32,
) -> Result<Vec<Expectation<'a>>, Box<Diagnostic>> {
    let lines: Vec<&str> = text.lines().collect();
    let mut all = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let Some(comment) = line.find("//") else { continue };
        for (at, _) in line[comment..].match_indices(MARK) {
            let start = comment + at;
            let column = u32::try_from(line[..start].chars().count()).unwrap_or(u32::MAX).saturating_add(1);
            let place = Location::Text { file: file.into(), line: number(first_line, index), column };
            let Some((kind, rest)) = kind(&line[start + MARK.len()..]) else { continue };
            let bad = |what: &str| {
                let form = "write `expected-error@+1 {{part of the message}}`";
                Box::new(Diagnostic::error(place.clone(), format!("{what}; {form}")))
            };
            let (designator, rest) = rest.split_once("{{").ok_or_else(|| bad("`{{` is missing"))?;
            let (part, _) = rest.split_once("}}").ok_or_else(|| bad("`}}` is missing"))?;
            let target = target(&lines, index, designator.trim()).ok_or_else(|| bad("unknown place"))?;
            all.push(Expectation { kind, line: target.map(|i| number(first_line, i)), part, place });
        }
    }
    Ok(all)
}

fn number(first_line: u32, index: usize) -> u32 {
    first_line.saturating_add(u32::try_from(index).unwrap_or(u32::MAX))
}

/// The kind of message a mark is about, and what follows it.
fn kind(text: &str) -> Option<(&'static str, &str)> {
    let mut kinds = KINDS.iter().map(|k| k.keyword()).chain(["note"]);
    kinds.find_map(|kind| text.strip_prefix(kind).map(|rest| (kind, rest)))
}

/// The index of the line meant (`None`: no place in the text); nothing where the designator is none or leaves the text.
fn target(lines: &[&str], index: usize, designator: &str) -> Option<Option<usize>> {
    let is_code = |i: &usize| !lines[*i].contains(MARK);
    match designator.strip_prefix('@') {
        None if designator.is_empty() => Some(Some(index)),
        None => None,
        Some("unknown") => Some(None),
        Some("above") => (0..index).rev().find(is_code).map(Some),
        Some("below") => (index + 1..lines.len()).find(is_code).map(Some),
        Some(offset) => {
            let offset: isize = offset.parse().ok().filter(|_| offset.starts_with(['+', '-']))?;
            index.checked_add_signed(offset).map(Some)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(line: u32, message: &str) -> Diagnostic {
        Diagnostic::error(Location::Text { file: "f".into(), line, column: 1 }, message)
    }

    fn messages(text: &str, diagnostics: &[Diagnostic]) -> Vec<String> {
        differences("f", text, 10, diagnostics).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn expected_messages_are_no_differences() {
        let text = "// expected-error@+1 {{bad}}\nx\ny // expected-error {{a}} expected-note@unknown {{b}}\n\
                    // expected-error@above {{c}}\n// expected-error@below {{d}}\n// expected-error@-3 {{e}}\nz\n";
        let c = at(11, "c").with_note(Location::Unknown, "because of b");
        let all = [at(11, "so bad"), at(12, "a"), c, at(16, "d"), at(12, "e")];
        assert_eq!(messages(text, &all), Vec::<String>::new());
    }

    #[test]
    fn differences_say_what_is_missing_and_what_is_too_much() {
        assert_eq!(
            messages("// expected-error@+1 {{bad}}\nx\n", &[at(12, "bad")]),
            [
                "f:12:1: error: unexpected error: bad",
                "f:10:4: error: expected error \"bad\" was not produced"
            ]
        );
        assert_eq!(messages("// expected-warning {{bad}}\n", &[at(10, "bad")]).len(), 2);
    }

    #[test]
    fn malformed_expectations_are_errors() {
        for text in ["// expected-error bad", "// expected-error {{x", "// expected-error@one {{x}}"] {
            let errors = messages(text, &[]);
            assert_eq!(errors.len(), 1, "{text}");
            assert!(errors[0].starts_with("f:10:4: error: "), "{}", errors[0]);
        }
    }
}
