//! Causal depthwise convolution along time with carried state, as Mamba's: `y[t] = activation(bias + Σ_j w[j] · x[t − K + 1 + j])`.
//!
//! A work item is one batch element × sixteen channels; the last K − 1 inputs stand in registers.

use super::channels::{Direction, move_block};
use super::emit::{Cache, Emitter, F32X16, Value};
use super::epilogue::Activation;
use super::{SLACK, TargetCaps};

/// A causal convolution kernel.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CausalConv1dSpec {
    /// K, at least 1.
    pub taps: usize,
    /// Whether a bias by channel is added.
    pub bias: bool,
    /// The fused activation.
    pub activation: ChannelActivation,
}

/// A fused activation that may differ by channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChannelActivation {
    /// The same on every channel.
    Uniform(Activation),
    /// `x · sigmoid(silu_scale · x)`, a scale a channel.
    ScaledSilu,
}

/// Argument slots; strides in bytes from one time step to the next, batches follow each other.
/// `weights` by [`pack_channel_blocks`](super::pack::pack_channel_blocks); `state` is `[batch][channels][K − 1]`, the inputs
/// before this call (zeros at the start), oldest first, updated in place; `bias silu_scale` `[channels]`.
pub const ARGS: [&str; 11] =
    ["x", "x_stride", "weights", "bias", "silu_scale", "state", "y", "y_stride", "batch", "time", "channels"];

impl CausalConv1dSpec {
    /// Work items.
    pub fn items(&self, batch: u64, channels: u64) -> u64 {
        batch * channels.div_ceil(16)
    }

    /// Bytes of scratch a worker needs.
    pub fn scratch_bytes(&self) -> u64 {
        64 * self.taps as u64 + SLACK
    }
}

/// Items whose taps, state and first step are asked for ahead: a call of one step uses each once.
const ITEMS_AHEAD: i64 = 8;

/// Time steps that are asked for ahead.
const AHEAD: i64 = 16;

/// The kernel's MLIR text.
pub fn generate(spec: &CausalConv1dSpec, name: &str, caps: &TargetCaps) -> String {
    let mut e = Emitter::new(caps);
    e.kernel(name, |e, k| {
        let p = |e: &mut Emitter, slot: &str| k.pointer(e, &ARGS, slot);
        let n = |e: &mut Emitter, slot: &str| k.size(e, &ARGS, slot);
        let (x, weights, bias, state, y) =
            (p(e, "x"), p(e, "weights"), p(e, "bias"), p(e, "state"), p(e, "y"));
        let silu_scale = p(e, "silu_scale");
        let (x_stride, y_stride) = (n(e, "x_stride"), n(e, "y_stride"));
        let (time, channels) = (n(e, "time"), n(e, "channels"));
        let blocks = e.ceil_div(channels, 16);
        let (taps, past) = (spec.taps as i64, spec.taps as i64 - 1);
        e.each(k.begin, k.end, |e, item| {
            let (batch, block) = (e.div(item, blocks), e.rem(item, blocks));
            let first = e.times(block, 16);
            let left = e.sub(channels, first);
            let sixteen = e.int(16);
            let count = e.min_int(left, sixteen);
            let taps_at = e.element(weights, block, 64 * taps);
            let w: Vec<Value> = (0..taps)
                .map(|j| {
                    let p = e.offset(taps_at, 64 * j);
                    e.load(p, F32X16)
                })
                .collect();
            let by_channel = |e: &mut Emitter, p: Value, used: bool| {
                if used {
                    let p = e.element(p, first, 4);
                    e.load(p, F32X16)
                } else {
                    e.floats(0.0)
                }
            };
            let b = by_channel(e, bias, spec.bias);
            let silu_scale = by_channel(e, silu_scale, spec.activation == ChannelActivation::ScaledSilu);
            let channel = e.mul(batch, channels);
            let channel = e.add(channel, first);
            let own = e.element(state, channel, 4 * past);
            for (p, vectors) in [(taps_at, taps), (own, past)] {
                for at in (0..vectors).map(|i| 64 * (ITEMS_AHEAD * vectors + i)) {
                    let p = e.offset(p, at);
                    e.prefetch(p, Cache::First);
                }
            }
            move_block(e, Direction::Gather, own, k.scratch, past as usize, count);
            let window: Vec<Value> = (0..past)
                .map(|j| {
                    let p = e.offset(k.scratch, 64 * j);
                    e.load(p, F32X16)
                })
                .collect();
            let step = e.mul(batch, time);
            let [x_at, y_at] = [(x, x_stride), (y, y_stride)].map(|(p, stride)| {
                let bytes = e.mul(step, stride);
                let p = e.at(p, bytes);
                e.element(p, first, 4)
            });
            let p = e.offset(x_at, 64 * ITEMS_AHEAD);
            e.prefetch(p, Cache::First);
            let (zero, one) = (e.int(0), e.int(1));
            let window = e.repeat(zero, time, one, &window, |e, t, window| {
                // Steps lie pages apart, which no hardware looks ahead across.
                let later = e.plus(t, AHEAD);
                for (at, stride) in [(x_at, x_stride), (y_at, y_stride)] {
                    let bytes = e.mul(later, stride);
                    let p = e.at(at, bytes);
                    e.prefetch(p, Cache::First);
                }
                let bytes = e.mul(t, x_stride);
                let p = e.at(x_at, bytes);
                let mut seen = window.to_vec();
                seen.push(e.load(p, F32X16));
                let mut sum = b;
                for (&x, &w) in seen.iter().zip(&w) {
                    sum = e.multiply_add(x, w, sum);
                }
                let result = match spec.activation {
                    ChannelActivation::Uniform(activation) => activation.apply(e, sum),
                    ChannelActivation::ScaledSilu => e.scaled_silu(sum, silu_scale),
                };
                let bytes = e.mul(t, y_stride);
                let p = e.at(y_at, bytes);
                e.store_first(result, p, count);
                seen.remove(0);
                seen
            });
            for (j, &v) in window.iter().enumerate() {
                let p = e.offset(k.scratch, 64 * j as i64);
                e.store(v, p);
            }
            move_block(e, Direction::Scatter, own, k.scratch, past as usize, count);
        });
    });
    e.finish()
}
