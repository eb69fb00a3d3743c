//! Why a checkpoint cannot be imported: each error says which file, which field or weight, and what would be right.

use std::fmt;
use std::io;
use std::path::PathBuf;

use qcc_ir::{InferError, TensorType};
use qcc_params::{ArchiveError, ParameterError};

/// Why a checkpoint cannot be imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The operating system refused to read a file.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// `config.json` is no JSON object of sensible size.
    #[error("{path}: {reason}")]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong and what to do.
        reason: String,
    },
    /// A field of `config.json` is missing or has no meaning.
    #[error("{path}: `{field}` {reason}")]
    Field {
        /// The file.
        path: PathBuf,
        /// The field.
        field: String,
        /// What is wrong and what would be right.
        reason: String,
    },
    /// The weights cannot be read.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// Weights are missing or not what `config.json` says.
    #[error(
        "{folder}: {} weights do not fit config.json; is the checkpoint complete?\n  {}",
        problems.len(),
        listing(problems, "\n  ")
    )]
    Weights {
        /// The checkpoint.
        folder: PathBuf,
        /// Every weight that does not fit.
        problems: Vec<WeightProblem>,
    },
    /// An operation does not accept its operands.
    #[error("{location}: {source}")]
    Graph {
        /// The checkpoint's module.
        location: String,
        /// Why.
        source: InferError,
    },
    /// Two weights would have one name.
    #[error(transparent)]
    Parameter(#[from] ParameterError),
}

/// A weight that is not what `config.json` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeightProblem {
    /// Its name in the checkpoint.
    pub name: String,
    /// The sizes that follow from `config.json`.
    pub expected: Vec<i64>,
    /// Its type in the checkpoint; `None` when it is missing.
    pub found: Option<TensorType>,
}

impl fmt::Display for WeightProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let WeightProblem { name, expected, found } = self;
        match found {
            None => write!(f, "`{name}` is missing; expected sizes {expected:?}"),
            Some(ty) if ty.element.is_float() => {
                write!(f, "`{name}` has sizes {:?}; expected {expected:?}", ty.dims)
            }
            Some(ty) => {
                write!(f, "`{name}` holds {}; expected a float type of sizes {expected:?}", ty.element)
            }
        }
    }
}

/// Most items that a message spells out.
const LISTED: usize = 64;

/// The items in words, `separator` between them; very many are cut short.
pub(crate) fn listing<T: fmt::Display>(items: &[T], separator: &str) -> String {
    let mut words: Vec<String> = items.iter().take(LISTED).map(T::to_string).collect();
    if items.len() > LISTED {
        words.push(format!("… and {} more", items.len() - LISTED));
    }
    words.join(separator)
}
