//! Matrix product of two activations (neither is a weight, so nothing is packed): `[m, k] · [k, n]` per batch, f32.
//!
//! Work item: one row of one batch; 64 columns at a time stay in registers along k.

use super::Slots;
use crate::kernels::TargetCaps;
use crate::kernels::emit::{Emitter, F32, F32X16, Value};

/// The kernel (it has no variants).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Matmul;

const VECTORS: i64 = 4;

impl Matmul {
    /// Argument names; `stride_a` and `stride_b` lead to the next batch, in elements (0 repeats the matrix).
    pub const ARGUMENTS: [&'static str; 8] = ["out", "a", "b", "m", "n", "k", "stride_a", "stride_b"];

    /// The kernel's MLIR text.
    pub fn generate(&self, name: &str, caps: &TargetCaps) -> String {
        let mut e = Emitter::new(caps);
        let names: Vec<String> = Self::ARGUMENTS.map(String::from).to_vec();
        e.kernel(name, |e, kernel| {
            let slots = Slots::new(kernel, &names);
            let [out, a, b] = ["out", "a", "b"].map(|n| slots.pointer(e, n));
            let [m, n, k, stride_a, stride_b] =
                ["m", "n", "k", "stride_a", "stride_b"].map(|n| slots.size(e, n));
            e.each(kernel.begin, kernel.end, |e, item| {
                let batch = e.div(item, m);
                let row = e.rem(item, m);
                let start = e.mul(batch, stride_a);
                let inner = e.mul(row, k);
                let start = e.add(start, inner);
                let a = e.element(a, start, 4);
                let start = e.mul(batch, stride_b);
                let b = e.element(b, start, 4);
                let start = e.mul(item, n);
                let out = e.element(out, start, 4);
                let (zero, wide) = (e.int(0), e.int(16 * VECTORS));
                e.repeat(zero, n, wide, &[], |e, j, _| {
                    columns(e, out, a, b, k, n, j);
                    Vec::new()
                });
            });
        });
        e.finish()
    }
}

/// Columns `j .. j + 64` of one row; vectors that lie wholly past the row read the last valid one.
fn columns(e: &mut Emitter, out: Value, a: Value, b: Value, k: Value, n: Value, j: Value) {
    let (zero, one) = (e.int(0), e.int(1));
    let starts: Vec<Value> = (0..VECTORS)
        .map(|v| {
            let at = e.plus(j, 16 * v);
            let inside = e.compare("slt", at, n);
            e.select(inside, at, j)
        })
        .collect();
    let start = e.floats(0.0);
    let sums = e.repeat(zero, k, one, &vec![start; VECTORS as usize], |e, i, carried| {
        let p = e.element(a, i, 4);
        let x = e.load(p, F32);
        let x = e.splat(x, 16);
        let row = e.mul(i, n);
        carried
            .iter()
            .zip(&starts)
            .map(|(sum, at)| {
                let index = e.add(row, *at);
                let p = e.element(b, index, 4);
                let y = e.load(p, F32X16);
                e.multiply_add(x, y, *sum)
            })
            .collect()
    });
    for (v, sum) in sums.into_iter().enumerate() {
        let at = e.plus(j, 16 * v as i64);
        let left = e.sub(n, at);
        let some = e.compare("sgt", left, zero);
        e.when(some, |e| {
            let p = e.element(out, at, 4);
            e.store_first(sum, p, left);
        });
    }
}
