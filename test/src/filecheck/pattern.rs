//! Patterns: text with regular expressions and variables in it.

use std::collections::HashMap;
use std::fmt::Write;

use fancy_regex::{Regex, escape};

use super::posix::translate;

/// Values of the variables so far.
pub(super) type Variables = HashMap<String, String>;

#[derive(Debug)]
enum Part {
    Text(String),
    /// In the language of the `regex` crates.
    Regex(String),
    Define(String, String),
    Use(String),
    /// The directive's own line plus this.
    Line(isize),
}

/// A pattern.
#[derive(Debug)]
pub(super) struct Pattern {
    parts: Vec<Part>,
    /// Bytes of a match that do not count as its own.
    skip: usize,
}

impl Pattern {
    /// An empty line; the break before it is part of the expression but not of the match.
    pub fn empty_line() -> Pattern {
        Pattern { parts: vec![Part::Regex("\\n$".into())], skip: 1 }
    }

    /// This text and nothing else.
    pub fn literal(text: &str) -> Pattern {
        Pattern { parts: vec![Part::Text(text.into())], skip: 0 }
    }

    /// Parses `text {{regex}} [[NAME:regex]] [[NAME]] [[@LINE+1]]`.
    pub fn parse(mut text: &str) -> Result<Pattern, String> {
        let mut parts = Vec::new();
        while !text.is_empty() {
            if let Some(rest) = text.strip_prefix("{{") {
                let end = rest.find("}}").ok_or("`{{` is not closed by `}}`")?;
                parts.push(Part::Regex(format!("({})", translate(&rest[..end])?)));
                text = &rest[end + 2..];
            } else if let Some(rest) = text.strip_prefix("[[") {
                let end = variable_end(rest).ok_or("`[[` is not closed by `]]`")?;
                parts.push(variable(&rest[..end])?);
                text = &rest[end + 2..];
            } else {
                let end =
                    [text.find("{{"), text.find("[[")].into_iter().flatten().min().unwrap_or(text.len());
                parts.push(Part::Text(text[..end].into()));
                text = &text[end..];
            }
        }
        let pattern = Pattern { parts, skip: 0 };
        // Whatever the values of variables: the expressions themselves must be valid.
        let names: Variables = pattern.uses().map(|name| (name.to_string(), String::new())).collect();
        pattern.regex(&names, 1)?;
        Ok(pattern)
    }

    /// Whether it sets or reads variables.
    pub fn has_variables(&self) -> bool {
        self.parts.iter().any(|p| matches!(p, Part::Define(..) | Part::Use(_)))
    }

    fn uses(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|p| if let Part::Use(name) = p { Some(&**name) } else { None })
    }

    /// The first match in `text`, as start and end; it sets the pattern's variables.
    pub fn find(
        &self,
        text: &str,
        variables: &mut Variables,
        line: usize,
    ) -> Result<Option<(usize, usize)>, String> {
        if let [Part::Text(literal)] = self.parts.as_slice() {
            return Ok(text.find(literal.as_str()).map(|at| (at, at + literal.len())));
        }
        let regex = self.regex(variables, line)?;
        let Some(captures) = regex.captures(text).map_err(|e| e.to_string())? else { return Ok(None) };
        let defined =
            self.parts.iter().filter_map(|p| if let Part::Define(n, _) = p { Some(n) } else { None });
        for (index, name) in defined.enumerate() {
            let value = captures.name(&format!("v{index}")).map_or("", |m| m.as_str());
            variables.insert(name.clone(), value.to_string());
        }
        let whole = captures.get(0).ok_or("invariant: group 0 is the match")?;
        Ok(Some((whole.start() + self.skip, whole.end())))
    }

    fn regex(&self, variables: &Variables, line: usize) -> Result<Regex, String> {
        let mut text = String::from("(?m)");
        let mut defined: Vec<&str> = Vec::new();
        for part in &self.parts {
            match part {
                Part::Text(t) => text.push_str(&escape(t)),
                Part::Regex(r) => text.push_str(r),
                Part::Define(name, r) => {
                    write!(text, "(?P<v{}>{r})", defined.len())
                        .expect("invariant: writing to a string succeeds");
                    defined.push(name);
                }
                Part::Use(name) => match (defined.iter().rposition(|d| d == name), variables.get(name)) {
                    (Some(index), _) => {
                        write!(text, "(?P=v{index})").expect("invariant: writing to a string succeeds");
                    }
                    (None, Some(value)) => text.push_str(&escape(value)),
                    (None, None) => return Err(format!("the variable `{name}` is not set")),
                },
                Part::Line(offset) => {
                    let number = line.checked_add_signed(*offset).ok_or("`@LINE` is below 0")?;
                    text.push_str(&number.to_string());
                }
            }
        }
        Regex::new(&text).map_err(|e| format!("bad regular expression: {e}"))
    }
}

/// Where the `]]` is that closes a variable, whose expression may hold brackets.
fn variable_end(text: &str) -> Option<usize> {
    let (mut depth, mut at) = (0usize, 0);
    while at < text.len() {
        if depth == 0 && text[at..].starts_with("]]") {
            return Some(at);
        }
        let c = text[at..].chars().next()?;
        at += c.len_utf8();
        match c {
            '\\' => at += text[at..].chars().next()?.len_utf8(),
            '[' => depth += 1,
            ']' => depth = depth.checked_sub(1)?,
            _ => {}
        }
    }
    None
}

fn variable(text: &str) -> Result<Part, String> {
    if let Some(offset) = text.strip_prefix('#').unwrap_or(text).strip_prefix("@LINE") {
        let offset = offset.replace(' ', "");
        let valid = offset.is_empty() || offset.starts_with(['+', '-']);
        let offset = if offset.is_empty() { Some(0) } else { offset.parse().ok() };
        return offset.filter(|_| valid).map(Part::Line).ok_or_else(|| format!("`[[{text}]]` is not a line"));
    }
    let (name, regex) = match text.split_once(':') {
        Some((name, regex)) => (name, Some(regex)),
        None => (text, None),
    };
    let word = name.strip_prefix('$').unwrap_or(name);
    let valid = word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    match (valid, regex) {
        (false, _) => {
            Err(format!("`[[{name}]]` is no variable; to match two brackets, write `{{{{\\[\\[}}}}`"))
        }
        (true, None) => Ok(Part::Use(name.into())),
        (true, Some(regex)) => Ok(Part::Define(name.into(), translate(regex)?)),
    }
}
