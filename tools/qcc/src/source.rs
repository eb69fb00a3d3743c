//! What a MODEL argument is, and importing it.

use std::path::{Path, PathBuf};

use qcc_data::{ChatTemplate, DataError};
use qcc_params::Imported;
use serde_json::Value;

use crate::{Failure, backend};

/// What a path holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A Hugging Face checkpoint folder.
    Checkpoint,
    /// An `.onnx` file.
    Onnx,
    /// A compiled model.
    Artifact,
    /// IR text.
    Ir,
}

/// Tells what a path holds.
///
/// # Errors
/// When there is nothing there, or it is none of these.
pub fn kind(path: &Path) -> Result<Kind, Failure> {
    let metadata =
        std::fs::metadata(path).map_err(|e| Failure::file(path, format!("cannot read it: {e}")))?;
    if metadata.is_dir() {
        return if path.join("manifest.json").is_file() {
            Ok(Kind::Artifact)
        } else if path.join("config.json").is_file() {
            Ok(Kind::Checkpoint)
        } else {
            Err(Failure::file(
                path,
                "this folder is no model: it has neither a manifest.json (compiled model) nor a config.json (checkpoint)",
            ))
        };
    }
    match path.extension().and_then(|e| e.to_str()) {
        Some("onnx") => Ok(Kind::Onnx),
        Some("mlir") => Ok(Kind::Ir),
        _ => Err(Failure::file(
            path,
            "this file is no model; pass a checkpoint folder, an .onnx file or a compiled model",
        )),
    }
}

/// Imports a checkpoint or ONNX file.
///
/// # Errors
/// When it is something else, or cannot be imported.
pub fn import(path: &Path) -> Result<Imported, Failure> {
    let _span = tracing::info_span!("import").entered();
    match kind(path)? {
        Kind::Checkpoint => backend::import_checkpoint(path),
        Kind::Onnx => backend::import_onnx(path),
        Kind::Artifact => {
            Err(Failure::file(path, "this is a compiled model already; pass the model it was compiled from"))
        }
        Kind::Ir => Err(Failure::file(
            path,
            "IR text has no weights to run with; pass a checkpoint folder or an .onnx file",
        )),
    }
}

/// A checkpoint's `tokenizer.json`, if it has one.
pub fn tokenizer(model: &Path) -> Option<PathBuf> {
    Some(model.join("tokenizer.json")).filter(|path| path.is_file())
}

/// A checkpoint's chat template, if it has one.
///
/// # Errors
/// When it cannot be read.
pub fn chat_template(model: &Path) -> Result<Option<ChatTemplate>, DataError> {
    ChatTemplate::from_folder(model)
}

/// The tokens a checkpoint's generation ends with (`eos_token_id`, one or a list).
pub fn end_tokens(model: &Path) -> Vec<u32> {
    let read =
        |file: &str| -> Option<Value> { serde_json::from_slice(&std::fs::read(model.join(file)).ok()?).ok() };
    let ids = ["generation_config.json", "config.json"]
        .into_iter()
        .find_map(|file| read(file)?.get("eos_token_id").filter(|v| !v.is_null()).cloned());
    id_list(ids.as_ref())
}

/// Token ids: one number, a list, or nothing.
pub fn id_list(value: Option<&Value>) -> Vec<u32> {
    let id = |v: &Value| v.as_u64().and_then(|id| u32::try_from(id).ok());
    match value {
        Some(Value::Array(ids)) => ids.iter().filter_map(id).collect(),
        Some(value) => id(value).into_iter().collect(),
        None => Vec::new(),
    }
}

/// The hash of a model's files: their names and contents, in order of name.
///
/// # Errors
/// When a file cannot be read.
pub fn hash(files: &[PathBuf]) -> Result<String, Failure> {
    let mut files: Vec<_> = files.iter().map(|f| (f.file_name().unwrap_or_default(), f)).collect();
    files.sort();
    files.dedup();
    let mut all = blake3::Hasher::new();
    for (name, path) in files {
        let cannot = |e: std::io::Error| Failure::file(path, format!("cannot read it: {e}"));
        let mut one = blake3::Hasher::new();
        one.update_mmap_rayon(path).map_err(cannot)?;
        // Of fixed length each, so that no two sets of files run together to the same bytes.
        all.update(blake3::hash(name.as_encoded_bytes()).as_bytes());
        all.update(one.finalize().as_bytes());
    }
    Ok(all.finalize().to_hex().to_string())
}

/// What to call a model: the name of its folder or file.
pub fn name(path: &Path) -> String {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_told_by_what_they_hold() {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(kind(folder.path()).is_err());
        std::fs::write(folder.path().join("config.json"), r#"{"eos_token_id": [2, 7]}"#).expect("written");
        assert_eq!(kind(folder.path()).ok(), Some(Kind::Checkpoint));
        assert_eq!(end_tokens(folder.path()), [2, 7]);
        std::fs::write(folder.path().join("manifest.json"), "{}").expect("written");
        assert_eq!(kind(folder.path()).ok(), Some(Kind::Artifact));
        assert!(kind(&folder.path().join("nothing")).is_err());
    }

    #[test]
    fn the_hash_depends_on_contents_and_names_but_not_on_order() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).expect("written");
            path
        };
        let (a, b) = (file("a", "1"), file("b", "2"));
        let first = hash(&[a.clone(), b.clone()]).expect("readable");
        assert_eq!(hash(&[b.clone(), a.clone()]).ok().as_deref(), Some(first.as_str()));
        file("b", "3");
        assert_ne!(hash(&[a, b]).ok().as_deref(), Some(first.as_str()));
    }
}
