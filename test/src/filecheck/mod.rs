//! FileCheck: whether a text holds what the directives of another ask for, with LLVM's meaning of `CHECK`, `-NEXT`, `-SAME`, `-NOT`, `-DAG`,
//! `-LABEL`, `-EMPTY`, `-COUNT-n`, `{LITERAL}`, `{{regex}}`, `[[NAME:regex]]`, `[[NAME]]` and `[[@LINE+1]]`. Not known: numeric variables.

mod directive;
mod pattern;
mod posix;
mod search;

use directive::Directive;
use search::Search;

/// How to check.
#[derive(Clone, Debug)]
pub struct Options {
    /// Names of the directives.
    pub prefixes: Vec<String>,
    /// Whether an empty text is fine.
    pub allow_empty: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options { prefixes: vec!["CHECK".into()], allow_empty: false }
    }
}

/// Why a text is not as asked for, or the directives make no sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// Line of the directive, from 1; 0 when it is about none.
    pub line: usize,
    /// What is wrong.
    pub message: String,
    /// Line of the text from which on was searched, from 1.
    pub input_line: Option<usize>,
}

impl Mismatch {
    fn new(line: usize, message: impl Into<String>) -> Mismatch {
        Mismatch { line, message: message.into(), input_line: None }
    }

    /// The message with the lines it is about.
    pub fn render(&self, check_file: &str, check_text: &str, input: &str) -> String {
        let mut out = format!("{check_file}:{}: error: {}\n", self.line, self.message);
        if let Some(directive) = self.line.checked_sub(1).and_then(|i| check_text.lines().nth(i)) {
            out.push_str(&format!("  {}\n", directive.trim()));
        }
        if let Some(start) = self.input_line {
            out.push_str(&format!("output from line {start} on:\n"));
            for (number, line) in input.lines().enumerate().skip(start - 1).take(12) {
                out.push_str(&format!("  {:>4}: {line}\n", number + 1));
            }
        }
        out
    }
}

/// Checks `input` against the directives of `check_text`.
///
/// # Errors
/// The first directive that does not hold.
pub fn check(check_text: &str, input: &str, options: &Options) -> Result<(), Mismatch> {
    let directives: Vec<Directive> = directive::parse(&canonical(check_text), &options.prefixes)?;
    let input = canonical(input);
    if input.is_empty() && !options.allow_empty {
        return Err(Mismatch::new(0, "there is no output to check"));
    }
    Search::new(&input).run(&directives)
}

/// Runs of blanks become one space, line ends `\n`.
fn canonical(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\r' if chars.peek() == Some(&'\n') => {}
            ' ' | '\t' => {
                while chars.next_if(|c| matches!(c, ' ' | '\t')).is_some() {}
                out.push(' ');
            }
            c => out.push(c),
        }
    }
    out
}
