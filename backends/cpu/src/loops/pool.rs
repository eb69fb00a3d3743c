//! Pools over two spatial axes of channels-last images, sixteen channels at a time. 1-D pools have height 1.
//!
//! Work item: one output line (batch, row). Maxima work on codes as well as on floats: codes are ordered as the numbers they stand
//! for.

use super::Slots;
use super::storage::{I64X16, Storage};
use crate::kernels::TargetCaps;
use crate::kernels::emit::{Emitter, F32X16, I8X16, Scalar, Type, Value};

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
            let one = e.int(1);
            e.each(kernel.begin, kernel.end, |e, item| {
                let (batch, y) = (e.div(item, oh), e.rem(item, oh));
                let y0 = e.mul(y, sh);
                let y0 = e.sub(y0, top);
                let rows = taps_inside(e, y0, kh, dh, h);
                let image = e.mul(batch, h);
                let zero = e.int(0);
                e.each(zero, ow, |e, x| {
                    let x0 = e.mul(x, sw);
                    let x0 = e.sub(x0, left);
                    let columns = taps_inside(e, x0, kw, dw, w);
                    let counted = match self.kind {
                        PoolKind::Max => None,
                        PoolKind::Mean => {
                            let (down, across) = (e.sub(rows.1, rows.0), e.sub(columns.1, columns.0));
                            Some(e.mul(down, across))
                        }
                        PoolKind::MeanWithPads => {
                            let (low_y, low_x) = (e.sub(zero, top), e.sub(zero, left));
                            let (high_y, high_x) = (e.add(h, bottom), e.add(w, right));
                            let rows = count_inside(e, y0, kh, dh, low_y, high_y);
                            let columns = count_inside(e, x0, kw, dw, low_x, high_x);
                            Some(e.mul(rows, columns))
                        }
                    };
                    let divisor = counted.map(|n| {
                        let n = e.to_float(n);
                        e.splat(n, 16)
                    });
                    let out_pixel = e.mul(item, ow);
                    let out_pixel = e.add(out_pixel, x);
                    let out_index = e.mul(out_pixel, c);
                    let whole = if self.is_bytes() {
                        let mask = e.int(!63);
                        e.and(c, mask)
                    } else {
                        zero
                    };
                    for (lanes, begin, end) in [(64, zero, whole), (16, whole, c)] {
                        if lanes == 64 && !self.is_bytes() {
                            continue;
                        }
                        let step = e.int(lanes);
                        e.repeat(begin, end, step, &[], |e, channel, _| {
                            let start = self.identity(e, lanes);
                            let total = e.repeat(rows.0, rows.1, one, &[start], |e, i, carried| {
                                let dy = e.mul(i, dh);
                                let py = e.add(y0, dy);
                                let row = e.add(image, py);
                                let row = e.mul(row, w);
                                e.repeat(columns.0, columns.1, one, carried, |e, j, carried| {
                                    let dx = e.mul(j, dw);
                                    let px = e.add(x0, dx);
                                    let pixel = e.add(row, px);
                                    let index = e.mul(pixel, c);
                                    let index = e.add(index, channel);
                                    let p = e.element(from, index, self.storage.bytes());
                                    let x = self.load(e, p, lanes);
                                    vec![self.combine(e, carried[0], x)]
                                })
                            })[0];
                            let total = match divisor {
                                None => total,
                                Some(n) => e.div(total, n),
                            };
                            let y = if self.is_bytes() { total } else { self.storage.narrow(e, total) };
                            let index = e.add(out_index, channel);
                            let p = e.element(out, index, self.storage.bytes());
                            let left = e.sub(c, channel);
                            e.store_first(y, p, left);
                            Vec::new()
                        });
                    }
                });
            });
        });
        e.finish()
    }

    /// Whether bytes are compared as they lie in memory: biased codes are ordered as unsigned bytes.
    fn is_bytes(&self) -> bool {
        self.kind == PoolKind::Max && self.storage.lanes() == I8X16
    }

    fn load(&self, e: &mut Emitter, p: Value, lanes: i64) -> Value {
        if self.is_bytes() {
            e.load(p, Type::Lanes(lanes as u16, Scalar::I8))
        } else {
            self.storage.load(e, p)
        }
    }

    fn identity(&self, e: &mut Emitter, lanes: i64) -> Value {
        if self.is_bytes() {
            let least = if self.storage == Storage::I8 { -128 } else { 0 };
            return e.int_of(Type::Lanes(lanes as u16, Scalar::I8), least);
        }
        match (self.kind, self.storage.is_float()) {
            (PoolKind::Max, true) => e.floats(f32::NEG_INFINITY),
            (PoolKind::Max, false) => e.int_of(I64X16, i64::from(i32::MIN)),
            _ => e.floats(0.0),
        }
    }

    fn combine(&self, e: &mut Emitter, a: Value, b: Value) -> Value {
        match self.kind {
            PoolKind::Max if self.is_bytes() && self.storage != Storage::I8 => e.max_unsigned(a, b),
            PoolKind::Max if a.ty() == F32X16 => e.larger(a, b),
            PoolKind::Max => e.max_int(a, b),
            _ => e.add(a, b),
        }
    }
}

/// Which of the taps `from, from + step, …` (`count` of them) lie in `0..size`: first and one past the last.
fn taps_inside(e: &mut Emitter, from: Value, count: Value, step: Value, size: Value) -> (Value, Value) {
    let (zero, one) = (e.int(0), e.int(1));
    let up = e.sub(step, one);
    let steps = |e: &mut Emitter, distance: Value| {
        let distance = e.max_int(distance, zero);
        let distance = e.add(distance, up);
        let steps = e.div(distance, step);
        e.min_int(steps, count)
    };
    let before = e.sub(zero, from);
    let first = steps(e, before);
    let room = e.sub(size, from);
    let last = steps(e, room);
    (first, e.max_int(first, last))
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
