//! The parser: MLIR generic assembly of the dialect, as the printer and `mlir-opt --mlir-print-op-generic` write it, with or without
//! locations, in any white space.
//!
//! **Invariants.** Text is untrusted: no input makes the parser panic, recurse without bound, or allocate more than a constant times
//! what it has read. A module that comes back obeys every type rule.

mod attribute;
mod cursor;
mod function;
mod lexer;
mod location;
mod types;

use std::collections::{BTreeMap, HashMap};

use crate::attribute::{Attribute, Str};
use crate::diagnostics::{Diagnostic, Location};
use crate::entity::OpId;
use crate::function::Module;

/// How deep attributes and locations may nest.
const MAX_DEPTH: usize = 64;
/// How many dimensions a tensor may have.
const MAX_RANK: usize = 16;
/// The largest size of one dimension.
const MAX_SIZE: i64 = 1 << 40;
/// How many elements a constant may have: what is larger is a weight and belongs to the parameters.
const MAX_CONSTANT_ELEMENTS: usize = 1 << 20;

/// Something wrong at a byte of the text.
#[derive(Debug)]
struct Failure {
    at: usize,
    message: String,
}

impl Failure {
    fn new(at: usize, message: impl Into<String>) -> Failure {
        Failure { at, message: message.into() }
    }
}

/// A module and where in the text it came from.
#[derive(Debug)]
pub struct Parsed {
    /// The module.
    pub module: Module,
    /// Positions of its operations.
    pub places: Places,
}

/// Where the operations of a parsed module stand in its text.
#[derive(Debug, Default)]
pub struct Places {
    file: Str,
    first_line: u32,
    /// Byte offset of each line's start.
    lines: Vec<usize>,
    /// Byte offset of each function.
    functions: Vec<usize>,
    /// Byte offset of an operation, by function index.
    operations: HashMap<(usize, OpId), usize>,
}

impl Places {
    fn new(file: &str, text: &str, first_line: u32) -> Places {
        let breaks = text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(i, _)| i + 1);
        let lines = std::iter::once(0).chain(breaks).collect();
        Places { file: file.into(), first_line, lines, functions: Vec::new(), operations: HashMap::new() }
    }

    fn location(&self, text: &str, at: usize) -> Location {
        let line = self.lines.partition_point(|start| *start <= at) - 1;
        let column = text.get(self.lines[line]..at).map_or(0, |before| before.chars().count());
        Location::Text {
            file: self.file.clone(),
            line: self.first_line.saturating_add(u32::try_from(line).unwrap_or(u32::MAX)),
            column: u32::try_from(column).unwrap_or(u32::MAX).saturating_add(1),
        }
    }

    /// Where the `index`-th function stands; `text` is what was parsed. `None` for functions made since.
    pub fn function(&self, text: &str, index: usize) -> Option<Location> {
        self.functions.get(index).map(|at| self.location(text, *at))
    }

    /// Where an operation of the `function`-th function stands; `text` is what was parsed. `None` for operations made since.
    pub fn operation(&self, text: &str, function: usize, op: OpId) -> Option<Location> {
        self.operations.get(&(function, op)).map(|at| self.location(text, *at))
    }
}

/// Parses a module; `name` is the file's name for messages.
///
/// # Errors
/// One diagnostic for a text that cannot be read, or one for each operation that does not obey its type rule.
pub fn parse_module(name: &str, text: &str) -> Result<Module, Vec<Diagnostic>> {
    parse_at(name, text, 1).map(|parsed| parsed.module)
}

/// Parses attributes on their own: `{axis = 1 : i64, layout = "channels_last"}`; `name` stands for the text in messages.
///
/// # Errors
/// When the text is something else.
pub fn parse_attributes(name: &str, text: &str) -> Result<BTreeMap<String, Attribute>, Diagnostic> {
    let read = || {
        let mut cursor = cursor::Cursor::new(text)?;
        let mut attributes = BTreeMap::new();
        cursor.expect(b'{')?;
        cursor.attributes(&mut attributes)?;
        cursor.expect_kind(lexer::Kind::End, "the end of the text")?;
        Ok(attributes)
    };
    read().map_err(|f: Failure| Diagnostic::error(Places::new(name, text, 1).location(text, f.at), f.message))
}

/// As [`parse_module`], of bytes that may not be text.
///
/// # Errors
/// As [`parse_module`], and for bytes that are not UTF-8.
pub fn parse_bytes(name: &str, bytes: &[u8]) -> Result<Module, Vec<Diagnostic>> {
    match std::str::from_utf8(bytes) {
        Ok(text) => parse_module(name, text),
        Err(error) => {
            let valid = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
            let location = Places::new(name, &valid, 1).location(&valid, valid.len());
            Err(vec![Diagnostic::error(location, "the file is not UTF-8 text")])
        }
    }
}

/// As [`parse_module`], of a text that starts at line `first_line` of its file; remembers where the operations stand.
///
/// # Errors
/// As [`parse_module`].
pub fn parse_at(name: &str, text: &str, first_line: u32) -> Result<Parsed, Vec<Diagnostic>> {
    let mut places = Places::new(name, text, first_line);
    let mut errors = Vec::new();
    let module = match cursor::Cursor::new(text) {
        Ok(cursor) => {
            let mut units = function::Units {
                cursor,
                module: Module::default(),
                places: &mut places,
                errors: Vec::new(),
            };
            let outcome = units.text();
            errors = units.errors;
            errors.extend(outcome.err());
            units.module
        }
        Err(failure) => {
            errors.push(failure);
            Module::default()
        }
    };
    if errors.is_empty() {
        return Ok(Parsed { module, places });
    }
    Err(errors.into_iter().map(|f| Diagnostic::error(places.location(text, f.at), f.message)).collect())
}
