//! New tokens of f32.

use super::{Layout, PANEL, capacity};
use crate::kernels::TargetCaps;
use crate::kernels::emit::{Emitter, F32};

/// Puts tokens `[batch, time, heads, features]` behind those that are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AppendSpec {
    /// Whether they lie in panels, not row by row.
    pub panels: bool,
    /// Heads that keys or values have.
    pub heads: u32,
    /// Features of a head.
    pub features: u32,
}

/// Argument slots. A token of `x` is `x_stride` bytes behind the one before; `time` tokens of each sequence follow `past` that are there.
/// `capacity` is rounded up to whole tiles. A work item is one token.
pub const APPEND: [&str; 6] = ["x", "x_stride", "cache", "time", "past", "capacity"];

impl AppendSpec {
    /// Where the kernel puts them.
    pub fn layout(&self) -> Layout {
        if self.panels { Layout::Panels } else { Layout::Rows }
    }
}

/// The kernel's MLIR text.
pub fn append(spec: &AppendSpec, name: &str, caps: &TargetCaps) -> String {
    let mut e = Emitter::new(caps);
    let features = i64::from(spec.features);
    e.kernel(name, |e, k| {
        let (x, cache) = (k.pointer(e, &APPEND, "x"), k.pointer(e, &APPEND, "cache"));
        let [stride, time, past] = ["x_stride", "time", "past"].map(|slot| k.size(e, &APPEND, slot));
        let capacity = capacity(e, |e| k.size(e, &APPEND, "capacity"));
        e.each(k.begin, k.end, |e, item| {
            let (sequence, step) = (e.div(item, time), e.rem(item, time));
            let position = e.add(past, step);
            let from = e.mul(item, stride);
            let from = e.at(x, from);
            for head in 0..i64::from(spec.heads) {
                let from = e.offset(from, 4 * features * head);
                let row = e.times(sequence, i64::from(spec.heads));
                let row = e.plus(row, head);
                let row = e.mul(row, capacity);
                if !spec.panels {
                    let token = e.add(row, position);
                    let to = e.element(cache, token, 4 * features);
                    let bytes = e.int(4 * features);
                    e.copy_exact(to, from, bytes);
                    continue;
                }
                let sixteen = e.int(i64::from(PANEL));
                let (panel, lane) = (e.div(position, sixteen), e.rem(position, sixteen));
                let first = e.mul(panel, sixteen);
                let first = e.add(row, first);
                let to = e.element(cache, first, 4 * features);
                let to = e.element(to, lane, 4);
                let (zero, count) = (e.int(0), e.int(features));
                e.each(zero, count, |e, feature| {
                    let from = e.element(from, feature, 4);
                    let v = e.load(from, F32);
                    let to = e.element(to, feature, 4 * i64::from(PANEL));
                    e.store(v, to);
                });
            }
        });
    });
    e.finish()
}
