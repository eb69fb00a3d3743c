//! The arguments of every command. Groups that several commands take (threads, preprocessing, plugins) stand once.

mod compile;
mod measure;
mod plugins;

use std::path::PathBuf;

use clap::{ArgAction, Parser, Subcommand};

pub use compile::{CompileArgs, Emit};
pub use measure::{BenchArgs, EvalArgs, InspectArgs, NamedFile, RunArgs};
pub use plugins::Plugins;

/// Compiles trained models to small, fast, quantized programs.
#[derive(Debug, Parser)]
#[command(name = "qcc", version, disable_help_subcommand = true, arg_required_else_help = true)]
pub struct Cli {
    /// Show more of what happens (twice: debugging, thrice: everything).
    #[arg(short, long, action = ArgAction::Count, global = true)]
    pub verbose: u8,
    /// Show errors only, and what was asked for.
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Write a Chrome trace (open it in Perfetto or chrome://tracing).
    #[arg(long, value_name = "FILE", global = true)]
    pub trace: Option<PathBuf>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Compile a model to an artifact.
    Compile(Box<CompileArgs>),
    /// Run a model: generate text, classify images, or map arrays to arrays.
    Run(RunArgs),
    /// Measure how good a model is: perplexity, accuracy, or closeness to another model.
    Eval(EvalArgs),
    /// Measure how fast a model is.
    Bench(BenchArgs),
    /// Show what a model, artifact or IR file consists of.
    Inspect(InspectArgs),
    /// Run passes on IR text.
    Opt(crate::opt::Args),
    /// List the passes.
    Passes(crate::passes::Args),
    /// List the number formats.
    Formats,
    /// List the machines to compile for.
    Targets,
}

impl Command {
    /// Threads asked for; 0 means one for each core.
    pub fn threads(&self) -> usize {
        match self {
            Command::Compile(args) => args.threads,
            Command::Run(args) => args.threads,
            Command::Eval(args) => args.threads,
            Command::Bench(args) => args.threads,
            _ => 0,
        }
    }
}

/// More threads than this are a mistake.
const MOST_THREADS: usize = 1024;

fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("use at least 1".into()),
        Ok(n) => Ok(n),
        Err(e) => Err(format!("{e}")),
    }
}

fn thread_count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n) if n > MOST_THREADS => Err(format!("use at most {MOST_THREADS}, or 0 for one each core")),
        Ok(n) => Ok(n),
        Err(e) => Err(format!("{e}")),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_definitions_are_consistent() {
        super::Cli::command().debug_assert();
    }
}
