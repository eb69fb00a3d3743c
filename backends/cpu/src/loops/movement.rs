//! Data movement: a strided source block copied to a strided destination block. Transposes, slices, concatenations, pads, broadcasts and
//! layout changes are all this one kernel with different strides.
//!
//! Work item: one index over all axes but the innermost. Innermost, runs that are contiguous on both sides are one `memcpy`.

use super::{Slots, coordinates, dot, integer_of, numbered};
use crate::kernels::TargetCaps;
use crate::kernels::emit::{Emitter, Type};

/// A strided copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Copy {
    /// Rank after merging axes, at least 1.
    pub rank: usize,
    /// Bytes of one element: 1, 2, 4 or 8.
    pub bytes: i64,
    /// Whether the innermost axis is contiguous on both sides.
    pub contiguous: bool,
}

impl Copy {
    /// Argument names; strides and offsets in elements (two's complement for negative strides).
    pub fn arguments(&self) -> Vec<String> {
        let mut names: Vec<String> = ["out", "in", "out_offset", "in_offset"].map(String::from).to_vec();
        names.extend(numbered("dim", self.rank));
        names.extend(numbered("out_stride", self.rank));
        names.extend(numbered("in_stride", self.rank));
        names
    }

    /// The kernel's MLIR text.
    pub fn generate(&self, name: &str, caps: &TargetCaps) -> String {
        let mut e = Emitter::new(caps);
        let names = self.arguments();
        let element = Type::One(integer_of(self.bytes));
        e.kernel(name, |e, kernel| {
            let slots = Slots::new(kernel, &names);
            let (out, from) = (slots.pointer(e, "out"), slots.pointer(e, "in"));
            let (out_offset, in_offset) = (slots.size(e, "out_offset"), slots.size(e, "in_offset"));
            let out = e.element(out, out_offset, self.bytes);
            let from = e.element(from, in_offset, self.bytes);
            let dims = slots.sizes(e, "dim", self.rank);
            let out_strides = slots.sizes(e, "out_stride", self.rank);
            let in_strides = slots.sizes(e, "in_stride", self.rank);
            let last = self.rank - 1;
            e.each(kernel.begin, kernel.end, |e, item| {
                let at = coordinates(e, item, &dims[..last]);
                let to_index = dot(e, &at, &out_strides[..last]);
                let from_index = dot(e, &at, &in_strides[..last]);
                let to = e.element(out, to_index, self.bytes);
                let from = e.element(from, from_index, self.bytes);
                if self.contiguous {
                    let bytes = e.times(dims[last], self.bytes);
                    e.copy_exact(to, from, bytes);
                    return;
                }
                let zero = e.int(0);
                e.each(zero, dims[last], |e, i| {
                    let a = e.mul(i, in_strides[last]);
                    let p = e.element(from, a, self.bytes);
                    let x = e.load(p, element);
                    let b = e.mul(i, out_strides[last]);
                    let q = e.element(to, b, self.bytes);
                    e.store(x, q);
                });
            });
        });
        e.finish()
    }
}

/// Fills a buffer with one element. Work item: 64 elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fill {
    /// Bytes of one element: 1, 2, 4 or 8.
    pub bytes: i64,
}

impl Fill {
    /// Argument names: `value` holds the element's bits.
    pub const ARGUMENTS: [&'static str; 3] = ["out", "count", "value"];

    /// The kernel's MLIR text.
    pub fn generate(&self, name: &str, caps: &TargetCaps) -> String {
        let mut e = Emitter::new(caps);
        e.kernel(name, |e, kernel| {
            let names: Vec<String> = Self::ARGUMENTS.map(String::from).to_vec();
            let slots = Slots::new(kernel, &names);
            let (out, count, value) =
                (slots.pointer(e, "out"), slots.size(e, "count"), slots.size(e, "value"));
            let value = if self.bytes == 8 { value } else { e.truncate(value, integer_of(self.bytes)) };
            let from = e.times(kernel.begin, 64);
            let to = e.times(kernel.end, 64);
            let to = e.min_int(to, count);
            e.each(from, to, |e, i| {
                let p = e.element(out, i, self.bytes);
                e.store(value, p);
            });
        });
        e.finish()
    }
}
