//! Interpolation of images to other sizes.

use qcc_ir::ops::{CoordinateTransform, NearestRounding, ResizeMode};
use qcc_ir::{Dim, Float, Op};

use crate::call::{Call, Outputs, Result};

/// How `Resize` interpolates.
struct Rule {
    mode: ResizeMode,
    coordinates: CoordinateTransform,
    rounding: NearestRounding,
}

/// `Resize`, by sizes or scales.
pub(super) fn resize(call: &mut Call<'_>) -> Outputs {
    call.attributes.only("antialias", 0)?;
    call.attributes.only("exclude_outside", 0)?;
    // Both belong to modes that are refused.
    call.attributes.ignore(&["cubic_coeff_a", "extrapolation_value"]);
    match call.attributes.string("keep_aspect_ratio_policy")?.unwrap_or("stretch") {
        "stretch" => {}
        other => {
            return Err(format!("its `keep_aspect_ratio_policy` `{other}` is not supported; `stretch` is"));
        }
    }
    let mode = mode(call)?;
    let mut rule = Rule { mode, ..upsampling(mode) };
    let (scales, sizes) = if call.opset < 11 { (1, 3) } else { (2, 3) };
    if call.opset >= 11 {
        rule.coordinates = coordinates(call)?;
        rule.rounding = rounding(call)?;
    }
    let sizes = if call.opset < 11 || !given(call, sizes)? { None } else { call.sizes(sizes, "sizes")? };
    let scales = if sizes.is_some() { None } else { floats(call, scales)? };
    if call.opset < 11 {
        rule = shrinking(scales.as_ref(), rule)?;
    }
    interpolate(call, &rule, scales, sizes)
}

/// `Upsample`, the operator before `Resize`.
pub(super) fn upsample(call: &mut Call<'_>) -> Outputs {
    let mode = mode(call)?;
    let scales = match call.attributes.floats("scales")? {
        Some(scales) => Some(scales.into_iter().map(f64::from).collect()),
        None => floats(call, 1)?,
    };
    interpolate(call, &upsampling(mode), scales, None)
}

fn upsampling(mode: ResizeMode) -> Rule {
    Rule { mode, coordinates: CoordinateTransform::Asymmetric, rounding: NearestRounding::Floor }
}

fn mode(call: &Call<'_>) -> Result<ResizeMode> {
    match call.attributes.string("mode")?.unwrap_or("nearest") {
        "nearest" => Ok(ResizeMode::Nearest),
        "linear" | "bilinear" => Ok(ResizeMode::Linear),
        other => Err(format!("its mode `{other}` is not supported; nearest and linear are")),
    }
}

fn coordinates(call: &Call<'_>) -> Result<CoordinateTransform> {
    match call.attributes.string("coordinate_transformation_mode")?.unwrap_or("half_pixel") {
        "half_pixel" => Ok(CoordinateTransform::HalfPixel),
        "pytorch_half_pixel" => Ok(CoordinateTransform::PytorchHalfPixel),
        "align_corners" => Ok(CoordinateTransform::AlignCorners),
        "asymmetric" => Ok(CoordinateTransform::Asymmetric),
        other => Err(format!(
            "its coordinate transformation `{other}` is not supported; half_pixel, pytorch_half_pixel, align_corners and asymmetric are"
        )),
    }
}

fn rounding(call: &Call<'_>) -> Result<NearestRounding> {
    match call.attributes.string("nearest_mode")?.unwrap_or("round_prefer_floor") {
        "round_prefer_floor" => Ok(NearestRounding::RoundPreferFloor),
        "round_prefer_ceil" => Ok(NearestRounding::RoundPreferCeil),
        "floor" => Ok(NearestRounding::Floor),
        "ceil" => Ok(NearestRounding::Ceil),
        other => Err(format!("its rounding `{other}` is not known")),
    }
}

/// Whether an input is there and not empty: exporters give an empty tensor for "absent".
fn given(call: &Call<'_>, input: usize) -> Result<bool> {
    match call.bound(input) {
        Some(crate::graph::Bound::Value(value)) => Ok(call.dims(*value) != [Dim::Const(0)]),
        bound => Ok(bound.is_some()),
    }
}

fn floats(call: &Call<'_>, input: usize) -> Result<Option<Vec<f64>>> {
    if !given(call, input)? {
        return Ok(None);
    }
    Ok(call.contents(input, "scales")?.map(qcc_params::Tensor::to_f64_vec))
}

fn interpolate(
    call: &mut Call<'_>,
    rule: &Rule,
    scales: Option<Vec<f64>>,
    sizes: Option<Vec<Dim>>,
) -> Outputs {
    let x = call.x(0)?;
    let dims = call.dims(x);
    let axes = call.attributes.ints("axes")?.unwrap_or_else(|| (0..dims.len() as i64).collect());
    let entries = scales
        .as_ref()
        .map(Vec::len)
        .or(sizes.as_ref().map(Vec::len))
        .ok_or("it has neither scales nor sizes")?;
    if entries != axes.len() {
        return Err(format!("{entries} scales or sizes do not fit {} axes", axes.len()));
    }
    // Per axis of `x`: the new size, and the factor that the coordinate rule uses.
    let mut target: Vec<(Dim, f64)> = dims.iter().map(|d| (d.clone(), 1.0)).collect();
    for (i, axis) in axes.iter().enumerate() {
        let axis = call.axis(*axis, dims.len())?;
        target[axis] = match (&scales, &sizes) {
            (Some(scales), _) => (scaled(&dims[axis], scales[i])?, scales[i]),
            (None, Some(sizes)) => (sizes[i].clone(), factor(&dims[axis], &sizes[i])?),
            (None, None) => unreachable!("invariant: one of them has entries"),
        };
    }
    if let Some(axis) = (0..dims.len().min(2)).find(|axis| target[*axis].0 != dims[*axis]) {
        return Err(format!(
            "it resizes axis {axis}, of batch or channels; only spatial axes can be resized"
        ));
    }
    let spatial = target
        .get(2..)
        .filter(|s| !s.is_empty())
        .ok_or_else(|| format!("an input of sizes {dims:?} has no spatial axes"))?;
    let sizes: Option<Vec<i64>> = spatial.iter().map(|(size, _)| size.constant()).collect();
    let sizes = sizes.ok_or("a spatial size is symbolic; export the model with fixed spatial sizes")?;
    let scales = spatial.iter().map(|(_, scale)| Float(*scale)).collect();
    let (mode, coordinates, rounding) = (rule.mode, rule.coordinates, rule.rounding);
    call.done(Op::Resize { mode, coordinates, rounding, sizes, scales }, [x])
}

/// Before opset 11 the nearest position is rounded down where an axis grows, up where it shrinks.
fn shrinking(scales: Option<&Vec<f64>>, rule: Rule) -> Result<Rule> {
    let scales = scales.map_or(&[][..], Vec::as_slice);
    match (scales.iter().any(|s| *s < 1.0), scales.iter().any(|s| *s > 1.0)) {
        (false, _) => Ok(rule),
        (true, false) => Ok(Rule { rounding: NearestRounding::Ceil, ..rule }),
        (true, true) if rule.mode == ResizeMode::Linear => Ok(rule),
        (true, true) => {
            Err("it grows one axis and shrinks another; that is supported from opset 11 on".into())
        }
    }
}

/// `dim · scale`, rounded down.
#[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "checked to be a size")]
fn scaled(dim: &Dim, scale: f64) -> Result<Dim> {
    if scale == 1.0 {
        return Ok(dim.clone());
    }
    let size =
        dim.constant().ok_or_else(|| format!("the symbolic size {dim} cannot be scaled by {scale}"))?;
    // In f32, as the standard's shape inference computes it: 5 · 1.4 is 7.
    let scaled = f64::from((size as f32 * scale as f32).floor());
    if (0.0..=f64::from(i32::MAX)).contains(&scaled) {
        Ok(Dim::Const(scaled as i64))
    } else {
        Err(format!("the size {size} cannot be scaled by {scale}"))
    }
}

#[allow(clippy::cast_precision_loss, reason = "image sizes are exact in f64")]
fn factor(dim: &Dim, size: &Dim) -> Result<f64> {
    match (dim.constant(), size.constant()) {
        _ if dim == size => Ok(1.0),
        (Some(dim), Some(size)) if dim > 0 => Ok(size as f64 / dim as f64),
        _ => Err(format!("the size {dim} cannot become {size}; export the model with fixed spatial sizes")),
    }
}
