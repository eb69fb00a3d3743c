//! How float tensors are held and computed: the two precisions, and the only places where numbers are read from and rounded into tensors.

use std::borrow::Cow;

use half::{bf16, f16};
use qcc_ir::ElementType;
use qcc_params::{Data, Tensor};

/// In which precision float tensors are held between operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Precision {
    /// As their element type says: what compiled code does.
    F32,
    /// Every float tensor, of whatever element type, as `f64` without any rounding between operations. Quantized operations then also use
    /// f64 arithmetic on their scales, so codes may differ from compiled ones: this precision proves float transforms.
    F64,
}

/// The tensor as `precision` holds it.
pub(crate) fn hold(tensor: &Tensor, precision: Precision) -> Cow<'_, Tensor> {
    if !tensor.element.is_float() {
        return Cow::Borrowed(tensor);
    }
    let wide = matches!(tensor.data, Data::F64(_));
    let data = match (precision, wide) {
        (Precision::F64, false) => Data::F64(tensor.to_f64_vec()),
        (Precision::F32, true) if tensor.element != ElementType::F64 => {
            narrow(tensor.element, reals(tensor).into_owned())
        }
        _ => return Cow::Borrowed(tensor),
    };
    Cow::Owned(Tensor { dims: tensor.dims.clone(), element: tensor.element, data })
}

/// Elements of a float tensor.
pub(crate) fn reals(tensor: &Tensor) -> Cow<'_, [f64]> {
    match &tensor.data {
        Data::F64(v) => Cow::Borrowed(v),
        _ => Cow::Owned(tensor.to_f64_vec()),
    }
}

/// Elements of an integer or boolean tensor, or codes; floats are truncated.
pub(crate) fn integers(tensor: &Tensor) -> Vec<i64> {
    match &tensor.data {
        Data::I64(v) => v.clone(),
        Data::I32(v) => v.iter().map(|x| i64::from(*x)).collect(),
        Data::I8(v) => v.iter().map(|x| i64::from(*x)).collect(),
        Data::U8(v) => v.iter().map(|x| i64::from(*x)).collect(),
        Data::U16(v) => v.iter().map(|x| i64::from(*x)).collect(),
        Data::Bool(v) => v.iter().map(|x| i64::from(*x)).collect(),
        #[allow(clippy::cast_possible_truncation, reason = "documented truncation")]
        _ => tensor.to_f64_vec().into_iter().map(|x| x as i64).collect(),
    }
}

/// A tensor of float elements, rounded to `element` unless `precision` is f64.
pub(crate) fn store_reals(
    precision: Precision,
    dims: Vec<usize>,
    element: ElementType,
    values: Vec<f64>,
) -> Result<Tensor, String> {
    if !element.is_float() {
        return Err(format!("elements of type {element} are not floats"));
    }
    let data = if precision == Precision::F64 { Data::F64(values) } else { narrow(element, values) };
    Tensor::new(dims, element, data).map_err(|e| e.to_string())
}

/// A tensor of integers or booleans; out-of-range values wrap around (for booleans: not zero).
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "documented wrapping")]
pub(crate) fn store_integers(
    dims: Vec<usize>,
    element: ElementType,
    values: Vec<i64>,
) -> Result<Tensor, String> {
    let data = match element {
        ElementType::I64 => Data::I64(values),
        ElementType::I32 => Data::I32(values.into_iter().map(|x| x as i32).collect()),
        ElementType::I8 => Data::I8(values.into_iter().map(|x| x as i8).collect()),
        ElementType::U8 => Data::U8(values.into_iter().map(|x| x as u8).collect()),
        ElementType::Bool => Data::Bool(values.into_iter().map(|x| x != 0).collect()),
        other => return Err(format!("elements of type {other} are not integers")),
    };
    Tensor::new(dims, element, data).map_err(|e| e.to_string())
}

/// Float elements rounded to `element` (to f64 for anything else).
#[allow(clippy::cast_possible_truncation, reason = "this is where rounding happens")]
fn narrow(element: ElementType, values: Vec<f64>) -> Data {
    match element {
        ElementType::F32 => Data::F32(values.into_iter().map(|x| x as f32).collect()),
        ElementType::F16 => Data::F16(values.into_iter().map(|x| f16::from_f32(to_odd(x))).collect()),
        ElementType::BF16 => Data::BF16(values.into_iter().map(|x| bf16::from_f32(to_odd(x))).collect()),
        _ => Data::F64(values),
    }
}

/// `x` rounded to f32 "to odd", so that rounding the result again to a narrower type rounds `x` itself correctly.
#[allow(clippy::cast_possible_truncation, reason = "corrected below")]
fn to_odd(x: f64) -> f32 {
    let near = x as f32;
    if !near.is_finite() || f64::from(near) == x {
        return near;
    }
    let toward_zero = if f64::from(near).abs() > x.abs() { near.to_bits() - 1 } else { near.to_bits() };
    f32::from_bits(toward_zero | 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn narrow_floats_are_rounded_once() {
        // A hair above the tie between two neighbours; rounding to f32 first would lose the hair.
        let above = 1.0 + 2f64.powi(-11) + 2f64.powi(-40);
        assert_eq!(narrow(ElementType::F16, vec![above]), Data::F16(vec![f16::from_bits(0x3c01)]));
        let tie = 1.0 + 2f64.powi(-11);
        assert_eq!(narrow(ElementType::F16, vec![tie]), Data::F16(vec![f16::ONE]));
        let below = -(1.0 + 3.0 * 2f64.powi(-8) - 2f64.powi(-45));
        assert_eq!(narrow(ElementType::BF16, vec![below]), Data::BF16(vec![bf16::from_bits(0xbf81)]));
        assert_eq!(narrow(ElementType::BF16, vec![1e300]), Data::BF16(vec![bf16::INFINITY]));
        assert_eq!(narrow(ElementType::F16, vec![-1e-300]), Data::F16(vec![f16::NEG_ZERO]));
    }

    #[test]
    fn precision_decides_how_floats_are_held() {
        let x = Tensor::new(vec![1], ElementType::BF16, Data::BF16(vec![bf16::ONE])).expect("fits");
        assert_eq!(hold(&x, Precision::F64).data, Data::F64(vec![1.0]));
        assert_eq!(hold(&hold(&x, Precision::F64), Precision::F32).as_ref(), &x);
    }
}
