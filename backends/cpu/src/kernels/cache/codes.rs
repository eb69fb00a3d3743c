//! New tokens of codes, as quantizers write them: a byte a code (two of f16 and bf16), scales behind each other.

use super::{Layout, PANEL, block_at, capacity, number, scale_bytes, staged_bytes};
use crate::kernels::coded::Coded;
use crate::kernels::coded::decode::patterns;
use crate::kernels::coded::encode::minifloat;
use crate::kernels::emit::{Emitter, F32X16, I8X16, Scalar, Type, Value};
use crate::kernels::{SLACK, TargetCaps};
use crate::loops::storage::Storage;

/// Puts codes `[batch, time, heads, features]` and their scales `[batch, time, heads, groups]` behind those that are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AppendCodes {
    /// [`Layout::CodedPanels`] or [`Layout::CodedRows`].
    pub layout: Layout,
    /// Their form.
    pub coded: Coded,
    /// Heads that keys or values have.
    pub heads: u32,
    /// Features of a head.
    pub features: u32,
}

/// Argument slots: `time` tokens of each sequence follow `past` that are there; `capacity` is rounded up to whole tiles. A work item is one
/// token of rows, or one panel of a head of a sequence: `⌈(time + 15) / 16⌉` may be begun.
pub const APPEND_CODES: [&str; 6] = ["codes", "scales", "cache", "time", "past", "capacity"];

impl AppendCodes {
    fn row_bytes(&self) -> i64 {
        i64::from(self.features.next_multiple_of(16)) / 8 * i64::from(self.coded.bits)
    }

    fn groups(&self) -> i64 {
        self.coded.groups(u64::from(self.features)) as i64
    }

    /// Bytes of scratch a worker needs: a panel of codes as they come, and as they lie.
    pub fn scratch_bytes(&self) -> u64 {
        let panel = i64::from(self.features.next_multiple_of(16)) * i64::from(PANEL);
        (panel * (staged_bytes(self.coded) + 2)).unsigned_abs() + SLACK
    }
}

/// The kernel's MLIR text.
pub fn append_codes(spec: &AppendCodes, name: &str, caps: &TargetCaps) -> String {
    let mut e = Emitter::new(caps);
    e.kernel(name, |e, k| {
        let [codes, scales, cache] =
            ["codes", "scales", "cache"].map(|slot| k.pointer(e, &APPEND_CODES, slot));
        let [time, past] = ["time", "past"].map(|slot| k.size(e, &APPEND_CODES, slot));
        let capacity = capacity(e, |e| k.size(e, &APPEND_CODES, "capacity"));
        let all = Call { codes, scales, cache, time, past, capacity, scratch: k.scratch };
        e.each(k.begin, k.end, |e, item| match spec.layout {
            Layout::CodedPanels(_) => panel(e, spec, &all, item),
            _ => row(e, spec, &all, item),
        });
    });
    e.finish()
}

struct Call {
    codes: Value,
    scales: Value,
    cache: Value,
    time: Value,
    past: Value,
    capacity: Value,
    scratch: Value,
}

/// Codes and scales of a token of a head; `sequence` and `step` say which.
fn token(e: &mut Emitter, spec: &AppendCodes, call: &Call, at: [Value; 3]) -> (Value, Value) {
    let [sequence, step, head] = at;
    let token = e.mul(sequence, call.time);
    let token = e.add(token, step);
    let token = e.times(token, i64::from(spec.heads));
    let token = e.add(token, head);
    let codes = e.element(call.codes, token, staged_bytes(spec.coded) * i64::from(spec.features));
    (codes, e.element(call.scales, token, spec.groups() * scale_bytes(spec.coded) as i64))
}

fn copy_number(e: &mut Emitter, bytes: i64, from: Value, to: Value) {
    let x = e.load(from, number(bytes));
    e.store(x, to);
}

/// The tokens of a call that lie in one panel.
fn panel(e: &mut Emitter, spec: &AppendCodes, call: &Call, item: Value) {
    let (bits, staged, size) = (spec.coded.bits, staged_bytes(spec.coded), scale_bytes(spec.coded) as i64);
    let features = e.int(i64::from(spec.features));
    let reach = e.plus(call.time, 15);
    let begun = e.ceil_div(reach, i64::from(PANEL));
    let (row, of_row) = (e.div(item, begun), e.rem(item, begun));
    let (heads, sixteen) = (e.int(i64::from(spec.heads)), e.int(i64::from(PANEL)));
    let (sequence, head) = (e.div(row, heads), e.rem(row, heads));
    let first = e.div(call.past, sixteen);
    let first = e.add(first, of_row);
    let first = e.mul(first, sixteen);
    let low = e.max_int(call.past, first);
    let end = e.add(call.past, call.time);
    let last = e.add(first, sixteen);
    let high = e.min_int(end, last);
    let any = e.compare("slt", low, high);
    e.when(any, |e| {
        let tokens = e.mul(row, call.capacity);
        let tokens = e.add(tokens, first);
        let panel = block_at(e, spec.layout, spec.features, call.cache, tokens);
        let codes_at = e.offset(panel, i64::from(PANEL) * spec.groups() * size);
        let own = call.scratch;
        let packed = e.offset(own, i64::from(spec.features.next_multiple_of(16)) * i64::from(PANEL) * staged);
        let lanes = Type::Lanes(16, if staged == 1 { Scalar::I8 } else { Scalar::I16 });
        let zero = e.int(0);
        let older = e.compare("slt", first, low);
        let row_bytes = 2 * i64::from(bits);
        e.when(older, |e| {
            e.each(zero, features, |e, feature| {
                let p = e.element(codes_at, feature, row_bytes);
                let v = patterns(e, bits, p);
                let v = e.truncate(v, if staged == 1 { Scalar::I8 } else { Scalar::I16 });
                let p = e.element(own, feature, i64::from(PANEL) * staged);
                e.store(v, p);
            });
        });
        e.each(low, high, |e, position| {
            let step = e.sub(position, call.past);
            let lane = e.sub(position, first);
            let (codes, scales) = token(e, spec, call, [sequence, step, head]);
            let to = e.element(own, lane, staged);
            e.each(zero, features, |e, feature| {
                let from = e.element(codes, feature, staged);
                let to = e.element(to, feature, i64::from(PANEL) * staged);
                copy_number(e, staged, from, to);
            });
            if size > 0 {
                let to = e.element(panel, lane, size);
                for group in 0..spec.groups() {
                    let (from, to) =
                        (e.offset(scales, group * size), e.offset(to, i64::from(PANEL) * group * size));
                    copy_number(e, size, from, to);
                }
            }
        });
        e.each(zero, features, |e, feature| {
            let p = e.element(own, feature, i64::from(PANEL) * staged);
            let v = e.load(p, lanes);
            let p = e.element(packed, feature, row_bytes);
            write_patterns(e, bits, v, p);
        });
        let bytes = e.times(features, row_bytes);
        e.copy_exact(codes_at, packed, bytes);
    });
}

/// One token of all heads.
fn row(e: &mut Emitter, spec: &AppendCodes, call: &Call, item: Value) {
    let size = scale_bytes(spec.coded) as i64;
    let (sequence, step) = (e.div(item, call.time), e.rem(item, call.time));
    let position = e.add(call.past, step);
    let together = e.int(i64::from(spec.layout.tokens()));
    let lane = e.rem(position, together);
    let first = e.sub(position, lane);
    let (zero, heads) = (e.int(0), e.int(i64::from(spec.heads)));
    e.each(zero, heads, |e, head| {
        let (codes, scales) = token(e, spec, call, [sequence, step, head]);
        let row = e.times(sequence, i64::from(spec.heads));
        let row = e.add(row, head);
        let tokens = e.mul(row, call.capacity);
        let tokens = e.add(tokens, first);
        let block = block_at(e, spec.layout, spec.features, call.cache, tokens);
        pack_row(e, spec.coded, spec.features, codes, call.scratch);
        let to = e.offset(block, i64::from(spec.layout.tokens()) * size);
        let to = e.element(to, lane, spec.row_bytes());
        let bytes = e.int(spec.row_bytes());
        e.copy_exact(to, call.scratch, bytes);
        if size > 0 {
            let to = e.element(block, lane, size);
            copy_number(e, size, scales, to);
        }
    });
}

/// Argument slots of [`halves`]: `count` numbers of `x` (f32) in `y`. A work item is 64 of them.
pub const HALVES: [&str; 3] = ["x", "y", "count"];

/// The text of the kernel that rounds to f16 or bf16, saturating.
pub fn halves(storage: Storage, name: &str, caps: &TargetCaps) -> String {
    let mut e = Emitter::new(caps);
    let most = if storage == Storage::F16 { 65504.0 } else { half::bf16::MAX.to_f32() };
    e.kernel(name, |e, k| {
        let (x, y) = (k.pointer(e, &HALVES, "x"), k.pointer(e, &HALVES, "y"));
        let count = k.size(e, &HALVES, "count");
        e.each(k.begin, k.end, |e, item| {
            let first = e.times(item, 64);
            let end = e.plus(first, 64);
            let end = e.min_int(end, count);
            let sixteen = e.int(16);
            e.repeat(first, end, sixteen, &[], |e, at, _| {
                let p = e.element(x, at, 4);
                let v = e.load(p, F32X16);
                let v = narrowed(e, storage, most, v);
                let p = e.element(y, at, 2);
                let left = e.sub(end, at);
                let whole = e.compare("sge", left, sixteen);
                e.branch(
                    whole,
                    |e| e.store(v, p),
                    |e| {
                        e.store(v, k.scratch);
                        let bytes = e.times(left, 2);
                        e.copy_exact(p, k.scratch, bytes);
                    },
                );
                Vec::new()
            });
        });
    });
    e.finish()
}

/// The bits of numbers in f16 or bf16, saturating at `most`; NaN stays.
pub(super) fn narrowed(e: &mut Emitter, storage: Storage, most: f32, x: Value) -> Value {
    let (low, high) = (e.floats(-most), e.floats(most));
    let below = e.compare_float("olt", x, low);
    let x = e.select(below, low, x);
    let above = e.compare_float("ogt", x, high);
    let x = e.select(above, high, x);
    if storage == Storage::F16 && !e.caps.f16c {
        let codes = minifloat(e, qcc_ir::levels::Minifloat::HALF, x);
        return e.truncate(codes, Scalar::I16);
    }
    let v = storage.narrow(e, x);
    e.bits(v, Type::Lanes(16, Scalar::I16))
}

/// Packs codes of as many features as fill registers.
pub(super) fn pack_row(e: &mut Emitter, coded: Coded, features: u32, codes: Value, to: Value) {
    let staged = staged_bytes(coded);
    let lanes = if staged == 1 { I8X16 } else { Type::Lanes(16, Scalar::I16) };
    for at in (0..i64::from(features)).step_by(16) {
        let p = e.offset(codes, at * staged);
        let v = e.load(p, lanes);
        let p = e.offset(to, at / 8 * i64::from(coded.bits));
        write_patterns(e, coded.bits, v, p);
    }
}

/// Writes sixteen patterns of `bits` bits beside each other, and up to seven bytes behind them.
pub(super) fn write_patterns(e: &mut Emitter, bits: u8, codes: Value, to: Value) {
    if bits == 8 || bits == 16 {
        return e.store(codes, to);
    }
    let numbers = e.lane_numbers();
    for half in 0..2usize {
        let pick: Vec<usize> = (8 * half..8 * half + 8).collect();
        let eight = e.shuffle(codes, codes, &pick);
        let wide = e.extend_unsigned(eight, Scalar::I64);
        let ty = wide.ty();
        let mask = e.int_of(ty, (1 << bits) - 1);
        let wide = e.and(wide, mask);
        let first: Vec<usize> = (0..8).collect();
        let shift = e.shuffle(numbers, numbers, &first);
        let shift = e.extend_unsigned(shift, Scalar::I64);
        let each = e.int_of(ty, i64::from(bits));
        let shift = e.mul(shift, each);
        let word = e.shl(wide, shift);
        let word = e.fold(word, Emitter::or);
        let p = e.offset(to, half as i64 * i64::from(bits));
        e.store(word, p);
    }
}
