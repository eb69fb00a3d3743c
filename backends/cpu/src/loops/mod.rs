//! Loop-nest kernels: everything that is neither a matrix product nor a recurrence. Same ABI and buffer contract as [`crate::kernels`].
//!
//! Shapes arrive already simplified: adjacent axes that every operand treats alike are one axis (see `lower::axes`), so ranks are small
//! and innermost loops long.

mod conversion;
pub mod elementwise;
pub mod gather;
mod integer;
pub mod matmul;
pub mod movement;
pub mod packed_rows;
pub mod planes;
pub mod pool;
pub mod reduce;
pub mod storage;

use crate::kernels::emit::{Emitter, I64, Kernel, Scalar, Value};

/// Slot names `prefix0 …` of an argument list.
pub(crate) fn numbered(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|i| format!("{prefix}{i}")).collect()
}

/// Integers of so many bytes, for elements that are only moved.
pub(crate) fn integer_of(bytes: i64) -> Scalar {
    match bytes {
        8 => Scalar::I64,
        4 => Scalar::I32,
        2 => Scalar::I16,
        _ => Scalar::I8,
    }
}

/// The slots of a kernel, by the names of its argument list.
pub(crate) struct Slots<'a> {
    kernel: Kernel,
    names: Vec<&'a str>,
}

impl<'a> Slots<'a> {
    pub(crate) fn new(kernel: Kernel, names: &'a [String]) -> Slots<'a> {
        Slots { kernel, names: names.iter().map(String::as_str).collect() }
    }

    pub(crate) fn pointer(&self, e: &mut Emitter, name: &str) -> Value {
        self.kernel.pointer(e, &self.names, name)
    }

    pub(crate) fn size(&self, e: &mut Emitter, name: &str) -> Value {
        self.kernel.size(e, &self.names, name)
    }

    pub(crate) fn sizes(&self, e: &mut Emitter, prefix: &str, count: usize) -> Vec<Value> {
        (0..count).map(|i| self.size(e, &format!("{prefix}{i}"))).collect()
    }
}

/// Splits a linear index into coordinates of `dims`, outermost first.
pub(crate) fn coordinates(e: &mut Emitter, index: Value, dims: &[Value]) -> Vec<Value> {
    debug_assert_eq!(index.ty(), I64);
    let mut rest = index;
    let mut out = Vec::new();
    for (i, dim) in dims.iter().enumerate().rev() {
        if i == 0 {
            out.push(rest);
        } else {
            out.push(e.rem(rest, *dim));
            rest = e.div(rest, *dim);
        }
    }
    out.reverse();
    out
}

/// Σ coordinate · stride.
pub(crate) fn dot(e: &mut Emitter, coordinates: &[Value], strides: &[Value]) -> Value {
    let mut sum = e.int(0);
    for (c, s) in coordinates.iter().zip(strides) {
        let product = e.mul(*c, *s);
        sum = e.add(sum, product);
    }
    sum
}
