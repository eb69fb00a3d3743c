//! Gather: whole inner blocks picked by an index. Embedding lookup is the case of one outer block.
//!
//! Work item: one (outer, index) pair. Negative indices count from the end; an index outside is held at the nearest valid one, so that no
//! input can make a kernel read outside a buffer, and reported as a fault, by which the call fails.

use super::Slots;
use crate::kernels::TargetCaps;
use crate::kernels::emit::{Emitter, I8, I32, I64, Scalar, Value};

/// A gather kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Gather {
    /// Bytes of one element.
    pub bytes: i64,
    /// Whether indices are 64-bit (else 32-bit).
    pub wide: bool,
}

impl Gather {
    /// Argument names; `inner` is the block size in elements, `size` the indexed axis, `count` the number of indices, `fault` an
    /// [`Arg::Fault`](qcc_runtime::program::Arg::Fault).
    pub const ARGUMENTS: [&'static str; 7] = ["out", "in", "index", "count", "size", "inner", "fault"];

    /// The kernel's MLIR text.
    pub fn generate(&self, name: &str, caps: &TargetCaps) -> String {
        let mut e = Emitter::new(caps);
        let names: Vec<String> = Self::ARGUMENTS.map(String::from).to_vec();
        e.kernel(name, |e, kernel| {
            let slots = Slots::new(kernel, &names);
            let [out, from, index] = ["out", "in", "index"].map(|n| slots.pointer(e, n));
            let fault = slots.pointer(e, "fault");
            let [count, size, inner] = ["count", "size", "inner"].map(|n| slots.size(e, n));
            let block = e.times(inner, self.bytes);
            e.each(kernel.begin, kernel.end, |e, item| {
                let outer = e.div(item, count);
                let which = e.rem(item, count);
                let i = held_index(e, index, which, size, (self.wide, fault));
                let row = e.mul(outer, size);
                let row = e.add(row, i);
                let source = e.mul(row, block);
                let source = e.at(from, source);
                let target = e.mul(item, block);
                let target = e.at(out, target);
                // Nothing can be read along an axis of size 0; zeros stand for what is not there.
                let zero = e.int(0);
                let any = e.compare("ne", size, zero);
                e.branch(
                    any,
                    |e| e.copy_exact(target, source, block),
                    |e| {
                        let nothing = e.int_of(I8, 0);
                        e.each(zero, block, |e, byte| {
                            let p = e.at(target, byte);
                            e.store(nothing, p);
                        });
                    },
                );
            });
        });
        e.finish()
    }
}

/// The index at a position, within `0..size`: negative ones count from the end, those outside are held at the nearest and reported.
pub(super) fn held_index(
    e: &mut Emitter,
    indices: Value,
    position: Value,
    size: Value,
    (wide, fault): (bool, Value),
) -> Value {
    let p = e.element(indices, position, if wide { 8 } else { 4 });
    let i = if wide {
        e.load(p, I64)
    } else {
        let i = e.load(p, I32);
        e.extend(i, Scalar::I64)
    };
    let zero = e.int(0);
    let negative = e.compare("slt", i, zero);
    let wrapped = e.add(i, size);
    let given = i;
    let i = e.select(negative, wrapped, i);
    let (below, above) = (e.compare("slt", i, zero), e.compare("sge", i, size));
    let outside = e.or(below, above);
    e.branch(
        outside,
        |e| {
            // Which of several is told does not matter.
            let (one, second) = (e.int(1), e.offset(fault, 8));
            e.store(given, second);
            e.store(one, fault);
        },
        |_| {},
    );
    let last = e.plus(size, -1);
    let i = e.min_int(i, last);
    e.max_int(i, zero)
}
