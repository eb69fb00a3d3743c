//! Sweeps over the values of a row, sixteen at a time, the last few under a mask.

use super::emit::{Emitter, F32X16, Value};

/// A stretch of up to sixteen neighbouring columns.
#[derive(Clone, Copy)]
pub(super) struct Stretch {
    /// First column.
    pub column: Value,
    /// The lanes in the row; all of them where `None`.
    mask: Option<Value>,
}

impl Stretch {
    /// `x`, with `other` in the lanes past the row's end.
    pub fn or(&self, e: &mut Emitter, x: Value, other: f32) -> Value {
        match self.mask {
            None => x,
            Some(mask) => {
                let other = e.float_of(x.ty(), other);
                e.select(mask, x, other)
            }
        }
    }

    /// The row's f32 values at `p` (the row's start), `other` past its end, where nothing is read.
    pub fn load(&self, e: &mut Emitter, p: Value, other: f32) -> Value {
        let p = e.element(p, self.column, 4);
        match self.mask {
            None => e.load(p, F32X16),
            Some(mask) => {
                let other = e.floats(other);
                e.load_masked(p, mask, other)
            }
        }
    }

    /// Stores the stretch of elements of `size` bytes into the row at `p`.
    pub fn store(&self, e: &mut Emitter, x: Value, p: Value, size: i64) {
        let p = e.element(p, self.column, size);
        match self.mask {
            None => e.store(x, p),
            Some(mask) => e.store_masked(x, p, mask),
        }
    }
}

/// Visits the columns `0..columns` in stretches, carrying values.
pub(super) fn sweep(
    e: &mut Emitter,
    columns: Value,
    carried: &[Value],
    mut body: impl FnMut(&mut Emitter, Stretch, &[Value]) -> Vec<Value>,
) -> Vec<Value> {
    let sixteen = e.int(16);
    let rest = e.rem(columns, sixteen);
    let whole = e.sub(columns, rest);
    let zero = e.int(0);
    let out =
        e.repeat(zero, whole, sixteen, carried, |e, column, c| body(e, Stretch { column, mask: None }, c));
    let some = e.compare("ne", rest, zero);
    let types: Vec<_> = carried.iter().map(|v| v.ty()).collect();
    let mut last = |e: &mut Emitter, c: &[Value]| {
        let mask = e.mask(rest, 16);
        body(e, Stretch { column: whole, mask: Some(mask) }, c)
    };
    if types.is_empty() {
        e.when(some, |e| {
            last(e, &[]);
        });
        return Vec::new();
    }
    e.choose(some, &types, |e| last(e, &out), |_| out.clone())
}
