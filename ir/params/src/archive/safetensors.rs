//! Safetensors archives: one file, or shards that `model.safetensors.index.json` lists.
//!
//! Format: <https://huggingface.co/docs/safetensors>, header of JSON, then tensors little-endian without gaps.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use ::safetensors::tensor::{Dtype, SafeTensors};
use qcc_ir::{Dim, ElementType, TensorType};
use serde::Deserialize;

use super::{ArchiveError, inside, mapped};
use crate::parameters::SharedBytes;

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

    fn add(&mut self, path: &Path) -> Result<(), ArchiveError> {
        let bytes = mapped::map(path)?;
        let damaged = |e: ::safetensors::SafeTensorError| {
            ArchiveError::file(path, format!("its header is damaged ({e}): download or copy the file again"))
        };
        let (header, metadata) = SafeTensors::read_metadata(bytes.as_slice()).map_err(damaged)?;
        // The header lies within the file, behind the eight bytes of its length.
        let base = header + 8;
        for (name, info) in metadata.tensors() {
            let fail = |message: String| ArchiveError::tensor(path, &name, message);
            let element = element(info.dtype).map_err(fail)?;
            let dims =
                info.shape.iter().map(|&d| i64::try_from(d).map(Dim::Const)).collect::<Result<Vec<_>, _>>();
            let dims = dims.map_err(|_| fail("a dimension is larger than memory can be".into()))?;
            let (begin, end) = info.data_offsets;
            let length = end.checked_sub(begin);
            let elements = info.shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d));
            let expected = elements.and_then(|n| n.checked_mul(element.bits().div_ceil(8) as usize));
            if length.is_none() || length != expected {
                return Err(fail(format!(
                    "its data has {length:?} bytes where its shape needs {expected:?}"
                )));
            }
            let region = base.checked_add(begin).zip(length).and_then(|(at, n)| bytes.region(at, n));
            let region = region.ok_or_else(|| {
                fail("its data ends beyond the file: it was cut off, download or copy the file again".into())
            })?;
            let tensor = (TensorType::new(dims, element), region);
            if self.tensors.insert(name.clone(), tensor).is_some() {
                return Err(fail("another file of this model has a tensor of this name".into()));
            }
        }
        self.files.push(path.to_path_buf());
        Ok(())
    }
}

fn element(dtype: Dtype) -> Result<ElementType, String> {
    Ok(match dtype {
        Dtype::F64 => ElementType::F64,
        Dtype::F32 => ElementType::F32,
        Dtype::F16 => ElementType::F16,
        Dtype::BF16 => ElementType::BF16,
        Dtype::I64 => ElementType::I64,
        Dtype::I32 => ElementType::I32,
        Dtype::I8 => ElementType::I8,
        Dtype::U8 => ElementType::U8,
        Dtype::BOOL => ElementType::Bool,
        other => {
            return Err(format!(
                "elements of type {other:?} are not supported; f32, f16, bf16 and integers are"
            ));
        }
    })
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
    let path = folder.join(INDEX);
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
