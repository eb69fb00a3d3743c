//! Causal convolution and selective scan with carried state: one call, and the same steps in two calls.

use qcc_cpu::kernels::causal_conv1d::{self, CausalConv1dSpec, ChannelActivation};
use qcc_cpu::kernels::epilogue::Activation;
use qcc_cpu::kernels::pack;
use qcc_cpu::kernels::scan::{self, Gate, ScanResult, ScanSpec};

use crate::harness::*;

fn silu(x: f64) -> f64 {
    scaled_silu(x, 1.0)
}

fn scaled_silu(x: f64, scale: f64) -> f64 {
    x / (1.0 + (-scale * x).exp())
}

/// Runs `time` steps as one call and as two, with `width` results a channel, and returns both results and the final states.
fn in_one_and_two(
    r: &mut Random,
    (batch, time, channels): (usize, usize, usize),
    width: usize,
    state: &[f32],
    mut call: impl FnMut(usize, usize, &Buffer, &Buffer),
) -> [(Vec<f32>, Vec<f32>); 2] {
    let split = if batch == 1 { r.int(0, time as i64) as usize } else { time };
    [time, split].map(|first| {
        let y = Buffer::zeros(4 * batch * time * channels * width);
        let s = Buffer::f32(state);
        call(0, first, &y, &s);
        if first < time {
            call(first, time, &y, &s);
        }
        (y.to_f32(), s.to_f32())
    })
}

#[test]
fn causal_convolution() {
    for level in levels() {
        let specs: Vec<CausalConv1dSpec> = (1..=5)
            .map(|taps| CausalConv1dSpec {
                taps,
                bias: taps != 2,
                activation: match taps {
                    3 => ChannelActivation::ScaledSilu,
                    4 => ChannelActivation::Uniform(Activation::Silu),
                    _ => ChannelActivation::Uniform(Activation::None),
                },
            })
            .collect();
        let text: String = specs
            .iter()
            .map(|s| causal_conv1d::generate(s, &format!("conv{}", s.taps), &level.caps))
            .collect();
        let library = Library::new(&text, &level);
        let mut r = Random::new(23);
        for round in 0..50 {
            let spec = &specs[round % 5];
            let (batch, time, n, past) = (r.size(2), r.size(20), r.size(70), spec.taps - 1);
            let stride = n + r.int(0, 5) as usize;
            let (x, w, bias) = (r.reals(batch * time * stride), r.reals(n * spec.taps), r.reals(n));
            let scale = r.reals(n);
            let state = r.reals(batch * n * past);
            let (xb, bb, scale_b) = (Buffer::f32(&x), Buffer::f32(&bias), Buffer::f32(&scale));
            let wb = Buffer::f32(&pack::pack_channel_blocks(&w, n, spec.taps).expect("packs"));
            let results = in_one_and_two(&mut r, (batch, time, n), 1, &state, |from, to, y, s| {
                let args = [
                    xb.address() + (4 * from * stride) as u64,
                    4 * stride as u64,
                    wb.address(),
                    bb.address(),
                    scale_b.address(),
                    s.address(),
                    y.address() + (4 * from * n) as u64,
                    4 * n as u64,
                    batch as u64,
                    (to - from) as u64,
                    n as u64,
                ];
                let items = spec.items(batch as u64, n as u64);
                library.run(&format!("conv{}", spec.taps), &args, items, spec.scratch_bytes(), 2);
            });
            let (mut wanted, mut magnitude) = (vec![0f64; batch * time * n], vec![0f64; batch * time * n]);
            let mut last = state.clone();
            for b in 0..batch {
                for c in 0..n {
                    let own = (b * n + c) * past;
                    let mut seen: Vec<f32> = state[own..own + past].to_vec();
                    seen.extend((0..time).map(|t| x[(b * time + t) * stride + c]));
                    for t in 0..time {
                        let at = (b * time + t) * n + c;
                        let first = if spec.bias { f64::from(bias[c]) } else { 0.0 };
                        (wanted[at], magnitude[at]) = (first, first.abs());
                        for j in 0..spec.taps {
                            let p = f64::from(seen[t + j]) * f64::from(w[c * spec.taps + j]);
                            wanted[at] += p;
                            magnitude[at] += p.abs();
                        }
                        wanted[at] = match spec.activation {
                            ChannelActivation::ScaledSilu => scaled_silu(wanted[at], f64::from(scale[c])),
                            ChannelActivation::Uniform(Activation::Silu) => silu(wanted[at]),
                            ChannelActivation::Uniform(_) => wanted[at],
                        };
                    }
                    last[own..own + past].copy_from_slice(&seen[time..]);
                }
            }
            for (y, s) in &results {
                assert_close(y, &wanted, &magnitude, &format!("{} {spec:?}", level.name));
                assert_bits(s, &last, "state");
            }
            assert_bits(&results[0].0, &results[1].0, "one call or two");
        }
    }
}

#[test]
fn selective_scan() {
    for level in levels() {
        let spec = |states, softplus, delta_bias, result| ScanSpec { states, softplus, delta_bias, result };
        let sums = |skip, gate| ScanResult::Sums { skip, gate };
        let specs = [
            spec(16, false, false, sums(true, Gate::None)),
            spec(16, true, true, sums(true, Gate::Silu)),
            spec(5, true, false, sums(false, Gate::None)),
            spec(32, false, false, sums(true, Gate::ScaledSilu)),
            spec(16, false, false, ScanResult::States),
            spec(5, true, true, ScanResult::States),
        ];
        let text: String =
            (0..6).map(|i| scan::generate(&specs[i], &format!("scan{i}"), &level.caps)).collect();
        let library = Library::new(&text, &level);
        let mut r = Random::new(29);
        for round in 0..60 {
            let spec = &specs[round % 6];
            let states = spec.states;
            let (skip, gate, width) = match spec.result {
                ScanResult::Sums { skip, gate } => (skip, gate, 1),
                ScanResult::States => (false, Gate::None, states),
            };
            let (batch, time, n) = (r.size(2), r.size(20), r.size(70));
            let (stride, narrow) = (n + r.int(0, 5) as usize, 2 * states + 3);
            let steps = batch * time;
            let u = r.reals(steps * stride);
            let delta: Vec<f32> = (0..steps * stride)
                .map(|_| if spec.softplus { 6.0 * r.real() } else { 0.5 * r.real().abs() })
                .collect();
            let a: Vec<f32> = (0..n * states).map(|_| -20.0 * r.real().abs()).collect();
            let bc = r.reals(steps * narrow); // B and C stand in one row, as a projection leaves them.
            let (d, delta_bias, z) = (r.reals(n), r.reals(n), r.reals(steps * stride));
            let gate_scale = r.reals(n);
            let state = r.reals(batch * n * states);
            let held = [&u, &delta, &bc, &d, &delta_bias, &z, &gate_scale].map(|v| Buffer::f32(v));
            let ab = Buffer::f32(&pack::pack_channel_blocks(&a, n, states).expect("packs"));
            let results = in_one_and_two(&mut r, (batch, time, n), width, &state, |from, to, y, s| {
                let at = |i: usize, row: usize| held[i].address() + (4 * from * row) as u64;
                let row = 4 * stride as u64;
                let args = [
                    at(0, stride),
                    row,
                    at(1, stride),
                    row,
                    ab.address(),
                    at(2, narrow),
                    4 * narrow as u64,
                    at(2, narrow) + 4 * states as u64,
                    4 * narrow as u64,
                    at(3, 0),
                    at(4, 0),
                    at(5, stride),
                    row,
                    at(6, 0),
                    s.address(),
                    y.address() + (4 * from * n * width) as u64,
                    4 * (n * width) as u64,
                    batch as u64,
                    (to - from) as u64,
                    n as u64,
                ];
                assert_eq!(args.len(), scan::ARGS.len());
                let items = spec.items(batch as u64, n as u64);
                library.run(&format!("scan{}", round % 6), &args, items, spec.scratch_bytes(), 2);
            });
            let mut h: Vec<f64> = state.iter().map(|&v| f64::from(v)).collect();
            let mut size: Vec<f64> = h.iter().map(|v| v.abs()).collect(); // Of the terms that make up h.
            let mut wanted = vec![0f64; steps * n * width];
            let mut magnitude = wanted.clone();
            for b in 0..batch {
                for t in 0..time {
                    let step = b * time + t;
                    for c in 0..n {
                        let u = f64::from(u[step * stride + c]);
                        let mut dt = f64::from(delta[step * stride + c]);
                        if spec.delta_bias {
                            dt += f64::from(delta_bias[c]);
                        }
                        if spec.softplus {
                            dt = dt.exp().ln_1p();
                        }
                        let (mut y, mut m) = if skip {
                            (u * f64::from(d[c]), (u * f64::from(d[c])).abs())
                        } else {
                            (0.0, 0.0)
                        };
                        for j in 0..states {
                            let at = (b * n + c) * states + j;
                            let keep = (dt * f64::from(a[c * states + j])).exp();
                            let add = dt * u * f64::from(bc[step * narrow + j]);
                            h[at] = h[at] * keep + add;
                            size[at] = size[at] * keep + add.abs();
                            if width > 1 {
                                let place = (step * n + c) * states + j;
                                (wanted[place], magnitude[place]) = (h[at], size[at]);
                            }
                            let c = f64::from(bc[step * narrow + states + j]);
                            y += h[at] * c;
                            m += size[at] * c.abs();
                        }
                        let z = f64::from(z[step * stride + c]);
                        y *= match gate {
                            Gate::None => 1.0,
                            Gate::Silu => silu(z),
                            Gate::ScaledSilu => scaled_silu(z, f64::from(gate_scale[c])),
                        };
                        if width == 1 {
                            (wanted[step * n + c], magnitude[step * n + c]) = (y, m);
                        }
                    }
                }
            }
            let what = format!("{} {spec:?} {batch}x{time}x{n}", level.name);
            for (y, s) in &results {
                assert_close(y, &wanted, &magnitude, &what);
                assert_close(s, &h, &size, &what);
            }
            assert_bits(&results[0].0, &results[1].0, "one call or two");
        }
    }
}
