//! Initialisers: tensors of the file, with their bytes where they lie. Data in the field of its type is brought to the bytes it would have
//! had in `raw_data`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use qcc_ir::{ElementType, TensorType};
use qcc_params::{SharedBytes, Source, Tensor, open_external};

use crate::element::element_type;
use crate::graph::LARGEST_RANK;
use crate::proto::{StringStringEntryProto, TensorProto};

/// `TensorProto.DataLocation.EXTERNAL`.
const EXTERNAL: i32 = 1;

/// A tensor whose bytes fit its type.
#[derive(Clone, Debug)]
pub(crate) struct Initializer {
    pub ty: TensorType,
    bytes: SharedBytes,
}

impl Initializer {
    /// Checks a tensor. External data lies in `folder`; the files it is in are added to `files`.
    pub fn new(tensor: &TensorProto, folder: &Path, files: &mut Vec<PathBuf>) -> Result<Initializer, String> {
        let element = element_type(tensor.data_type.unwrap_or(0))?;
        if tensor.dims.len() > LARGEST_RANK {
            return Err(format!("has {} axes, at most {LARGEST_RANK} are supported", tensor.dims.len()));
        }
        let ty = TensorType::new(tensor.dims.iter().copied(), element);
        let bytes = if tensor.data_location == Some(EXTERNAL) {
            external(&tensor.external_data, folder, files)?
        } else {
            shared(match &tensor.raw_data {
                Some(raw) => raw.clone(),
                None => typed(tensor, element),
            })?
        };
        let count = tensor.dims.iter().try_fold(1usize, |n, &d| n.checked_mul(usize::try_from(d).ok()?));
        let expected = count.and_then(|n| n.checked_mul(element.bits().div_ceil(8) as usize));
        let got = bytes.as_slice().len();
        if expected != Some(got) {
            let needs = expected.map_or("more than memory can have".to_string(), |n| n.to_string());
            return Err(format!(
                "sizes {:?} of {element} need {needs} bytes, the tensor has {got}",
                tensor.dims
            ));
        }
        Ok(Initializer { ty, bytes })
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        // The bytes fit the type, and no element has none.
        self.bytes.as_slice().len() / (self.ty.element.bits().div_ceil(8) as usize)
    }

    /// The elements.
    pub fn tensor(&self) -> Result<Tensor, String> {
        Tensor::from_le_bytes(&self.ty, self.bytes.as_slice()).map_err(|e| e.to_string())
    }

    /// The bytes, for the parameter table.
    pub fn source(&self) -> Source {
        Source::Bytes(self.bytes.clone())
    }
}

fn shared(bytes: Bytes) -> Result<SharedBytes, String> {
    let length = bytes.len();
    SharedBytes::new(Arc::new(bytes), 0, length).ok_or_else(|| "is larger than memory can be".to_string())
}

/// The data in the field of the element type, little-endian.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "narrow types are stored in the low bits of an int32"
)]
fn typed(tensor: &TensorProto, element: ElementType) -> Bytes {
    let narrow = tensor.int32_data.iter();
    let bytes: Vec<u8> = match element {
        ElementType::F32 => tensor.float_data.iter().flat_map(|v| v.to_le_bytes()).collect(),
        ElementType::F64 => tensor.double_data.iter().flat_map(|v| v.to_le_bytes()).collect(),
        ElementType::I64 => tensor.int64_data.iter().flat_map(|v| v.to_le_bytes()).collect(),
        ElementType::I32 => narrow.flat_map(|v| v.to_le_bytes()).collect(),
        ElementType::F16 | ElementType::BF16 => narrow.flat_map(|v| (*v as u16).to_le_bytes()).collect(),
        _ => narrow.map(|v| *v as u8).collect(),
    };
    Bytes::from(bytes)
}

fn external(
    entries: &[StringStringEntryProto],
    folder: &Path,
    files: &mut Vec<PathBuf>,
) -> Result<SharedBytes, String> {
    let find =
        |key: &str| entries.iter().find(|e| e.key.as_deref() == Some(key)).and_then(|e| e.value.as_deref());
    let number = |key: &str| match find(key) {
        None => Ok(None),
        Some(text) => text
            .parse::<u64>()
            .map(Some)
            .map_err(|_| format!("`{key}` of its external data is `{text}`, no size")),
    };
    let location = find("location").ok_or("is external data without a location")?;
    let (offset, length) = (number("offset")?.unwrap_or(0), number("length")?);
    let bytes = open_external(folder, location, offset, length).map_err(|e| e.to_string())?;
    let path = folder.join(location);
    if !files.contains(&path) {
        files.push(path);
    }
    Ok(bytes)
}
