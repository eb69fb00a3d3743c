//! Attention over keys and values in the layouts of [`cache`](super::cache): `softmax(scale · q · kᵀ) · v`, with the softmax computed
//! tile by tile as keys come by (Milakov and Gimelshein, arXiv 1805.02867; FlashAttention, arXiv 2205.14135), so that no matrix of scores exists.
//!
//! A work item is one head of keys of one sequence × up to [`ROWS`] rows; a row is a query head of a token. All query heads that share the
//! keys are rows of one item: each tile of keys and values is read from memory once for all of them.

use super::cache::{self, Layout, PANEL, TILE};
use super::coded::Coded;
use super::coded::decode::{patterns, scales};
use super::coded::expand::Expand;
use super::emit::{Cache, Emitter, F32, F32X16, I32X16, Value};
use super::{SLACK, TargetCaps};

/// Rows of a work item.
pub const ROWS: u32 = 32;

/// Panels of a tile.
const PANELS: usize = (TILE / PANEL) as usize;

/// Rows that are computed together.
const TOGETHER: usize = 4;

/// A score that none is less than, but for −∞; finite, so that differences are numbers.
const LEAST: f32 = f32::MIN;

/// An attention kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AttentionSpec {
    /// Heads of queries.
    pub heads: u32,
    /// Heads of keys and values.
    pub shared: u32,
    /// Features of queries and keys.
    pub features: u32,
    /// Features of values.
    pub width: u32,
    /// Whether no query sees a later key.
    pub causal: bool,
    /// Whether a query sees only the last keys, `window` of them.
    pub windowed: bool,
    /// Whether something is added to scores.
    pub biased: bool,
    /// How keys lie.
    pub keys: Layout,
    /// How values lie.
    pub values: Layout,
}

/// Argument slots: `q` `[batch, time, heads, features]`, a token `q_stride` bytes behind the one before; `y`
/// `[batch, time, heads, width]`, dense; `scale` the bits of an f32; there are `total` keys, and room for `capacity` (in whole tiles); the first
/// query is the one after `past` of them, where that matters.
/// `key_header` and `value_header` are those of [`Coded`]; `open` are the values of blocks that are not complete, see
/// [`BlockStep::Window`](cache::BlockStep::Window). `bias` are f32 rows of as many as there are keys, `bias_batch`, `bias_head` and `bias_time`
/// bytes from those of one sequence, head of queries and token to the next, or 0 where they share them.
pub const ARGS: [&str; 18] = [
    "q",
    "q_stride",
    "keys",
    "values",
    "y",
    "scale",
    "time",
    "past",
    "capacity",
    "window",
    "key_header",
    "value_header",
    "open",
    "bias",
    "bias_batch",
    "bias_head",
    "bias_time",
    "total",
];

impl AttentionSpec {
    /// Query heads that share a head of keys.
    fn group(&self) -> i64 {
        i64::from(self.heads / self.shared)
    }

    fn query_bytes(&self) -> i64 {
        64 * i64::from(self.features.div_ceil(16))
    }

    fn sum_bytes(&self) -> i64 {
        64 * i64::from(self.width.div_ceil(16))
    }

    /// Bytes of weights of the rows that are computed together; twice, of complete blocks and of others.
    fn weight_bytes() -> i64 {
        TOGETHER as i64 * i64::from(TILE) * 4
    }

    /// Bytes of a tile of decoded keys.
    fn key_bytes(&self) -> i64 {
        if self.keys == Layout::Panels { 0 } else { 4 * i64::from(TILE) * i64::from(self.features) }
    }

    /// Bytes of a tile of decoded values.
    fn value_bytes(&self) -> i64 {
        if self.values == Layout::Rows { 0 } else { 4 * i64::from(TILE) * self.values.width(self.width) }
    }

    /// Bytes of the keys and of the values of a tile, as they lie.
    fn tile_bytes(&self) -> [i64; 2] {
        [(self.keys, self.features), (self.values, self.width)].map(|(layout, features)| {
            let blocks = u64::from(TILE / layout.tokens());
            (blocks * layout.bytes(features)).cast_signed()
        })
    }

    /// Tokens of a block of values.
    fn block(&self) -> Option<i64> {
        match self.values {
            Layout::Blocks(_, tokens) => Some(i64::from(tokens)),
            _ => None,
        }
    }

    /// Bytes of scratch a worker needs.
    pub fn scratch_bytes(&self) -> u64 {
        let rows = i64::from(ROWS) * (self.query_bytes() + self.sum_bytes() + 8);
        let tile = self.key_bytes() + self.value_bytes();
        (rows + 2 * AttentionSpec::weight_bytes() + tile).unsigned_abs() + SLACK
    }
}

/// What the loops of an item need.
#[derive(Clone, Copy)]
struct Item {
    /// Scaled queries, sums of values, largest scores and sums of weights of the rows; weights of a tile.
    queries: Value,
    sums: Value,
    largest: Value,
    total: Value,
    weights: Value,
    /// First row, among all rows of the head.
    first: Value,
    past: Value,
    end: Value,
    window: Value,
    bias: Option<Bias>,
}

/// What is added to the scores of a head of keys: that of its first head of queries and the first token, and bytes to the next of either.
#[derive(Clone, Copy)]
struct Bias {
    at: Value,
    head: Value,
    time: Value,
}

/// The kernel's MLIR text.
pub fn generate(spec: &AttentionSpec, name: &str, caps: &TargetCaps) -> String {
    let mut e = Emitter::new(caps);
    e.kernel(name, |e, k| {
        let [q, keys, values, y] = ["q", "keys", "values", "y"].map(|slot| k.pointer(e, &ARGS, slot));
        let [q_stride, time, past, window] =
            ["q_stride", "time", "past", "window"].map(|slot| k.size(e, &ARGS, slot));
        let capacity = cache::capacity(e, |e| k.size(e, &ARGS, "capacity"));
        let scale = k.size(e, &ARGS, "scale");
        let scale = e.truncate(scale, super::emit::Scalar::I32);
        let scale = e.bits(scale, F32);
        let scale = e.splat(scale, 16);
        let rows = e.times(time, spec.group());
        let blocks = e.ceil_div(rows, i64::from(ROWS));
        let all = k.size(e, &ARGS, "total");
        let queries = k.scratch;
        let sums = e.offset(queries, i64::from(ROWS) * spec.query_bytes());
        let largest = e.offset(sums, i64::from(ROWS) * spec.sum_bytes());
        let total = e.offset(largest, 4 * i64::from(ROWS));
        let weights = e.offset(total, 4 * i64::from(ROWS));
        let own_keys = e.offset(weights, 2 * AttentionSpec::weight_bytes());
        let own_values = e.offset(own_keys, spec.key_bytes());
        let [key_header, value_header, open] =
            ["key_header", "value_header", "open"].map(|slot| k.pointer(e, &ARGS, slot));
        let bias_at = k.pointer(e, &ARGS, "bias");
        let bias =
            spec.biased.then(|| ["bias_batch", "bias_head", "bias_time"].map(|slot| k.size(e, &ARGS, slot)));
        e.each(k.begin, k.end, |e, item| {
            let (head, block) = (e.div(item, blocks), e.rem(item, blocks));
            let first = e.times(block, i64::from(ROWS));
            let left = e.sub(rows, first);
            let most = e.int(i64::from(ROWS));
            let count = e.min_int(left, most);
            let shared = e.int(i64::from(spec.shared));
            let (sequence, group) = (e.div(head, shared), e.rem(head, shared));
            let token = e.mul(sequence, time);
            let query_head = e.times(group, spec.group());
            let bias = bias.map(|[of_batch, of_head, of_time]| {
                let (sequence, head) = (e.mul(sequence, of_batch), e.mul(query_head, of_head));
                let before = e.add(sequence, head);
                Bias { at: e.at(bias_at, before), head: of_head, time: of_time }
            });
            let item = Item { queries, sums, largest, total, weights, first, past, end: all, window, bias };
            let place = Place { token, head: query_head };
            let zero = e.int(0);
            e.each(zero, count, |e, r| start(e, spec, &item, place, (q, q_stride), scale, r));

            let (begin, end) = span(e, spec, &item, count);
            let tokens = e.mul(head, capacity);
            let open = spec.block().map(|block| open_values(e, spec, &item, block, head, time, open));
            let first = e.add(tokens, begin);
            let near = [(spec.keys, spec.features, keys), (spec.values, spec.width, values)]
                .map(|(layout, features, p)| cache::block_at(e, layout, features, p, first));
            for (from, bytes) in near.into_iter().zip(spec.tile_bytes()) {
                let (end, line) = (e.int(bytes), e.int(64));
                e.repeat(zero, end, line, &[], |e, at, _| {
                    let p = e.at(from, at);
                    e.prefetch(p, Cache::Second);
                    Vec::new()
                });
            }
            let tile = e.int(i64::from(TILE));
            let together = e.int(TOGETHER as i64);
            let whole = e.div(count, together);
            let whole = e.mul(whole, together);
            e.repeat(begin, end, tile, &[], |e, at, _| {
                let left = e.sub(end, at);
                let valid = e.min_int(left, tile);
                let first = e.add(tokens, at);
                let keys = cache::block_at(e, spec.keys, spec.features, keys, first);
                let values = cache::block_at(e, spec.values, spec.width, values, first);
                let [key_bytes, value_bytes] = spec.tile_bytes();
                let next = [e.offset(keys, key_bytes), e.offset(values, value_bytes)];
                let keys = decoded_keys(e, spec, keys, key_header, valid, own_keys);
                let values = match spec.block() {
                    None => decoded_rows(e, spec, values, value_header, valid, own_values),
                    Some(block) => {
                        // All complete blocks of the tile.
                        let complete = complete(e, block, all);
                        let complete = e.sub(complete, at);
                        let complete = e.min_int(complete, tile);
                        let complete = e.max_int(complete, zero);
                        decode_blocks(e, spec, values, value_header, complete, own_values);
                        Values { at: own_values, end: complete }
                    }
                };
                let tile = Tile { keys, values, next, at, valid, open };
                e.repeat(zero, whole, together, &[], |e, r, _| {
                    attend(e, spec, &item, &tile, r, TOGETHER);
                    Vec::new()
                });
                e.each(whole, count, |e, r| attend(e, spec, &item, &tile, r, 1));
                Vec::new()
            });
            e.each(zero, count, |e, r| finish(e, spec, &item, place, y, r));
        });
    });
    e.finish()
}

/// Where the rows of an item are among the queries: the first token of the sequence and the first head of the group.
#[derive(Clone, Copy)]
struct Place {
    token: Value,
    head: Value,
}

/// Keys and values of a tile as f32; `valid` tokens are there.
struct Tile {
    keys: Value,
    values: Values,
    /// Keys and values of the tile after this one, as they lie.
    next: [Value; 2],
    at: Value,
    valid: Value,
    /// Values of blocks that are not complete, and the token of the first.
    open: Option<(Value, Value)>,
}

/// Rows of values, of the first tokens of a tile.
#[derive(Clone, Copy)]
struct Values {
    at: Value,
    end: Value,
}

/// The tokens of complete blocks among so many.
fn complete(e: &mut Emitter, block: i64, tokens: Value) -> Value {
    let block = e.int(block);
    let rest = e.rem(tokens, block);
    e.sub(tokens, rest)
}

/// The values of a head whose blocks were not complete before the call: where they are, and the first token.
fn open_values(
    e: &mut Emitter,
    spec: &AttentionSpec,
    item: &Item,
    block: i64,
    head: Value,
    time: Value,
    open: Value,
) -> (Value, Value) {
    let tokens = e.plus(time, block);
    let before = e.mul(head, tokens);
    let at = e.element(open, before, 2 * i64::from(spec.width));
    (at, complete(e, block, item.past))
}

/// The panels of a tile that hold keys, as f32.
fn decoded_keys(
    e: &mut Emitter,
    spec: &AttentionSpec,
    keys: Value,
    header: Value,
    valid: Value,
    own: Value,
) -> Value {
    let Some(coded) = spec.keys.coded() else { return keys };
    let (zero, panels) = (e.int(0), e.ceil_div(valid, i64::from(PANEL)));
    let depth = e.int(i64::from(spec.features));
    e.each(zero, panels, |e, at| {
        let panel = e.element(keys, at, spec.keys.bytes(spec.features) as i64);
        let to = e.element(own, at, 4 * i64::from(PANEL) * i64::from(spec.features));
        Expand { coded, nr: PANEL as usize, header, panel, depth, sixteen: None }.write_floats(e, to);
    });
    own
}

/// The values of a tile whose scales lie within tokens, as f32.
fn decoded_rows(
    e: &mut Emitter,
    spec: &AttentionSpec,
    values: Value,
    header: Value,
    valid: Value,
    own: Value,
) -> Values {
    let Some(coded) = spec.values.coded() else { return Values { at: values, end: valid } };
    let size = cache::scale_bytes(coded) as i64;
    let tokens = i64::from(spec.values.tokens());
    let together = e.int(tokens);
    let wide = spec.values.width(spec.width);
    let zero = e.int(0);
    e.each(zero, valid, |e, token| {
        let (block, lane) = (e.div(token, together), e.rem(token, together));
        let block = e.element(values, block, spec.values.bytes(spec.width) as i64);
        let codes = e.offset(block, size * tokens);
        let codes = e.element(codes, lane, wide / 8 * i64::from(coded.bits));
        let scale = (size > 0).then(|| {
            let p = e.element(block, lane, size);
            one_scale(e, coded, p)
        });
        let to = e.element(own, token, 4 * wide);
        for at in (0..wide).step_by(16) {
            let p = e.offset(codes, at / 8 * i64::from(coded.bits));
            let code = patterns(e, coded.bits, p);
            let mut v = coded.levels.decode(e, coded.bits, code, None, header);
            if let Some(scale) = scale {
                v = e.mul(v, scale);
            }
            let p = e.offset(to, 4 * at);
            e.store(v, p);
        }
    });
    Values { at: own, end: valid }
}

/// A scale in every lane.
fn one_scale(e: &mut Emitter, coded: Coded, p: Value) -> Value {
    let all = scales(e, coded.scale, p);
    let first = e.lane(all, 0);
    e.splat(first, 16)
}

/// The complete blocks of a tile as f32; they have so many tokens.
fn decode_blocks(
    e: &mut Emitter,
    spec: &AttentionSpec,
    values: Value,
    header: Value,
    tokens: Value,
    own: Value,
) {
    let Layout::Blocks(coded, block) = spec.values else { return };
    let wide = spec.values.width(spec.width);
    let (zero, depth) = (e.int(0), e.int(i64::from(block)));
    let blocks = e.div(tokens, depth);
    e.each(zero, blocks, |e, at| {
        let panel = e.element(values, at, spec.values.bytes(spec.width) as i64);
        let to = e.element(own, at, 4 * wide * i64::from(block));
        Expand { coded, nr: wide as usize, header, panel, depth, sixteen: None }.write_floats(e, to);
    });
}

/// The token of a row, counted from the first of this call, and its head within the group.
fn row(e: &mut Emitter, spec: &AttentionSpec, item: &Item, r: Value) -> (Value, Value) {
    let row = e.add(item.first, r);
    let group = e.int(spec.group());
    (e.div(row, group), e.rem(row, group))
}

/// The keys that a token of this call sees: from the first to before the end.
fn seen(e: &mut Emitter, spec: &AttentionSpec, item: &Item, token: Value) -> (Value, Value) {
    let end = e.add(item.past, token);
    let end = e.plus(end, 1);
    let zero = e.int(0);
    let begin = if spec.windowed {
        let begin = e.sub(end, item.window);
        e.max_int(begin, zero)
    } else {
        zero
    };
    (begin, if spec.causal { end } else { item.end })
}

/// The tiles that any row of an item sees: from where, and the last key.
fn span(e: &mut Emitter, spec: &AttentionSpec, item: &Item, count: Value) -> (Value, Value) {
    let zero = e.int(0);
    let (token, _) = row(e, spec, item, zero);
    let (begin, _) = seen(e, spec, item, token);
    let tile = e.int(i64::from(TILE));
    let begin = e.div(begin, tile);
    let begin = e.mul(begin, tile);
    let last = e.plus(count, -1);
    let (token, _) = row(e, spec, item, last);
    let (_, end) = seen(e, spec, item, token);
    (begin, end)
}

/// Takes a query into scratch, scaled.
fn start(
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
fn attend(e: &mut Emitter, spec: &AttentionSpec, item: &Item, tile: &Tile, r: Value, rows: usize) {
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
        let key = e.truncate(key, super::emit::Scalar::I32);
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
                    return super::atom::load_halves(e, p);
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
fn finish(e: &mut Emitter, spec: &AttentionSpec, item: &Item, place: Place, y: Value, r: Value) {
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
