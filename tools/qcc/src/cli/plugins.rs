//! Plugins, for all commands that know passes.

use std::path::PathBuf;

use qcc_passes::{Registry, plugin};

use crate::Failure;

/// The plugins to load.
#[derive(Debug, Default, clap::Args)]
pub struct Plugins {
    /// Also load passes and rewrite rules from a shared library, to be named in `--pass-pipeline`.
    #[arg(long = "load-pass-plugin", value_name = "FILE")]
    files: Vec<PathBuf>,
}

impl Plugins {
    /// The passes of this build and of the plugins.
    ///
    /// # Errors
    /// When a plugin cannot be used.
    pub fn registry(&self) -> Result<Registry, Failure> {
        let mut registry = Registry::builtin();
        for file in &self.files {
            plugin::load(file, &mut registry)?;
        }
        Ok(registry)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }
}
