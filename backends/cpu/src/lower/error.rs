//! Why a function cannot be lowered.

use qcc_ir::Node;

/// Names the operation, its source, and what the CPU backend lacks for it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{message}", if location.is_empty() { String::new() } else { format!("`{location}`: ") })]
pub struct LowerError {
    location: String,
    message: String,
}

impl LowerError {
    pub(crate) fn new(message: impl Into<String>) -> LowerError {
        LowerError { location: String::new(), message: message.into() }
    }

    pub(crate) fn too_large() -> LowerError {
        LowerError::new("a size overflows")
    }

    /// The same error, located at an operation.
    pub(crate) fn at(self, node: &Node) -> LowerError {
        if !self.location.is_empty() {
            return self;
        }
        let message = format!("qcc.{}: {}", node.op.name(), self.message);
        LowerError { location: node.location.to_string(), message }
    }
}
