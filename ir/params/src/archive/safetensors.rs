//! Safetensors archives: one file, or shards that `model.safetensors.index.json` lists.
//!
//! Format: <https://huggingface.co/docs/safetensors>, header of JSON, then tensors little-endian without gaps.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use qcc_ir::TensorType;
use serde::Deserialize;

use super::{ArchiveError, header, inside, mapped};
use crate::parameters::{ParameterError, Parameters, SharedBytes, Source};

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// An index lists names; one larger than this is no index.
const LARGEST_INDEX: u64 = 64 << 20;

/// Named tensors in mapped files.
#[derive(Clone, Debug, Default)]
pub struct Archive {
    tensors: BTreeMap<String, (TensorType, SharedBytes)>,
    files: Vec<PathBuf>,
}

impl Archive {
    /// Names and types, by name.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &TensorType)> {
        self.tensors.iter().map(|(name, (ty, _))| (name.as_str(), ty))
    }

    /// A tensor's type and bytes.
    pub fn get(&self, name: &str) -> Option<(TensorType, SharedBytes)> {
        self.tensors.get(name).cloned()
    }

    /// The files read.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// Puts every tensor into a table, named `SCOPE::NAME`.
    ///
    /// # Errors
    /// When the table has such a name.
    pub fn add_to(&self, parameters: &mut Parameters, scope: &str) -> Result<(), ParameterError> {
        for (name, (ty, bytes)) in &self.tensors {
            parameters.insert(&format!("{scope}::{name}"), ty.clone(), Source::Bytes(bytes.clone()))?;
        }
        Ok(())
    }

    fn add(&mut self, path: &Path) -> Result<(), ArchiveError> {
        let bytes = mapped::map(path)?;
        for (name, entry) in header::read(path, bytes.as_slice())? {
            let region = bytes.region(entry.start, entry.length);
            let region = region.expect("invariant: the header was compared with the file");
            if self.tensors.contains_key(&name) {
                let message = "another file of this model has a tensor of this name; remove one of the files";
                return Err(ArchiveError::tensor(path, &name, message));
            }
            self.tensors.insert(name, (entry.ty, region));
        }
        self.files.push(path.to_path_buf());
        Ok(())
    }
}

/// Opens a checkpoint: a `.safetensors` file, or a folder with `model.safetensors` or with shards and their index.
///
/// # Errors
/// When there is no such file, or one is damaged, or the shards do not hold what the index says.
pub fn open_safetensors(folder_or_file: &Path) -> Result<Archive, ArchiveError> {
    let mut archive = Archive::default();
    if folder_or_file.is_file() {
        archive.add(folder_or_file)?;
        return Ok(archive);
    }
    let folder = folder_or_file;
    if folder.join(INDEX).is_file() {
        open_shards(folder, &mut archive)?;
    } else if folder.join(SINGLE).is_file() {
        archive.add(&inside::resolve(folder, SINGLE)?)?;
    } else {
        return Err(ArchiveError::file(
            folder,
            format!(
                "has neither {SINGLE} nor {INDEX}; checkpoints in other formats must be saved as safetensors first"
            ),
        ));
    }
    Ok(archive)
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

fn open_shards(folder: &Path, archive: &mut Archive) -> Result<(), ArchiveError> {
    let path = inside::resolve(folder, INDEX)?;
    let fail = |message: String| ArchiveError::file(&path, message);
    let size = std::fs::metadata(&path).map_err(|e| fail(e.to_string()))?.len();
    if size > LARGEST_INDEX {
        return Err(fail(format!("{size} bytes are too many for an index of tensors")));
    }
    let text = std::fs::read(&path).map_err(|e| fail(e.to_string()))?;
    let index: Index = serde_json::from_slice(&text).map_err(|e| fail(e.to_string()))?;
    let shards: BTreeSet<&String> = index.weight_map.values().collect();
    for shard in shards {
        archive.add(&inside::resolve(folder, shard)?)?;
    }
    if let Some(missing) = index.weight_map.keys().find(|name| !archive.tensors.contains_key(*name)) {
        return Err(fail(format!(
            "lists tensor `{missing}`, which no shard has: a shard is missing or of another model"
        )));
    }
    archive.files.push(path);
    Ok(())
}
