//! A tensor in memory: sizes, element type, and typed elements in row-major order.
//!
//! Quantized elements are held unpacked, one code an element: signed integers (also mantissas of block floating point) as `i8`, every other
//! code as its bit pattern in a `u8`, or in a `u16` where it has more than 8 bits. Packing is the backend's business.

use std::borrow::Cow;

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use qcc_ir::{Dense, DenseData, Dim, ElementType, Float, Storage, TensorType};

/// A tensor in memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Sizes, outermost first.
    pub dims: Vec<usize>,
    /// What one element is.
    pub element: ElementType,
    /// The elements, row-major; as many as the sizes say.
    pub data: Data,
}

/// Typed elements.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "each variant holds elements of the type it names")]
pub enum Data {
    F64(Vec<f64>),
    F32(Vec<f32>),
    F16(Vec<f16>),
    BF16(Vec<bf16>),
    Bool(Vec<bool>),
    I8(Vec<i8>),
    U8(Vec<u8>),
    U16(Vec<u16>),
    I32(Vec<i32>),
    I64(Vec<i64>),
}

/// Why bytes or elements do not make a tensor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TensorError {
    /// Sizes and element count disagree.
    #[error("{got} elements do not fill a tensor of sizes {dims:?}")]
    Count {
        /// The sizes.
        dims: Vec<usize>,
        /// Elements given.
        got: usize,
    },
    /// The product of the sizes overflows.
    #[error("a tensor of sizes {0:?} is too large")]
    TooLarge(Vec<usize>),
    /// Data of this type cannot hold elements of that type.
    #[error("elements of type {0} are stored differently")]
    Storage(ElementType),
    /// The type has symbolic sizes.
    #[error("a tensor in memory needs constant sizes, got {0}")]
    Symbolic(String),
}

macro_rules! for_each_data {
    ($data:expr, $v:ident => $body:expr) => {
        match $data {
            Data::F64($v) => $body,
            Data::F32($v) => $body,
            Data::F16($v) => $body,
            Data::BF16($v) => $body,
            Data::Bool($v) => $body,
            Data::I8($v) => $body,
            Data::U8($v) => $body,
            Data::U16($v) => $body,
            Data::I32($v) => $body,
            Data::I64($v) => $body,
        }
    };
}

impl Data {
    /// Number of elements.
    pub fn len(&self) -> usize {
        for_each_data!(self, v => v.len())
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Number of elements of a tensor of these sizes.
///
/// # Errors
/// When the product overflows.
pub fn element_count(dims: &[usize]) -> Result<usize, TensorError> {
    dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).ok_or_else(|| TensorError::TooLarge(dims.to_vec()))
}

/// Whether codes of this storage are held as `i8` (else as bit patterns, in `u8` or in `u16` if they are [wide](wide_codes)).
pub fn signed_codes(storage: Storage) -> bool {
    (storage.is_signed_integer() || storage == Storage::Binary) && storage.bits() <= 8
}

/// Whether codes of this storage have more than 8 bits and are held in `u16`.
pub fn wide_codes(storage: Storage) -> bool {
    !signed_codes(storage) && storage.bits() > 8
}

impl Tensor {
    /// A tensor of the given elements.
    ///
    /// # Errors
    /// When the count does not fit the sizes or the data does not fit the element type.
    pub fn new(dims: Vec<usize>, element: ElementType, data: Data) -> Result<Tensor, TensorError> {
        let fits = match (&data, element) {
            (Data::F64(_), e) => e.is_float(),
            (Data::F32(_), ElementType::F32)
            | (Data::F16(_), ElementType::F16)
            | (Data::BF16(_), ElementType::BF16)
            | (Data::Bool(_), ElementType::Bool)
            | (Data::I8(_), ElementType::I8)
            | (Data::U8(_), ElementType::U8)
            | (Data::I32(_), ElementType::I32)
            | (Data::I64(_), ElementType::I64) => true,
            (Data::I8(_), ElementType::Quant(q)) => signed_codes(q.storage),
            (Data::U8(_), ElementType::Quant(q)) => !signed_codes(q.storage) && !wide_codes(q.storage),
            (Data::U16(_), ElementType::Quant(q)) => wide_codes(q.storage),
            _ => false,
        };
        if !fits {
            return Err(TensorError::Storage(element));
        }
        if element_count(&dims)? != data.len() {
            return Err(TensorError::Count { got: data.len(), dims });
        }
        Ok(Tensor { dims, element, data })
    }

    /// An `f32` tensor.
    ///
    /// # Errors
    /// When the count does not fit the sizes.
    pub fn f32(dims: &[usize], data: Vec<f32>) -> Result<Tensor, TensorError> {
        Tensor::new(dims.to_vec(), ElementType::F32, Data::F32(data))
    }

    /// An `i64` tensor.
    ///
    /// # Errors
    /// When the count does not fit the sizes.
    pub fn i64(dims: &[usize], data: Vec<i64>) -> Result<Tensor, TensorError> {
        Tensor::new(dims.to_vec(), ElementType::I64, Data::I64(data))
    }

    /// A tensor of zeros (codes 0) of a type with constant sizes.
    ///
    /// # Errors
    /// When a size is symbolic or the tensor is too large.
    pub fn zeros(ty: &TensorType) -> Result<Tensor, TensorError> {
        let dims = constant_dims(ty)?;
        let n = element_count(&dims)?;
        let data = match ty.element {
            ElementType::F64 => Data::F64(vec![0.0; n]),
            ElementType::F32 => Data::F32(vec![0.0; n]),
            ElementType::F16 => Data::F16(vec![f16::ZERO; n]),
            ElementType::BF16 => Data::BF16(vec![bf16::ZERO; n]),
            ElementType::Bool => Data::Bool(vec![false; n]),
            ElementType::I8 => Data::I8(vec![0; n]),
            ElementType::U8 => Data::U8(vec![0; n]),
            ElementType::I32 => Data::I32(vec![0; n]),
            ElementType::I64 => Data::I64(vec![0; n]),
            ElementType::Quant(q) if signed_codes(q.storage) => Data::I8(vec![0; n]),
            ElementType::Quant(q) if wide_codes(q.storage) => Data::U16(vec![0; n]),
            ElementType::Quant(_) => Data::U8(vec![0; n]),
        };
        Tensor::new(dims, ty.element, data)
    }

    /// A tensor from little-endian bytes, as archives hold them (one byte a `bool`, one or two a code).
    ///
    /// # Errors
    /// When the bytes do not fill the type exactly.
    pub fn from_le_bytes(ty: &TensorType, bytes: &[u8]) -> Result<Tensor, TensorError> {
        let dims = constant_dims(ty)?;
        let n = element_count(&dims)?;
        macro_rules! read {
            ($t:ty, $variant:ident) => {{
                const SIZE: usize = size_of::<$t>();
                if bytes.len() != n.checked_mul(SIZE).ok_or_else(|| TensorError::TooLarge(dims.clone()))? {
                    return Err(TensorError::Count { got: bytes.len() / SIZE, dims });
                }
                let (elements, _) = bytes.as_chunks::<SIZE>();
                Data::$variant(elements.iter().map(|e| <$t>::from_le_bytes(*e)).collect())
            }};
        }
        let data = match ty.element {
            ElementType::F64 => read!(f64, F64),
            ElementType::F32 => read!(f32, F32),
            ElementType::F16 => read!(f16, F16),
            ElementType::BF16 => read!(bf16, BF16),
            ElementType::I8 => read!(i8, I8),
            ElementType::U8 => read!(u8, U8),
            ElementType::I32 => read!(i32, I32),
            ElementType::I64 => read!(i64, I64),
            ElementType::Bool => Data::Bool(bytes.iter().map(|b| *b != 0).collect()),
            ElementType::Quant(q) if signed_codes(q.storage) => read!(i8, I8),
            ElementType::Quant(q) if wide_codes(q.storage) => read!(u16, U16),
            ElementType::Quant(_) => read!(u8, U8),
        };
        Tensor::new(dims, ty.element, data)
    }

    /// The elements as little-endian bytes.
    pub fn to_le_bytes(&self) -> Vec<u8> {
        match &self.data {
            Data::Bool(v) => v.iter().map(|b| u8::from(*b)).collect(),
            Data::U8(v) => v.clone(),
            Data::F64(v) => le_bytes(v, |x| x.to_le_bytes()),
            Data::F32(v) => le_bytes(v, |x| x.to_le_bytes()),
            Data::F16(v) => le_bytes(v, |x| x.to_le_bytes()),
            Data::BF16(v) => le_bytes(v, |x| x.to_le_bytes()),
            Data::I8(v) => le_bytes(v, |x| x.to_le_bytes()),
            Data::U16(v) => le_bytes(v, |x| x.to_le_bytes()),
            Data::I32(v) => le_bytes(v, |x| x.to_le_bytes()),
            Data::I64(v) => le_bytes(v, |x| x.to_le_bytes()),
        }
    }

    /// Tensors of one type but for the first size, one after the other along it.
    ///
    /// # Panics
    /// When there is none, or they are of several types.
    pub(crate) fn joined<'t>(parts: impl Iterator<Item = &'t Tensor> + Clone) -> Tensor {
        let first = parts.clone().next().expect("invariant: a weight has pieces");
        let mut dims = first.dims.clone();
        dims[0] = parts.clone().map(|part| part.dims[0]).sum();
        macro_rules! join {
            ($($variant:ident)*) => {
                match &first.data {
                    $(Data::$variant(_) => {
                        let mut all = Vec::with_capacity(parts.clone().map(Tensor::len).sum());
                        for part in parts {
                            match &part.data {
                                Data::$variant(v) => all.extend_from_slice(v),
                                _ => unreachable!("invariant: pieces of a weight are held alike"),
                            }
                        }
                        Data::$variant(all)
                    })*
                }
            };
        }
        let data = join!(F64 F32 F16 BF16 Bool I8 U8 U16 I32 I64);
        Tensor { dims, element: first.element, data }
    }

    /// A small IR constant as a tensor.
    ///
    /// # Errors
    /// When the constant's count does not fit its sizes.
    pub fn from_dense(dense: &Dense) -> Result<Tensor, TensorError> {
        let ty = dense.tensor_type();
        #[allow(clippy::cast_possible_truncation, reason = "f32 constants are held exactly")]
        let data = match &dense.data {
            DenseData::F32(v) => Data::F32(v.iter().map(|x| x.0 as f32).collect()),
            DenseData::I64(v) => Data::I64(v.clone()),
            DenseData::I32(v) => Data::I32(v.clone()),
            DenseData::Bool(v) => Data::Bool(v.clone()),
        };
        Tensor::new(constant_dims(&ty)?, ty.element, data)
    }

    /// As an IR constant, for the element types constants may have.
    pub fn to_dense(&self) -> Option<Dense> {
        let data = match &self.data {
            Data::F32(v) => DenseData::F32(v.iter().map(|x| Float(f64::from(*x))).collect()),
            Data::I64(v) => DenseData::I64(v.clone()),
            Data::I32(v) => DenseData::I32(v.clone()),
            Data::Bool(v) => DenseData::Bool(v.clone()),
            _ => return None,
        };
        let dims = self.dims.iter().map(|&d| i64::try_from(d).ok()).collect::<Option<_>>()?;
        Some(Dense { dims, data })
    }

    /// The type.
    pub fn ty(&self) -> TensorType {
        let dims = self.dims.iter().map(|&d| Dim::Const(i64::try_from(d).expect("invariant: sizes fit i64")));
        TensorType::new(dims, self.element)
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.data.len()
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// The elements, if they are held as `f32`.
    pub fn as_f32(&self) -> Option<&[f32]> {
        match &self.data {
            Data::F32(v) => Some(v),
            _ => None,
        }
    }

    /// The elements as `f32`, rounded where they are held as something wider; copied unless they are held as `f32`.
    pub fn f32_values(&self) -> Cow<'_, [f32]> {
        self.as_f32().map_or_else(|| Cow::Owned(self.to_f32_vec()), Cow::Borrowed)
    }

    /// The elements, if they are held as `i64`.
    pub fn as_i64(&self) -> Option<&[i64]> {
        match &self.data {
            Data::I64(v) => Some(v),
            _ => None,
        }
    }

    /// Float or integer elements widened to `f64` (codes as integers).
    pub fn to_f64_vec(&self) -> Vec<f64> {
        match &self.data {
            Data::F64(v) => v.clone(),
            Data::F32(v) => v.iter().map(|x| f64::from(*x)).collect(),
            Data::F16(v) => v.iter().map(|x| x.to_f64()).collect(),
            Data::BF16(v) => v.iter().map(|x| x.to_f64()).collect(),
            Data::Bool(v) => v.iter().map(|x| f64::from(u8::from(*x))).collect(),
            Data::I8(v) => v.iter().map(|x| f64::from(*x)).collect(),
            Data::U8(v) => v.iter().map(|x| f64::from(*x)).collect(),
            Data::U16(v) => v.iter().map(|x| f64::from(*x)).collect(),
            Data::I32(v) => v.iter().map(|x| f64::from(*x)).collect(),
            #[allow(clippy::cast_precision_loss, reason = "documented widening")]
            Data::I64(v) => v.iter().map(|x| *x as f64).collect(),
        }
    }

    /// Float elements of any width as `f32` (wider ones rounded to nearest); integers converted.
    pub fn to_f32_vec(&self) -> Vec<f32> {
        match &self.data {
            Data::F32(v) => v.clone(),
            Data::F16(v) => v.to_f32_vec(),
            Data::BF16(v) => v.to_f32_vec(),
            #[allow(clippy::cast_possible_truncation, reason = "documented rounding")]
            _ => self.to_f64_vec().into_iter().map(|x| x as f32).collect(),
        }
    }
}

/// The bytes of all elements. Arrays are collected whole, which copies memory; bytes one by one take ten times as long.
fn le_bytes<T: Copy, const SIZE: usize>(elements: &[T], bytes: impl Fn(T) -> [u8; SIZE]) -> Vec<u8> {
    let arrays: Vec<[u8; SIZE]> = elements.iter().map(|x| bytes(*x)).collect();
    arrays.into_flattened()
}

fn constant_dims(ty: &TensorType) -> Result<Vec<usize>, TensorError> {
    ty.dims
        .iter()
        .map(|d| d.constant().and_then(|d| usize::try_from(d).ok()))
        .collect::<Option<_>>()
        .ok_or_else(|| TensorError::Symbolic(ty.to_string()))
}
