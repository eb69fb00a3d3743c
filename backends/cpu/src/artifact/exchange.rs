//! Puts a finished directory in its place at once.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::CpuError;

/// The directories in the making, for [`abandon`].
static MAKING: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

fn making() -> MutexGuard<'static, Vec<PathBuf>> {
    MAKING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Removes what is half-written, for a process that is told to end at once.
pub fn abandon() {
    for path in making().drain(..) {
        let _ = std::fs::remove_dir_all(&path);
    }
}

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
        making().push(path.clone());
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
        making().retain(|path| *path != self.path);
    }
}

/// Only an artifact or an empty directory is replaced: a mistyped `-o` must not delete a user's folder.
fn refuse_foreign(out: &Path) -> Result<(), CpuError> {
    let Ok(metadata) = out.symlink_metadata() else { return Ok(()) };
    if !metadata.is_dir() {
        return Err(CpuError::file(out, "exists and is no artifact; remove it or choose another `-o`"));
    }
    let entries = std::fs::read_dir(out).map_err(|e| CpuError::file(out, e))?;
    let names: Vec<_> =
        entries.filter_map(|e| Some(e.ok()?.file_name().to_string_lossy().into_owned())).collect();
    let manifest = std::fs::read(out.join(super::MANIFEST_FILE)).ok();
    let manifest = manifest.and_then(|bytes| serde_json::from_slice::<serde_json::Value>(&bytes).ok());
    let files = manifest.as_ref().filter(|m| m["schema"].is_u64()).and_then(|m| m["files"].as_object());
    let own =
        |name: &String| name == super::MANIFEST_FILE || files.is_some_and(|files| files.contains_key(name));
    if names.is_empty() || (files.is_some() && names.iter().all(own)) {
        return Ok(());
    }
    let what = match names.iter().find(|name| !own(name)) {
        Some(stranger) if files.is_some() => format!("holds `{stranger}`, which is no part of an artifact"),
        _ => "is no artifact (it has no manifest.json of one)".into(),
    };
    Err(CpuError::file(out, format!("exists and {what}; remove it or choose another `-o`")))
}
