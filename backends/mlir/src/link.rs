//! Shared libraries from objects, with the linker that is there: `ld.lld-22`, else `ld.lld`, else `cc`.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::MlirError;

/// What goes into a shared library.
#[derive(Clone, Debug, Default)]
pub struct LinkInputs {
    /// Object files.
    pub objects: Vec<PathBuf>,
    /// Static libraries, after the objects.
    pub archives: Vec<PathBuf>,
    /// Flags in the linker's own spelling, one argument each.
    pub flags: Vec<String>,
    /// Shared libraries that a plain linker takes last; a C compiler adds its own.
    pub libraries: Vec<PathBuf>,
}

/// Links a shared library. The bytes depend on the inputs alone.
///
/// # Errors
/// When no linker is found or it fails, with what it said.
pub fn link_shared(inputs: &LinkInputs, out: &Path) -> Result<(), MlirError> {
    let fail = |message: String| MlirError::Link { path: out.display().to_string(), message };
    for (linker, plain) in [("ld.lld-22", true), ("ld.lld", true), ("cc", false)] {
        let mut command = Command::new(linker);
        command.arg("-shared").arg("-o").arg(out).args(&inputs.objects);
        let fixed = ["--gc-sections", "--build-id=none"].map(String::from);
        for flag in fixed.iter().chain(&inputs.flags) {
            command.arg(if plain { flag.clone() } else { format!("-Wl,{flag}") });
        }
        command.args(["-z", "noexecstack"]).args(&inputs.archives);
        if plain {
            command.args(&inputs.libraries);
        }
        match command.output() {
            Ok(output) if output.status.success() => return Ok(()),
            Ok(output) => {
                return Err(fail(format!("{linker}: {}", String::from_utf8_lossy(&output.stderr).trim())));
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(fail(format!("{linker}: {e}"))),
        }
    }
    Err(fail("no linker found: install lld (Debian: `apt-get install lld-22`) or a C compiler".into()))
}
