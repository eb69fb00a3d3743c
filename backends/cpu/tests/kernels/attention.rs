//! Attention, the cache it reads and rotary positions, in one call and in several.

use qcc_cpu::kernels::attention::{self, AttentionSpec};
use qcc_cpu::kernels::cache::{self, AppendSpec, Layout, TILE};
use qcc_cpu::kernels::rotary::{self, AnglesSpec, RotarySpec};

use crate::harness::*;

struct Case {
    spec: AttentionSpec,
    batch: usize,
    /// Tokens of each call.
    calls: Vec<usize>,
    window: usize,
    scale: f32,
    bias: Bias,
}

/// What is added to scores, for all tokens: `[batch, heads, tokens, tokens]`, or 1 for any of the first three.
struct Bias {
    dims: [usize; 3],
    values: Vec<f32>,
}

impl Bias {
    fn row(&self, at: [usize; 3], tokens: usize) -> &[f32] {
        let own: Vec<usize> = at.iter().zip(self.dims).map(|(at, size)| at % size).collect();
        &self.values[((own[0] * self.dims[1] + own[1]) * self.dims[2] + own[2]) * tokens..][..tokens]
    }

    /// What a call of these tokens reads.
    fn part(&self, tokens: usize, (past, time): (usize, usize)) -> Vec<f32> {
        let [batch, heads, rows] = self.dims;
        let queries = if rows == 1 { 0..1 } else { past..past + time };
        let mut part = Vec::new();
        for (b, h) in (0..batch).flat_map(|b| (0..heads).map(move |h| (b, h))) {
            queries.clone().for_each(|t| part.extend_from_slice(&self.row([b, h, t], tokens)[..past + time]));
        }
        part
    }
}

/// A bias of random sizes, that hides some keys; and all from some queries, if it has rows for them.
fn random_bias(r: &mut Random, batch: usize, heads: usize, tokens: usize) -> Bias {
    let dims = [batch, heads, tokens].map(|n| if r.size(2) == 1 { 1 } else { n });
    let rows: usize = dims.iter().product();
    let mut values = r.reals(rows * tokens);
    for (row, values) in values.chunks_exact_mut(tokens).enumerate() {
        let hidden = if row % 7 == 3 && dims[2] > 1 { tokens } else { r.size(tokens as i64) / 2 };
        values[..hidden].fill(if row % 2 == 0 { f32::NEG_INFINITY } else { f32::MIN });
    }
    Bias { dims, values }
}

/// Results and, for each, Σ of the magnitudes of the values by their weights, in f64.
fn reference(case: &Case, q: &[f32], k: &[f32], v: &[f32]) -> (Vec<f64>, Vec<f64>) {
    let AttentionSpec { heads, shared, features, width, causal, windowed, .. } = case.spec;
    let [heads, shared, features, width] = [heads, shared, features, width].map(|n| n as usize);
    let tokens: usize = case.calls.iter().sum();
    let (mut y, mut magnitude) = (Vec::new(), Vec::new());
    for (b, t, h) in
        (0..case.batch).flat_map(|b| (0..tokens).flat_map(move |t| (0..heads).map(move |h| (b, t, h))))
    {
        let query = &q[((b * tokens + t) * heads + h) * features..][..features];
        let at = |key: usize| (b * tokens + key) * shared + h / (heads / shared);
        // Calls see what was read up to their end.
        let ends = case.calls.iter().scan(0, |end, n| {
            *end += n;
            Some(*end)
        });
        let read = ends.into_iter().find(|end| *end > t).expect("a call");
        let end = if causal { t + 1 } else { read };
        let start = if windowed { (t + 1).saturating_sub(case.window) } else { 0 };
        let scores: Vec<f64> = (start..end)
            .map(|key| {
                let key = &k[at(key) * features..][..features];
                let sum: f64 = query.iter().zip(key).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
                sum * f64::from(case.scale)
            })
            .enumerate()
            .map(|(i, score)| {
                let added = |bias: &[f32]| score + f64::from(bias[start + i]);
                if case.spec.biased { added(case.bias.row([b, h, t], tokens)) } else { score }
            })
            .collect();
        let top = scores.iter().fold(f64::from(f32::MIN), |m, s| m.max(*s));
        let weights: Vec<f64> = scores.iter().map(|s| (s - top).exp()).collect();
        let total: f64 = weights.iter().sum();
        // No key is seen.
        let total = if total == 0.0 { 1.0 } else { total };
        for e in 0..width {
            let value = |key: usize| f64::from(v[at(key) * width + e]);
            let keys = (start..end).zip(&weights);
            y.push(keys.clone().map(|(key, w)| w / total * value(key)).sum::<f64>());
            magnitude.push(keys.map(|(key, w)| w / total * value(key).abs()).sum::<f64>());
        }
    }
    (y, magnitude)
}

/// Tokens of one call out of all, `[batch, tokens, row]`.
fn part(all: &[f32], batch: usize, tokens: usize, row: usize, (start, count): (usize, usize)) -> Vec<f32> {
    (0..batch).flat_map(|b| all[(b * tokens + start) * row..][..count * row].to_vec()).collect()
}

#[test]
fn attention_over_a_cache_that_grows() {
    let mut r = Random::new(41);
    for level in levels() {
        for round in 0..24 {
            let shared = r.size(3);
            let heads = shared * r.size(9);
            let (features, width) = (r.size(70), r.size(70));
            let batch = r.size(2);
            let long = round % 8 == 0;
            let calls: Vec<usize> = (0..r.size(3)).map(|_| r.size(if long { 150 } else { 40 })).collect();
            let tokens: usize = calls.iter().sum();
            let spec = AttentionSpec {
                heads: heads as u32,
                shared: shared as u32,
                features: features as u32,
                width: width as u32,
                causal: round % 3 != 0,
                windowed: round % 4 == 1,
                keys: Layout::Panels,
                values: Layout::Rows,
                biased: round % 5 < 2,
            };
            let bias = random_bias(&mut r, batch, heads, tokens);
            let case = Case { spec, batch, calls, window: r.size(50), scale: 2.0 * r.real(), bias };
            let (q, k, v) = (
                r.reals(batch * tokens * heads * features),
                r.reals(batch * tokens * shared * features),
                r.reals(batch * tokens * shared * width),
            );
            let append = |panels, features: usize| AppendSpec {
                panels,
                heads: shared as u32,
                features: features as u32,
            };
            let (panels, rows) = (append(true, features), append(false, width));
            let text = [
                attention::generate(&spec, "attention", &level.caps),
                cache::append(&panels, "keys", &level.caps),
                cache::append(&rows, "values", &level.caps),
            ];
            let library = Library::new(&text.concat(), &level);
            // Any capacity is rounded up to whole tiles; what lies behind the tokens is garbage.
            let capacity = tokens + r.size(90) - 1;
            let room = capacity.next_multiple_of(TILE as usize);
            let garbage = |n: usize| Buffer::bytes(&vec![0xff; 4 * n]);
            let (keys, values) =
                (garbage(batch * shared * room * features), garbage(batch * shared * room * width));
            let mut found = vec![0.0; batch * tokens * heads * width];
            let mut past = 0;
            for &time in &case.calls {
                let of = |all: &[f32], row: usize| Buffer::f32(&part(all, batch, tokens, row, (past, time)));
                for (name, x, row, to) in
                    [("keys", &k, shared * features, &keys), ("values", &v, shared * width, &values)]
                {
                    let x = of(x, row);
                    let args = [
                        x.address(),
                        4 * row as u64,
                        to.address(),
                        time as u64,
                        past as u64,
                        capacity as u64,
                    ];
                    library.run(name, &args, (batch * time) as u64, 0, 2);
                }
                let queries = of(&q, heads * features);
                let y = Buffer::zeros(4 * batch * time * heads * width);
                let bias = Buffer::f32(&case.bias.part(tokens, (past, time)));
                let [batches, bias_heads, bias_rows] = case.bias.dims;
                let row = 4 * (past + time);
                let of_head = row * if bias_rows == 1 { 1 } else { time };
                let stride = |size: usize, bytes: usize| if size == 1 { 0 } else { bytes as u64 };
                let args = [
                    queries.address(),
                    4 * (heads * features) as u64,
                    keys.address(),
                    values.address(),
                    y.address(),
                    u64::from(case.scale.to_bits()),
                    time as u64,
                    past as u64,
                    capacity as u64,
                    case.window as u64,
                    0,
                    0,
                    0,
                    bias.address(),
                    stride(batches, of_head * bias_heads),
                    stride(bias_heads, of_head),
                    stride(bias_rows, row),
                    (past + time) as u64,
                ];
                let blocks = (time * heads / shared).div_ceil(attention::ROWS as usize);
                library.run("attention", &args, (batch * shared * blocks) as u64, spec.scratch_bytes(), 3);
                let row = heads * width;
                for (b, rows) in y.to_f32().chunks_exact(time * row).enumerate() {
                    found[(b * tokens + past) * row..][..time * row].copy_from_slice(rows);
                }
                past += time;
            }
            keys.check();
            values.check();
            let (wanted, magnitude) = reference(&case, &q, &k, &v);
            assert_close(&found, &wanted, &magnitude, &format!("{} round {round}: {spec:?}", level.name));
        }
    }
}

#[test]
fn rotary_positions() {
    let mut r = Random::new(43);
    for level in levels() {
        for round in 0..24 {
            let (batch, time, groups) = (r.size(2), r.size(9), r.size(3));
            let heads = groups * r.size(2);
            let pairs = r.size(40);
            let features = 2 * pairs + r.int(0, 5) as usize;
            let vectors = if round % 3 == 0 { groups } else { 1 };
            let interleaved = round % 2 == 0;
            let by_sequence = round % 4 == 0;
            let angles = AnglesSpec { wide: round % 5 != 0, vectors: vectors as u32, pairs: pairs as u32 };
            let spec = RotarySpec { angles, heads: heads as u32, features: features as u32, interleaved };
            let text =
                rotary::angles(angles, "angles", &level.caps) + &rotary::rotary(&spec, "rotary", &level.caps);
            let library = Library::new(&text, &level);
            let count = if by_sequence { batch * time } else { time };
            let positions: Vec<i64> = (0..count).map(|_| r.int(0, 100_000)).collect();
            let stored = match angles.wide {
                true => positions.iter().flat_map(|p| p.to_ne_bytes()).collect::<Vec<u8>>(),
                false => positions.iter().flat_map(|p| (*p as i32).to_ne_bytes()).collect(),
            };
            let stored = Buffer::bytes(&stored);
            let frequencies: Vec<f32> =
                (0..vectors * pairs).map(|i| 10_000f32.powf(-((i % pairs) as f32) / pairs as f32)).collect();
            let own = Buffer::f32(&frequencies);
            let table = Buffer::zeros(count * angles.row_bytes() as usize);
            library.run("angles", &[stored.address(), own.address(), table.address()], count as u64, 0, 2);
            let row = heads * features;
            let x = r.reals(batch * time * row);
            let (from, to) = (Buffer::f32(&x), Buffer::zeros(4 * x.len()));
            let args = [from.address(), 4 * row as u64, to.address(), table.address(), count as u64];
            library.run("rotary", &args, (batch * time) as u64, 0, 2);
            table.check();
            let (mut wanted, mut magnitude) = (Vec::new(), Vec::new());
            for (at, head) in x.chunks_exact(features).enumerate() {
                let position = positions[at / heads % count] as f64;
                let vector = if vectors == 1 { 0 } else { at % heads / (heads / vectors) };
                let mut y: Vec<f64> = head.iter().map(|x| f64::from(*x)).collect();
                let mut size: Vec<f64> = y.iter().map(|y| y.abs()).collect();
                for i in 0..pairs {
                    let (sin, cos) = (position * f64::from(frequencies[vector * pairs + i])).sin_cos();
                    let (first, second) = if interleaved { (2 * i, 2 * i + 1) } else { (i, i + pairs) };
                    let (a, b) = (y[first], y[second]);
                    (y[first], y[second]) = (a * cos - b * sin, b * cos + a * sin);
                    (size[first], size[second]) = (a.abs() + b.abs(), a.abs() + b.abs());
                }
                wanted.extend(y);
                magnitude.extend(size);
            }
            assert_close(
                &to.to_f32(),
                &wanted,
                &magnitude,
                &format!("{} round {round}: {spec:?}", level.name),
            );
        }
    }
}
