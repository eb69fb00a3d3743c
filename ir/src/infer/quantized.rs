//! Quantize, dequantize, and contractions on codes. Scales must have exactly the shape the quantized type implies
//! ([`TensorType::scale_type`]), so a scale can never be applied along the wrong axis.

use super::window::{Window, conv_type};
use super::{Result, Types, contraction, float, one, shape, tensor};
use crate::element::{ElementType, QuantType, ScaleType};
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

/// Checks what comes with the codes of `what`: scale, zero point, tensor scale, codebook.
fn check_parameters(what: &str, ty: &TensorType, q: QuantType, given: &[Option<&TensorType>]) -> Result<()> {
    let given: Vec<&TensorType> = given.iter().flatten().copied().collect();
    let expected = ty.quantization_parameters(q);
    for (i, (name, expected)) in expected.iter().enumerate() {
        match given.get(i) {
            Some(found) if found.dims == expected.dims && found.element == expected.element => {}
            Some(found) => return Err(format!("the {name} of `{what}` must be {expected:?}, not {found:?}")),
            None => return Err(format!("`{what}` needs a {name} of type {expected:?}")),
        }
    }
    match given.len() > expected.len() {
        true if expected.len() == 1 => Err(format!("`{what}` is symmetric and takes no zero point")),
        true => Err(format!("`{what}` takes {} of quantization, not {}", expected.len(), given.len())),
        false => Ok(()),
    }
}

pub(super) fn quantize(x: &TensorType, to: ElementType, parameters: &[Option<&TensorType>]) -> Result<Types> {
    float(x)?;
    let y = x.with_element(to);
    let q = quantized("y", &y)?;
    if q.storage.is_split() {
        return Err("the clusters of split codes are found in `x` itself: use `qcc.dynamic_quantize`".into());
    }
    check_parameters("y", &y, q, parameters)?;
    one(y)
}

pub(super) fn dynamic_quantize(
    x: &TensorType,
    to: ElementType,
    tensor_scale: Option<&TensorType>,
) -> Result<Types> {
    float(x)?;
    let y = x.with_element(to);
    let q = quantized("y", &y)?;
    if q.storage.is_split() && !q.zero_point {
        return Err(format!("split codes have zero points, which {} lacks", y.element));
    }
    if q.zero_point && !q.storage.is_split() && q.storage.integer_range(false).is_none() {
        return Err(format!("only integers have zero points, not {}", y.element));
    }
    match tensor_scale {
        Some(_) if !q.has_tensor_scale() => return Err(format!("{} has no tensor scale", y.element)),
        Some(s) if s.rank() > 0 || s.element != ElementType::F32 => {
            return Err(format!("the tensor scale must be tensor<f32>, not {s:?}"));
        }
        _ => {}
    }
    let parameters = y.quantization_parameters(q).into_iter().map(|(_, ty)| ty);
    Ok([y.clone()].into_iter().chain(parameters).collect())
}

pub(super) fn dequantize(x: &TensorType, parameters: &[Option<&TensorType>]) -> Result<Types> {
    let q = quantized("x", x)?;
    check_parameters("x", x, q, parameters)?;
    one(x.with_element(ElementType::F32))
}

pub(super) fn embedding(table: &TensorType, ids: &TensorType, scale: Option<&TensorType>) -> Result<Types> {
    shape::indices(ids)?;
    let [_, width] = table.dims.as_slice() else {
        return Err(format!("the table {table} must have rank 2"));
    };
    let element = match (table.element.quantized(), scale) {
        (Some(q), scale) => {
            check_parameters("table", table, q, &[scale])?;
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
        Some(q) => check_parameters("y", &y, q, &[io.y_scale, io.y_zero_point])?,
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

/// Only codes that are integers times one scale can be summed before they are scaled.
fn check_integer(what: &str, q: QuantType) -> Result<()> {
    match q.storage.integer_range(false) {
        Some(_) if !matches!(q.scale, ScaleType::E4M3 | ScaleType::E8M0) => Ok(()),
        _ => Err(format!(
            "codes of `{what}` ({}) are no integers with float scales; dequantize them",
            ElementType::Quant(q)
        )),
    }
}

fn check_inputs(io: &Operands<'_>) -> Result<()> {
    let weight = quantized("weight", io.weight)?;
    if weight.zero_point {
        return Err("asymmetric weights are not supported; dequantize them".into());
    }
    check_integer("weight", weight)?;
    check_parameters("weight", io.weight, weight, &[Some(io.weight_scale)])?;
    match io.x.element.quantized() {
        Some(q) => check_integer("x", q)
            .and_then(|()| check_parameters("x", io.x, q, &[io.x_scale, io.x_zero_point])),
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
