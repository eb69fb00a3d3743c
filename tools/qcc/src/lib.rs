//! The command line of `qcc` as a library: arguments and streams in, an exit code out, so that tests run commands in their own process.
//!
//! One file a command, and one a concept that commands share (models, recipes, measures). What compiles, runs or measures lives in the
//! crates below; here it is put together, and here alone errors become text.
//!
//! **Architecture invariants.** Exit codes are 0 for success, 1 for an error in the input or the environment, 2 for wrong usage. Results
//! go to stdout, everything else to stderr.

mod backend;
mod bench;
mod cases;
mod cli;
mod compare;
mod compile;
mod costs;
mod emit;
mod eval;
mod explain;
mod failure;
mod formats;
mod generate;
mod html_report;
mod input;
mod inspect;
mod language;
mod layers;
mod log;
mod memory;
mod model;
mod opt;
mod passes;
mod perplexity;
mod progress;
mod quality;
mod recipe;
mod report;
mod run;
mod samples;
mod session;
mod source;
mod targets;
mod tensor;
mod top1;
mod transforms;
mod vision;
mod weights;

use std::ffi::OsString;
use std::io::{Read, Write};

use clap::Parser;
use cli::{Cli, Command};
use qcc_passes::{Progress, SilentProgress};

pub use failure::Failure;

/// Where a command reads and writes.
pub struct Streams<'a> {
    /// What `-` reads.
    pub stdin: &'a mut dyn Read,
    /// Results.
    pub stdout: &'a mut dyn Write,
    /// Errors, warnings, logs.
    pub stderr: &'a mut dyn Write,
}

/// Runs a command line, the program's name first; returns the exit code. Nothing of the process is touched: what is logged on the calling
/// thread goes to `streams.stderr`, before the error, if any.
pub fn run(args: impl IntoIterator<Item = OsString>, streams: &mut Streams<'_>) -> u8 {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => return usage(&error, streams),
    };
    let lines = log::Lines::default();
    let outcome = log::subscriber(&cli, lines.clone()).and_then(|(subscriber, trace)| {
        let outcome =
            tracing::dispatcher::with_default(&subscriber, || dispatch(&cli, streams, &SilentProgress));
        drop(trace);
        outcome
    });
    // As below: nobody is left to tell if this fails.
    let _ = streams.stderr.write_all(&lines.take());
    finish(outcome, streams)
}

/// Runs the process's command line on the process's streams, with live logs and, on a terminal, progress bars.
pub fn run_process() -> u8 {
    let (mut stdin, mut stdout, mut stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    let mut streams = Streams { stdin: &mut stdin, stdout: &mut stdout, stderr: &mut stderr };
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error, &mut streams),
    };
    // A process that is told to end leaves nothing half-written; that it cannot be told is no reason not to work.
    let _ = ctrlc::set_handler(|| {
        qcc_cpu::artifact::abandon();
        std::process::exit(130);
    });
    // Both are set once a process and this is the first to do so.
    let _ = rayon::ThreadPoolBuilder::new().num_threads(cli.command.threads()).build_global();
    let outcome = log::subscriber(&cli, std::io::stderr).and_then(|(subscriber, trace)| {
        let _ = tracing::dispatcher::set_global_default(subscriber);
        let outcome = dispatch(&cli, &mut streams, progress::for_terminal(cli.quiet).as_ref());
        drop(trace);
        outcome
    });
    finish(outcome, &mut streams)
}

fn dispatch(cli: &Cli, streams: &mut Streams<'_>, progress: &dyn Progress) -> Result<(), Failure> {
    match &cli.command {
        Command::Compile(args) => compile::run(args, streams, progress, cli.quiet),
        Command::Run(args) => run::run(args, streams, progress),
        Command::Eval(args) => eval::run(args, streams, progress),
        Command::Bench(args) => bench::run(args, streams, progress),
        Command::Inspect(args) => inspect::run(args, streams),
        Command::Opt(args) => opt::run(args, streams),
        Command::Passes(args) => passes::run(args, streams),
        Command::Formats => formats::run(streams),
        Command::Targets => targets::run(streams),
    }
}

/// Help and version go to stdout and are no error.
fn usage(error: &clap::Error, streams: &mut Streams<'_>) -> u8 {
    let text = error.render().to_string();
    let out = if error.use_stderr() { &mut streams.stderr } else { &mut streams.stdout };
    let _ = out.write_all(text.as_bytes());
    if error.use_stderr() { 2 } else { 0 }
}

fn finish(outcome: Result<(), Failure>, streams: &mut Streams<'_>) -> u8 {
    let outcome = outcome.and_then(|()| Ok(streams.stdout.flush()?));
    let Err(failure) = outcome else { return 0 };
    if let Some(message) = failure.message() {
        // Nobody is left to tell if this fails.
        let _ = writeln!(streams.stderr, "error: {message}");
    }
    failure.exit_code()
}

#[cfg(test)]
mod tests;
