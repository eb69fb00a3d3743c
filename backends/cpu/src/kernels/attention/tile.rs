//! Keys and values of a tile as f32: as they lie where they are that, else decoded into scratch.

use super::super::cache::{self, Layout, PANEL};
use super::super::coded::Coded;
use super::super::coded::decode::{patterns, scales};
use super::super::coded::expand::Expand;
use super::super::emit::{Emitter, Value};
use super::{AttentionSpec, Values};

/// The panels of a tile that hold keys, as f32.
pub(super) fn decoded_keys(
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
pub(super) fn decoded_rows(
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
pub(super) fn decode_blocks(
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
