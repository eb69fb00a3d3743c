//! The runtime as the compiler ships it: the static library of `qcc-runtime-capi` and its header, embedded as bytes.
//!
//! To make `model.so`, generated code defines three symbols, with hidden visibility or not, in any object:
//!
//! | symbol | C type | holds |
//! | --- | --- | --- |
//! | `qcc_program_data` | `const uint8_t[]` | the bytes of `qcc_runtime::program::Program::encode` |
//! | `qcc_program_size` | `const uint64_t` | how many |
//! | `qcc_kernel_table` | `void (*const [])(const uint64_t *, uint64_t, uint64_t, uint8_t *)` | the kernels, in the program's order |
//!
//! Then [`Linkage::write`] puts the library and a version script into a (temporary) folder and says what to add to the linker's command:
//!
//! ```text
//! ld.lld -shared -o model.so kernels.o FLAGS… libqcc_runtime.a LIBRARIES…
//! cc -shared -o model.so kernels.o -Wl,FLAG… libqcc_runtime.a
//! ```
//!
//! Only the functions of the header and this data are exported, so any number of models live in one process. A C compiler is not needed: `ld.lld` links
//! against the very system libraries that the compiler itself is running with.

use std::path::{Path, PathBuf};

/// The static library.
pub const LIBRARY: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/libqcc_runtime.a"));

/// The target it was built for, as Rust names it.
pub const TARGET: &str = env!("QCC_RUNTIME_TARGET");

/// The libraries for other targets.
const OTHERS: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/others.rs"));

/// The static library for the kind of machine of an LLVM triple, if this build carries it.
pub fn library(triple: &str) -> Option<&'static [u8]> {
    let machine = |triple: &str| triple.split('-').next().map(str::to_string);
    let mut all = [(TARGET, LIBRARY)].into_iter().chain(OTHERS.iter().copied());
    all.find(|(target, _)| machine(target) == machine(triple)).map(|(_, library)| library)
}

/// Whether a triple is of another kind of machine than this one.
pub fn is_foreign(triple: &str) -> bool {
    triple.split('-').next() != TARGET.split('-').next()
}

/// Shared libraries that the runtime needs on any machine, by the names they are loaded by. For another kind of machine the linker is given
/// empty ones.
pub const NEEDED: [&str; 2] = ["libc.so.6", "libgcc_s.so.1"];

/// The C header, `model.h` of an artifact.
pub const HEADER: &str = include_str!("../../capi/include/qcc_model.h");

/// What `model.so` exports besides the functions, for a process that runs it with a runtime of its own.
pub const EXPORTED_DATA: [&str; 3] = ["qcc_program_data", "qcc_program_size", "qcc_kernel_table"];

/// What a linker needs to make a model's shared library.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Linkage {
    /// The static library; comes after the objects.
    pub archive: PathBuf,
    /// Flags in the linker's own spelling, each one argument; to `cc` each is passed as `-Wl,FLAG`.
    pub flags: Vec<String>,
    /// Shared libraries that the runtime needs. `cc` adds them by itself, a plain linker takes them last. They are those of this very
    /// process; none for another kind of machine, which has its own [`NEEDED`].
    pub libraries: Vec<PathBuf>,
}

impl Linkage {
    /// Writes the library for this machine and a version script into a folder, which must stay until the link is done.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write(directory: &Path) -> std::io::Result<Linkage> {
        Linkage::write_for(TARGET, directory)
    }

    /// The same for the kind of machine of an LLVM triple.
    ///
    /// # Errors
    /// When this build has no library for it, or a file cannot be written.
    pub fn write_for(triple: &str, directory: &Path) -> std::io::Result<Linkage> {
        let archive = directory.join("libqcc_runtime.a");
        let library = library(triple)
            .ok_or_else(|| std::io::Error::other(format!("this build carries no runtime for {triple}")))?;
        std::fs::write(&archive, library)?;
        let script = directory.join("exports.map");
        let functions = exported_functions();
        let global = [functions.as_slice(), &EXPORTED_DATA].concat().join("; ");
        std::fs::write(&script, format!("{{ global: {global}; local: *; }};\n"))?;
        let mut flags = vec![
            format!("--version-script={}", script.display()),
            "-Bsymbolic".into(),
            "--gc-sections".into(),
            "--build-id=none".into(),
            "--strip-all".into(),
        ];
        // Nothing refers to the functions yet, and a linker leaves in an archive what nothing refers to.
        flags.extend(functions.iter().map(|name| format!("--undefined={name}")));
        let libraries = if is_foreign(triple) { Vec::new() } else { system_libraries() };
        Ok(Linkage { archive, flags, libraries })
    }
}

/// Names of the functions that the header declares.
pub fn exported_functions() -> Vec<&'static str> {
    let words = HEADER
        .lines()
        .filter(|line| !line.starts_with([' ', '/', '#']))
        .filter_map(|line| line.split_once('('));
    words
        .filter_map(|(before, _)| before.rsplit([' ', '*']).next())
        .filter(|name| name.starts_with("qcc_"))
        .collect()
}

/// The C library and the unwinder that this process runs with.
fn system_libraries() -> Vec<PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let mut found: Vec<PathBuf> = Vec::new();
    for line in maps.lines() {
        let Some(path) = line.find('/').map(|start| PathBuf::from(&line[start..])) else { continue };
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        let wanted = ["libc.so.", "libgcc_s.so.", "ld-linux"].iter().any(|prefix| name.starts_with(prefix));
        if wanted && !found.contains(&path) {
            found.push(path);
        }
    }
    // Their order in memory is random.
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_names_what_is_exported() {
        let functions = exported_functions();
        assert_eq!(functions.len(), 25, "{functions:?}");
        for name in [
            "qcc_model_open",
            "qcc_state_new",
            "qcc_run",
            "qcc_last_error",
            "qcc_model_close",
            "qcc_output_shapes",
        ] {
            assert!(functions.contains(&name), "{name} is missing from {functions:?}");
        }
    }

    #[test]
    fn system_libraries_are_files() {
        let libraries = system_libraries();
        assert!(libraries.iter().all(|path| path.is_file()), "{libraries:?}");
    }
}
