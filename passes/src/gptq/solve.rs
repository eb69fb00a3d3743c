//! The codes of one weight.

use faer::linalg::matmul::matmul;
use faer::linalg::solvers::DenseSolveCore;
use faer::{Accum, Mat, Par, Side};
use qcc_interpreter::FormatError;
use qcc_interpreter::formats::Grid;

use super::{Gram, Settings};

/// The most often that the damping is raised: from 0.01 to 100.
const MOST_RAISES: usize = 4;

/// Codes and what they cost.
#[derive(Clone, Debug)]
pub(crate) struct Solution {
    /// Codes, `[rows, columns]`.
    pub codes: Vec<i32>,
    /// `Σ (w − ŵ) H (w − ŵ)ᵀ` of these codes, and of rounding to nearest.
    pub error: f64,
    pub error_of_nearest: f64,
    /// The damping that it took.
    pub damping: f64,
}

/// Why there is no solution.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SolveError {
    #[error("{0}")]
    Format(#[from] FormatError),
    #[error(
        "the second moments of its inputs are not positive definite, with a damping of {0} neither; they may be infinite"
    )]
    NotPositive(f64),
}

/// Rounds `weight` (`[rows, columns]`, as many columns as the moments have) onto the grid.
pub(crate) fn solve(
    weight: &[f32],
    gram: &Gram,
    grid: &Grid<f32>,
    settings: Settings,
) -> Result<Solution, SolveError> {
    let columns = gram.matrix.nrows();
    let rows = weight.len() / columns.max(1);
    let h = &gram.matrix;
    let mut order: Vec<usize> = (0..columns).collect();
    if settings.activation_order {
        order.sort_by(|a, b| h[(*b, *b)].total_cmp(&h[(*a, *a)]).then(a.cmp(b)));
    }
    let (factor, damping) = factor(h, &order, settings.damping)?;
    // Column j of `w` is column order[j] of the weight; an input that is always 0 says nothing about its column.
    let mut w = Mat::from_fn(rows, columns, |i, j| f64::from(weight[i * columns + order[j]]));
    let mut codes = vec![0; weight.len()];
    let block = settings.block.max(1);
    for first in (0..columns).step_by(block) {
        let last = columns.min(first + block);
        let mut errors = Mat::<f64>::zeros(rows, last - first);
        for j in first..last {
            for i in 0..rows {
                let at = i * columns + order[j];
                #[allow(clippy::cast_possible_truncation, reason = "weights are f32")]
                let (code, level) = grid.nearest(at, w[(i, j)] as f32);
                codes[at] = code;
                let error = (w[(i, j)] - f64::from(level)) / factor[(j, j)];
                errors[(i, j - first)] = error;
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
    let nearest: Vec<i32> = weight.iter().enumerate().map(|(at, x)| grid.nearest(at, *x).0).collect();
    let error = |codes: &[i32]| {
        let miss = Mat::from_fn(rows, columns, |i, j| {
            let at = i * columns + j;
            f64::from(weight[at]) - f64::from(grid.level(at, codes[at]))
        });
        let weighted = &miss * h;
        (0..columns).map(|j| (0..rows).map(|i| weighted[(i, j)] * miss[(i, j)]).sum::<f64>()).sum::<f64>()
    };
    let (error, error_of_nearest) = (error(&codes), error(&nearest));
    Ok(Solution { codes, error, error_of_nearest, damping })
}

/// The upper factor `U` of `H⁻¹ = Uᵀ U` in an order of columns, and the damping that made it positive definite.
fn factor(h: &Mat<f64>, order: &[usize], damping: f64) -> Result<(Mat<f64>, f64), SolveError> {
    let n = order.len();
    #[allow(clippy::cast_precision_loss, reason = "counts are below 2^53")]
    let mean = (0..n).map(|j| h[(j, j)]).sum::<f64>() / n.max(1) as f64;
    let mut damping = damping;
    for _ in 0..=MOST_RAISES {
        let damped = Mat::from_fn(n, n, |i, j| {
            let x = h[(order[i], order[j])];
            match i == j {
                // Inputs that are always 0.
                true if x == 0.0 => mean.max(1.0),
                true => x + damping * mean,
                false => x,
            }
        });
        let inverse = damped.llt(Side::Lower).ok().map(|llt| llt.inverse());
        let upper = inverse
            .and_then(|inverse| inverse.llt(Side::Lower).ok().map(|llt| llt.L().transpose().to_owned()));
        if let Some(upper) = upper.filter(|u| (0..n).all(|j| u[(j, j)].is_finite() && u[(j, j)] > 0.0)) {
            return Ok((upper, damping));
        }
        damping = if damping > 0.0 { damping * 10.0 } else { 0.01 };
    }
    Err(SolveError::NotPositive(damping / 10.0))
}
