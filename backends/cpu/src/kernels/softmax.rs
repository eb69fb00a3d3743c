//! Softmax of rows: `exp(x − max) / Σ exp(x − max)`. A row of −∞ gives NaN, as the definition does.

use super::emit::{Emitter, F32};
use super::{TargetCaps, row};

/// Argument slots; a work item is a row, strides in bytes. `y` may be `x`.
pub const ARGS: [&str; 6] = ["x", "x_stride", "y", "y_stride", "rows", "columns"];

/// The kernel's MLIR text.
pub fn generate(name: &str, caps: &TargetCaps) -> String {
    let mut e = Emitter::new(caps);
    e.kernel(name, |e, k| {
        let (x, y) = (k.pointer(e, &ARGS, "x"), k.pointer(e, &ARGS, "y"));
        let (x_stride, y_stride) = (k.size(e, &ARGS, "x_stride"), k.size(e, &ARGS, "y_stride"));
        let columns = k.size(e, &ARGS, "columns");
        e.each(k.begin, k.end, |e, index| {
            let bytes = e.mul(index, x_stride);
            let x = e.at(x, bytes);
            let bytes = e.mul(index, y_stride);
            let y = e.at(y, bytes);
            let low = e.floats(f32::NEG_INFINITY);
            let most = row::sweep(e, columns, &[low], |e, s, most| {
                let v = s.load(e, x, f32::NEG_INFINITY);
                vec![e.larger(v, most[0])]
            })[0];
            let most = e.fold(most, Emitter::larger);
            let most = e.splat(most, 16);
            let zero = e.floats(0.0);
            let sum = row::sweep(e, columns, &[zero], |e, s, sum| {
                let v = s.load(e, x, f32::NEG_INFINITY);
                let v = e.sub(v, most);
                let v = e.exp(v);
                s.store(e, v, y, 4);
                let v = s.or(e, v, 0.0);
                vec![e.add(sum[0], v)]
            })[0];
            let sum = e.sum(sum);
            let one = e.float_of(F32, 1.0);
            let scale = e.div(one, sum);
            let scale = e.splat(scale, 16);
            row::sweep(e, columns, &[], |e, s, _| {
                let v = s.load(e, y, 0.0);
                let v = e.mul(v, scale);
                s.store(e, v, y, 4);
                Vec::new()
            });
        });
    });
    e.finish()
}
