//! Attention over keys and values in the layouts of [`cache`](super::cache): `softmax(scale · q · kᵀ) · v`, with the softmax computed
//! tile by tile as keys come by (Milakov and Gimelshein, arXiv 1805.02867; FlashAttention, arXiv 2205.14135), so that no matrix of scores exists.
//!
//! A work item is one head of keys of one sequence × up to [`ROWS`] rows; a row is a query head of a token. All query heads that share the
//! keys are rows of one item: each tile of keys and values is read from memory once for all of them.

mod rows;
mod tile;

use super::cache::{self, Layout, PANEL, TILE};
use super::emit::{Cache, Emitter, F32, Scalar, Value};
use super::{SLACK, TargetCaps};
use rows::{attend, finish, start};
use tile::{decode_blocks, decoded_keys, decoded_rows};

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
        let scale = e.truncate(scale, Scalar::I32);
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
