//! Mamba.

use super::{linear, norm, silu};
use crate::checkpoint::{Checkpoint, Mamba};

/// Logits of each token, `[tokens, vocabulary]`.
pub fn logits(c: &Checkpoint, m: Mamba, tokens: &[i64]) -> Vec<f64> {
    let table = c.tensor("backbone.embeddings.weight");
    let mut residual: Vec<Vec<f64>> =
        tokens.iter().map(|&t| table[t as usize * m.hidden..][..m.hidden].to_vec()).collect();
    for layer in 0..m.layers {
        let block = format!("backbone.layers.{layer}");
        let mixer = |part: &str| format!("{block}.mixer.{part}");
        let (taps, a_log) = (c.tensor(&mixer("conv1d.weight")), c.tensor(&mixer("A_log")));
        let skip = c.tensor(&mixer("D"));
        let bias = match m.convolution_bias {
            true => c.tensor(&mixer("conv1d.bias")),
            false => vec![0.0; m.inner],
        };
        let mut window = vec![vec![0.0; m.inner]; m.kernel];
        let mut h = vec![0.0; m.inner * m.state];
        for r in &mut residual {
            let xz = linear(c, &mixer("in_proj"), &norm(c, &format!("{block}.norm"), r));
            let (x, z) = xz.split_at(m.inner);
            window.remove(0);
            window.push(x.to_vec());
            let tap = |d: usize, k: usize| taps[d * m.kernel + k] * window[k][d];
            let u: Vec<f64> =
                (0..m.inner).map(|d| silu(bias[d] + (0..m.kernel).map(|k| tap(d, k)).sum::<f64>())).collect();
            let parameters = linear(c, &mixer("x_proj"), &u);
            let (dt, bc) = parameters.split_at(m.rank);
            let (b, c_) = bc.split_at(m.state);
            let delta = linear(c, &mixer("dt_proj"), dt).into_iter().map(|x| x.exp().ln_1p());
            let mut gated = Vec::new();
            for (d, delta) in delta.enumerate() {
                let mut y = skip[d] * u[d];
                for n in 0..m.state {
                    let h = &mut h[d * m.state + n];
                    *h = (-delta * a_log[d * m.state + n].exp()).exp() * *h + delta * u[d] * b[n];
                    y += *h * c_[n];
                }
                gated.push(y * silu(z[d]));
            }
            r.iter_mut().zip(linear(c, &mixer("out_proj"), &gated)).for_each(|(r, y)| *r += y);
        }
    }
    let head = if m.tied { "backbone.embeddings" } else { "lm_head" };
    residual.iter().flat_map(|r| linear(c, head, &norm(c, "backbone.norm_f", r))).collect()
}
