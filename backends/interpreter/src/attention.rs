//! Attention and the positions it knows of, in f64.

use qcc_ir::format::{CacheFormat, FloatElement};
use qcc_ir::ops::{Rounding, Special};
use qcc_ir::{Granularity, QuantType};
use qcc_params::Tensor;

use crate::evaluate::{Call, Result, indices};
use crate::formats::{Code, Rules, tensor::rounded};
use crate::precision::Precision;
use crate::walk::expand;

/// `positions`: they begin where `past` ends.
pub(crate) fn positions(call: &Call<'_>, axis: i64) -> Result<Tensor> {
    let axis = usize::try_from(axis).map_err(|e| e.to_string())?;
    let first = i64::try_from(call.at(1)?.dims[axis]).map_err(|e| e.to_string())?;
    let count = i64::try_from(call.count(0)).map_err(|e| e.to_string())?;
    let end = first.checked_add(count).ok_or("a position overflows")?;
    call.integer(0, (first..end).collect())
}

/// `rotary_embedding`.
#[allow(clippy::cast_precision_loss, reason = "positions are far below 2^53")]
pub(crate) fn rotary_embedding(call: &Call<'_>, interleaved: bool) -> Result<Tensor> {
    let mut y = call.reals(0)?.into_owned();
    let (positions, frequencies) = (indices(call.at(1)?), call.reals(2)?);
    let [_, time, heads, features] = sizes(call, 0)?;
    let frequency_dims = &call.at(2)?.dims;
    let pairs = frequency_dims.last().copied().unwrap_or(0);
    let vectors = if frequency_dims.len() == 2 { frequency_dims[0] } else { 1 };
    for (row, head) in y.chunks_exact_mut(features.max(1)).enumerate() {
        let token = row / heads;
        let position = positions[if positions.len() == time { token % time } else { token }] as f64;
        let own = row % heads / (heads / vectors.max(1)).max(1);
        for (i, frequency) in frequencies[own * pairs..][..pairs].iter().enumerate() {
            let (first, second) = if interleaved { (2 * i, 2 * i + 1) } else { (i, i + pairs) };
            let (sin, cos) = (position * frequency).sin_cos();
            let (a, b) = (head[first], head[second]);
            (head[first], head[second]) = (a * cos - b * sin, b * cos + a * sin);
        }
    }
    call.real(0, y)
}

/// What keys and values are held in.
pub(crate) struct Formats {
    pub keys: CacheFormat,
    pub values: CacheFormat,
}

/// `attention`.
pub(crate) fn attention(
    call: &Call<'_>,
    scale: f64,
    causal: bool,
    window: i64,
    formats: Formats,
) -> Result<Tensor> {
    let q = call.reals(0)?;
    let ([batch, time, heads, features], [_, keys, shared, _]) = (sizes(call, 0)?, sizes(call, 1)?);
    let width = call.at(2)?.dims[3];
    let k = held(call, &call.reals(1)?, &call.at(1)?.dims, formats.keys)?;
    let v = Values::new(call, &call.reals(2)?, formats.values)?;
    let bias = match call.optional(3) {
        Some(bias) => Some(expand(&call.reals(3)?, &bias.dims, &[batch, heads, time, keys]).into_owned()),
        None => None,
    };
    let window = usize::try_from(window).map_err(|e| e.to_string())?;
    let past = match keys.checked_sub(time) {
        Some(past) => past,
        // Where queries are among keys does not matter to them.
        None if !causal && window == 0 && formats.values.block().is_none() => 0,
        None => return Err(format!("{time} queries have only {keys} keys")),
    };
    let mut y = vec![0.0; call.count(0)];
    let mut weights = Vec::with_capacity(keys);
    for (b, t, h) in (0..batch).flat_map(|b| (0..time).flat_map(move |t| (0..heads).map(move |h| (b, t, h))))
    {
        let row = (b * time + t) * heads + h;
        let query = &q[row * features..][..features];
        let at = |key: usize| (b * keys + key) * shared + h / (heads / shared);
        let end = if causal { past + t + 1 } else { keys };
        let start = if window == 0 { 0 } else { (past + t + 1).saturating_sub(window) };
        weights.clear();
        weights.extend((start..end).map(|key| {
            let key = &k[at(key) * features..][..features];
            scale * query.iter().zip(key).map(|(q, k)| q * k).sum::<f64>()
        }));
        if let Some(bias) = &bias {
            let bias = &bias[((b * heads + h) * time + t) * keys..][start..end];
            weights.iter_mut().zip(bias).for_each(|(w, b)| *w += b);
        }
        let largest = weights.iter().fold(f64::NEG_INFINITY, |m: f64, w| m.max(*w));
        if weights.iter().all(|w| *w == f64::NEG_INFINITY) {
            continue;
        }
        weights.iter_mut().for_each(|w| *w = (*w - largest).exp());
        let sum: f64 = weights.iter().sum();
        let mixed = &mut y[row * width..][..width];
        // Blocks that this query or an earlier one completes.
        let complete = v.complete(past + t + 1);
        for (key, weight) in (start..end).zip(&weights) {
            let value = if key < complete { &v.coded } else { &v.plain };
            let value = &value[at(key) * width..][..width];
            mixed.iter_mut().zip(value).for_each(|(y, v)| *y += weight / sum * v);
        }
    }
    call.real(0, y)
}

/// Values as queries read them: codes of complete blocks of tokens, and what is not complete.
struct Values {
    block: Option<usize>,
    coded: Vec<f64>,
    plain: Vec<f64>,
}

impl Values {
    fn new(call: &Call<'_>, values: &[f64], format: CacheFormat) -> Result<Values> {
        let dims = &call.at(2)?.dims;
        let Some((block, q)) = format.block().zip(format.rows()) else {
            let plain = held(call, values, dims, format)?;
            return Ok(Values { block: None, coded: Vec::new(), plain });
        };
        let [batch, keys, shared, width] = sizes(call, 2)?;
        let block = block as usize;
        let plain = halves(values);
        let mut coded = plain.clone();
        let at = |b: usize, key: usize, h: usize, e: usize| ((b * keys + key) * shared + h) * width + e;
        let row = QuantType { granularity: Granularity::Token, ..q };
        for (b, first) in (0..batch).flat_map(|b| (0..keys / block).map(move |i| (b, i * block))) {
            for (h, e) in (0..shared).flat_map(|h| (0..width).map(move |e| (h, e))) {
                let values: Vec<f64> = (first..first + block).map(|key| plain[at(b, key, h, e)]).collect();
                let values = through(call, &values, &[1, block], row, format.narrow())?;
                values.into_iter().enumerate().for_each(|(i, x)| coded[at(b, first + i, h, e)] = x);
            }
        }
        Ok(Values { block: Some(block), coded, plain })
    }

    /// How many of the first tokens are read as codes once there are so many.
    fn complete(&self, tokens: usize) -> usize {
        self.block.map_or(0, |block| tokens / block * block)
    }
}

/// Values of tokens through a format whose scales lie within tokens.
fn held(call: &Call<'_>, values: &[f64], dims: &[usize], format: CacheFormat) -> Result<Vec<f64>> {
    match (format.rows(), format.float()) {
        (Some(q), _) if format.is_by_channel() => {
            let code = Code::new(q, format.narrow(), Special::Saturate, None).map_err(|e| e.to_string())?;
            let level = |x: &f64| code.decode(code.encode(*x, 0, Rounding::HalfEven), 0);
            Ok(values.iter().map(level).collect())
        }
        (Some(q), _) => through(call, values, dims, q, format.narrow()),
        (None, Some(FloatElement::F16)) => Ok(halves(values)),
        (None, Some(FloatElement::BF16)) => {
            let most = half::bf16::MAX.to_f64();
            Ok(values.iter().map(|x| half::bf16::from_f64(x.clamp(-most, most)).to_f64()).collect())
        }
        _ => Ok(values.to_vec()),
    }
}

/// f16, saturating.
fn halves(values: &[f64]) -> Vec<f64> {
    let most = half::f16::MAX.to_f64();
    values.iter().map(|x| half::f16::from_f64(x.clamp(-most, most)).to_f64()).collect()
}

/// To codes and back, in the numbers of the precision.
fn through(call: &Call<'_>, values: &[f64], dims: &[usize], q: QuantType, narrow: bool) -> Result<Vec<f64>> {
    let rules = Rules::nearest(narrow);
    if call.precision == Precision::F64 {
        return rounded(values, dims, q, rules).map_err(|e| e.to_string());
    }
    #[allow(clippy::cast_possible_truncation, reason = "they are f32 numbers")]
    let values: Vec<f32> = values.iter().map(|x| *x as f32).collect();
    let values = rounded(&values, dims, q, rules).map_err(|e| e.to_string())?;
    Ok(values.into_iter().map(f64::from).collect())
}

/// The four sizes of an operand.
fn sizes(call: &Call<'_>, slot: usize) -> Result<[usize; 4]> {
    call.at(slot)?.dims.as_slice().try_into().map_err(|_| "it must have rank 4".to_string())
}
