//! Mamba's recurrences. State comes in and goes out explicitly; inside one evaluation it is kept in f64.

use qcc_params::Tensor;

use crate::evaluate::{Call, Result};

/// `causal_conv`: the window slides over the state's K − 1 inputs followed by the new ones.
pub(crate) fn causal_conv(call: &Call<'_>) -> Result<Vec<Tensor>> {
    let (x, weight, state) = (call.reals(0)?, call.reals(1)?, call.reals(2)?);
    let bias = call.optional_reals(3);
    let [batch, time, channels] = call.dims(0) else { return Err("`x` must have rank 3".into()) };
    let (batch, time, channels) = (*batch, *time, *channels);
    let kernel = call.at(1)?.dims[1];
    let history = kernel - 1;
    let mut y = vec![0.0; x.len()];
    let mut new_state = vec![0.0; state.len()];
    let mut line = vec![0.0; history + time];
    for (b, d) in (0..batch).flat_map(|b| (0..channels).map(move |d| (b, d))) {
        let row = b * channels + d;
        line[..history].copy_from_slice(&state[row * history..(row + 1) * history]);
        for (t, value) in line[history..].iter_mut().enumerate() {
            *value = x[(b * time + t) * channels + d];
        }
        let taps = &weight[d * kernel..(d + 1) * kernel];
        for (t, window) in line.windows(kernel).enumerate() {
            let sum: f64 = window.iter().zip(taps).map(|(v, w)| v * w).sum();
            y[(b * time + t) * channels + d] = sum + bias.as_ref().map_or(0.0, |bias| bias[d]);
        }
        new_state[row * history..(row + 1) * history].copy_from_slice(&line[time..]);
    }
    Ok(vec![call.real(0, y)?, call.real(1, new_state)?])
}

/// `selective_scan`.
pub(crate) fn selective_scan(call: &Call<'_>) -> Result<Vec<Tensor>> {
    let (u, c, skip) = (call.reals(0)?, call.reals(4)?, call.reals(5)?);
    let (channels, n) = (skip.len(), call.at(2)?.dims[1]);
    let mut y = vec![0.0; u.len()];
    let state = recurrence(call, 6, |at, h| {
        let c = &c[at / channels * n..][..n];
        let sum: f64 = h.iter().zip(c).map(|(h, c)| h * c).sum();
        y[at] = sum + skip[at % channels] * u[at];
    })?;
    Ok(vec![call.real(0, y)?, call.real(1, state)?])
}

/// `selective_scan_states`.
pub(crate) fn selective_scan_states(call: &Call<'_>) -> Result<Vec<Tensor>> {
    let n = call.at(2)?.dims[1];
    let mut states = vec![0.0; call.count(0)];
    let state = recurrence(call, 4, |at, h| states[at * n..][..n].copy_from_slice(h))?;
    Ok(vec![call.real(0, states)?, call.real(1, state)?])
}

/// `h ← exp(delta · a) ⊙ h + (delta · u) · b` from the state in operand `state` on; `step` gets the index in `u` and h of its channel.
/// The state after the last step.
fn recurrence(call: &Call<'_>, state: usize, mut step: impl FnMut(usize, &[f64])) -> Result<Vec<f64>> {
    let (u, delta, a, b) = (call.reals(0)?, call.reals(1)?, call.reals(2)?, call.reals(3)?);
    let mut state = call.reals(state)?.into_owned();
    let [batch, time, channels] = call.at(0)?.dims[..] else { return Err("`u` must have rank 3".into()) };
    let n = call.at(2)?.dims[1];
    for (image, t) in (0..batch).flat_map(|i| (0..time).map(move |t| (i, t))) {
        let b = &b[(image * time + t) * n..][..n];
        for d in 0..channels {
            let at = (image * time + t) * channels + d;
            let h = &mut state[(image * channels + d) * n..][..n];
            let input = delta[at] * u[at];
            for ((h, a), b) in h.iter_mut().zip(&a[d * n..]).zip(b) {
                *h = (delta[at] * a).exp() * *h + input * b;
            }
            step(at, h);
        }
    }
    Ok(state)
}
