//! Softmax and normalisations, computed on rows in f64.

use qcc_params::Tensor;

use crate::elementwise::larger;
use crate::evaluate::{Call, Result};
use crate::walk::around;

/// `softmax` or its logarithm, shifted by the maximum so that nothing overflows.
pub(crate) fn softmax(call: &Call<'_>, axis: i64, logarithm: bool) -> Result<Tensor> {
    let x = call.reals(0)?;
    let (outer, size, inner) = around(call.dims(0), usize::try_from(axis).map_err(|e| e.to_string())?);
    if x.is_empty() {
        return call.real(0, Vec::new());
    }
    let mut y = vec![0.0; x.len()];
    let mut row = vec![0.0; size];
    for (o, i) in (0..outer).flat_map(|o| (0..inner).map(move |i| (o, i))) {
        let start = o * size * inner + i;
        row.iter_mut().zip(x[start..].iter().step_by(inner)).for_each(|(r, x)| *r = *x);
        let top = row.iter().copied().fold(f64::NEG_INFINITY, larger);
        let sum: f64 = row.iter().map(|v| (v - top).exp()).sum();
        let log_sum = sum.ln();
        for (y, v) in y[start..].iter_mut().step_by(inner).zip(&row) {
            *y = if logarithm { v - top - log_sum } else { (v - top).exp() / sum };
        }
    }
    call.real(0, y)
}

/// `rms_norm`.
#[allow(clippy::cast_precision_loss, reason = "row lengths are below 2^53")]
pub(crate) fn rms_norm(call: &Call<'_>, epsilon: f64) -> Result<Tensor> {
    let (x, weight) = (call.reals(0)?, call.reals(1)?);
    let n = weight.len();
    let mut y = Vec::with_capacity(x.len());
    for row in x.chunks_exact(n.max(1)) {
        let mean = row.iter().map(|v| v * v).sum::<f64>() / n as f64;
        let factor = 1.0 / (mean + epsilon).sqrt();
        y.extend(row.iter().zip(weight.iter()).map(|(v, w)| v * factor * w));
    }
    call.real(0, y)
}

/// `layer_norm` over the axes from `axis` on.
#[allow(clippy::cast_precision_loss, reason = "row lengths are below 2^53")]
pub(crate) fn layer_norm(call: &Call<'_>, axis: i64, epsilon: f64) -> Result<Tensor> {
    let x = call.reals(0)?;
    let (weight, bias) = (call.optional_reals(1), call.optional_reals(2));
    let axis = usize::try_from(axis).map_err(|e| e.to_string())?;
    let n: usize = call.dims(0)[axis..].iter().product();
    let mut y = Vec::with_capacity(x.len());
    for row in x.chunks_exact(n.max(1)) {
        let mean = row.iter().sum::<f64>() / n as f64;
        let variance = row.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / n as f64;
        let factor = 1.0 / (variance + epsilon).sqrt();
        y.extend(row.iter().enumerate().map(|(i, v)| {
            let scaled = (v - mean) * factor * weight.as_ref().map_or(1.0, |w| w[i]);
            scaled + bias.as_ref().map_or(0.0, |b| b[i])
        }));
    }
    call.real(0, y)
}

/// `batch_norm` per channel (axis 1).
pub(crate) fn batch_norm(call: &Call<'_>, epsilon: f64) -> Result<Tensor> {
    let x = call.reals(0)?;
    let (scale, bias, mean, variance) = (call.reals(1)?, call.reals(2)?, call.reals(3)?, call.reals(4)?);
    let (_, channels, inner) = around(call.dims(0), 1);
    let mut y = Vec::with_capacity(x.len());
    for (i, plane) in x.chunks_exact(inner.max(1)).enumerate() {
        let c = i % channels;
        let factor = scale[c] / (variance[c] + epsilon).sqrt();
        y.extend(plane.iter().map(|v| (v - mean[c]) * factor + bias[c]));
    }
    call.real(0, y)
}
