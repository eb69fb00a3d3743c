//! `qcc passes`: the passes of this build and of plugins, a sentence each, with their options.

use crate::cli::Plugins;
use crate::{Failure, Streams};

/// Arguments of `qcc passes`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Plugins.
    #[command(flatten)]
    pub plugins: Plugins,
}

/// Runs the command.
pub fn run(args: &Args, streams: &mut Streams<'_>) -> Result<(), Failure> {
    let registry = args.plugins.registry()?;
    let named = |name: &&str| name.chars().count();
    let width = registry.passes().iter().map(|p| named(&p.name)).max().unwrap_or(0);
    for pass in registry.passes() {
        writeln!(streams.stdout, "{:width$}  {}", pass.name, pass.summary)?;
        let indent = pass.options.iter().map(|(name, _)| named(name)).max().unwrap_or(0);
        for (name, meaning) in pass.options {
            writeln!(streams.stdout, "{:width$}    {name:indent$}  {meaning}", "")?;
        }
    }
    Ok(())
}
