//! The `qcc` command: hands the process's arguments and streams to the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(qcc::run_process())
}
