//! Puts a finished directory in its place at once.

use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::CpuError;

/// A directory in the making, beside its destination; removed unless it was put in place.
pub(super) struct Staging {
    path: PathBuf,
    out: PathBuf,
    placed: bool,
}

impl Staging {
    /// A fresh directory beside `out`.
    ///
    /// # Errors
    /// When `out` is something else than an artifact or an empty directory, or its folder cannot be written.
    pub(super) fn new(out: &Path) -> Result<Staging, CpuError> {
        refuse_foreign(out)?;
        let name = out.file_name().ok_or_else(|| {
            CpuError::file(out, "this cannot be written; name a directory, e.g. `model.qcc`")
        })?;
        let folder = match out.parent() {
            Some(p) if !p.as_os_str().is_empty() => p.to_path_buf(),
            _ => PathBuf::from("."),
        };
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{}.partial", std::process::id()));
        let path = folder.join(hidden);
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).map_err(|e| {
            CpuError::file(
                &folder,
                format!("cannot write here ({e}); create the folder or choose another `-o`"),
            )
        })?;
        Ok(Staging { path, out: out.to_path_buf(), placed: false })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Exchanges the directory with its destination, and removes what was there.
    ///
    /// # Errors
    /// When the file system refuses.
    pub(super) fn place(mut self) -> Result<(), CpuError> {
        let fail = |e: &dyn std::fmt::Display| {
            CpuError::file(&self.out, format!("cannot put the artifact in place: {e}"))
        };
        if self.out.symlink_metadata().is_ok() {
            match renameat_with(CWD, &self.path, CWD, &self.out, RenameFlags::EXCHANGE) {
                Ok(()) => {}
                // File systems without exchange: the old one has to go first.
                Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
                    std::fs::remove_dir_all(&self.out).map_err(|e| fail(&e))?;
                    std::fs::rename(&self.path, &self.out).map_err(|e| fail(&e))?;
                    self.placed = true;
                    return Ok(());
                }
                Err(e) => return Err(fail(&e)),
            }
            // What is left under our name now is the old artifact: dropping removes it.
            return Ok(());
        }
        std::fs::rename(&self.path, &self.out).map_err(|e| fail(&e))?;
        self.placed = true;
        Ok(())
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.placed {
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

/// Only an artifact or an empty directory is replaced: a mistyped `-o` must not delete a user's folder.
fn refuse_foreign(out: &Path) -> Result<(), CpuError> {
    let Ok(metadata) = out.symlink_metadata() else { return Ok(()) };
    if !metadata.is_dir() {
        return Err(CpuError::file(out, "exists and is no artifact; remove it or choose another `-o`"));
    }
    let empty = std::fs::read_dir(out).is_ok_and(|mut entries| entries.next().is_none());
    if empty || out.join(super::MANIFEST_FILE).is_file() {
        return Ok(());
    }
    Err(CpuError::file(
        out,
        "exists and is no artifact (it has no manifest.json); remove it or choose another `-o`",
    ))
}
