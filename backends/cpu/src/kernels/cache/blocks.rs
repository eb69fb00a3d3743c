//! Values whose scales are shared along tokens. The tokens behind the last complete block wait in f16, `[batch, heads, block, features]`; what a
//! call adds and what waited before are its window, `[batch · heads][block + time][features]` of f16, which attention reads where blocks
//! are not complete for a query. Steps of a call: [`BlockStep::Window`] makes it, [`BlockStep::Rows`] turns its blocks so that values that share
//! a scale are rows, a quantizer makes codes of these, [`BlockStep::Seal`] puts those of complete blocks into the cache, and
//! [`BlockStep::Keep`] what is left over to what waits.

use super::codes::{narrowed, write_patterns};
use super::{Layout, block_at, capacity, scale_bytes};
use crate::kernels::atom;
use crate::kernels::coded::Coded;
use crate::kernels::emit::{Emitter, F32, F32X16, I8, I8X16, Value};
use crate::kernels::{SLACK, TargetCaps};
use crate::loops::storage::Storage;

/// One of the steps of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BlockSpec {
    /// Which.
    pub step: BlockStep,
    /// The form of codes.
    pub coded: Coded,
    /// Tokens of a block.
    pub block: u32,
    /// Heads of values.
    pub heads: u32,
    /// Features of a head.
    pub features: u32,
}

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BlockStep {
    /// From `x` `[batch, time, heads, features]` (f32) and `waiting` to `window`. A work item is a head of a sequence.
    Window,
    /// From `window` to `rows` `[batch · heads][blocks][features][block]` (f32), `blocks = ⌈(time + block − 1) / block⌉` that may become
    /// complete. A work item is one of these of a head.
    Rows,
    /// From `codes` (a byte each) and `scales` of the rows to `cache`. Work items as of rows.
    Seal,
    /// From `window` to `waiting`. A work item is a head of a sequence.
    Keep,
}

/// Argument slots of every step; each uses those it names.
pub const BLOCKS: [&str; 10] =
    ["x", "waiting", "window", "rows", "codes", "scales", "cache", "time", "past", "capacity"];

impl BlockSpec {
    fn token_bytes(&self) -> i64 {
        2 * i64::from(self.features)
    }

    fn row_bytes(&self) -> i64 {
        i64::from(self.features.next_multiple_of(16)) / 8 * i64::from(self.coded.bits)
    }

    fn layout(&self) -> Layout {
        Layout::Blocks(self.coded, self.block)
    }

    /// Bytes of scratch a worker needs.
    pub fn scratch_bytes(&self) -> u64 {
        64 + (self.row_bytes() * i64::from(self.block)).unsigned_abs() + SLACK
    }
}

/// The kernel's MLIR text.
pub fn block_step(spec: &BlockSpec, name: &str, caps: &TargetCaps) -> String {
    let mut e = Emitter::new(caps);
    e.kernel(name, |e, k| {
        let pointers = ["x", "waiting", "window", "rows", "codes", "scales", "cache"];
        let [x, waiting, window, rows, codes, scales, cache] =
            pointers.map(|slot| k.pointer(e, &BLOCKS, slot));
        let [time, past] = ["time", "past"].map(|slot| k.size(e, &BLOCKS, slot));
        let block = e.int(i64::from(spec.block));
        let waits = e.rem(past, block);
        let all = e.add(waits, time);
        let tokens = e.add(block, time);
        let reach = e.plus(time, i64::from(spec.block) - 1);
        let blocks = e.ceil_div(reach, i64::from(spec.block));
        e.each(k.begin, k.end, |e, item| match spec.step {
            BlockStep::Window => {
                let window = rows_of(e, window, item, tokens, spec.token_bytes());
                let waiting = rows_of(e, waiting, item, block, spec.token_bytes());
                let bytes = e.times(waits, spec.token_bytes());
                e.copy_exact(window, waiting, bytes);
                let to = e.at(window, bytes);
                add_halves(e, spec, x, item, time, to, k.scratch);
            }
            BlockStep::Keep => {
                let window = rows_of(e, window, item, tokens, spec.token_bytes());
                let waiting = rows_of(e, waiting, item, block, spec.token_bytes());
                let left = e.rem(all, block);
                let done = e.sub(all, left);
                let from = e.element(window, done, spec.token_bytes());
                let bytes = e.times(left, spec.token_bytes());
                e.copy_exact(waiting, from, bytes);
            }
            BlockStep::Rows | BlockStep::Seal => {
                let (row, at) = (e.div(item, blocks), e.rem(item, blocks));
                let first = e.mul(at, block);
                let end = e.add(first, block);
                let complete = e.compare("sle", end, all);
                e.when(complete, |e| {
                    if spec.step == BlockStep::Rows {
                        let window = rows_of(e, window, row, tokens, spec.token_bytes());
                        let from = e.element(window, first, spec.token_bytes());
                        let to = e.element(rows, item, 4 * i64::from(spec.block) * i64::from(spec.features));
                        return turn(e, spec, from, to, k.scratch);
                    }
                    let capacity = capacity(e, |e| k.size(e, &BLOCKS, "capacity"));
                    let tokens = e.mul(row, capacity);
                    let before = e.sub(past, waits);
                    let tokens = e.add(tokens, before);
                    let tokens = e.add(tokens, first);
                    let to = block_at(e, spec.layout(), spec.features, cache, tokens);
                    let codes = e.element(codes, item, i64::from(spec.block) * i64::from(spec.features));
                    let size = scale_bytes(spec.coded) as i64;
                    let scales = e.element(scales, item, size * i64::from(spec.features));
                    let bytes = e.int(size * i64::from(spec.features));
                    e.copy_exact(to, scales, bytes);
                    let to = e.offset(to, size * i64::from(spec.features.next_multiple_of(16)));
                    seal(e, spec, codes, to, k.scratch);
                });
            }
        });
    });
    e.finish()
}

/// The tokens of a head in a buffer with `tokens` of each.
fn rows_of(e: &mut Emitter, buffer: Value, head: Value, tokens: Value, bytes: i64) -> Value {
    let first = e.mul(head, tokens);
    e.element(buffer, first, bytes)
}

/// Rounds the tokens of a head to f16, saturating.
fn add_halves(
    e: &mut Emitter,
    spec: &BlockSpec,
    x: Value,
    item: Value,
    time: Value,
    to: Value,
    scratch: Value,
) {
    let heads = e.int(i64::from(spec.heads));
    let (sequence, head) = (e.div(item, heads), e.rem(item, heads));
    let (zero, features) = (e.int(0), i64::from(spec.features));
    let first = e.mul(sequence, time);
    e.each(zero, time, |e, step| {
        let token = e.add(first, step);
        let token = e.times(token, i64::from(spec.heads));
        let token = e.add(token, head);
        let from = e.element(x, token, 4 * features);
        let to = e.element(to, step, spec.token_bytes());
        for at in (0..features).step_by(16) {
            let p = e.offset(from, 4 * at);
            let v = e.load(p, F32X16);
            let v = narrowed(e, Storage::F16, 65504.0, v);
            let p = e.offset(to, 2 * at);
            if features - at >= 16 {
                e.store(v, p);
            } else {
                e.store(v, scratch);
                let bytes = e.int(2 * (features - at));
                e.copy_exact(p, scratch, bytes);
            }
        }
    });
}

/// A block of tokens as rows of what shares a scale.
fn turn(e: &mut Emitter, spec: &BlockSpec, from: Value, to: Value, scratch: Value) {
    let (zero, block) = (e.int(0), e.int(i64::from(spec.block)));
    e.each(zero, block, |e, token| {
        let from = e.element(from, token, spec.token_bytes());
        let to = e.element(to, token, 4);
        for at in (0..i64::from(spec.features)).step_by(16) {
            let p = e.offset(from, 2 * at);
            let v = atom::load_halves(e, p);
            e.store(v, scratch);
            let count = e.int((i64::from(spec.features) - at).min(16));
            let to = e.offset(to, 4 * i64::from(spec.block) * at);
            e.each(zero, count, |e, lane| {
                let p = e.element(scratch, lane, 4);
                let x = e.load(p, F32);
                let p = e.element(to, lane, 4 * i64::from(spec.block));
                e.store(x, p);
            });
        }
    });
}

/// The codes of rows as those of tokens, at exactly their bits.
fn seal(e: &mut Emitter, spec: &BlockSpec, codes: Value, to: Value, scratch: Value) {
    let (zero, block) = (e.int(0), e.int(i64::from(spec.block)));
    let packed = e.offset(scratch, 64);
    e.each(zero, block, |e, token| {
        let from = e.at(codes, token);
        let to = e.element(packed, token, spec.row_bytes());
        for at in (0..i64::from(spec.features)).step_by(16) {
            let from = e.offset(from, i64::from(spec.block) * at);
            let count = e.int((i64::from(spec.features) - at).min(16));
            e.each(zero, count, |e, lane| {
                let p = e.element(from, lane, i64::from(spec.block));
                let code = e.load(p, I8);
                let p = e.at(scratch, lane);
                e.store(code, p);
            });
            let v = e.load(scratch, I8X16);
            let p = e.offset(to, at / 8 * i64::from(spec.coded.bits));
            write_patterns(e, spec.coded.bits, v, p);
        }
    });
    let bytes = e.int(spec.row_bytes() * i64::from(spec.block));
    e.copy_exact(to, packed, bytes);
}
