//! Rotary position embedding (RoPE, arXiv 2104.09864) in two kernels: cosines and sines of all positions of a call, once; then the
//! rotation of queries and keys by them. Angles are computed in f64, so that late positions are as exact as early ones.

use super::TargetCaps;
use super::emit::{Emitter, F32X16, I32, I64, Scalar, Type, Value};

/// Cosines and sines of `positions · frequencies`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AnglesSpec {
    /// Whether positions are 64-bit, not 32-bit.
    pub wide: bool,
    /// Vectors of frequencies: one for all heads, or one for each.
    pub vectors: u32,
    /// Frequencies in each.
    pub pairs: u32,
}

/// Argument slots: `positions` `[n]`, `frequencies` `[vectors, pairs]`, `table` of [`AnglesSpec::row_bytes`] for each position. A work item
/// is one position.
pub const ANGLES: [&str; 3] = ["positions", "frequencies", "table"];

impl AnglesSpec {
    /// Bytes of the cosines of one vector of frequencies, and of its sines, which follow them: whole registers.
    fn vector_bytes(self) -> i64 {
        i64::from(self.pairs.div_ceil(16)) * 64
    }

    /// Bytes of the table for one position.
    pub fn row_bytes(self) -> u64 {
        (2 * i64::from(self.vectors) * self.vector_bytes()).unsigned_abs()
    }
}

/// The text of the kernel that makes the table.
pub fn angles(spec: AnglesSpec, name: &str, caps: &TargetCaps) -> String {
    let mut e = Emitter::new(caps);
    e.kernel(name, |e, k| {
        let positions = k.pointer(e, &ANGLES, "positions");
        let frequencies = k.pointer(e, &ANGLES, "frequencies");
        let table = k.pointer(e, &ANGLES, "table");
        let bytes = spec.vector_bytes();
        e.each(k.begin, k.end, |e, item| {
            let (size, ty) = if spec.wide { (8, I64) } else { (4, I32) };
            let position = e.element(positions, item, size);
            let position = e.load(position, ty);
            let position = e.to_double(position);
            let position = e.splat(position, 16);
            let row = e.element(table, item, spec.row_bytes() as i64);
            for vector in 0..i64::from(spec.vectors) {
                for at in (0..i64::from(spec.pairs)).step_by(16) {
                    let p = e.offset(frequencies, 4 * (vector * i64::from(spec.pairs) + at));
                    let frequency = e.load(p, F32X16);
                    let frequency = e.widen(frequency, Scalar::F64);
                    let angle = e.mul(position, frequency);
                    let (sin, cos) = e.sin_cos(angle);
                    let p = e.offset(row, 2 * vector * bytes + 4 * at);
                    e.store(cos, p);
                    let p = e.offset(p, bytes);
                    e.store(sin, p);
                }
            }
        });
    });
    e.finish()
}

/// The rotation of `[tokens, heads, features]` by a table of angles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RotarySpec {
    /// How the table was made.
    pub angles: AnglesSpec,
    /// Heads of a token.
    pub heads: u32,
    /// Features of a head; those behind the pairs stay.
    pub features: u32,
    /// Whether a pair is `(2i, 2i + 1)`, not `(i, i + pairs)`.
    pub interleaved: bool,
}

/// Argument slots: rows of `x` and `y` are tokens, `y` dense; token n has the position of row `n mod period` of the table. A work item is
/// one token.
pub const ROTARY: [&str; 5] = ["x", "x_stride", "y", "table", "period"];

/// The text of the kernel that turns pairs.
pub fn rotary(spec: &RotarySpec, name: &str, caps: &TargetCaps) -> String {
    let mut e = Emitter::new(caps);
    let (pairs, features) = (i64::from(spec.angles.pairs), i64::from(spec.features));
    e.kernel(name, |e, k| {
        let [x, y, table] = ["x", "y", "table"].map(|slot| k.pointer(e, &ROTARY, slot));
        let [stride, period] = ["x_stride", "period"].map(|slot| k.size(e, &ROTARY, slot));
        e.each(k.begin, k.end, |e, item| {
            let from = e.mul(item, stride);
            let from = e.at(x, from);
            let to = e.element(y, item, 4 * features * i64::from(spec.heads));
            let row = e.rem(item, period);
            let row = e.element(table, row, spec.angles.row_bytes() as i64);
            let (zero, heads) = (e.int(0), e.int(i64::from(spec.heads)));
            e.each(zero, heads, |e, head| {
                let (x, y) = (e.element(from, head, 4 * features), e.element(to, head, 4 * features));
                let row = match spec.angles.vectors {
                    1 => row,
                    // Queries share the frequencies of the keys they read.
                    vectors => {
                        let group = e.int(i64::from(spec.heads / vectors));
                        let vector = e.div(head, group);
                        e.element(row, vector, 2 * spec.angles.vector_bytes())
                    }
                };
                if spec.interleaved {
                    turn_neighbours(e, spec, x, y, row);
                } else {
                    turn_halves(e, spec, x, y, row);
                }
                for at in (2 * pairs..features).step_by(16) {
                    let p = e.offset(x, 4 * at);
                    let v = e.load(p, F32X16);
                    let p = e.offset(y, 4 * at);
                    store(e, v, p, features - at);
                }
            });
        });
    });
    e.finish()
}

/// Writes the first `count` lanes, or all.
fn store(e: &mut Emitter, v: Value, p: Value, count: i64) {
    if count >= 16 {
        return e.store(v, p);
    }
    let count = e.int(count);
    let mask = e.mask(count, 16);
    e.store_masked(v, p, mask);
}

fn turn_halves(e: &mut Emitter, spec: &RotarySpec, x: Value, y: Value, row: Value) {
    let pairs = i64::from(spec.angles.pairs);
    for at in (0..pairs).step_by(16) {
        let load = |e: &mut Emitter, p: Value, bytes: i64| {
            let p = e.offset(p, bytes);
            e.load(p, F32X16)
        };
        let (a, b) = (load(e, x, 4 * at), load(e, x, 4 * (at + pairs)));
        let (cos, sin) = (load(e, row, 4 * at), load(e, row, spec.angles.vector_bytes() + 4 * at));
        let (bs, as_) = (e.mul(b, sin), e.mul(a, sin));
        let bs = e.negate(bs);
        let (first, second) = (e.multiply_add(a, cos, bs), e.multiply_add(b, cos, as_));
        let p = e.offset(y, 4 * at);
        store(e, first, p, pairs - at);
        let p = e.offset(y, 4 * (at + pairs));
        store(e, second, p, pairs - at);
    }
}

fn turn_neighbours(e: &mut Emitter, spec: &RotarySpec, x: Value, y: Value, row: Value) {
    let pairs = i64::from(spec.angles.pairs);
    let swap: Vec<usize> = (0..16).map(|lane| lane ^ 1).collect();
    let twice: Vec<usize> = (0..16).map(|lane| lane / 2).collect();
    let even_odd: Vec<usize> = (0..16).map(|lane| if lane % 2 == 0 { lane } else { 16 + lane }).collect();
    for at in (0..pairs).step_by(8) {
        let p = e.offset(x, 8 * at);
        let v = e.load(p, F32X16);
        let angle = |e: &mut Emitter, bytes: i64| {
            let p = e.offset(row, bytes + 4 * at);
            let v = e.load(p, Type::Lanes(8, Scalar::F32));
            e.shuffle(v, v, &twice)
        };
        let (cos, sin) = (angle(e, 0), angle(e, spec.angles.vector_bytes()));
        let swapped = e.shuffle(v, v, &swap);
        let other = e.mul(swapped, sin);
        let minus = e.negate(other);
        let (first, second) = (e.multiply_add(v, cos, minus), e.multiply_add(v, cos, other));
        let turned = e.shuffle(first, second, &even_odd);
        let p = e.offset(y, 8 * at);
        store(e, turned, p, 2 * (pairs - at));
    }
}

/// Positions `past, past + 1, …`, 64-bit. Argument slots of [`positions`]; a work item is one position.
pub const POSITIONS: [&str; 2] = ["y", "past"];

/// The text of the kernel that counts positions.
pub fn positions(name: &str, caps: &TargetCaps) -> String {
    let mut e = Emitter::new(caps);
    e.kernel(name, |e, k| {
        let (y, past) = (k.pointer(e, &POSITIONS, "y"), k.size(e, &POSITIONS, "past"));
        e.each(k.begin, k.end, |e, item| {
            let position = e.add(past, item);
            let p = e.element(y, item, 8);
            e.store(position, p);
        });
    });
    e.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_whole_registers() {
        let spec = |vectors, pairs| AnglesSpec { wide: true, vectors, pairs }.row_bytes();
        assert_eq!([spec(1, 4), spec(1, 16), spec(1, 17), spec(3, 32)], [128, 128, 256, 768]);
    }
}
