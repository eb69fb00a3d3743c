//! Rows over a tile: scores, their softmax so far, and the sums of values by it.

use super::super::atom;
use super::super::cache::{self, PANEL, TILE};
use super::super::emit::{Cache, Emitter, F32, F32X16, I32X16, Scalar, Value};
use super::{AttentionSpec, Item, LEAST, PANELS, Place, TOGETHER, Tile, complete, row, seen};

/// Takes a query into scratch, scaled.
pub(super) fn start(
    e: &mut Emitter,
    spec: &AttentionSpec,
    item: &Item,
    place: Place,
    (q, stride): (Value, Value),
    scale: Value,
    r: Value,
) {
    let (token, head) = row(e, spec, item, r);
    let (token, head) = (e.add(place.token, token), e.add(place.head, head));
    let from = e.mul(token, stride);
    let from = e.at(q, from);
    let from = e.element(from, head, 4 * i64::from(spec.features));
    let to = e.element(item.queries, r, spec.query_bytes());
    for at in (0..spec.query_bytes()).step_by(64) {
        let p = e.offset(from, at);
        let v = e.load(p, F32X16);
        let v = e.mul(v, scale);
        let p = e.offset(to, at);
        e.store(v, p);
    }
    let sums = e.element(item.sums, r, spec.sum_bytes());
    let zero = e.floats(0.0);
    for at in (0..spec.sum_bytes()).step_by(64) {
        let p = e.offset(sums, at);
        e.store(zero, p);
    }
    for (p, x) in [(item.largest, LEAST), (item.total, 0.0)] {
        let p = e.element(p, r, 4);
        let x = e.float_of(F32, x);
        e.store(x, p);
    }
}

/// Takes a tile into the softmax and the sums of `rows` rows from r on.
pub(super) fn attend(e: &mut Emitter, spec: &AttentionSpec, item: &Item, tile: &Tile, r: Value, rows: usize) {
    let scores = scores(e, spec, item, tile, r, rows);
    let mut factors = Vec::with_capacity(rows);
    for (i, scores) in scores.chunks_exact(PANELS).enumerate() {
        let r = e.plus(r, i as i64);
        let weights = e.offset(item.weights, 4 * i64::from(TILE) * i as i64);
        factors.push(soften(e, spec, item, tile, scores, r, weights));
    }
    let vectors = spec.width.div_ceil(16) as usize;
    let most = if e.caps.avx512 { 4 } else { 1 };
    let zero = e.int(0);
    for first in (0..vectors).step_by(most) {
        let columns = Columns { first, count: most.min(vectors - first) };
        let stride = 4 * spec.values.width(spec.width);
        let seen_end = last_seen(e, spec, item, tile, r, factors.len());
        let end = e.min_int(tile.values.end, seen_end);
        let rows = Rows { at: tile.values.at, begin: zero, end, stride, halves: false };
        mix(e, spec, item, r, &factors, columns, &rows, 0);
        if let (Some((open, first_open)), Some(block)) = (tile.open, spec.block()) {
            // From the first block that is not complete for the first row.
            let (token, _) = row(e, spec, item, r);
            let seen = e.add(item.past, token);
            let seen = e.plus(seen, 1);
            let begin = complete(e, block, seen);
            let begin = e.sub(begin, tile.at);
            let begin = e.max_int(begin, zero);
            let before = e.sub(tile.at, first_open);
            let stride = 2 * i64::from(spec.width);
            let at = e.element(open, before, stride);
            let rows = Rows { at, begin, end: seen_end, stride, halves: true };
            let one = e.floats(1.0);
            mix(e, spec, item, r, &vec![one; factors.len()], columns, &rows, AttentionSpec::weight_bytes());
        }
    }
}

/// Tokens of a tile up to the last one that any of `rows` rows from r on sees: what lies behind, such as an infinity, is no part of a sum.
fn last_seen(
    e: &mut Emitter,
    spec: &AttentionSpec,
    item: &Item,
    tile: &Tile,
    r: Value,
    rows: usize,
) -> Value {
    let last = e.plus(r, rows as i64 - 1);
    let (token, _) = row(e, spec, item, last);
    let (_, end) = seen(e, spec, item, token);
    let end = e.sub(end, tile.at);
    e.min_int(end, tile.valid)
}

/// Registers of columns.
#[derive(Clone, Copy)]
struct Columns {
    first: usize,
    count: usize,
}

/// Values of the tokens `begin..end` of a tile; `at` is where its first would be.
struct Rows {
    at: Value,
    begin: Value,
    end: Value,
    stride: i64,
    halves: bool,
}

/// Scores of a tile, those of a row after the other.
fn scores(
    e: &mut Emitter,
    spec: &AttentionSpec,
    item: &Item,
    tile: &Tile,
    r: Value,
    rows: usize,
) -> Vec<Value> {
    let panel = 4 * i64::from(PANEL) * i64::from(spec.features);
    let queries = e.element(item.queries, r, spec.query_bytes());
    let together = if e.caps.avx512 { PANELS } else { 1 };
    // The rows of one token ask for all of the next tile; memory is at work meanwhile.
    let group = spec.group();
    let turns = if group >= TOGETHER as i64 { group / TOGETHER as i64 } else { group };
    let (turn, most) = (e.int(rows as i64), e.int(turns - 1));
    let turn = e.div(r, turn);
    let turn = e.min_int(turn, most);
    let depth = i64::from(spec.features);
    let next = tile.next.into_iter().zip(spec.tile_bytes()).map(|(p, bytes)| {
        let each = (bytes + 63) / 64;
        let each = (each + depth * turns - 1) / (depth * turns);
        (e.element(p, turn, 64 * each * depth), each)
    });
    let next: Vec<(Value, i64)> = next.collect();
    let mut all = vec![None; rows * PANELS];
    for first in (0..PANELS).step_by(together) {
        let zero = e.floats(0.0);
        let (begin, end, one) = (e.int(0), e.int(i64::from(spec.features)), e.int(1));
        let sums = e.repeat(begin, end, one, &vec![zero; rows * together], |e, feature, sums| {
            if first == 0 {
                for &(p, lines) in &next {
                    let p = e.element(p, feature, 64 * lines);
                    for line in 0..lines {
                        let p = e.offset(p, 64 * line);
                        e.prefetch(p, Cache::Second);
                    }
                }
            }
            let keys: Vec<Value> = (first..first + together)
                .map(|p| {
                    let panel = e.offset(tile.keys, panel * p as i64);
                    cache::keys(e, panel, feature)
                })
                .collect();
            let query = e.element(queries, feature, 4);
            let mut next = Vec::with_capacity(sums.len());
            for i in 0..rows {
                let p = e.offset(query, spec.query_bytes() * i as i64);
                let q = e.load(p, F32);
                let q = e.splat(q, 16);
                for (j, key) in keys.iter().enumerate() {
                    next.push(e.multiply_add(q, *key, sums[i * together + j]));
                }
            }
            next
        });
        for i in 0..rows {
            for j in 0..together {
                all[i * PANELS + first + j] = Some(sums[i * together + j]);
            }
        }
    }
    all.into_iter().flatten().collect()
}

/// Weights of a row over a tile, stored; what sums so far are multiplied with.
fn soften(
    e: &mut Emitter,
    spec: &AttentionSpec,
    item: &Item,
    tile: &Tile,
    scores: &[Value],
    r: Value,
    weights: Value,
) -> Value {
    let (token, head) = row(e, spec, item, r);
    let (begin, end) = seen(e, spec, item, token);
    let bias = item.bias.map(|bias| {
        let (head, token) = (e.mul(head, bias.head), e.mul(token, bias.time));
        let before = e.add(head, token);
        let own = e.at(bias.at, before);
        e.element(own, tile.at, 4)
    });
    let lanes = e.lane_numbers();
    let bound = |e: &mut Emitter, key: Value| {
        let key = e.sub(key, tile.at);
        let key = e.truncate(key, Scalar::I32);
        e.splat(key, 16)
    };
    let (low, high) = (bound(e, begin), bound(e, end));
    // Keys whose values are codes to this row.
    let coded = spec.block().map(|block| {
        let seen = e.add(item.past, token);
        let seen = e.plus(seen, 1);
        let end = complete(e, block, seen);
        bound(e, end)
    });
    let least = e.floats(LEAST);
    let zero = e.floats(0.0);
    let mut masks = Vec::with_capacity(PANELS);
    let mut masked = Vec::with_capacity(PANELS);
    for (p, score) in scores.iter().enumerate() {
        let first = e.int_of(I32X16, i64::from(PANEL) * p as i64);
        let key = e.add(lanes, first);
        let mut mask = e.compare("slt", key, high);
        if spec.windowed {
            let after = e.compare("sge", key, low);
            mask = e.and(mask, after);
        }
        let score = match bias {
            Some(bias) => {
                // A panel behind the last key is not seen; its row ends before.
                let first = e.int(i64::from(PANEL) * p as i64);
                let first = e.min_int(first, tile.valid);
                let at = e.element(bias, first, 4);
                let bias = e.load(at, F32X16);
                e.add(*score, bias)
            }
            None => *score,
        };
        masked.push(e.select(mask, score, least));
        masks.push(mask);
    }
    let (at_largest, at_total) = (e.element(item.largest, r, 4), e.element(item.total, r, 4));
    let before = e.load(at_largest, F32);
    let tops = masked[1..].iter().fold(masked[0], |top, s| e.larger(top, *s));
    let top = e.fold(tops, Emitter::larger);
    let top = e.larger(top, before);
    e.store(top, at_largest);
    let (top, before) = (e.splat(top, 16), e.splat(before, 16));
    let mut sum = zero;
    for (p, (score, mask)) in masked.iter().zip(masks).enumerate() {
        let x = e.sub(*score, top);
        let weight = e.exp(x);
        let weight = e.select(mask, weight, zero);
        let to = e.offset(weights, 4 * i64::from(PANEL) * p as i64);
        match coded {
            None => e.store(weight, to),
            Some(coded) => {
                let first = e.int_of(I32X16, i64::from(PANEL) * p as i64);
                let key = e.add(lanes, first);
                let is_coded = e.compare("slt", key, coded);
                let of_codes = e.select(is_coded, weight, zero);
                let others = e.select(is_coded, zero, weight);
                e.store(of_codes, to);
                let to = e.offset(to, AttentionSpec::weight_bytes());
                e.store(others, to);
            }
        }
        sum = e.add(sum, weight);
    }
    let sum = e.sum(sum);
    let fall = e.sub(before, top);
    let factor = e.exp(fall);
    let total = e.load(at_total, F32);
    let kept = e.lane(factor, 0);
    let total = e.multiply_add(total, kept, sum);
    e.store(total, at_total);
    factor
}

/// Multiplies registers of the sums of rows from r on with factors, and adds values by their weights, which lie so many bytes behind others.
#[allow(clippy::too_many_arguments, reason = "one step of a loop nest")]
fn mix(
    e: &mut Emitter,
    spec: &AttentionSpec,
    item: &Item,
    r: Value,
    factors: &[Value],
    columns: Columns,
    rows: &Rows,
    weights: i64,
) {
    let Columns { first, count } = columns;
    let sums = e.element(item.sums, r, spec.sum_bytes());
    let weights = e.offset(item.weights, weights);
    let place = |e: &mut Emitter, i: usize, j: usize| {
        e.offset(sums, spec.sum_bytes() * i as i64 + 64 * (first + j) as i64)
    };
    let mut carried = Vec::with_capacity(factors.len() * count);
    for (i, factor) in factors.iter().enumerate() {
        for j in 0..count {
            let p = place(e, i, j);
            let sum = e.load(p, F32X16);
            carried.push(e.mul(sum, *factor));
        }
    }
    let one = e.int(1);
    let carried = e.repeat(rows.begin, rows.end, one, &carried, |e, key, sums| {
        let value = e.element(rows.at, key, rows.stride);
        let values: Vec<Value> = (0..count)
            .map(|j| {
                let vector = (first + j) as i64;
                if rows.halves {
                    let p = e.offset(value, 32 * vector);
                    return atom::load_halves(e, p);
                }
                let p = e.offset(value, 64 * vector);
                e.load(p, F32X16)
            })
            .collect();
        let weight = e.element(weights, key, 4);
        let mut next = Vec::with_capacity(sums.len());
        for i in 0..factors.len() {
            let p = e.offset(weight, 4 * i64::from(TILE) * i as i64);
            let w = e.load(p, F32);
            let w = e.splat(w, 16);
            for (j, value) in values.iter().enumerate() {
                next.push(e.multiply_add(w, *value, sums[i * count + j]));
            }
        }
        next
    });
    for i in 0..factors.len() {
        for j in 0..count {
            let p = place(e, i, j);
            e.store(carried[i * count + j], p);
        }
    }
}

/// Writes a row: its sums over its total, or zeros where it saw no key.
pub(super) fn finish(e: &mut Emitter, spec: &AttentionSpec, item: &Item, place: Place, y: Value, r: Value) {
    let (token, head) = row(e, spec, item, r);
    let (token, head) = (e.add(place.token, token), e.add(place.head, head));
    let to = e.times(token, i64::from(spec.heads));
    let to = e.add(to, head);
    let to = e.element(y, to, 4 * i64::from(spec.width));
    let total = e.element(item.total, r, 4);
    let total = e.load(total, F32);
    let (none, one) = (e.float_of(F32, 0.0), e.float_of(F32, 1.0));
    let any = e.compare_float("ogt", total, none);
    let divisor = e.select(any, total, one);
    let factor = e.div(one, divisor);
    let factor = e.splat(factor, 16);
    let from = e.element(item.sums, r, spec.sum_bytes());
    for at in (0..i64::from(spec.width)).step_by(16) {
        let p = e.offset(from, 4 * at);
        let v = e.load(p, F32X16);
        let v = e.mul(v, factor);
        let p = e.offset(to, 4 * at);
        let count = e.int(i64::from(spec.width) - at);
        e.store_first(v, p, count);
    }
}
