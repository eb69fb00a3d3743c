//! Paths that a file names: they stay inside the model's folder, symbolic links included.

use std::path::{Component, Path, PathBuf};

use super::ArchiveError;

/// The path of `name` inside `folder`.
pub(super) fn resolve(folder: &Path, name: &str) -> Result<PathBuf, ArchiveError> {
    let relative = Path::new(name);
    let refuse = |why: &str| ArchiveError::file(folder, format!("refuses the file name `{name}`: {why}"));
    if name.is_empty() || name.contains('\0') {
        return Err(refuse("it is no file name"));
    }
    if !relative.components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir)) {
        return Err(refuse("it leaves the model's folder"));
    }
    let path = folder.join(relative);
    let real = path.canonicalize().map_err(|e| ArchiveError::file(&path, e))?;
    let root = folder.canonicalize().map_err(|e| ArchiveError::file(folder, e))?;
    // Hugging Face's cache links from a snapshot to files beside it; the link in the folder is the user's own, its target is a plain file.
    if !real.starts_with(&root) && !linked_by_cache(&root, &real) {
        return Err(refuse("it is a link out of the model's folder"));
    }
    Ok(path)
}

/// Whether `real` is a blob of the Hugging Face cache that holds `root`: `models--x/snapshots/REV` links to `models--x/blobs/HASH`.
fn linked_by_cache(root: &Path, real: &Path) -> bool {
    let Some(snapshots) = root.parent().filter(|p| p.file_name().is_some_and(|n| n == "snapshots")) else {
        return false;
    };
    snapshots.parent().is_some_and(|repository| real.starts_with(repository.join("blobs")))
}
