//! Reductions over axes. Sums run in row-major order of the input; integers wrap around, their mean truncates.

use qcc_ir::ElementType;
use qcc_params::Tensor;

use crate::elementwise::larger;
use crate::evaluate::{Call, Result};
use crate::precision::integers;
use crate::walk::{offsets, strides};

/// Folds every element of `x` into the result element it belongs to.
fn fold<T: Copy>(
    call: &Call<'_>,
    axes: &[i64],
    values: &[T],
    start: T,
    f: impl Fn(T, T) -> T,
) -> Result<Vec<T>> {
    let dims = &call.at(0)?.dims;
    let mut kept: Vec<usize> = dims.clone();
    for &axis in axes {
        kept[usize::try_from(axis).map_err(|e| e.to_string())?] = 1;
    }
    let to: Vec<isize> = strides(&kept)
        .into_iter()
        .zip(kept.iter().zip(dims))
        .map(|(stride, (kept, size))| if kept == size { stride } else { 0 })
        .collect();
    let mut y = vec![start; call.count(0)];
    let mut next = values.iter();
    if !values.is_empty() {
        offsets(dims, &to, 0, &mut |i| {
            if let Some(value) = next.next() {
                y[i] = f(y[i], *value);
            }
        });
    }
    Ok(y)
}

/// How many elements one result element is folded from.
fn folded(call: &Call<'_>, axes: &[i64]) -> Result<usize> {
    let dims = &call.at(0)?.dims;
    axes.iter().map(|&a| usize::try_from(a).map(|a| dims[a]).map_err(|e| e.to_string())).product()
}

fn refuse_bool(call: &Call<'_>, what: &str) -> Result<()> {
    if call.element(0) == ElementType::Bool {
        return Err(format!("the {what} of booleans is not defined; cast them first"));
    }
    Ok(())
}

/// `reduce_sum`.
pub(crate) fn sum(call: &Call<'_>, axes: &[i64]) -> Result<Tensor> {
    if call.element(0).is_float() {
        return call.real(0, fold(call, axes, &call.reals(0)?, 0.0, |a, b| a + b)?);
    }
    refuse_bool(call, "sum")?;
    call.integer(0, fold(call, axes, &integers(call.at(0)?), 0, i64::wrapping_add)?)
}

/// `reduce_mean`; NaN (for integers an error) over nothing.
pub(crate) fn mean(call: &Call<'_>, axes: &[i64]) -> Result<Tensor> {
    let n = folded(call, axes)?;
    if call.element(0).is_float() {
        let sums = fold(call, axes, &call.reals(0)?, 0.0, |a, b| a + b)?;
        #[allow(clippy::cast_precision_loss, reason = "counts are below 2^53")]
        return call.real(0, sums.into_iter().map(|s| s / n as f64).collect());
    }
    refuse_bool(call, "mean")?;
    let n = i64::try_from(n).ok().filter(|n| *n > 0).ok_or("the integer mean of nothing is not defined")?;
    let sums = fold(call, axes, &integers(call.at(0)?), 0, i64::wrapping_add)?;
    call.integer(0, sums.into_iter().map(|s| s / n).collect())
}

/// `reduce_max`; −∞ (for integers an error) over nothing.
pub(crate) fn max(call: &Call<'_>, axes: &[i64]) -> Result<Tensor> {
    if call.element(0).is_float() {
        return call.real(0, fold(call, axes, &call.reals(0)?, f64::NEG_INFINITY, larger)?);
    }
    if folded(call, axes)? == 0 && call.count(0) > 0 {
        return Err("the integer maximum of nothing is not defined".into());
    }
    call.integer(0, fold(call, axes, &integers(call.at(0)?), i64::MIN, i64::max)?)
}
