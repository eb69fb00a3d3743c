//! Folders of results that only save time, held to a size: what was used longest ago goes first.

use std::fs::File;
use std::path::Path;
use std::time::SystemTime;

/// Says that a file was used now; if that fails, it only looks older than it is.
pub fn used(path: &Path) {
    let _ = File::open(path).and_then(|file| file.set_modified(SystemTime::now()));
}

/// Removes the files with this extension that were [`used`] longest ago until they together hold at most so many bytes. Files that others
/// remove meanwhile do no harm.
pub fn trim(folder: &Path, extension: &str, most: u64) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    let counts = |path: &Path| path.extension().is_some_and(|e| e == extension);
    let mut files: Vec<_> = entries
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let metadata = counts(&path).then(|| std::fs::metadata(&path).ok())??;
            Some((metadata.modified().ok()?, metadata.len(), path))
        })
        .collect();
    files.sort();
    let mut held: u64 = files.iter().map(|(_, bytes, _)| bytes).sum();
    for (_, bytes, path) in files {
        if held <= most {
            break;
        }
        if std::fs::remove_file(&path).is_ok() {
            held -= bytes;
        }
    }
}
