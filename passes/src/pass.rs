//! What a pass is: one struct made from its options, one `run`.

use std::collections::BTreeMap;

use qcc_ir::Module;

use crate::context::Context;

/// A transformation (or analysis) of a module.
pub trait Pass {
    /// What this pass promises of the module's function; `--verify-each` checks it.
    fn preservation(&self) -> Preservation;

    /// Runs on `module`.
    ///
    /// # Errors
    /// When the pass cannot do what it was asked for.
    fn run(&self, module: &mut Module, context: &mut Context<'_>) -> Result<Outcome, PassError>;
}

/// How far a pass may move the outputs of a module.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Preservation {
    /// Exact in real arithmetic; with weights in f64 the outputs may differ by this relative error.
    Relative(f64),
    /// An approximation on purpose (quantization).
    Approximate,
}

/// What a pass did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Counters by name, e.g. `folded = 3`; all zero means that nothing matched.
    pub statistics: BTreeMap<&'static str, usize>,
    /// What was measured on the way (work done, things left as they are); says nothing about whether anything changed.
    pub measures: BTreeMap<&'static str, usize>,
}

impl Outcome {
    /// An outcome with the given counters.
    pub fn of(statistics: impl IntoIterator<Item = (&'static str, usize)>) -> Outcome {
        Outcome { statistics: statistics.into_iter().collect(), ..Outcome::default() }
    }

    /// Whether anything happened.
    pub fn changed(&self) -> bool {
        self.statistics.values().any(|n| *n > 0)
    }
}

/// Why a pass failed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PassError {
    /// An option of the pass is unknown or has a bad value.
    #[error("pass `{pass}`: {message}")]
    Option {
        /// The pass.
        pass: String,
        /// What is wrong and what is possible.
        message: String,
    },
    /// No pass of this name.
    #[error("unknown pass `{name}`{hint}; `qcc passes` lists all")]
    Unknown {
        /// The name.
        name: String,
        /// "; did you mean …" or empty.
        hint: String,
    },
    /// The pipeline text does not parse.
    #[error("pipeline `{text}`, column {column}: {message}")]
    Syntax {
        /// The text.
        text: String,
        /// Column, from 1.
        column: usize,
        /// What is wrong.
        message: String,
    },
    /// The pass failed on an operation (or value).
    #[error("pass `{pass}` at `{location}`: {message}")]
    At {
        /// The pass.
        pass: &'static str,
        /// Source name of the operation.
        location: String,
        /// Why.
        message: String,
    },
    /// The pass failed.
    #[error("pass `{pass}`: {message}")]
    Failed {
        /// The pass.
        pass: &'static str,
        /// Why and what to do.
        message: String,
    },
    /// A pass left a module that breaks the rules of the IR.
    #[error("pass `{pass}` broke the module, which is a bug of the pass: {error}")]
    Invalid {
        /// The pass.
        pass: String,
        /// The first of the verifier's errors.
        error: String,
    },
    /// `--verify-each`: a pass changed the function.
    #[error(
        "pass `{pass}` changed output `{output}`: relative error {error:.3e} exceeds {tolerance:.1e} on {inputs} inputs"
    )]
    NotPreserved {
        /// The pass.
        pass: String,
        /// Name of the output.
        output: String,
        /// max|a − b| / max|b|.
        error: f64,
        /// What the pass promises.
        tolerance: f64,
        /// `random` or `calibration`.
        inputs: &'static str,
    },
}

impl PassError {
    /// The pass failed as a whole.
    pub fn failed(pass: &'static str, error: impl ToString) -> PassError {
        PassError::Failed { pass, message: error.to_string() }
    }

    /// The pass failed at an operation.
    pub fn at(pass: &'static str, location: &str, error: impl ToString) -> PassError {
        PassError::At { pass, location: location.to_string(), message: error.to_string() }
    }
}

/// A pass as the registry knows it.
#[derive(Clone, Copy)]
pub struct PassInfo {
    /// Name in pipelines.
    pub name: &'static str,
    /// One sentence for `qcc passes`.
    pub summary: &'static str,
    /// Options: name and meaning.
    pub options: &'static [(&'static str, &'static str)],
    /// Makes the pass from options.
    pub make: fn(&mut Options) -> Result<Box<dyn Pass>, String>,
}

/// Options of one pass in a pipeline, `name=value`; taking them out marks them as known.
#[derive(Clone, Debug, Default)]
pub struct Options {
    values: BTreeMap<String, String>,
}

impl Options {
    /// Options from pairs.
    pub fn new(values: BTreeMap<String, String>) -> Options {
        Options { values }
    }

    /// Takes an option out, parsed; `None` when absent.
    ///
    /// # Errors
    /// When it does not parse.
    pub fn take<T: std::str::FromStr>(&mut self, name: &str) -> Result<Option<T>, String>
    where
        T::Err: std::fmt::Display,
    {
        match self.values.remove(name) {
            None => Ok(None),
            Some(text) => match text.parse() {
                Ok(value) => Ok(Some(value)),
                Err(e) => Err(format!("option `{name}={text}`: {e}")),
            },
        }
    }

    /// Names nobody took.
    pub fn remaining(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }
}
