//! Plugins: shared libraries that add passes and rewrite rules, loaded with `--load-pass-plugin`. `test/plugins/example` is one, and says how
//! to write them.
//!
//! A plugin is a Rust `cdylib` with a copy of these crates in it, and both sides hand each other Rust values. Rust promises no layout of
//! types beyond one compilation, so nothing is shared before a **handshake**: the plugin exports a [`Declaration`], a C struct that starts
//! with a magic and a version, and carries the [`BUILD_ID`] it was made with. Only where that is this build's own is its function called.
//!
//! **What always holds.**
//! * A library that was opened stays loaded: passes, names and rules of a plugin are `'static`.
//! * A panic inside a plugin ends there, as an error. Rust cannot catch a panic of another copy of its standard library.
//! * What passes of a plugin log goes where this program logs.
//! * Each library has its own statics. So nothing that refers to an interning table may cross ([`RuleText`](crate::registry::RuleText)).
//!
//! A plugin is trusted as much as this program: it is code, and loading it runs it. The handshake prevents accidents, not malice.

mod build_id;
mod declaration;
mod guard;
mod library;

use std::path::Path;

pub use build_id::BUILD_ID;
pub use declaration::Declaration;
#[doc(hidden)]
pub use guard::{Logging, register};

use crate::registry::Registry;

/// Why a plugin cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("plugin `{file}`: {problem}")]
pub struct PluginError {
    /// The file, as it was given.
    pub file: String,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with a plugin, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// There is no such file, or not one to read.
    #[error("cannot read it: {0}")]
    Unreadable(String),
    /// The system's loader refuses it.
    #[error("it does not load as a shared library ({0}); build it as a `cdylib`")]
    NotLoadable(String),
    /// It exports no declaration.
    #[error("it has no entry point `qcc_pass_plugin`; make one with `qcc_passes::declare_plugin!`")]
    NoEntryPoint,
    /// Its declaration cannot be read.
    #[error(
        "it has version {theirs} of the plugin interface and this qcc has {ours}; rebuild it against this qcc"
    )]
    OtherInterface {
        /// The plugin's version.
        theirs: u32,
        /// This build's version.
        ours: u32,
    },
    /// It was built against other crates or with another compiler.
    #[error(
        "`{name}` was built against {theirs}, and this is {ours}; rebuild it against this qcc's sources and Cargo.lock, with the same compiler and profile"
    )]
    OtherBuild {
        /// What the plugin calls itself.
        name: String,
        /// The build it was made with.
        theirs: String,
        /// This build.
        ours: String,
    },
    /// It could not register what it has.
    #[error("{0}")]
    NotRegistered(String),
}

/// Loads the plugin in `file`, for good, and adds what it has to `registry`.
///
/// # Errors
/// When the file is no plugin or one for another build, or something of it cannot be registered; the registry is then as it was.
pub fn load(file: &Path, registry: &mut Registry) -> Result<(), PluginError> {
    let located = |problem| PluginError { file: file.display().to_string(), problem };
    let declaration = library::declaration(file).map_err(located)?;
    let mut extended = registry.clone();
    declaration.register(&mut extended).map_err(|message| located(Problem::NotRegistered(message)))?;
    *registry = extended;
    Ok(())
}

#[cfg(test)]
mod tests;
