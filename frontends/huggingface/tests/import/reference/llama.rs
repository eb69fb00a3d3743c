//! Llama.

use super::{linear, norm, silu};
use crate::checkpoint::{Checkpoint, Llama};

/// Logits of each token, `[tokens, vocabulary]`, where pair i of a head is turned by `frequencies[i]` a position.
pub fn logits(c: &Checkpoint, m: Llama, frequencies: &[f64], tokens: &[i64]) -> Vec<f64> {
    let table = c.tensor("model.embed_tokens.weight");
    let mut residual: Vec<Vec<f64>> =
        tokens.iter().map(|&t| table[t as usize * m.hidden..][..m.hidden].to_vec()).collect();
    for layer in 0..m.layers {
        let block = format!("model.layers.{layer}");
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        for (position, r) in residual.iter_mut().enumerate() {
            let part = |part: &str, x: &[f64]| linear(c, &format!("{block}.{part}"), x);
            let x = norm(c, &format!("{block}.input_layernorm"), r);
            let turned = |part_of: &str, mut y: Vec<f64>| {
                if m.norms {
                    let module = format!("{block}.self_attn.{part_of}_norm");
                    y = y.chunks(m.features).flat_map(|head| norm(c, &module, head)).collect();
                }
                y.chunks_mut(m.features).for_each(|head| turn(head, position as f64, frequencies));
                y
            };
            let q = turned("q", part("self_attn.q_proj", &x));
            keys.push(turned("k", part("self_attn.k_proj", &x)));
            values.push(part("self_attn.v_proj", &x));
            let seen = match m.window {
                Some((window, first)) if layer >= first => (position + 1).saturating_sub(window),
                _ => 0,
            };
            let mut mixed = Vec::new();
            for (h, q) in q.chunks(m.features).enumerate() {
                let shared = h / (m.heads / m.shared) * m.features..;
                let scores = keys[seen..].iter().map(|k: &Vec<f64>| {
                    let k = &k[shared.clone()];
                    (q.iter().zip(k).map(|(q, k)| q * k).sum::<f64>() / (m.features as f64).sqrt()).exp()
                });
                let scores: Vec<f64> = scores.collect();
                let sum: f64 = scores.iter().sum();
                for i in 0..m.features {
                    let values = values[seen..].iter().map(|v: &Vec<f64>| v[shared.start + i]);
                    mixed.push(scores.iter().zip(values).map(|(s, v)| s / sum * v).sum());
                }
            }
            r.iter_mut().zip(part("self_attn.o_proj", &mixed)).for_each(|(r, y)| *r += y);
            let x = norm(c, &format!("{block}.post_attention_layernorm"), r);
            let (gate, up) = (part("mlp.gate_proj", &x), part("mlp.up_proj", &x));
            let x: Vec<f64> = gate.iter().zip(up).map(|(g, u)| silu(*g) * u).collect();
            r.iter_mut().zip(part("mlp.down_proj", &x)).for_each(|(r, y)| *r += y);
        }
    }
    let head = if m.tied { "model.embed_tokens" } else { "lm_head" };
    residual.iter().flat_map(|r| linear(c, head, &norm(c, "model.norm", r))).collect()
}

/// A head's features as complex numbers, those of the first half with those of the second, each turned.
fn turn(head: &mut [f64], position: f64, frequencies: &[f64]) {
    let (real, imaginary) = head.split_at_mut(frequencies.len());
    for ((re, im), f) in real.iter_mut().zip(imaginary).zip(frequencies) {
        let (sin, cos) = (position * f).sin_cos();
        (*re, *im) = (*re * cos - *im * sin, *re * sin + *im * cos);
    }
}
