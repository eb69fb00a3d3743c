//! Directives: what stands after `CHECK:` and its relatives in a file.

use super::Mismatch;
use super::pattern::Pattern;

/// How a directive is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Somewhere after the last match, so many times.
    Plain(usize),
    /// On the next line.
    Next,
    /// On the same line.
    Same,
    /// Not before the next match.
    Not,
    /// In any order with its neighbours.
    Dag,
    /// Cuts the text into parts.
    Label,
    /// The next line is empty.
    Empty,
}

/// One directive.
#[derive(Debug)]
pub(super) struct Directive {
    pub kind: Kind,
    pub pattern: Pattern,
    /// Line, from 1.
    pub line: usize,
}

/// Lines of these are no directives, whatever they say.
const COMMENTS: [&str; 2] = ["COM", "RUN"];

/// The directives of a file, in order.
pub(super) fn parse(text: &str, prefixes: &[String]) -> Result<Vec<Directive>, Mismatch> {
    let mut directives: Vec<Directive> = Vec::new();
    let mut used = vec![false; prefixes.len()];
    for (line, text) in (1..).zip(text.lines()) {
        let Some(found) = find(text, prefixes, line)? else { continue };
        used[found.prefix] = true;
        let name = || format!("{}{}", prefixes[found.prefix], found.suffix);
        let body = found.body.trim_matches(' ');
        if found.kind == Kind::Empty && !body.is_empty() {
            return Err(Mismatch::new(line, format!("`{}` takes no pattern", name())));
        }
        if found.kind != Kind::Empty && body.is_empty() {
            return Err(Mismatch::new(line, format!("`{}` has no pattern", name())));
        }
        let follows = directives.iter().any(|d| !matches!(d.kind, Kind::Not | Kind::Dag));
        if matches!(found.kind, Kind::Next | Kind::Same | Kind::Empty) && !follows {
            return Err(Mismatch::new(line, format!("`{}` follows no match", name())));
        }
        let pattern = match (found.kind, found.literal) {
            (Kind::Empty, _) => Pattern::empty_line(),
            (_, true) => Pattern::literal(body),
            _ => Pattern::parse(body).map_err(|message| Mismatch::new(line, message))?,
        };
        if found.kind == Kind::Label && pattern.has_variables() {
            return Err(Mismatch::new(line, format!("`{}` has no variables", name())));
        }
        directives.push(Directive { kind: found.kind, pattern, line });
    }
    match used.iter().position(|used| !used) {
        Some(unused) => {
            Err(Mismatch::new(0, format!("there are no directives `{}:` in the file", prefixes[unused])))
        }
        None => Ok(directives),
    }
}

struct Found<'a> {
    prefix: usize,
    kind: Kind,
    suffix: &'a str,
    literal: bool,
    body: &'a str,
}

/// The directive of a line.
fn find<'a>(text: &'a str, prefixes: &[String], line: usize) -> Result<Option<Found<'a>>, Mismatch> {
    let mut from = 0;
    loop {
        let nearest = |names: &mut dyn Iterator<Item = (usize, &str)>| {
            names
                .filter_map(|(i, name)| text[from..].find(name).map(|at| (from + at, i, name.len())))
                .min_by_key(|(at, _, len)| (*at, usize::MAX - len))
        };
        let prefix = nearest(&mut prefixes.iter().map(String::as_str).enumerate());
        let comment = nearest(&mut COMMENTS.into_iter().enumerate());
        let starts_word =
            |at: usize| !text[..at].ends_with(|c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
        match (prefix, comment) {
            (None, _) => return Ok(None),
            (Some((at, ..)), Some((before, _, len))) if before < at => {
                if starts_word(before) && text[before + len..].starts_with(':') {
                    return Ok(None);
                }
                from = before + len;
            }
            (Some((at, prefix, len)), _) => {
                if starts_word(at)
                    && let Some((kind, suffix, literal, body)) = suffix(&text[at + len..], line)?
                {
                    return Ok(Some(Found { prefix, kind, suffix, literal, body }));
                }
                from = at + len;
            }
        }
    }
}

type Suffix<'a> = (Kind, &'a str, bool, &'a str);

/// `-NEXT:` and the like after a prefix.
fn suffix(text: &str, line: usize) -> Result<Option<Suffix<'_>>, Mismatch> {
    let Some(colon) = text.find(':') else { return Ok(None) };
    let (name, body) = (&text[..colon], &text[colon + 1..]);
    let (name, literal) = match name.strip_suffix("{LITERAL}") {
        Some(name) => (name, true),
        None => (name, false),
    };
    let kind = match name {
        "" => Kind::Plain(1),
        "-NEXT" => Kind::Next,
        "-SAME" => Kind::Same,
        "-NOT" => Kind::Not,
        "-DAG" => Kind::Dag,
        "-LABEL" => Kind::Label,
        "-EMPTY" => Kind::Empty,
        _ => match name.strip_prefix("-COUNT-").map(str::parse) {
            Some(Ok(n)) if n > 0 => Kind::Plain(n),
            Some(_) => return Err(Mismatch::new(line, "`-COUNT-n` needs a positive number")),
            None => return Ok(None),
        },
    };
    Ok(Some((kind, name, literal, body)))
}
