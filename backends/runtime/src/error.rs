//! Everything that can go wrong while a model is opened or run: what, where, and what to do about it.

/// Errors of the runtime. All but [`RuntimeError::Index`] come before the first kernel runs.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// A size does not fit 64 bits.
    #[error("a size overflows with the dimensions {symbols:?}: pass smaller inputs")]
    Overflow {
        /// Values of the program's symbols.
        symbols: Vec<u64>,
    },
    /// A size names a symbol that has no value.
    #[error("size expression refers to symbol {0}, which has no value")]
    UnboundSymbol(u32),
    /// The command table is not usable.
    #[error("malformed program: {0}: compile the model again")]
    Program(String),
    /// Memory could not be had.
    #[error("cannot allocate {bytes} bytes for {purpose}: {reason}")]
    Memory {
        /// What it was for.
        purpose: String,
        /// How much.
        bytes: u64,
        /// What the system said.
        reason: String,
    },
    /// A worker thread could not be started.
    #[error("cannot start worker thread {index}: {reason}: ask for fewer threads")]
    Thread {
        /// Which one.
        index: usize,
        /// What the system said.
        reason: String,
    },
    /// A file of the artifact is missing, unreadable or damaged.
    #[error("{path}: {message}")]
    File {
        /// The file.
        path: String,
        /// What is wrong with it.
        message: String,
    },
    /// A parameter does not fit the program.
    #[error("parameter `{name}`: {message}")]
    Parameter {
        /// Its name.
        name: String,
        /// What is wrong with it.
        message: String,
    },
    /// The machine cannot run the code.
    #[error("this CPU lacks {}, which the model was compiled for: compile it for this machine", .missing.join(", "))]
    Features {
        /// Names of the missing features.
        missing: Vec<String>,
    },
    /// There is no such entry point.
    #[error("no entry point `{name}`; there are {}", .known.join(", "))]
    UnknownEntry {
        /// The name asked for.
        name: String,
        /// The names there are.
        known: Vec<String>,
    },
    /// There is no such state.
    #[error("no state `{name}`; there are {}", if .known.is_empty() { "none".into() } else { .known.join(", ") })]
    UnknownState {
        /// The name asked for.
        name: String,
        /// The names there are.
        known: Vec<String>,
    },
    /// An input, output or state does not have the shape or size that the entry point takes.
    #[error("{what} `{name}`: {message}")]
    Tensor {
        /// `input`, `output` or `state`.
        what: &'static str,
        /// Its name.
        name: String,
        /// What is wrong with it.
        message: String,
    },
    /// What was read and is to be read is more than a sequence may have.
    #[error(
        "the sequence would have {needed} tokens, its limit is {most}: raise the limit or start a new sequence"
    )]
    Full {
        /// Tokens with those of the call.
        needed: u64,
        /// The limit.
        most: u64,
    },
    /// The inputs make a size more than the model has something for.
    #[error(
        "`{size}` is {value} for these inputs, and may be {most} at most: `{place}` has no more: pass smaller inputs"
    )]
    Limit {
        /// The size.
        size: String,
        /// What the inputs make it.
        value: u64,
        /// The most it may be.
        most: u64,
        /// The operation that has no more.
        place: String,
    },
    /// An index was outside the axis that it is for. The states were reset, because they may have taken in what came of it.
    #[error(
        "`{place}`: the index {index} is outside its axis: pass indices that the model has something for; the sequence starts anew"
    )]
    Index {
        /// The operation.
        place: String,
        /// An index that is outside.
        index: i64,
    },
    /// Too many or too few inputs or outputs.
    #[error("`{entry}` takes {expected} {what}, not {found}")]
    Count {
        /// The entry point.
        entry: String,
        /// `inputs` or `outputs`.
        what: &'static str,
        /// How many it takes.
        expected: usize,
        /// How many were passed.
        found: usize,
    },
}
