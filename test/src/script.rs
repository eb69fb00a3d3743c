//! Scripts: the `RUN:` lines of a test file, as far as tests need the shell's language: words with quotes, `|`, `&&`, `<`, `>`, `2>`, `2>&1`.

use std::path::Path;

/// Where a command's standard error goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Errors {
    /// Shown when the test fails.
    #[default]
    Shown,
    /// Where standard output goes (`2>&1`).
    Output,
    /// To a file (`2>`).
    File(String),
}

/// One program with its arguments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Command {
    /// Program and arguments.
    pub words: Vec<String>,
    /// Read from a file.
    pub input: Option<String>,
    /// Written to a file.
    pub output: Option<String>,
    /// Standard error.
    pub errors: Errors,
}

/// Commands whose output is the next one's input.
pub type Pipe = Vec<Command>;

/// One `RUN:` line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Its number, from 1.
    pub number: usize,
    /// As written, after substitution.
    pub text: String,
    /// Pipes joined by `&&`.
    pub pipes: Vec<Pipe>,
}

/// What `%s`, `%S`, `%t` and `%T` stand for.
#[derive(Clone, Copy, Debug)]
pub struct Places<'a> {
    /// The test file.
    pub file: &'a Path,
    /// A name for temporary files of this test alone.
    pub temporary: &'a Path,
}

/// The `RUN:` lines of a text; a line that ends with `\` goes on in the next one.
///
/// # Errors
/// The line, and what is wrong with it.
pub fn parse(text: &str, places: Places<'_>) -> Result<Vec<Line>, String> {
    let mut lines = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (number, line) in (1..).zip(text.lines()) {
        let Some((before, command)) = line.split_once("RUN:") else { continue };
        if before.ends_with(|c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_')) {
            continue;
        }
        let (start, mut command_text) = open.take().unwrap_or((number, String::new()));
        let command = command.trim();
        match command.strip_suffix('\\') {
            Some(part) => {
                command_text.push_str(part);
                open = Some((start, command_text));
            }
            None => {
                command_text.push_str(command);
                lines.push(line_of(start, &substitute(&command_text, places))?);
            }
        }
    }
    match open {
        Some((number, _)) => Err(format!("line {number}: the last `RUN:` line ends with `\\`")),
        None => Ok(lines),
    }
}

fn substitute(text: &str, places: Places<'_>) -> String {
    let folder = |p: &Path| p.parent().unwrap_or(Path::new(".")).display().to_string();
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        let name = rest[at + 1..].chars().next();
        match name {
            Some('s') => out.push_str(&places.file.display().to_string()),
            Some('S') => out.push_str(&folder(places.file)),
            Some('t') => out.push_str(&places.temporary.display().to_string()),
            Some('T') => out.push_str(&folder(places.temporary)),
            Some('%') => out.push('%'),
            _ => {
                out.push('%');
                rest = &rest[at + 1..];
                continue;
            }
        }
        rest = &rest[at + 2..];
    }
    out + rest
}

#[derive(Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Operator(&'static str),
}

/// Longest first.
const OPERATORS: [&str; 6] = ["2>&1", "2>", "&&", "|", "<", ">"];

fn line_of(number: usize, text: &str) -> Result<Line, String> {
    let fail = |message: &str| format!("line {number}: {message}: {text}");
    let mut tokens = tokens(text).map_err(|m| fail(&m))?.into_iter();
    let (mut pipes, mut pipe, mut command) = (Vec::new(), Pipe::new(), Command::default());
    while let Some(token) = tokens.next() {
        let operator = match token {
            Token::Word(word) => {
                command.words.push(word);
                continue;
            }
            Token::Operator(operator) => operator,
        };
        match operator {
            "2>&1" => command.errors = Errors::Output,
            "|" | "&&" => {
                if command.words.is_empty() {
                    return Err(fail(&format!("nothing stands before `{operator}`")));
                }
                pipe.push(std::mem::take(&mut command));
                if operator == "&&" {
                    pipes.push(std::mem::take(&mut pipe));
                }
            }
            _ => {
                let Some(Token::Word(file)) = tokens.next() else {
                    return Err(fail(&format!("a file must follow `{operator}`")));
                };
                match operator {
                    "<" => command.input = Some(file),
                    ">" => command.output = Some(file),
                    _ => command.errors = Errors::File(file),
                }
            }
        }
    }
    if command.words.is_empty() {
        return Err(fail("a command is missing"));
    }
    pipe.push(command);
    pipes.push(pipe);
    Ok(Line { number, text: text.to_string(), pipes })
}

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        if let Some(operator) = OPERATORS.into_iter().find(|o| rest.starts_with(o)) {
            tokens.push(Token::Operator(operator));
            rest = rest[operator.len()..].trim_start();
            continue;
        }
        let (mut word, mut quote) = (String::new(), None);
        let mut chars = rest.char_indices();
        let mut end = rest.len();
        while let Some((at, c)) = chars.next() {
            match (quote, c) {
                (None, ' ' | '\t' | '|' | '<' | '>') => {
                    end = at;
                    break;
                }
                (None, '&') if rest[at..].starts_with("&&") => {
                    end = at;
                    break;
                }
                (None, ';' | '`' | '$' | '*' | '(') => {
                    return Err(format!("tests cannot use the shell's `{c}`; quote it if it is meant"));
                }
                (None, '\'' | '"') => quote = Some(c),
                (Some(q), c) if q == c => quote = None,
                (None | Some('"'), '\\') => word.extend(chars.next().map(|(_, c)| c)),
                (_, c) => word.push(c),
            }
        }
        if quote.is_some() {
            return Err("a quote is not closed".into());
        }
        tokens.push(Token::Word(word));
        rest = rest[end..].trim_start();
    }
    Ok(tokens)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Vec<Line>, String> {
        parse(text, Places { file: Path::new("/a/b.mlir"), temporary: Path::new("/t/b.tmp") })
    }

    #[test]
    fn lines_become_pipes() {
        let text = "// RUN: qcc opt %s --pass-pipeline='a{x=1 y=2},b' 2>&1 | \\\n// RUN:   FileCheck %s\n\
                    // RUN: not qcc opt %S/c < %t 2> %t.err > %T/d && cat \"x y\"\n// NORUN: no\n";
        let lines = parsed(text).expect("valid");
        assert_eq!(lines.len(), 2);
        let pipe = &lines[0].pipes[0];
        assert_eq!(pipe[0].words, ["qcc", "opt", "/a/b.mlir", "--pass-pipeline=a{x=1 y=2},b"]);
        assert_eq!(pipe[0].errors, Errors::Output);
        assert_eq!(pipe[1].words, ["FileCheck", "/a/b.mlir"]);
        assert_eq!((lines[1].number, lines[1].pipes.len()), (3, 2));
        let command = &lines[1].pipes[0][0];
        assert_eq!(command.words, ["not", "qcc", "opt", "/a/c"]);
        assert_eq!(command.input.as_deref(), Some("/t/b.tmp"));
        assert_eq!(command.output.as_deref(), Some("/t/d"));
        assert_eq!(command.errors, Errors::File("/t/b.tmp.err".into()));
        assert_eq!(lines[1].pipes[1][0].words, ["cat", "x y"]);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for text in ["RUN: |", "RUN: a |", "RUN: a >", "RUN: 'a", "RUN: a \\", "RUN: a; b", "RUN: $(a)"] {
            assert!(parsed(text).is_err(), "{text}");
        }
    }
}
