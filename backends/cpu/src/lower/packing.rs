//! Parameters of the compiled program: what bytes each one holds and how they are made from weights. Bytes are made late, one parameter at
//! a time, so packing a model never holds more than a few weights.

use std::sync::Arc;

use qcc_ir::{Dense, Str, TensorType};
use qcc_params::Tensor;

use super::LowerError;
use crate::kernels::pack::PackError;
use crate::loops::storage::Storage;

/// Why a parameter's bytes cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("packing `{name}`: {source}")]
pub struct PackingError {
    name: String,
    source: PackError,
}

type Pack = dyn Fn(&[Arc<Tensor>]) -> Result<Vec<u8>, PackError> + Send + Sync;

/// A parameter of the compiled program.
pub struct PackedParameter {
    /// Name: the weight's, then how it is packed. Equal names hold equal bytes.
    pub name: String,
    /// Size.
    pub bytes: u64,
    /// The weights it is made of.
    pub reads: Vec<Str>,
    pack: Box<Pack>,
}

impl PackedParameter {
    /// Made of the weights `reads` by `pack`, which gets their values in that order.
    pub(crate) fn new<const N: usize>(
        name: String,
        bytes: u64,
        reads: [Str; N],
        pack: impl Fn([&Tensor; N]) -> Result<Vec<u8>, PackError> + Send + Sync + 'static,
    ) -> PackedParameter {
        let pack = move |values: &[Arc<Tensor>]| {
            let values: &[Arc<Tensor>; N] =
                values.try_into().expect("invariant: as many values as weights are read");
            pack(values.each_ref().map(|v| &**v))
        };
        PackedParameter { name, bytes, reads: reads.into(), pack: Box::new(pack) }
    }

    /// Made of however many weights.
    pub(crate) fn reading(
        name: String,
        bytes: u64,
        reads: Vec<Str>,
        pack: impl Fn(&[Arc<Tensor>]) -> Result<Vec<u8>, PackError> + Send + Sync + 'static,
    ) -> PackedParameter {
        PackedParameter { name, bytes, reads, pack: Box::new(pack) }
    }

    /// A weight as it is.
    pub(crate) fn plain(
        name: &Str,
        ty: &TensorType,
        storage: Storage,
    ) -> Result<PackedParameter, LowerError> {
        let elements = ty.elements().and_then(|d| d.constant()).and_then(|n| u64::try_from(n).ok());
        let bytes =
            elements.and_then(|n| n.checked_mul(storage.bytes() as u64)).ok_or_else(LowerError::too_large)?;
        let pack = move |[tensor]: [&Tensor; 1]| Ok(encode(tensor, storage));
        Ok(PackedParameter::new(name.to_string(), bytes, [name.clone()], pack))
    }

    /// An IR constant; the name is its content, so equal constants are one parameter.
    pub(crate) fn constant(dense: &Dense, storage: Storage) -> Result<PackedParameter, LowerError> {
        let tensor = Tensor::from_dense(dense).map_err(|e| LowerError::new(e.to_string()))?;
        let bytes = encode(&tensor, storage);
        let digest: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        let name =
            if digest.len() <= 32 { digest } else { blake3::hash(digest.as_bytes()).to_hex().to_string() };
        let name = format!("constant {:?} {:?} {name}", tensor.dims, storage);
        Ok(PackedParameter::given(name, bytes))
    }

    /// Bytes that are known already.
    pub(crate) fn given(name: String, bytes: Vec<u8>) -> PackedParameter {
        PackedParameter::new(name, bytes.len() as u64, [], move |[]| Ok(bytes.clone()))
    }

    /// The parameter's bytes, from the values of the weights it reads.
    ///
    /// # Errors
    /// When a weight does not have the elements or size that lowering saw.
    pub fn pack(&self, values: &[Arc<Tensor>]) -> Result<Vec<u8>, PackingError> {
        let planned = self.bytes;
        let packed = (self.pack)(values).and_then(|bytes| match bytes.len() as u64 {
            found if found == planned => Ok(bytes),
            found => Err(PackError::Planned { planned, found }),
        });
        packed.map_err(|source| PackingError { name: self.name.clone(), source })
    }
}

fn encode(tensor: &Tensor, storage: Storage) -> Vec<u8> {
    let mut bytes = tensor.to_le_bytes();
    if storage == Storage::Biased {
        bytes.iter_mut().for_each(|b| *b ^= 0x80);
    }
    bytes
}

/// Little-endian bytes of numbers.
pub(super) fn f32_bytes(values: &[f32]) -> Vec<u8> {
    // Arrays are collected whole, which copies memory.
    values.iter().map(|x| x.to_le_bytes()).collect::<Vec<_>>().into_flattened()
}

/// Little-endian bytes of numbers.
pub(super) fn i32_bytes(values: &[i32]) -> Vec<u8> {
    values.iter().map(|x| x.to_le_bytes()).collect::<Vec<_>>().into_flattened()
}
