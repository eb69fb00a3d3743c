//! Quantize, dequantize, and contractions on codes. Scales must have exactly the shape the quantized type implies
//! ([`TensorType::scale_type`]), so a scale can never be applied along the wrong axis.

use smallvec::smallvec;

use super::window::{Window, conv_type};
use super::{Result, Types, contraction, float, one, shape, tensor};
use crate::element::{ElementType, QuantType};
use crate::ops::ImageLayout;
use crate::types::TensorType;

/// Operands of `quantized_linear` and `quantized_conv`.
pub(super) struct Operands<'a> {
    pub x: &'a TensorType,
    pub weight: &'a TensorType,
    pub weight_scale: &'a TensorType,
    pub x_scale: Option<&'a TensorType>,
    pub x_zero_point: Option<&'a TensorType>,
    pub bias: Option<&'a TensorType>,
    pub y_scale: Option<&'a TensorType>,
    pub y_zero_point: Option<&'a TensorType>,
}

fn quantized(what: &str, ty: &TensorType) -> Result<QuantType> {
    ty.element.quantized().ok_or_else(|| format!("`{what}` {ty} must have quantized elements"))
}

fn check_parameters(
    what: &str,
    ty: &TensorType,
    q: QuantType,
    scale: Option<&TensorType>,
    zero_point: Option<&TensorType>,
) -> Result<()> {
    let expected = ty.scale_type(q);
    match scale {
        Some(s) if s.dims == expected.dims && s.element == expected.element => {}
        Some(s) => return Err(format!("the scale of `{what}` must be {expected:?}, not {s:?}")),
        None => return Err(format!("`{what}` needs a scale of type {expected:?}")),
    }
    let expected = ty.zero_point_type(q);
    match (q.zero_point, zero_point) {
        (true, Some(z)) if z.dims == expected.dims && z.element == expected.element => Ok(()),
        (true, Some(z)) => Err(format!("the zero point of `{what}` must be {expected:?}, not {z:?}")),
        (true, None) => Err(format!("`{what}` is asymmetric and needs a zero point")),
        (false, Some(_)) => Err(format!("`{what}` is symmetric and takes no zero point")),
        (false, None) => Ok(()),
    }
}

pub(super) fn quantize(
    x: &TensorType,
    to: ElementType,
    scale: &TensorType,
    zero_point: Option<&TensorType>,
) -> Result<Types> {
    float(x)?;
    let y = x.with_element(to);
    let q = quantized("y", &y)?;
    if q.storage.is_split() {
        return Err("the clusters of split codes are found in `x` itself: use `qcc.dynamic_quantize`".into());
    }
    check_parameters("y", &y, q, Some(scale), zero_point)?;
    one(y)
}

pub(super) fn dynamic_quantize(x: &TensorType, to: ElementType) -> Result<Types> {
    float(x)?;
    let y = x.with_element(to);
    let q = quantized("y", &y)?;
    let scale = y.scale_type(q);
    match (q.storage.is_split(), q.zero_point) {
        (false, false) => Ok(smallvec![y, scale]),
        (true, true) => {
            let zero_point = y.zero_point_type(q);
            Ok(smallvec![y, scale, zero_point])
        }
        (false, true) => Err("dynamic quantization is symmetric, but for split codes".into()),
        (true, false) => Err(format!("split codes have zero points, which {} lacks", y.element)),
    }
}

pub(super) fn dequantize(
    x: &TensorType,
    scale: &TensorType,
    zero_point: Option<&TensorType>,
) -> Result<Types> {
    let q = quantized("x", x)?;
    check_parameters("x", x, q, Some(scale), zero_point)?;
    one(x.with_element(ElementType::F32))
}

pub(super) fn embedding(table: &TensorType, ids: &TensorType, scale: Option<&TensorType>) -> Result<Types> {
    shape::indices(ids)?;
    let [_, width] = table.dims.as_slice() else {
        return Err(format!("the table {table} must have rank 2"));
    };
    let element = match (table.element.quantized(), scale) {
        (Some(q), scale) => {
            check_parameters("table", table, q, scale, None)?;
            ElementType::F32
        }
        (None, Some(_)) => return Err(format!("a table {table} that is not quantized takes no scale")),
        (None, None) => table.element,
    };
    one(tensor(ids.dims.iter().chain([width]).cloned().collect(), element))
}

fn result(io: &Operands<'_>, y: TensorType, to: ElementType) -> Result<Types> {
    let y = tensor(y.dims, to);
    match to.quantized() {
        Some(q) => check_parameters("y", &y, q, io.y_scale, io.y_zero_point)?,
        None if to != ElementType::F32 => {
            return Err(format!("the result must be f32 or quantized, not {to}"));
        }
        None if io.y_scale.is_some() || io.y_zero_point.is_some() => {
            return Err("an f32 result takes no scale".into());
        }
        None => {}
    }
    one(y)
}

fn check_inputs(io: &Operands<'_>) -> Result<()> {
    let weight = quantized("weight", io.weight)?;
    if weight.zero_point {
        return Err("asymmetric weights are not supported; dequantize them".into());
    }
    check_parameters("weight", io.weight, weight, Some(io.weight_scale), None)?;
    match io.x.element.quantized() {
        Some(q) => check_parameters("x", io.x, q, io.x_scale, io.x_zero_point),
        None if io.x_scale.is_some() || io.x_zero_point.is_some() => Err("a float `x` takes no scale".into()),
        None => float(io.x),
    }
}

pub(super) fn linear(io: &Operands<'_>, to: ElementType) -> Result<Types> {
    check_inputs(io)?;
    let dims = contraction::linear_dims(io.x, io.weight, io.bias)?;
    result(io, tensor(dims, ElementType::F32), to)
}

pub(super) fn conv(
    io: &Operands<'_>,
    window: &Window<'_>,
    groups: i64,
    layout: ImageLayout,
    to: ElementType,
    bounds: Option<&TensorType>,
) -> Result<Types> {
    check_inputs(io)?;
    let y = conv_type(io.x, io.weight, io.bias, window, groups, layout)?;
    if let Some(bounds) = bounds
        && (bounds.element != ElementType::F32 || bounds.dims != io.weight.dims[..1])
    {
        return Err(format!("`bounds` {bounds} must be f32, one for each of {} channels", io.weight.dims[0]));
    }
    result(io, y, to)
}
