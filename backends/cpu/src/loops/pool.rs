//! Pools over two spatial axes of channels-last images, sixteen channels at a time. 1-D pools have height 1.
//!
//! Work item: one output pixel (batch, row, column). Maxima work on codes as well as on floats: codes are ordered as the numbers they stand
//! for.

use super::storage::{I64X16, Storage};
use super::{Slots, coordinates};
use crate::kernels::TargetCaps;
use crate::kernels::emit::{Emitter, F32X16, Value};

/// What is computed over a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PoolKind {
    /// Maximum; padding counts as the least value.
    Max,
    /// Mean over the elements inside the image.
    Mean,
    /// Mean over the elements inside the padded image.
    MeanWithPads,
}

/// A pool kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Pool {
    /// What is computed.
    pub kind: PoolKind,
    /// Element storage of both sides; f32 for means.
    pub storage: Storage,
}

impl Pool {
    /// Argument names: image sizes, output sizes, then per axis kernel, stride, pad before, pad after, dilation.
    pub const ARGUMENTS: [&'static str; 17] = [
        "out", "in", "h", "w", "c", "oh", "ow", "kh", "kw", "sh", "sw", "top", "left", "bottom", "right",
        "dh", "dw",
    ];

    /// The kernel's MLIR text.
    pub fn generate(&self, name: &str, caps: &TargetCaps) -> String {
        let mut e = Emitter::new(caps);
        let names: Vec<String> = Self::ARGUMENTS.map(String::from).to_vec();
        e.kernel(name, |e, kernel| {
            let slots = Slots::new(kernel, &names);
            let [out, from] = ["out", "in"].map(|n| slots.pointer(e, n));
            let [h, w, c, oh, ow] = ["h", "w", "c", "oh", "ow"].map(|n| slots.size(e, n));
            let [kh, kw, sh, sw] = ["kh", "kw", "sh", "sw"].map(|n| slots.size(e, n));
            let [top, left, bottom, right] = ["top", "left", "bottom", "right"].map(|n| slots.size(e, n));
            let [dh, dw] = ["dh", "dw"].map(|n| slots.size(e, n));
            e.each(kernel.begin, kernel.end, |e, item| {
                let at = coordinates(e, item, &[oh, oh, ow]);
                let (batch, y, x) = (at[0], at[1], at[2]);
                let y0 = e.mul(y, sh);
                let y0 = e.sub(y0, top);
                let x0 = e.mul(x, sw);
                let x0 = e.sub(x0, left);
                let image = e.mul(batch, h);
                let zero = e.int(0);
                let sixteen = e.int(16);
                let counted = match self.kind {
                    PoolKind::Max => None,
                    PoolKind::Mean => {
                        let rows = count_inside(e, y0, kh, dh, zero, h);
                        let columns = count_inside(e, x0, kw, dw, zero, w);
                        Some(e.mul(rows, columns))
                    }
                    PoolKind::MeanWithPads => {
                        let (low_y, low_x) = (e.sub(zero, top), e.sub(zero, left));
                        let (high_y, high_x) = (e.add(h, bottom), e.add(w, right));
                        let rows = count_inside(e, y0, kh, dh, low_y, high_y);
                        let columns = count_inside(e, x0, kw, dw, low_x, high_x);
                        Some(e.mul(rows, columns))
                    }
                };
                e.repeat(zero, c, sixteen, &[], |e, channel, _| {
                    let start = self.identity(e);
                    let one = e.int(1);
                    let total = e.repeat(zero, kh, one, &[start], |e, i, carried| {
                        let dy = e.mul(i, dh);
                        let py = e.add(y0, dy);
                        let row = e.add(image, py);
                        let row = e.mul(row, w);
                        e.repeat(zero, kw, one, carried, |e, j, carried| {
                            let dx = e.mul(j, dw);
                            let px = e.add(x0, dx);
                            let inside_y = inside(e, py, zero, h);
                            let inside_x = inside(e, px, zero, w);
                            let inside = e.and(inside_y, inside_x);
                            let before = carried[0];
                            e.choose(
                                inside,
                                &[before.ty()],
                                |e| {
                                    let pixel = e.add(row, px);
                                    let index = e.mul(pixel, c);
                                    let index = e.add(index, channel);
                                    let p = e.element(from, index, self.storage.bytes());
                                    let x = self.storage.load(e, p);
                                    vec![self.combine(e, before, x)]
                                },
                                |_| vec![before],
                            )
                        })
                    })[0];
                    let total = match counted {
                        None => total,
                        Some(n) => {
                            let n = e.to_float(n);
                            let n = e.splat(n, 16);
                            e.div(total, n)
                        }
                    };
                    let y = self.storage.narrow(e, total);
                    let index = e.mul(item, c);
                    let index = e.add(index, channel);
                    let p = e.element(out, index, self.storage.bytes());
                    let left = e.sub(c, channel);
                    e.store_first(y, p, left);
                    Vec::new()
                });
            });
        });
        e.finish()
    }

    fn identity(&self, e: &mut Emitter) -> Value {
        match (self.kind, self.storage.is_float()) {
            (PoolKind::Max, true) => e.floats(f32::NEG_INFINITY),
            (PoolKind::Max, false) => e.int_of(I64X16, i64::from(i32::MIN)),
            _ => e.floats(0.0),
        }
    }

    fn combine(&self, e: &mut Emitter, a: Value, b: Value) -> Value {
        match self.kind {
            PoolKind::Max if a.ty() == F32X16 => e.larger(a, b),
            PoolKind::Max => e.max_int(a, b),
            _ => e.add(a, b),
        }
    }
}

fn inside(e: &mut Emitter, x: Value, low: Value, high: Value) -> Value {
    let above = e.compare("sge", x, low);
    let below = e.compare("slt", x, high);
    e.and(above, below)
}

/// How many of `from, from + step, …` (`count` of them) lie in `low..high`.
fn count_inside(e: &mut Emitter, from: Value, count: Value, step: Value, low: Value, high: Value) -> Value {
    let (zero, one) = (e.int(0), e.int(1));
    e.repeat(zero, count, one, &[zero], |e, i, carried| {
        let x = e.mul(i, step);
        let x = e.add(from, x);
        let inside = inside(e, x, low, high);
        let more = e.plus(carried[0], 1);
        vec![e.select(inside, more, carried[0])]
    })[0]
}
