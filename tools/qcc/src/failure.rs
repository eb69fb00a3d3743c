//! Why a command failed: a message that says what, where and what to do, and the exit code that goes with it.

use std::io;
use std::path::Path;

/// Why a command failed.
#[derive(Debug)]
pub enum Failure {
    /// Wrong usage that the argument parser cannot see: exit code 2.
    Usage(String),
    /// An error in the input or the environment: exit code 1.
    Input(String),
    /// Exit code 1, and the messages are on stderr already.
    Reported,
    /// Nobody reads the output any more (`qcc passes | head -1`): exit code 0.
    Closed,
}

impl Failure {
    /// An error in the input or the environment.
    pub fn input(message: impl ToString) -> Failure {
        Failure::Input(message.to_string())
    }

    /// Wrong usage.
    pub fn usage(message: impl ToString) -> Failure {
        Failure::Usage(message.to_string())
    }

    /// Something the contract promises that this build cannot do.
    pub fn not_yet(what: impl std::fmt::Display) -> Failure {
        Failure::Input(format!("{what} is not supported yet"))
    }

    /// An error in a file or folder.
    pub fn file(path: &Path, message: impl std::fmt::Display) -> Failure {
        Failure::Input(format!("{}: {message}", path.display()))
    }

    /// What to print, if anything.
    pub fn message(&self) -> Option<&str> {
        match self {
            Failure::Usage(message) | Failure::Input(message) => Some(message),
            Failure::Reported | Failure::Closed => None,
        }
    }

    /// The process's exit code.
    pub fn exit_code(&self) -> u8 {
        match self {
            Failure::Closed => 0,
            Failure::Input(_) | Failure::Reported => 1,
            Failure::Usage(_) => 2,
        }
    }
}

impl From<io::Error> for Failure {
    /// Of writing to the streams; errors of files are given their path where they happen.
    fn from(error: io::Error) -> Failure {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::Closed,
            _ => Failure::Input(format!("cannot write the output: {error}")),
        }
    }
}

macro_rules! from_errors {
    ($($error:ty),* $(,)?) => {
        $(impl From<$error> for Failure {
            fn from(error: $error) -> Failure {
                Failure::input(error)
            }
        })*
    };
}

// Errors of the crates below say what, where and what to do themselves.
from_errors!(
    qcc_cpu::CpuError,
    qcc_data::DataError,
    qcc_mlir::MlirError,
    qcc_params::ParameterError,
    qcc_passes::PassError,
    qcc_passes::plugin::PluginError,
    qcc_runtime::RuntimeError,
);
