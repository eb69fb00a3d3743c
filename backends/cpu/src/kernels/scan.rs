//! Selective scan of Mamba: `h = h · exp(Δ·A) + (Δ·u)·B`, `y = C·h + D·u`, optionally `y · silu(z)`; or h itself after every step.
//!
//! A work item is one batch element × sixteen channels: their states stand in registers, a register for each of the N states,
//! for the whole time loop (`prototypes` of the design: 30 times a scalar loop). The decay is 2^(Δ·A·log₂e) by polynomial.

use super::channels::{Direction, move_block};
use super::emit::{Cache, Emitter, F32, F32X16, Value};
use super::{SLACK, TargetCaps};

/// A selective scan kernel.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ScanSpec {
    /// N, the states of a channel.
    pub states: usize,
    /// Whether `delta` is `softplus(delta + delta_bias)` of the argument; otherwise it is taken as it is.
    pub softplus: bool,
    /// Whether `delta_bias` is added (before the softplus).
    pub delta_bias: bool,
    /// What is written.
    pub result: ScanResult,
}

/// What a scan writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ScanResult {
    /// y.
    Sums {
        /// Whether `D·u` is added.
        skip: bool,
        /// What y is multiplied with.
        gate: Gate,
    },
    /// h after every step; `c`, `d` and `z` are not read.
    States,
}

/// A factor of a scan's result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Gate {
    /// 1.
    None,
    /// `silu(z)`.
    Silu,
    /// `z · sigmoid(gate_scale · z)`, a scale a channel.
    ScaledSilu,
}

/// Argument slots; strides in bytes from one time step to the next, batches follow each other.
/// `u delta z y`: `[batch, time, channels]`; `b c`: `[batch, time, states]`; `a` by
/// [`pack_channel_blocks`](super::pack::pack_channel_blocks) of `[channels, states]` (the negative decay rates themselves);
/// `d delta_bias gate_scale`: `[channels]`; `state`: `[batch][channels][states]`, updated in place. Where states are written,
/// `y` is `[batch, time, channels, states]`, `y_stride` still that of a step.
pub const ARGS: [&str; 20] = [
    "u",
    "u_stride",
    "delta",
    "delta_stride",
    "a",
    "b",
    "b_stride",
    "c",
    "c_stride",
    "d",
    "delta_bias",
    "z",
    "z_stride",
    "gate_scale",
    "state",
    "y",
    "y_stride",
    "batch",
    "time",
    "channels",
];

impl ScanSpec {
    /// Work items.
    pub fn items(&self, batch: u64, channels: u64) -> u64 {
        batch * channels.div_ceil(16)
    }

    /// Bytes of scratch a worker needs.
    pub fn scratch_bytes(&self) -> u64 {
        2 * 64 * self.states as u64 + SLACK
    }
}

/// Time steps that are asked for ahead.
const AHEAD: i64 = 8;

/// Items whose decay, state and first step are asked for ahead.
const ITEMS_AHEAD: i64 = 8;

/// The kernel's MLIR text.
pub fn generate(spec: &ScanSpec, name: &str, caps: &TargetCaps) -> String {
    let mut e = Emitter::new(caps);
    let states = spec.states;
    let (summed, skips, gate) = match spec.result {
        ScanResult::Sums { skip, gate } => (true, skip, gate),
        ScanResult::States => (false, false, Gate::None),
    };
    let y_size = if summed { 4 } else { 4 * states as i64 };
    e.kernel(name, |e, k| {
        let p = |e: &mut Emitter, slot: &str| k.pointer(e, &ARGS, slot);
        let n = |e: &mut Emitter, slot: &str| k.size(e, &ARGS, slot);
        let rows = [
            (p(e, "u"), n(e, "u_stride"), 4),
            (p(e, "delta"), n(e, "delta_stride"), 4),
            (p(e, "z"), n(e, "z_stride"), 4),
            (p(e, "y"), n(e, "y_stride"), y_size),
        ];
        let shared = [(p(e, "b"), n(e, "b_stride")), (p(e, "c"), n(e, "c_stride"))];
        let (a, d, delta_bias, state) = (p(e, "a"), p(e, "d"), p(e, "delta_bias"), p(e, "state"));
        let (gate_scale, time, channels) = (p(e, "gate_scale"), n(e, "time"), n(e, "channels"));
        let blocks = e.ceil_div(channels, 16);
        let decay = k.scratch;
        let lanes = e.offset(k.scratch, 64 * states as i64);
        e.each(k.begin, k.end, |e, item| {
            let (batch, block) = (e.div(item, blocks), e.rem(item, blocks));
            let first = e.times(block, 16);
            let left = e.sub(channels, first);
            let sixteen = e.int(16);
            let count = e.min_int(left, sixteen);
            let a_block = e.element(a, block, 64 * states as i64);
            let log2e = e.floats(std::f32::consts::LOG2_E);
            for j in 0..states as i64 {
                let (from, to) = (e.offset(a_block, 64 * j), e.offset(decay, 64 * j));
                let v = e.load(from, F32X16);
                let v = e.mul(v, log2e);
                e.store(v, to);
            }
            let by_channel = |e: &mut Emitter, p: Value, used: bool| {
                if used {
                    let p = e.element(p, first, 4);
                    e.load(p, F32X16)
                } else {
                    e.floats(0.0)
                }
            };
            let skip = by_channel(e, d, skips);
            let delta_bias = by_channel(e, delta_bias, spec.delta_bias);
            let gate_scale = by_channel(e, gate_scale, gate == Gate::ScaledSilu);
            let channel = e.mul(batch, channels);
            let channel = e.add(channel, first);
            let own = e.element(state, channel, 4 * states as i64);
            // A call of one step uses each once.
            for at in (0..64 * states as i64).step_by(64) {
                for p in [a_block, own] {
                    let p = e.offset(p, ITEMS_AHEAD * 64 * states as i64 + at);
                    e.prefetch(p, Cache::First);
                }
            }
            move_block(e, Direction::Gather, own, lanes, states, count);
            let h: Vec<Value> = (0..states as i64)
                .map(|j| {
                    let p = e.offset(lanes, 64 * j);
                    e.load(p, F32X16)
                })
                .collect();
            let step = e.mul(batch, time);
            let start = |e: &mut Emitter, (p, stride): (Value, Value)| {
                let bytes = e.mul(step, stride);
                (e.at(p, bytes), stride)
            };
            let [u, delta, z, y] = rows.map(|(p, stride, size)| {
                let (p, stride) = start(e, (p, stride));
                (e.element(p, first, size), stride)
            });
            for p in [u.0, delta.0].into_iter().chain((gate != Gate::None).then_some(z.0)) {
                let p = e.offset(p, 64 * ITEMS_AHEAD);
                e.prefetch(p, Cache::First);
            }
            let [b, c] = shared.map(|s| start(e, s));
            let (zero, one) = (e.int(0), e.int(1));
            let h = e.repeat(zero, time, one, &h, |e, t, h| {
                let now = |e: &mut Emitter, (p, stride): (Value, Value)| {
                    let bytes = e.mul(t, stride);
                    e.at(p, bytes)
                };
                // Steps lie pages apart, which no hardware looks ahead across.
                let ahead = |e: &mut Emitter, (p, stride): (Value, Value)| {
                    let later = e.plus(t, AHEAD);
                    let bytes = e.mul(later, stride);
                    let p = e.at(p, bytes);
                    e.prefetch(p, Cache::First);
                };
                ahead(e, u);
                ahead(e, delta);
                if gate != Gate::None {
                    ahead(e, z);
                }
                if summed {
                    ahead(e, y);
                }
                let u_at = now(e, u);
                let u = e.load(u_at, F32X16);
                let delta_at = now(e, delta);
                let mut delta = e.load(delta_at, F32X16);
                if spec.delta_bias {
                    delta = e.add(delta, delta_bias);
                }
                if spec.softplus {
                    delta = e.softplus(delta);
                }
                let (b, c) = (now(e, b), now(e, c));
                let input = e.mul(delta, u);
                let zero = e.floats(0.0);
                let at_state = |e: &mut Emitter, p: Value, at: i64| {
                    let p = e.offset(p, at);
                    let s = e.load(p, F32);
                    e.splat(s, 16)
                };
                // Two sums halve the latency chain.
                let mut sums = [if skips { e.mul(skip, u) } else { zero }, zero];
                let mut next = Vec::with_capacity(states);
                for (j, &h) in h.iter().enumerate() {
                    let at = 4 * j as i64;
                    let p = e.offset(decay, 16 * at);
                    let rate = e.load(p, F32X16);
                    let exponent = e.mul(delta, rate);
                    let keep = e.exp2_clamped(exponent);
                    let b = at_state(e, b, at);
                    let add = e.mul(input, b);
                    let h = e.multiply_add(h, keep, add);
                    if summed {
                        let c = at_state(e, c, at);
                        sums[j % 2] = e.multiply_add(h, c, sums[j % 2]);
                    } else {
                        let p = e.offset(lanes, 16 * at);
                        e.store(h, p);
                    }
                    next.push(h);
                }
                let y = now(e, y);
                if !summed {
                    move_block(e, Direction::Scatter, y, lanes, states, count);
                    return next;
                }
                let mut out = e.add(sums[0], sums[1]);
                if gate != Gate::None {
                    let p = now(e, z);
                    let z = e.load(p, F32X16);
                    let gate = if gate == Gate::Silu { e.silu(z) } else { e.scaled_silu(z, gate_scale) };
                    out = e.mul(out, gate);
                }
                e.store_first(out, y, count);
                next
            });
            for (j, &v) in h.iter().enumerate() {
                let p = e.offset(lanes, 64 * j as i64);
                e.store(v, p);
            }
            move_block(e, Direction::Scatter, own, lanes, states, count);
        });
    });
    e.finish()
}
