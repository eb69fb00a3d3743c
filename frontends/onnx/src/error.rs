//! Why a model cannot be imported: each error names the file and the node, tensor or input, and says what would be right.

use std::fmt;
use std::path::PathBuf;

use qcc_params::{ArchiveError, ParameterError};

use crate::{NEWEST_OPSET, OLDEST_OPSET};

/// Why a model cannot be imported.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    /// The model or its external data cannot be read.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The file is no ONNX model, or a damaged one.
    #[error("{}: is no ONNX model, or a damaged one ({message}); export or copy it again", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What the decoder met.
        message: String,
    },
    /// The model as a whole is not what can be imported.
    #[error("{}: {message}", path.display())]
    Model {
        /// The file.
        path: PathBuf,
        /// What is wrong and what to do.
        message: String,
    },
    /// The version of the operator set is not known.
    #[error(
        "{}: uses opset {opset}; opsets {OLDEST_OPSET} to {NEWEST_OPSET} can be imported, export the model with one of them",
        path.display()
    )]
    Opset {
        /// The file.
        path: PathBuf,
        /// The version.
        opset: i64,
    },
    /// An initialiser is not a tensor that can be held.
    #[error("{}: initializer `{name}`: {message}", path.display())]
    Initializer {
        /// The file.
        path: PathBuf,
        /// The initialiser.
        name: String,
        /// What is wrong and what would be right.
        message: String,
    },
    /// An input or output of the graph cannot be one.
    #[error("{}: {kind} `{name}`: {message}", path.display())]
    Interface {
        /// The file.
        path: PathBuf,
        /// `input` or `output`.
        kind: &'static str,
        /// Its name.
        name: String,
        /// What is wrong and what would be right.
        message: String,
    },
    /// A node has operands or attributes that cannot be imported.
    #[error("{}: {place}: {message}", path.display())]
    Node {
        /// The file.
        path: PathBuf,
        /// The node.
        place: Box<NodePlace>,
        /// What is wrong and what would be right.
        message: String,
    },
    /// The model uses operators that cannot be imported.
    #[error(
        "{}: {place}: {reason}{}",
        path.display(),
        if others.is_empty() { String::new() } else { format!("; unsupported besides: {}", listing(others)) }
    )]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// The first such node.
        place: Box<NodePlace>,
        /// Why its operator is not supported.
        reason: String,
        /// All other unsupported operators, with the number of their nodes.
        others: Vec<(String, usize)>,
    },
    /// Two weights would have one name.
    #[error(transparent)]
    Parameter(#[from] ParameterError),
}

/// A node of the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodePlace {
    /// Its name, or the name of its first output, or its position.
    pub name: String,
    /// Its operator.
    pub op_type: String,
    /// The version of the operator set.
    pub opset: i64,
}

impl fmt::Display for NodePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node `{}` ({}, opset {})", self.name, self.op_type, self.opset)
    }
}

/// Most operators that a message spells out.
const LISTED: usize = 64;

fn listing(ops: &[(String, usize)]) -> String {
    let mut words: Vec<String> = ops
        .iter()
        .take(LISTED)
        .map(|(op, count)| if *count == 1 { op.clone() } else { format!("{op} ({count} nodes)") })
        .collect();
    if ops.len() > LISTED {
        words.push(format!("… and {} more", ops.len() - LISTED));
    }
    words.join(", ")
}
