//! Blocks of sixteen channels: per-channel state between its row-major place in memory `[D][n]` and registers or scratch `[n][16]`.

use super::emit::{Emitter, F32, F32X16, Value};

/// Exchanges rows and lanes of sixteen vectors.
fn transpose(e: &mut Emitter, mut v: [Value; 16]) -> [Value; 16] {
    for d in [8, 4, 2, 1] {
        for i in (0..16).filter(|i| i & d == 0) {
            let (a, b) = (v[i], v[i | d]);
            let low: Vec<usize> = (0..16).map(|l| if l & d == 0 { l } else { 16 + l - d }).collect();
            let high: Vec<usize> = (0..16).map(|l| if l & d == 0 { l + d } else { 16 + l }).collect();
            v[i] = e.shuffle(a, b, &low);
            v[i | d] = e.shuffle(a, b, &high);
        }
    }
    v
}

/// Most values of a channel that are moved by shuffles of all their vectors.
const MOST_INTERLEAVED: usize = 7;

/// Vectors of whole rows (`[16][n]`) to vectors of lanes (`[n][16]`), or back.
fn interleave(e: &mut Emitter, from: &[Value], way: Direction) -> Vec<Value> {
    let n = from.len();
    let source = |to: usize| match way {
        Direction::Gather => to % 16 * n + to / 16,
        Direction::Scatter => to % n * 16 + to / n,
    };
    let vector = |i: usize| {
        from.iter().enumerate().skip(1).fold(from[0], |v, (k, &other)| {
            // What is not in this one stays, or comes from a later one.
            let indices: Vec<usize> = (0..16)
                .map(|l| {
                    let at = source(16 * i + l);
                    match (k, at / 16 == k) {
                        (_, true) => 16 + at % 16,
                        (1, false) => at % 16,
                        _ => l,
                    }
                })
                .collect();
            e.shuffle(v, other, &indices)
        })
    };
    (0..n).map(vector).collect()
}

/// Which way [`move_block`] copies.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    /// From rows to lanes.
    Gather,
    /// From lanes back to rows.
    Scatter,
}

/// Copies the values of up to sixteen channels, `n` each, between `rows` (`[count][n]`) and `lanes` (`[n][16]`).
/// Lanes past `count` are not touched.
pub(super) fn move_block(e: &mut Emitter, way: Direction, rows: Value, lanes: Value, n: usize, count: Value) {
    let slow = |e: &mut Emitter| {
        let zero = e.int(0);
        e.each(zero, count, |e, lane| {
            let row = e.element(rows, lane, 4 * n as i64);
            let column = e.element(lanes, lane, 4);
            for j in 0..n as i64 {
                let (r, l) = (e.offset(row, 4 * j), e.offset(column, 64 * j));
                let (from, to) = if way == Direction::Gather { (r, l) } else { (l, r) };
                let x = e.load(from, F32);
                e.store(x, to);
            }
        });
    };
    if !n.is_multiple_of(16) && n > MOST_INTERLEAVED {
        return slow(e);
    }
    let sixteen = e.int(16);
    let whole = e.compare("eq", count, sixteen);
    e.branch(
        whole,
        |e| {
            if n <= MOST_INTERLEAVED {
                let (from, to) = if way == Direction::Gather { (rows, lanes) } else { (lanes, rows) };
                let vectors: Vec<Value> = (0..n as i64)
                    .map(|i| {
                        let p = e.offset(from, 64 * i);
                        e.load(p, F32X16)
                    })
                    .collect();
                for (i, v) in interleave(e, &vectors, way).into_iter().enumerate() {
                    let p = e.offset(to, 64 * i as i64);
                    e.store(v, p);
                }
                return;
            }
            for j in (0..n as i64).step_by(16) {
                let row = |e: &mut Emitter, i: i64| e.offset(rows, 4 * (i * n as i64 + j));
                let lane = |e: &mut Emitter, i: i64| e.offset(lanes, 64 * (j + i));
                let gather = way == Direction::Gather;
                let v: [Value; 16] = std::array::from_fn(|i| {
                    let p = if gather { row(e, i as i64) } else { lane(e, i as i64) };
                    e.load(p, F32X16)
                });
                for (i, x) in transpose(e, v).into_iter().enumerate() {
                    let p = if gather { lane(e, i as i64) } else { row(e, i as i64) };
                    e.store(x, p);
                }
            }
        },
        slow,
    );
}
