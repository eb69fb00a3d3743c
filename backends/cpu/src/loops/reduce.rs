//! Reductions of `[outer, reduced, inner]` over the middle axis: floats in f32, integers in i64.
//!
//! Work item: one outer index. With `inner > 1` sixteen inner elements reduce at once; else sixteen partial results run along the reduced
//! axis and combine in a fixed order, so that results do not depend on the number of threads.

use super::Slots;
use super::storage::{I64X16, Storage};
use crate::kernels::TargetCaps;
use crate::kernels::emit::{Emitter, Value};

/// What is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reduction {
    /// Sum.
    Sum,
    /// Sum over count.
    Mean,
    /// Maximum.
    Max,
}

/// A reduction kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Reduce {
    /// What is computed.
    pub reduction: Reduction,
    /// Whether `inner` is 1.
    pub rows: bool,
    /// Element storage of both sides.
    pub storage: Storage,
}

impl Reduce {
    /// Argument names.
    pub const ARGUMENTS: [&'static str; 4] = ["out", "in", "reduced", "inner"];

    /// The kernel's MLIR text.
    pub fn generate(&self, name: &str, caps: &TargetCaps) -> String {
        let mut e = Emitter::new(caps);
        let names: Vec<String> = Self::ARGUMENTS.map(String::from).to_vec();
        e.kernel(name, |e, kernel| {
            let slots = Slots::new(kernel, &names);
            let [out, from] = ["out", "in"].map(|n| slots.pointer(e, n));
            let [reduced, inner] = ["reduced", "inner"].map(|n| slots.size(e, n));
            let bytes = self.storage.bytes();
            e.each(kernel.begin, kernel.end, |e, outer| {
                if self.rows {
                    let start = e.mul(outer, reduced);
                    let row = e.element(from, start, bytes);
                    let y = self.row(e, row, reduced);
                    let p = e.element(out, outer, bytes);
                    let one = e.int(1);
                    e.store_first(y, p, one);
                } else {
                    let start = e.mul(outer, inner);
                    let to = e.element(out, start, bytes);
                    let start = e.mul(start, reduced);
                    let from = e.element(from, start, bytes);
                    self.columns(e, to, from, reduced, inner);
                }
            });
        });
        e.finish()
    }

    fn identity(&self, e: &mut Emitter) -> Value {
        let max = self.reduction == Reduction::Max;
        if self.storage.is_float() {
            e.floats(if max { f32::NEG_INFINITY } else { 0.0 })
        } else {
            e.int_of(I64X16, if max { i64::MIN } else { 0 })
        }
    }

    fn combine(&self, e: &mut Emitter, a: Value, b: Value) -> Value {
        match self.reduction {
            Reduction::Max if !self.storage.is_float() => e.max_int(a, b),
            Reduction::Max => {
                // A NaN on either side wins.
                let larger = e.larger(a, b);
                let number = e.compare_float("ord", a, a);
                e.select(number, larger, a)
            }
            _ => e.add(a, b),
        }
    }

    fn finish(&self, e: &mut Emitter, sum: Value, count: Value) -> Value {
        if self.reduction != Reduction::Mean {
            return sum;
        }
        if self.storage.is_float() {
            let n = e.to_float(count);
            let n = e.splat(n, 16);
            return e.div(sum, n);
        }
        // A division by zero would trap; the mean of nothing has no value anyway.
        let one = e.int(1);
        let n = e.max_int(count, one);
        let n = e.splat(n, 16);
        e.div_signed(sum, n)
    }

    fn row(&self, e: &mut Emitter, row: Value, reduced: Value) -> Value {
        let (zero, sixteen) = (e.int(0), e.int(16));
        let start = self.identity(e);
        let total = e.repeat(zero, reduced, sixteen, &[start], |e, i, carried| {
            let p = e.element(row, i, self.storage.bytes());
            let x = self.storage.load(e, p);
            let left = e.sub(reduced, i);
            let mask = e.mask(left, 16);
            let nothing = self.identity(e);
            let x = e.select(mask, x, nothing);
            vec![self.combine(e, carried[0], x)]
        })[0];
        let total = e.fold(total, |e, a, b| self.combine(e, a, b));
        let total = e.splat(total, 16);
        let y = self.finish(e, total, reduced);
        self.storage.narrow(e, y)
    }

    fn columns(&self, e: &mut Emitter, out: Value, from: Value, reduced: Value, inner: Value) {
        let (zero, one, sixteen) = (e.int(0), e.int(1), e.int(16));
        e.repeat(zero, inner, sixteen, &[], |e, i, _| {
            let column = e.element(from, i, self.storage.bytes());
            let start = self.identity(e);
            let total = e.repeat(zero, reduced, one, &[start], |e, r, carried| {
                let at = e.mul(r, inner);
                let p = e.element(column, at, self.storage.bytes());
                let x = self.storage.load(e, p);
                vec![self.combine(e, carried[0], x)]
            })[0];
            let y = self.finish(e, total, reduced);
            let y = self.storage.narrow(e, y);
            let p = e.element(out, i, self.storage.bytes());
            let left = e.sub(inner, i);
            e.store_first(y, p, left);
            Vec::new()
        });
    }
}
