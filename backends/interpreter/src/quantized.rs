//! Quantize, dequantize, and contractions on codes.
//!
//! Sums of products of codes are exact; that they fit `i32`, as in compiled kernels, is checked. Everything after the sum is the arithmetic
//! of [`Real`] in the order the operation table prescribes: f32 in [`Precision::F32`], the same formulas in f64 in [`Precision::F64`].

use qcc_ir::ops::ImageLayout;
use qcc_ir::{ElementType, Granularity, QuantType};
use qcc_params::{Data, Tensor};

use crate::contraction::product;
use crate::convolution::Geometry;
use crate::evaluate::{Call, Result};
use crate::formats::tensor::read_codes;
use crate::formats::{self, Parameters, Quantized, Rules, Scales};
use crate::precision::{Precision, integers, reals};
use crate::real::Real;

/// What happens to a sum after scaling: bounds of the fused activation, and the element type of the result.
pub(crate) struct Finish {
    pub to: ElementType,
    pub narrow: bool,
    pub lower: f64,
    pub upper: f64,
}

fn quant_type(element: ElementType) -> Result<QuantType> {
    element.quantized().ok_or_else(|| format!("{element} is not a quantized type"))
}

/// What comes with the codes of a quantized operand or result: the operands from `slot` on.
fn parameters<R: Real>(call: &Call<'_>, slot: usize, q: QuantType) -> Result<Parameters<R>> {
    read_parameters(q, (slot..).map_while(|slot| call.optional(slot)))
}

fn read_parameters<'t, R: Real>(
    q: QuantType,
    given: impl IntoIterator<Item = &'t Tensor>,
) -> Result<Parameters<R>> {
    let mut given = given.into_iter();
    let mut next = |what: &str| given.next().ok_or_else(|| format!("the {what} of codes is missing"));
    let scale = next("scale")?;
    let scales = match &scale.data {
        Data::U8(codes) => Scales::Codes(codes.clone()),
        _ => Scales::Floats(R::read(scale)),
    };
    let mut parameters = Parameters::new(scales, None);
    if q.zero_point {
        parameters.zero_points = Some(zero_points(next("zero point")?));
    }
    if q.has_tensor_scale() {
        parameters.tensor_scale = R::read(next("tensor scale")?).first().copied();
    }
    if q.storage.has_codebook() {
        parameters.codebook = Some(reals(next("codebook")?).into_owned());
    }
    Ok(parameters)
}

/// The scales of integer codes.
fn scales<R: Real>(scale: &Tensor) -> Vec<R> {
    R::read(scale)
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

#[allow(clippy::cast_possible_truncation, reason = "zero points are i32 by the type rule")]
fn zero_points(tensor: &Tensor) -> Vec<i32> {
    integers(tensor).into_iter().map(|z| z as i32).collect()
}

/// Whether a call on `x` computes in f64.
fn wide(call: &Call<'_>, x: &Tensor) -> bool {
    call.precision == Precision::F64 || matches!(x.data, Data::F64(_))
}

/// `quantize`.
pub(crate) fn quantize(call: &Call<'_>, to: ElementType, rules: Rules) -> Result<Tensor> {
    fn codes<R: Real>(call: &Call<'_>, to: ElementType, rules: Rules) -> Result<Tensor> {
        let x = call.at(0)?;
        let q = quant_type(to)?;
        let data = formats::quantize(&R::view(x), &x.dims, q, rules, &parameters(call, 1, q)?);
        call.data(0, data.map_err(text)?)
    }
    let codes = if wide(call, call.at(0)?) { codes::<f64> } else { codes::<f32> };
    codes(call, to, rules)
}

/// `dynamic_quantize`: codes, scales and what else comes with them.
pub(crate) fn dynamic_quantize(call: &Call<'_>, to: ElementType, rules: Rules) -> Result<Vec<Tensor>> {
    fn codes<R: Real>(call: &Call<'_>, to: ElementType, rules: Rules) -> Result<Vec<Tensor>> {
        let x = call.at(0)?;
        let q = quant_type(to)?;
        let tensor_scale = call.optional(1).and_then(|t| R::read(t).first().copied());
        let Quantized { codes, parameters } =
            formats::quantize_dynamic(&R::view(x), &x.dims, q, rules, tensor_scale).map_err(text)?;
        let floats =
            |result: usize, values| R::store(call.dims(result).to_vec(), call.element(result), values);
        let mut results = vec![call.data(0, codes)?];
        results.push(match parameters.scales {
            Scales::Floats(scales) => floats(1, scales)?,
            Scales::Codes(codes) => call.data(1, Data::U8(codes))?,
        });
        if let Some(zero_points) = parameters.zero_points {
            results.push(call.data(results.len(), Data::I32(zero_points))?);
        }
        if let Some(scale) = parameters.tensor_scale {
            results.push(floats(results.len(), vec![scale])?);
        }
        if let Some(levels) = parameters.codebook {
            results.push(call.real(results.len(), levels)?);
        }
        Ok(results)
    }
    match (call.precision, wide(call, call.at(0)?)) {
        (Precision::F64, _) => codes::<f64>(call, to, rules),
        (Precision::F32, false) => codes::<f32>(call, to, rules),
        (Precision::F32, true) => Err("f64 elements have no scales in f32 precision; cast them first".into()),
    }
}

/// `dequantize`.
pub(crate) fn dequantize(call: &Call<'_>) -> Result<Tensor> {
    let more: Vec<&Tensor> = (1..).map_while(|slot| call.optional(slot)).collect();
    dequantized(call.precision, call.at(0)?, &more)
}

/// The values that codes stand for.
pub(crate) fn dequantized(precision: Precision, codes: &Tensor, more: &[&Tensor]) -> Result<Tensor> {
    fn values<R: Real>(x: &Tensor, more: &[&Tensor]) -> Result<Tensor> {
        let q = quant_type(x.element)?;
        let parameters = read_parameters::<R>(q, more.iter().copied())?;
        let values = formats::dequantize(&x.data, &x.dims, q, &parameters);
        R::store(x.dims.clone(), ElementType::F32, values.map_err(text)?)
    }
    match precision {
        Precision::F32 => values::<f32>(codes, more),
        Precision::F64 => values::<f64>(codes, more),
    }
}

/// Codes minus their zero points, and the scale of each row of the last axis.
struct Activation<R> {
    codes: Vec<i64>,
    scales: Vec<R>,
}

impl<R: Real> Activation<R> {
    /// Reads operands 0, 3 and 4. Within a row, codes must share scale and zero point.
    fn read(call: &Call<'_>) -> Result<Activation<R>> {
        let x = call.at(0)?;
        let q = quant_type(x.element)?;
        let row = x.dims.last().copied().unwrap_or(1);
        let rows = x.dims[..x.dims.len().saturating_sub(1)].iter().product();
        let (scales, zero) = (scales::<R>(call.at(3)?), call.optional(4).map(zero_points));
        // Repeats the parameters of a tensor for each row.
        let repeat = match q.granularity {
            Granularity::Tensor => |_: usize| 0,
            Granularity::Token => |i: usize| i,
            other => {
                return Err(format!(
                    "activations with scales {other} cannot be summed as integers; use one scale a tensor or token"
                ));
            }
        };
        let mut codes: Vec<i64> = read_codes(&x.data, q).map_err(text)?.into_iter().map(i64::from).collect();
        if let Some(zero) = zero {
            for (i, row) in codes.chunks_mut(row.max(1)).enumerate() {
                row.iter_mut().for_each(|c| *c -= i64::from(zero[repeat(i)]));
            }
        }
        Ok(Activation { codes, scales: (0..rows).map(|i| scales[repeat(i)]).collect() })
    }
}

/// One scale an output channel of a weight that has one or only one scale.
fn channel_scales<R: Real>(call: &Call<'_>, q: QuantType, outs: usize) -> Result<Vec<R>> {
    let scales = scales(call.at(2)?);
    match q.granularity {
        Granularity::Tensor => Ok(vec![scales[0]; outs]),
        Granularity::Channel { axis: 0 } => Ok(scales),
        other => Err(format!("weights with scales {other} are not implemented in this operation")),
    }
}

fn weight_codes(weight: &Tensor, q: QuantType) -> Result<Vec<i64>> {
    Ok(read_codes(&weight.data, q).map_err(text)?.into_iter().map(i64::from).collect())
}

/// A sum as a kernel holds it.
fn sum<R: Real>(exact: i64) -> Result<R> {
    i32::try_from(exact).map(R::from_i32).map_err(|_| format!("the integer sum {exact} overflows i32"))
}

/// A value between the bounds. Comparisons with NaN are false, so NaN stays.
fn clamped<R: Real>(finish: &Finish, y: R) -> R {
    let (lower, upper) = (R::from_f64(finish.lower), R::from_f64(finish.upper));
    let y = if y < lower { lower } else { y };
    if y > upper { upper } else { y }
}

/// Stores as f32, or quantizes with operands 6 and 7.
fn finish<R: Real>(call: &Call<'_>, finish: &Finish, y: Vec<R>) -> Result<Tensor> {
    let dims = call.dims(0);
    let Some(q) = finish.to.quantized() else {
        return R::store(dims.to_vec(), finish.to, y);
    };
    let data = formats::quantize(&y, dims, q, Rules::nearest(finish.narrow), &parameters(call, 6, q)?);
    call.data(0, data.map_err(text)?)
}

fn bias<R: Real>(call: &Call<'_>, outs: usize) -> Vec<R> {
    call.optional(5).map_or_else(|| vec![R::ZERO; outs], R::read)
}

/// `quantized_linear`.
pub(crate) fn linear(call: &Call<'_>, finish: &Finish) -> Result<Tensor> {
    match call.precision {
        Precision::F32 => linear_in::<f32>(call, finish),
        Precision::F64 => linear_in::<f64>(call, finish),
    }
}

fn linear_in<R: Real>(call: &Call<'_>, end: &Finish) -> Result<Tensor> {
    let (x, weight) = (call.at(0)?, call.at(1)?);
    let q = quant_type(weight.element)?;
    let (outs, inner) = (weight.dims[0], weight.dims[1]);
    let bias = bias::<R>(call, outs);
    if x.element.is_float() {
        let parameters = read_parameters::<R>(q, [call.at(2)?])?;
        let values = formats::dequantize(&weight.data, &weight.dims, q, &parameters).map_err(text)?;
        let values: Vec<f64> = values.into_iter().map(Real::to_f64).collect();
        let mut y = vec![0.0; call.count(0)];
        product(&call.reals(0)?, &values, inner, &mut y);
        let shifted =
            y.iter().enumerate().map(|(i, y)| clamped(end, R::from_f64(y + bias[i % outs].to_f64())));
        return finish(call, end, shifted.collect());
    }
    let activation = Activation::<R>::read(call)?;
    let codes = weight_codes(weight, q)?;
    let mut y = vec![R::ZERO; call.count(0)];
    let mut sums = vec![0i64; y.len()];
    if let Granularity::Block { axis: 1, block } = q.granularity {
        let block = usize::try_from(block.max(1)).map_err(text)?;
        let scales = scales::<R>(call.at(2)?);
        let blocks = inner.div_ceil(block);
        for b in 0..blocks {
            let range = b * block..inner.min((b + 1) * block);
            let columns = |m: &[i64]| -> Vec<i64> {
                m.chunks_exact(inner).flat_map(|row| row[range.clone()].iter().copied()).collect()
            };
            product(&columns(&activation.codes), &columns(&codes), range.len(), &mut sums);
            for (i, (y, &s)) in y.iter_mut().zip(&sums).enumerate() {
                *y = sum::<R>(s)?.mul_add(scales[i % outs * blocks + b], *y);
            }
        }
        for (i, y) in y.iter_mut().enumerate() {
            *y = y.mul_add(activation.scales[i / outs], bias[i % outs]);
        }
    } else {
        let scales = channel_scales::<R>(call, q, outs)?;
        product(&activation.codes, &codes, inner, &mut sums);
        for (i, (y, &s)) in y.iter_mut().zip(&sums).enumerate() {
            let multiplier = activation.scales[i / outs] * scales[i % outs];
            *y = sum::<R>(s)?.mul_add(multiplier, bias[i % outs]);
        }
    }
    finish(call, end, y.into_iter().map(|y| clamped(end, y)).collect())
}

/// `quantized_conv`; `window` is strides, pads, dilations.
pub(crate) fn conv(
    call: &Call<'_>,
    window: [&[i64]; 3],
    groups: i64,
    layout: ImageLayout,
    finish: &Finish,
) -> Result<Tensor> {
    match call.precision {
        Precision::F32 => conv_in::<f32>(call, window, groups, layout, finish),
        Precision::F64 => conv_in::<f64>(call, window, groups, layout, finish),
    }
}

fn conv_in<R: Real>(
    call: &Call<'_>,
    window: [&[i64]; 3],
    groups: i64,
    layout: ImageLayout,
    end: &Finish,
) -> Result<Tensor> {
    let (x, weight) = (call.at(0)?, call.at(1)?);
    let q = quant_type(weight.element)?;
    let outs = weight.dims[0];
    let bias = bias::<R>(call, outs);
    let scales = channel_scales::<R>(call, q, outs)?;
    if quant_type(x.element)?.granularity != Granularity::Tensor {
        return Err("convolutions take activations with one scale a tensor".into());
    }
    let activation = Activation::<R>::read(call)?;
    let x_scale = R::read(call.at(3)?)[0];
    let geometry = Geometry::new(&x.dims, &weight.dims, call.dims(0), window, groups, layout)?;
    // A code that equals the zero point is 0 here, as is padding.
    let sums = geometry.sums(&activation.codes, &weight_codes(weight, q)?);
    let mut y = vec![R::ZERO; sums.len()];
    let mut failure = None;
    let bounds: Option<Vec<R>> = call.optional(8).map(R::read);
    geometry.for_each_output(|i, channel| match sum::<R>(sums[i]) {
        Ok(s) => {
            y[i] = clamped(end, s.mul_add(x_scale * scales[channel], bias[channel]));
            if let Some(bound) = bounds.as_ref().map(|b| b[channel]).filter(|b| y[i] > *b) {
                y[i] = bound;
            }
        }
        Err(e) => failure = Some(e),
    });
    match failure {
        Some(e) => Err(e),
        None => finish(call, end, y),
    }
}
