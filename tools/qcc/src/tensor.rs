//! Tensors at a model's border: from and to `.npy` arrays, and as numbers.

use qcc_data::{NpyArray, NpyData};
use qcc_runtime::program::Port;
use qcc_runtime::{Element, InputView};

use crate::Failure;

/// A dense, row-major tensor of little-endian elements.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Its shape.
    pub shape: Vec<u64>,
    /// Its elements.
    pub bytes: Vec<u8>,
}

impl Tensor {
    /// A tensor of f32.
    pub fn f32(shape: Vec<u64>, values: &[f32]) -> Tensor {
        Tensor { shape, bytes: bytemuck::cast_slice(values).to_vec() }
    }

    /// A tensor of i64.
    pub fn i64(shape: Vec<u64>, values: &[i64]) -> Tensor {
        Tensor { shape, bytes: bytemuck::cast_slice(values).to_vec() }
    }

    /// A tensor to measure with: integers are 1, floats from −1 to 1.
    ///
    /// # Errors
    /// When the element type is unknown or it does not fit memory.
    pub fn made_up(element: &str, shape: Vec<u64>) -> Result<Tensor, String> {
        let kind = Element::named(element).ok_or_else(|| format!("inputs of type {element} are unknown"))?;
        let count = shape.iter().try_fold(1u64, |n, d| n.checked_mul(*d));
        let count = count.filter(|n| n.checked_mul(kind.bytes()).is_some_and(|bytes| bytes < 1 << 40));
        let count = count.ok_or_else(|| format!("an input of sizes {shape:?} does not fit memory"))?;
        let mut bytes = Vec::new();
        let room = usize::try_from(count * kind.bytes()).map_err(|e| e.to_string())?;
        bytes.try_reserve_exact(room).map_err(|e| format!("an input of sizes {shape:?}: {e}"))?;
        for i in 0..count {
            let float = (i % 255) as f64 / 127.0 - 1.0;
            let value = put_float(&mut bytes, kind, float).or_else(|| put_integer(&mut bytes, kind, 1));
            value.ok_or_else(|| format!("inputs of type {element} cannot be made up"))?;
        }
        Ok(Tensor { shape, bytes })
    }

    /// What the runtime reads.
    pub fn view(&self) -> InputView<'_> {
        InputView { shape: &self.shape, data: &self.bytes }
    }

    /// An array as the element type of a port. Integers become any type that holds them, floats become floats.
    ///
    /// # Errors
    /// When the number of axes is another or an element does not fit.
    pub fn from_npy(array: &NpyArray, port: &Port) -> Result<Tensor, String> {
        if array.shape().len() != port.dims.len() {
            let (found, wanted) = (array.shape().len(), port.dims.len());
            return Err(format!("{found} axes where the input has {wanted}"));
        }
        let element = Element::named(&port.element)
            .ok_or_else(|| format!("inputs of type {} cannot be read from .npy files", port.element))?;
        let mismatch =
            || format!("{} elements do not become the input's {}", array.data().element(), port.element);
        let mut bytes = Vec::with_capacity(array.data().len() * element.bytes() as usize);
        match numbers(array.data()) {
            Numbers::Integers(values) => {
                for value in values {
                    put_integer(&mut bytes, element, value)
                        .ok_or_else(|| format!("{value} does not fit the input's {}", port.element))?;
                }
            }
            Numbers::Floats(values) => {
                for value in values {
                    put_float(&mut bytes, element, value).ok_or_else(mismatch)?;
                }
            }
        }
        Ok(Tensor { shape: array.shape().iter().map(|&d| d as u64).collect(), bytes })
    }
}

enum Numbers {
    Integers(Vec<i128>),
    Floats(Vec<f64>),
}

fn numbers(data: &NpyData) -> Numbers {
    macro_rules! integers {
        ($values:expr) => {
            Numbers::Integers($values.iter().map(|&v| i128::from(v)).collect())
        };
    }
    match data {
        NpyData::Bool(v) => integers!(v),
        NpyData::I8(v) => integers!(v),
        NpyData::U8(v) => integers!(v),
        NpyData::I16(v) => integers!(v),
        NpyData::U16(v) => integers!(v),
        NpyData::I32(v) => integers!(v),
        NpyData::U32(v) => integers!(v),
        NpyData::I64(v) => integers!(v),
        NpyData::U64(v) => integers!(v),
        NpyData::F16(v) => Numbers::Floats(v.iter().map(|x| x.to_f64()).collect()),
        NpyData::F32(v) => Numbers::Floats(v.iter().map(|&x| f64::from(x)).collect()),
        NpyData::F64(v) => Numbers::Floats(v.clone()),
    }
}

fn put_integer(out: &mut Vec<u8>, element: Element, value: i128) -> Option<()> {
    macro_rules! put {
        ($type:ty) => {
            out.extend(<$type>::try_from(value).ok()?.to_le_bytes())
        };
    }
    match element {
        Element::I8 => put!(i8),
        Element::U8 => put!(u8),
        Element::I16 => put!(i16),
        Element::U16 => put!(u16),
        Element::I32 => put!(i32),
        Element::U32 => put!(u32),
        Element::I64 => put!(i64),
        Element::U64 => put!(u64),
        Element::Bool if value == 0 || value == 1 => out.push(value as u8),
        Element::Bool => return None,
        Element::F32 | Element::F64 | Element::F16 | Element::BF16 => {
            return put_float(out, element, value as f64);
        }
    }
    Some(())
}

fn put_float(out: &mut Vec<u8>, element: Element, value: f64) -> Option<()> {
    match element {
        Element::F64 => out.extend(value.to_le_bytes()),
        Element::F32 => out.extend((value as f32).to_le_bytes()),
        Element::F16 => out.extend(half::f16::from_f64(value).to_le_bytes()),
        Element::BF16 => out.extend(half::bf16::from_f64(value).to_le_bytes()),
        _ => return None,
    }
    Some(())
}

fn elements<const N: usize, T>(bytes: &[u8], from: impl Fn([u8; N]) -> T) -> Vec<T> {
    let chunks = bytes.chunks_exact(N);
    chunks.map(|c| from(c.try_into().expect("invariant: chunks have this size"))).collect()
}

/// The elements of an output as numbers.
///
/// # Errors
/// When the element type is unknown.
pub fn to_f64(element: &str, bytes: &[u8]) -> Result<Vec<f64>, Failure> {
    let data = match numbers(&to_data(element, bytes)?) {
        Numbers::Integers(values) => values.into_iter().map(|v| v as f64).collect(),
        Numbers::Floats(values) => values,
    };
    Ok(data)
}

/// An output as a `.npy` array; bfloat16, which NumPy lacks, becomes float32.
///
/// # Errors
/// When the element type is unknown.
pub fn to_npy(element: &str, shape: &[u64], bytes: &[u8]) -> Result<NpyArray, Failure> {
    Ok(NpyArray::new(shape.iter().map(|&d| d as usize).collect(), to_data(element, bytes)?)?)
}

fn to_data(element: &str, bytes: &[u8]) -> Result<NpyData, Failure> {
    let known = Element::named(element)
        .ok_or_else(|| Failure::input(format!("outputs of type {element} cannot be read")))?;
    Ok(match known {
        Element::F32 => NpyData::F32(elements(bytes, f32::from_le_bytes)),
        Element::F64 => NpyData::F64(elements(bytes, f64::from_le_bytes)),
        Element::F16 => NpyData::F16(elements(bytes, half::f16::from_le_bytes)),
        Element::BF16 => NpyData::F32(elements(bytes, |b| half::bf16::from_le_bytes(b).to_f32())),
        Element::I8 => NpyData::I8(elements(bytes, i8::from_le_bytes)),
        Element::U8 => NpyData::U8(bytes.to_vec()),
        Element::I16 => NpyData::I16(elements(bytes, i16::from_le_bytes)),
        Element::U16 => NpyData::U16(elements(bytes, u16::from_le_bytes)),
        Element::I32 => NpyData::I32(elements(bytes, i32::from_le_bytes)),
        Element::U32 => NpyData::U32(elements(bytes, u32::from_le_bytes)),
        Element::I64 => NpyData::I64(elements(bytes, i64::from_le_bytes)),
        Element::U64 => NpyData::U64(elements(bytes, u64::from_le_bytes)),
        Element::Bool => NpyData::Bool(bytes.iter().map(|b| *b != 0).collect()),
    })
}

#[cfg(test)]
mod tests {
    use qcc_runtime::program::Expr;

    use super::*;

    fn port(element: &str) -> Port {
        Port { name: "x".into(), element: element.into(), dims: vec![Expr::Const(2)] }
    }

    #[test]
    fn integers_become_what_holds_them() {
        let array = NpyArray::new(vec![2], NpyData::I32(vec![1, 300])).expect("fits");
        assert_eq!(Tensor::from_npy(&array, &port("i64")), Ok(Tensor::i64(vec![2], &[1, 300])));
        assert_eq!(Tensor::from_npy(&array, &port("f32")), Ok(Tensor::f32(vec![2], &[1.0, 300.0])));
        let error = Tensor::from_npy(&array, &port("u8")).expect_err("too large");
        assert_eq!(error, "300 does not fit the input's u8");
    }

    #[test]
    fn floats_do_not_become_integers() {
        let array = NpyArray::new(vec![2], NpyData::F64(vec![1.5, 2.0])).expect("fits");
        assert_eq!(Tensor::from_npy(&array, &port("f32")), Ok(Tensor::f32(vec![2], &[1.5, 2.0])));
        assert!(Tensor::from_npy(&array, &port("i64")).is_err());
        let flat = NpyArray::new(vec![1, 2], NpyData::F64(vec![1.5, 2.0])).expect("fits");
        assert_eq!(Tensor::from_npy(&flat, &port("f32")).expect_err("rank"), "2 axes where the input has 1");
    }

    #[test]
    fn outputs_go_to_npy_and_back() {
        let tensor = Tensor::f32(vec![2], &[1.5, -2.0]);
        let array = to_npy("f32", &tensor.shape, &tensor.bytes).expect("known type");
        assert_eq!(Tensor::from_npy(&array, &port("f32")), Ok(tensor));
        assert_eq!(to_f64("bool", &[1, 0]).expect("known type"), [1.0, 0.0]);
    }
}
