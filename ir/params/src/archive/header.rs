//! The header of a safetensors file: eight bytes of length, then JSON that gives each tensor's type, sizes and place in the data.
//!
//! What is accepted is what the format demands: the tensors fill the data without gap or overlap, each name stands once. All arithmetic is
//! checked, since sizes in a header are whatever somebody wrote there.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use qcc_ir::{ElementType, TensorType};
use serde::Deserialize;
use serde::de::{Error, IgnoredAny, MapAccess, Visitor};

use super::ArchiveError;

/// The largest header other readers take.
const LARGEST_HEADER: usize = 100_000_000;
const LARGEST_RANK: usize = 32;

/// A tensor of a file.
pub(super) struct Entry {
    pub ty: TensorType,
    /// Its bytes in the file.
    pub start: usize,
    pub length: usize,
}

#[derive(Deserialize)]
struct Described {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

/// The tensors by name.
pub(super) fn read(path: &Path, file: &[u8]) -> Result<BTreeMap<String, Entry>, ArchiveError> {
    let damaged = |what: String| {
        ArchiveError::file(path, format!("its header is damaged ({what}): download or copy the file again"))
    };
    let (length, rest) = file.split_first_chunk::<8>().ok_or_else(|| damaged("it is cut off".into()))?;
    let length = u64::from_le_bytes(*length);
    let size = usize::try_from(length).ok().filter(|n| *n <= LARGEST_HEADER);
    let size = size.ok_or_else(|| damaged(format!("{length} bytes are too many for a header")))?;
    let (header, data) = rest
        .split_at_checked(size)
        .ok_or_else(|| damaged(format!("it should have {size} bytes, the file has {} more", rest.len())))?;
    let Header(described) = serde_json::from_slice(header).map_err(|e| damaged(e.to_string()))?;
    // In the order of their data; an empty tensor lies before what starts at the same place.
    let mut order: Vec<(&String, &Described)> = described.iter().collect();
    order.sort_by_key(|(_, d)| d.data_offsets);
    let mut filled = 0;
    let mut entries = BTreeMap::new();
    for (name, described) in order {
        let fail = |message: String| ArchiveError::tensor(path, name, message);
        let (ty, bytes) = tensor_type(described).map_err(fail)?;
        let (begin, end) = described.data_offsets;
        if end.checked_sub(begin) != Some(bytes) {
            let message = format!("{ty} needs {bytes} bytes, its data is said to be at {begin} to {end}");
            return Err(fail(message));
        }
        if begin != filled {
            let what = if begin < filled { "overlaps the tensor before" } else { "leaves a gap before it" };
            return Err(fail(format!("its data at {begin} to {end} {what}, which ends at {filled}")));
        }
        if end > data.len() as u64 {
            return Err(fail(format!(
                "its data ends at {end}, the file has {}: it was cut off, download or copy the file again",
                data.len()
            )));
        }
        filled = end;
        // Both are within the file's length.
        let (start, length) = (8 + size + begin as usize, bytes as usize);
        entries.insert(name.clone(), Entry { ty, start, length });
    }
    if filled != data.len() as u64 {
        let message = format!("its tensors end at {filled}, its data at {}", data.len());
        return Err(ArchiveError::file(path, format!("{message}: download or copy the file again")));
    }
    Ok(entries)
}

/// The type, and how many bytes it takes.
fn tensor_type(described: &Described) -> Result<(TensorType, u64), String> {
    let element = element(&described.dtype)?;
    if described.shape.len() > LARGEST_RANK {
        return Err(format!("has {} axes, at most {LARGEST_RANK} are supported", described.shape.len()));
    }
    let too_large = || format!("sizes {:?} are larger than memory can be", described.shape);
    let dims = described.shape.iter().map(|d| i64::try_from(*d)).collect::<Result<Vec<_>, _>>();
    let elements = described.shape.iter().try_fold(1u64, |n, d| n.checked_mul(*d));
    let bytes = elements.and_then(|n| n.checked_mul(u64::from(element.bits().div_ceil(8))));
    let bytes = bytes.filter(|n| i64::try_from(*n).is_ok()).ok_or_else(too_large)?;
    Ok((TensorType::new(dims.map_err(|_| too_large())?, element), bytes))
}

fn element(dtype: &str) -> Result<ElementType, String> {
    Ok(match dtype {
        "F64" => ElementType::F64,
        "F32" => ElementType::F32,
        "F16" => ElementType::F16,
        "BF16" => ElementType::BF16,
        "I64" => ElementType::I64,
        "I32" => ElementType::I32,
        "I8" => ElementType::I8,
        "U8" => ElementType::U8,
        "BOOL" => ElementType::Bool,
        other => {
            return Err(format!(
                "elements of type {other} are not supported; f64, f32, f16, bf16, i64, i32, i8, u8 and bool are"
            ));
        }
    })
}

/// A JSON object whose keys all differ, without the free-form metadata.
struct Header(BTreeMap<String, Described>);

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Header, D::Error> {
        struct Tensors;
        impl<'de> Visitor<'de> for Tensors {
            type Value = Header;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
                let mut tensors = BTreeMap::new();
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        map.next_value::<IgnoredAny>()?;
                        continue;
                    }
                    let described = map.next_value()?;
                    if tensors.contains_key(&name) {
                        return Err(A::Error::custom(format!("tensor `{name}` stands twice")));
                    }
                    tensors.insert(name, described);
                }
                Ok(Header(tensors))
            }
        }
        deserializer.deserialize_map(Tensors)
    }
}
