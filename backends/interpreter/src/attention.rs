//! Attention and the positions it knows of, in f64.

use qcc_params::Tensor;

use crate::evaluate::{Call, Result, indices};

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
    let pairs = frequencies.len();
    for (row, head) in y.chunks_exact_mut(features.max(1)).enumerate() {
        let token = row / heads;
        let position = positions[if positions.len() == time { token % time } else { token }] as f64;
        for (i, frequency) in frequencies.iter().enumerate() {
            let (first, second) = if interleaved { (2 * i, 2 * i + 1) } else { (i, i + pairs) };
            let (sin, cos) = (position * frequency).sin_cos();
            let (a, b) = (head[first], head[second]);
            (head[first], head[second]) = (a * cos - b * sin, b * cos + a * sin);
        }
    }
    call.real(0, y)
}

/// `attention`.
pub(crate) fn attention(call: &Call<'_>, scale: f64, causal: bool, window: i64) -> Result<Tensor> {
    let (q, k, v) = (call.reals(0)?, call.reals(1)?, call.reals(2)?);
    let ([batch, time, heads, features], [_, keys, shared, _]) = (sizes(call, 0)?, sizes(call, 1)?);
    let width = call.at(2)?.dims[3];
    let window = usize::try_from(window).map_err(|e| e.to_string())?;
    let past = keys.checked_sub(time).ok_or_else(|| format!("{time} queries have only {keys} keys"))?;
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
        let largest = weights.iter().fold(f64::NEG_INFINITY, |m: f64, w| m.max(*w));
        weights.iter_mut().for_each(|w| *w = (*w - largest).exp());
        let sum: f64 = weights.iter().sum();
        let mixed = &mut y[row * width..][..width];
        for (key, weight) in (start..end).zip(&weights) {
            let value = &v[at(key) * width..][..width];
            mixed.iter_mut().zip(value).for_each(|(y, v)| *y += weight / sum * v);
        }
    }
    call.real(0, y)
}

/// The four sizes of an operand.
fn sizes(call: &Call<'_>, slot: usize) -> Result<[usize; 4]> {
    call.at(slot)?.dims.as_slice().try_into().map_err(|_| "it must have rank 4".to_string())
}
