//! GPTQ: codes found column by column, so that each rounding error is made up for by the columns that are still to be rounded.
//!
//! Scales, zero points and codebooks are those of rounding to nearest, found in the weight as it is ("static groups"), so that blocks and the
//! order of columns do not meet. Errors are carried within blocks of columns at once and beyond them block by block, which changes no code but
//! for the order of sums.

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, Par};

use super::{Part, Problem, Rows};

impl Rows<'_> {
    /// Rounds onto the grid.
    pub(super) fn gptq(&self, block: usize) -> Part {
        let order = &self.problem.order;
        let mut codes = vec![0; self.values.len()];
        carried(self.problem, self.ordered(), block, |i, j, x| {
            let at = i * self.columns + order[j];
            #[allow(clippy::cast_possible_truncation, reason = "weights are f32")]
            let (code, level) = self.grid.nearest(self.offset + at, x as f32);
            codes[at] = code;
            f64::from(level)
        });
        Part { codes, scales: None }
    }
}

/// Rounds `w` (`[rows, columns]` in the order of the problem) column by column; `round` says which level row i takes in column j for x.
pub(super) fn carried(
    problem: &Problem,
    mut w: Mat<f64>,
    block: usize,
    mut round: impl FnMut(usize, usize, f64) -> f64,
) {
    let (rows, columns, factor) = (w.nrows(), w.ncols(), &problem.factor);
    let block = block.max(1);
    for first in (0..columns).step_by(block) {
        let last = columns.min(first + block);
        let mut errors = Mat::<f64>::zeros(rows, last - first);
        for j in first..last {
            for i in 0..rows {
                errors[(i, j - first)] = (w[(i, j)] - round(i, j, w[(i, j)])) / factor[(j, j)];
            }
            for next in j + 1..last {
                let by = factor[(j, next)];
                for i in 0..rows {
                    w[(i, next)] -= errors[(i, j - first)] * by;
                }
            }
        }
        if last < columns {
            let carry = factor.submatrix(first, last, last - first, columns - last);
            let rest = w.as_mut().subcols_mut(last, columns - last);
            matmul(rest, Accum::Add, errors.as_ref(), carry, -1.0, Par::Seq);
        }
    }
}
