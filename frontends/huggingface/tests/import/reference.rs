//! Mamba written down plainly in f64, one sequence at a time, from the checkpoint's own tensors: what an import must compute.

use crate::checkpoint::{Checkpoint, Mamba};

/// `[out, inner] · [inner]`, and a bias where the checkpoint has one.
fn linear(c: &Checkpoint, module: &str, x: &[f64]) -> Vec<f64> {
    let weight = tensor(c, &format!("{module}.weight"));
    let mut y: Vec<f64> =
        weight.chunks(x.len()).map(|row| row.iter().zip(x).map(|(w, x)| w * x).sum()).collect();
    if c.tensors.contains_key(&format!("{module}.bias")) {
        y.iter_mut().zip(tensor(c, &format!("{module}.bias"))).for_each(|(y, b)| *y += b);
    }
    y
}

fn tensor(c: &Checkpoint, name: &str) -> Vec<f64> {
    c.tensors[name].1.iter().map(|x| f64::from(*x)).collect()
}

fn norm(c: &Checkpoint, module: &str, x: &[f64]) -> Vec<f64> {
    let mean = x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64;
    let weight = tensor(c, &format!("{module}.weight"));
    x.iter().zip(weight).map(|(x, w)| x / (mean + 1e-5).sqrt() * w).collect()
}

fn silu(x: f64) -> f64 {
    x / (1.0 + (-x).exp())
}

/// Logits of each token, `[tokens, vocabulary]`.
pub fn logits(c: &Checkpoint, m: Mamba, tokens: &[i64]) -> Vec<f64> {
    let table = tensor(c, "backbone.embeddings.weight");
    let mut residual: Vec<Vec<f64>> =
        tokens.iter().map(|&t| table[t as usize * m.hidden..][..m.hidden].to_vec()).collect();
    for layer in 0..m.layers {
        let block = format!("backbone.layers.{layer}");
        let mixer = |part: &str| format!("{block}.mixer.{part}");
        let (taps, a_log) = (tensor(c, &mixer("conv1d.weight")), tensor(c, &mixer("A_log")));
        let skip = tensor(c, &mixer("D"));
        let bias = match m.convolution_bias {
            true => tensor(c, &mixer("conv1d.bias")),
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
