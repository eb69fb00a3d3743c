//! Operations that move elements without changing them (of any element type, codes included), and `cast`.

use half::{bf16, f16};
use qcc_ir::ElementType;
use qcc_ir::ops::PadMode;
use qcc_params::{Data, Tensor};

use crate::evaluate::{Call, Result, indices};
use crate::precision::{Precision, integers, reals};
use crate::quantized::dequantized;
use crate::walk::{around, broadcast_strides, listed, offsets, strides};

/// New elements of the same type: `$body` computes a vector from the vector `$v`.
macro_rules! same_type {
    ($data:expr, $v:ident => $body:expr) => {
        match $data {
            Data::F64($v) => Data::F64($body),
            Data::F32($v) => Data::F32($body),
            Data::F16($v) => Data::F16($body),
            Data::BF16($v) => Data::BF16($body),
            Data::Bool($v) => Data::Bool($body),
            Data::I8($v) => Data::I8($body),
            Data::U8($v) => Data::U8($body),
            Data::U16($v) => Data::U16($body),
            Data::I32($v) => Data::I32($body),
            Data::I64($v) => Data::I64($body),
        }
    };
}
pub(crate) use same_type;

fn strided(call: &Call<'_>, strides: &[isize], start: isize) -> Result<Tensor> {
    let (x, dims) = (call.at(0)?, call.dims(0));
    if call.count(0) == 0 {
        return call.data(0, same_type!(&x.data, v => v[..0].to_vec()));
    }
    let data = same_type!(&x.data, v => {
        let mut y = Vec::with_capacity(call.count(0));
        offsets(dims, strides, start, &mut |i| y.push(v[i]));
        y
    });
    call.data(0, data)
}

/// `transpose`.
pub(crate) fn transpose(call: &Call<'_>, permutation: &[i64]) -> Result<Tensor> {
    let from = strides(&call.at(0)?.dims);
    let axes: Vec<isize> = permutation
        .iter()
        .map(|&p| usize::try_from(p).map(|p| from[p]).map_err(|e| e.to_string()))
        .collect::<Result<_>>()?;
    strided(call, &axes, 0)
}

/// `broadcast`.
pub(crate) fn broadcast(call: &Call<'_>) -> Result<Tensor> {
    strided(call, &broadcast_strides(&call.at(0)?.dims, call.dims(0)), 0)
}

/// `slice`; the type rule has checked that all indices lie inside.
pub(crate) fn slice(call: &Call<'_>, axes: &[i64], starts: &[i64], steps: &[i64]) -> Result<Tensor> {
    let mut strides = strides(&call.at(0)?.dims);
    let mut first = 0isize;
    for ((&axis, &start), &step) in axes.iter().zip(starts).zip(steps) {
        let axis = usize::try_from(axis).map_err(|e| e.to_string())?;
        // An axis with at most one index may have any step.
        let step = if call.dims(0)[axis] > 1 { step } else { 0 };
        let convert = |v: i64| isize::try_from(v).map_err(|e| e.to_string());
        first = convert(start)?
            .checked_mul(strides[axis])
            .and_then(|offset| offset.checked_add(first))
            .ok_or("a slice offset overflows")?;
        strides[axis] = convert(step)?.checked_mul(strides[axis]).ok_or("a slice stride overflows")?;
    }
    strided(call, &strides, first)
}

/// `concat`.
pub(crate) fn concat(call: &Call<'_>, axis: i64) -> Result<Tensor> {
    let axis = usize::try_from(axis).map_err(|e| e.to_string())?;
    let parts = call.all()?;
    let (outer, _, inner) = around(call.dims(0), axis);
    let first = *parts.first().ok_or("no operands")?;
    macro_rules! join {
        ($($variant:ident),*) => {
            match &first.data {
                $(Data::$variant(_) => {
                    let mut pieces = Vec::with_capacity(parts.len());
                    for part in &parts {
                        match &part.data {
                            Data::$variant(v) => pieces.push((v.as_slice(), part.dims[axis] * inner)),
                            _ => return Err("operands are held differently".into()),
                        }
                    }
                    let mut y = Vec::with_capacity(call.count(0));
                    for o in 0..outer {
                        for (values, run) in &pieces {
                            y.extend_from_slice(&values[o * run..(o + 1) * run]);
                        }
                    }
                    Data::$variant(y)
                })*
            }
        };
    }
    let data = join!(F64, F32, F16, BF16, Bool, I8, U8, U16, I32, I64);
    call.data(0, data)
}

/// `gather`.
pub(crate) fn gather(call: &Call<'_>, axis: i64) -> Result<Tensor> {
    let axis = usize::try_from(axis).map_err(|e| e.to_string())?;
    picked(call, call.at(0)?, axis)
}

/// Rows of `x` along `axis` by the indices in operand 1.
fn picked(call: &Call<'_>, x: &Tensor, axis: usize) -> Result<Tensor> {
    let ids = indices(call.at(1)?);
    let (outer, size, inner) = around(&x.dims, axis);
    let rows = ids
        .iter()
        .map(|&id| {
            let bound = i64::try_from(size).ok()?;
            let at = if id < 0 { id.checked_add(bound)? } else { id };
            usize::try_from(at).ok().filter(|i| *i < size)
        })
        .zip(&ids)
        .map(|(row, id)| row.ok_or_else(|| format!("index {id} is outside axis {axis} of size {size}")))
        .collect::<Result<Vec<usize>>>()?;
    let data = same_type!(&x.data, v => {
        let mut y = Vec::with_capacity(call.count(0));
        for o in 0..outer {
            for row in &rows {
                let start = (o * size + row) * inner;
                y.extend_from_slice(&v[start..start + inner]);
            }
        }
        y
    });
    call.data(0, data)
}

/// `embedding`: as `gather` of rows, those of a quantized table dequantized.
pub(crate) fn embedding(call: &Call<'_>) -> Result<Tensor> {
    let table = call.at(0)?;
    match call.optional(2) {
        Some(scale) => picked(call, &dequantized(call.precision, table, &[scale])?, 0),
        None => picked(call, table, 0),
    }
}

/// `argsort`.
pub(crate) fn argsort(call: &Call<'_>) -> Result<Tensor> {
    let x = call.at(0)?;
    let mut order: Vec<i64> = (0..x.dims[0] as i64).collect();
    if x.element.is_float() {
        let keys = call.reals(0)?;
        order.sort_by(|a, b| keys[*a as usize].total_cmp(&keys[*b as usize]));
    } else {
        let keys = indices(x);
        order.sort_by_key(|i| keys[*i as usize]);
    }
    call.integer(0, order)
}

/// `pad`.
pub(crate) fn pad(call: &Call<'_>, pads: &[i64], mode: PadMode, value: f64) -> Result<Tensor> {
    let x = call.at(0)?;
    if let (Some(q), PadMode::Constant) = (x.element.quantized(), mode)
        && (q.zero_point || value != 0.0)
    {
        return Err(format!(
            "cannot pad codes of {} with {value}: only 0 of a symmetric format has a known code",
            x.element
        ));
    }
    let lists = x
        .dims
        .iter()
        .zip(call.dims(0))
        .zip(pads)
        .map(|((&size, &out), &begin)| padded_axis(size, out, begin, mode))
        .collect::<Result<Vec<_>>>()?;
    let from = strides(&x.dims);
    macro_rules! fill {
        ($v:ident, $fill:expr) => {{
            let (mut y, fill) = (Vec::with_capacity(call.count(0)), $fill);
            listed(&lists, &from, Some(0), &mut |i| y.push(i.map_or(fill, |i| $v[i])));
            y
        }};
    }
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "conversion as `cast` defines it"
    )]
    let data = match &x.data {
        Data::F64(v) => Data::F64(fill!(v, value)),
        Data::F32(v) => Data::F32(fill!(v, value as f32)),
        Data::F16(v) => Data::F16(fill!(v, f16::from_f64(value))),
        Data::BF16(v) => Data::BF16(fill!(v, bf16::from_f64(value))),
        Data::Bool(v) => Data::Bool(fill!(v, value != 0.0)),
        Data::I8(v) => Data::I8(fill!(v, value as i8)),
        Data::U8(v) => Data::U8(fill!(v, value as u8)),
        Data::U16(v) => Data::U16(fill!(v, value as u16)),
        Data::I32(v) => Data::I32(fill!(v, value as i32)),
        Data::I64(v) => Data::I64(fill!(v, value as i64)),
    };
    call.data(0, data)
}

/// Source index of each padded index of an axis. Reflection continues back and forth when the padding is longer than the axis.
fn padded_axis(size: usize, out: usize, begin: i64, mode: PadMode) -> Result<Vec<Option<usize>>> {
    if size == 0 && out > 0 && mode != PadMode::Constant {
        return Err(format!(
            "an empty axis has nothing to repeat: `{}` padding needs elements",
            mode.keyword()
        ));
    }
    let size = i64::try_from(size).map_err(|e| e.to_string())?;
    let out = i64::try_from(out).map_err(|e| e.to_string())?;
    Ok((0..out)
        .map(|i| i - begin)
        .map(|i| match mode {
            PadMode::Constant => (0..size).contains(&i).then_some(i),
            PadMode::Edge => Some(i.clamp(0, size - 1)),
            PadMode::Reflect if size == 1 => Some(0),
            PadMode::Reflect => {
                let phase = i.rem_euclid(2 * (size - 1));
                Some(phase.min(2 * (size - 1) - phase))
            }
        })
        .map(|i| i.and_then(|i| usize::try_from(i).ok()))
        .collect())
}

/// `cast`: float to integer truncates and saturates, NaN gives 0; anything not zero is true. In f64 precision casts between floats keep
/// their value.
pub(crate) fn cast(call: &Call<'_>, to: ElementType) -> Result<Tensor> {
    let x = call.at(0)?;
    if to == ElementType::Bool {
        return call.data(0, Data::Bool(reals(x).iter().map(|v| *v != 0.0).collect()));
    }
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "this is the definition of the conversion"
    )]
    match (x.element.is_float(), to.is_float()) {
        // To f32 in one rounding either way; from narrower types without any.
        (true, true) if to == ElementType::F32 && call.precision == Precision::F32 => {
            call.data(0, Data::F32(x.to_f32_vec()))
        }
        (true, true) => call.real(0, call.reals(0)?.into_owned()),
        // An i64 goes to f32 in one rounding, not by way of f64.
        (false, true) if to == ElementType::F32 && call.precision == Precision::F32 => {
            call.data(0, Data::F32(integers(x).into_iter().map(|v| v as f32).collect()))
        }
        (false, true) => call.real(0, integers(x).into_iter().map(|v| v as f64).collect()),
        (false, false) => call.integer(0, integers(x)),
        (true, false) => {
            let values = call.reals(0)?;
            let values = values.iter();
            call.data(
                0,
                match to {
                    ElementType::I8 => Data::I8(values.map(|v| *v as i8).collect()),
                    ElementType::U8 => Data::U8(values.map(|v| *v as u8).collect()),
                    ElementType::I32 => Data::I32(values.map(|v| *v as i32).collect()),
                    _ => Data::I64(values.map(|v| *v as i64).collect()),
                },
            )
        }
    }
}
