//! Parameters of the compiled program: what bytes each one holds and how they are made from weights. Bytes are made late, one parameter at
//! a time, so packing a model never holds more than a few weights.

use std::sync::Arc;

use qcc_ir::{Dense, Str, TensorType};
use qcc_params::{OpEvaluator, ParameterError, Parameters, Tensor};

use super::LowerError;
use crate::kernels::pack::PackError;
use crate::loops::storage::Storage;

/// Weights by name, as packers read them.
pub struct Weights<'a> {
    /// The parameter table.
    pub parameters: &'a Parameters,
    /// Op semantics, for weight expressions.
    pub evaluator: &'a dyn OpEvaluator,
}

impl Weights<'_> {
    /// The value of a weight.
    ///
    /// # Errors
    /// When it is unknown or cannot be evaluated.
    pub fn get(&self, name: &str) -> Result<Arc<Tensor>, PackingError> {
        Ok(self.parameters.evaluate(name, self.evaluator)?)
    }
}

/// Why a parameter's bytes cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum PackingError {
    /// The weight itself.
    #[error(transparent)]
    Parameter(#[from] ParameterError),
    /// Its packed form.
    #[error("packing `{name}`: {source}")]
    Pack {
        /// The weight.
        name: String,
        /// Why.
        source: PackError,
    },
    /// The weight does not have the elements or size that lowering saw.
    #[error("packing `{name}`: {message}")]
    Unexpected {
        /// The weight.
        name: String,
        /// What differs.
        message: String,
    },
}

type Pack = dyn Fn(&Weights<'_>) -> Result<Vec<u8>, PackingError> + Send + Sync;

/// A parameter of the compiled program.
pub struct PackedParameter {
    /// Name: the weight's, then how it is packed. Equal names hold equal bytes.
    pub name: String,
    /// Size.
    pub bytes: u64,
    pack: Box<Pack>,
}

impl PackedParameter {
    pub(crate) fn new(
        name: String,
        bytes: u64,
        pack: impl Fn(&Weights<'_>) -> Result<Vec<u8>, PackingError> + Send + Sync + 'static,
    ) -> PackedParameter {
        PackedParameter { name, bytes, pack: Box::new(pack) }
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
        let name = name.clone();
        Ok(PackedParameter::new(name.to_string(), bytes, move |weights| {
            let tensor = weights.get(&name)?;
            Ok(encode(&tensor, storage))
        }))
    }

    /// An IR constant; the name is its content, so equal constants are one parameter.
    pub(crate) fn constant(dense: &Dense, storage: Storage) -> Result<PackedParameter, LowerError> {
        let tensor = Tensor::from_dense(dense).map_err(|e| LowerError::new(e.to_string()))?;
        let bytes = encode(&tensor, storage);
        let digest: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        let name =
            if digest.len() <= 32 { digest } else { blake3::hash(digest.as_bytes()).to_hex().to_string() };
        let name = format!("constant {:?} {:?} {name}", tensor.dims, storage);
        Ok(PackedParameter::new(name, bytes.len() as u64, move |_| Ok(bytes.clone())))
    }

    /// The parameter's bytes.
    ///
    /// # Errors
    /// When a weight cannot be evaluated, or does not have the size that lowering saw.
    pub fn pack(&self, weights: &Weights<'_>) -> Result<Vec<u8>, PackingError> {
        let bytes = (self.pack)(weights)?;
        if bytes.len() as u64 != self.bytes {
            let message = format!("{} bytes where {} were planned", bytes.len(), self.bytes);
            return Err(PackingError::Unexpected { name: self.name.clone(), message });
        }
        Ok(bytes)
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
    values.iter().flat_map(|x| x.to_le_bytes()).collect()
}

/// Little-endian bytes of numbers.
pub(super) fn i32_bytes(values: &[i32]) -> Vec<u8> {
    values.iter().flat_map(|x| x.to_le_bytes()).collect()
}
