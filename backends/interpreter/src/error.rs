//! What can go wrong when a function is run: each error names the operation or argument, its source, and the reason.

use qcc_params::ParameterError;

/// Why a function could not be run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InterpretError {
    /// Too few or too many inputs.
    #[error(
        "function `{function}` takes {expected} inputs, got {got}; give one tensor an argument, states included"
    )]
    InputCount {
        /// The function.
        function: String,
        /// How many arguments it has.
        expected: usize,
        /// How many inputs were given.
        got: usize,
    },
    /// An input does not fit the type of its argument.
    #[error("input `{name}` of function `{function}`: {reason}")]
    Input {
        /// The function.
        function: String,
        /// The argument.
        name: String,
        /// What does not fit.
        reason: String,
    },
    /// An operation failed.
    #[error("`qcc.{op}` at `{location}`: {reason}")]
    Op {
        /// The operation, without dialect.
        op: &'static str,
        /// Its source: checkpoint path, ONNX node.
        location: String,
        /// Why.
        reason: String,
    },
    /// A weight could not be evaluated.
    #[error("a weight of function `{function}`: {source}")]
    Parameter {
        /// The function.
        function: String,
        /// Why; names the parameter.
        source: ParameterError,
    },
}
