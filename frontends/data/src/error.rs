//! The errors of every reader in this crate: each says what, where, and what to do.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// What a reader returns.
pub type Result<T> = std::result::Result<T, DataError>;

/// A file or a request that cannot be used.
#[derive(Debug, Error)]
pub enum DataError {
    /// The operating system refused to read the file or folder.
    #[error("cannot read {path}: {source}")]
    Read {
        /// File or folder.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The operating system refused to write the file.
    #[error("cannot write {path}: {source}")]
    Write {
        /// File.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The file's content breaks its format, or is of a kind that is not supported.
    #[error("{path}: {reason}")]
    Malformed {
        /// File.
        path: PathBuf,
        /// What is wrong and what to do.
        reason: String,
    },
    /// One line of a text file breaks the file's format.
    #[error("{path}:{line}: {reason}")]
    Line {
        /// File.
        path: PathBuf,
        /// Line number, from 1.
        line: usize,
        /// What is wrong and what to do.
        reason: String,
    },
    /// The options do not fit the data or each other.
    #[error("{0}")]
    Request(String),
}

impl DataError {
    pub(crate) fn malformed(path: &Path, reason: impl Into<String>) -> Self {
        DataError::Malformed { path: path.to_path_buf(), reason: reason.into() }
    }

    pub(crate) fn line(path: &Path, line: usize, reason: impl Into<String>) -> Self {
        DataError::Line { path: path.to_path_buf(), line, reason: reason.into() }
    }

    pub(crate) fn reading(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| DataError::Read { path: path.to_path_buf(), source }
    }

    pub(crate) fn writing(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| DataError::Write { path: path.to_path_buf(), source }
    }
}
