//! The codes of a layer's weight by what the layer reads: least `Σ (w − ŵ) H (w − ŵ)ᵀ` over its rows `w`, with the [moments](moments) `H` of its
//! inputs, instead of least `|w − ŵ|`.
//!
//! | method | source | finds |
//! | --- | --- | --- |
//! | [GPTQ](gptq) | arXiv 2210.17323 | codes, for the scales of rounding to nearest |
//! | [decoupleQ](decoupleq) | arXiv 2404.12759 | codes and scales in turns |
//!
//! Rows do not depend on each other but through scales: they are solved for in parts, on all threads; parts are the same however many threads
//! there are.

mod decoupleq;
mod gptq;
pub(crate) mod moments;
#[cfg(test)]
mod tests;

use faer::linalg::triangular_inverse::invert_lower_triangular;
use faer::{Mat, Side, get_global_parallelism};
use qcc_interpreter::FormatError;
use qcc_interpreter::formats::{Grid, Parameters, Rules};
use qcc_ir::QuantType;
use rayon::prelude::*;

pub(crate) use moments::Gram;

/// The most that the damping is raised to, and the least that it is raised by: what is smaller is lost in f64.
const MOST_DAMPING: f64 = 100.0;
const LEAST_RAISE: f64 = 1e-8;

/// Rows that are solved for together.
const ROWS: usize = 64;

/// What to round by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// GPTQ.
    Gptq,
    /// decoupleQ: codes and scales in at most so many turns.
    DecoupleQ {
        /// The turns.
        rounds: usize,
    },
}

/// How to round.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// What by.
    pub method: Method,
    /// Share of the mean of the diagonal of H that is added to it; ten times as much as often as it takes.
    pub damping: f64,
    /// Columns that are rounded before their errors are carried further.
    pub block: usize,
    /// Whether columns with large inputs come first.
    pub activation_order: bool,
    /// Whether each layer sees what the layers before it make of the samples once they are rounded. Otherwise all see what the unrounded model
    /// makes of them, which takes one run instead of one a layer.
    pub sequential: bool,
}

impl Settings {
    /// The usual settings of a method.
    pub fn of(method: Method) -> Settings {
        Settings { method, damping: 0.01, block: 128, activation_order: true, sequential: true }
    }
}

/// A weight to round: `[groups · rows, columns…]`, each group of rows with moments of its own; what a linear layer has is one group.
pub(crate) struct Weight<'a> {
    pub values: &'a [f32],
    pub dims: &'a [usize],
    pub to: QuantType,
    pub rules: Rules,
    /// Scales, zero points and codebook of rounding to nearest.
    pub parameters: Parameters<f32>,
}

/// Codes that were found.
#[derive(Clone, Debug)]
pub(crate) struct Solution {
    /// Codes, in the order of the weight.
    pub codes: Vec<i32>,
    /// What comes with them.
    pub parameters: Parameters<f32>,
    /// The largest damping that it took.
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

/// Why a weight in this type cannot be rounded by this method, if it cannot.
pub(crate) fn unfit(method: Method, to: QuantType) -> Option<&'static str> {
    match method {
        _ if to.storage.is_split() => Some("split codes have clusters, not levels"),
        Method::DecoupleQ { .. } => decoupleq::unfit(to),
        Method::Gptq => None,
    }
}

/// Rounds a weight with the moments of each of its groups.
pub(crate) fn solve(weight: &Weight<'_>, grams: &[Gram], settings: Settings) -> Result<Solution, SolveError> {
    let grid = Grid::new(weight.dims, weight.to, weight.rules, &weight.parameters)?;
    let problems: Vec<Problem> =
        grams.iter().map(|gram| Problem::new(gram, settings)).collect::<Result<_, _>>()?;
    let solved: Vec<Part> = parts(weight, grams.len())
        .par_iter()
        .map(|&(group, first, count)| {
            let rows = Rows::new(&problems[group], weight, &grid, first, count);
            match settings.method {
                Method::Gptq => rows.gptq(settings.block),
                Method::DecoupleQ { rounds } => decoupleq::solve(&rows, weight, settings.block, rounds),
            }
        })
        .collect();
    let mut parameters = weight.parameters.clone();
    decoupleq::gather(&mut parameters, &solved);
    Ok(Solution {
        codes: solved.into_iter().flat_map(|part| part.codes).collect(),
        parameters,
        damping: problems.iter().map(|p| p.damping).fold(settings.damping, f64::max),
    })
}

/// What was found for some rows.
struct Part {
    codes: Vec<i32>,
    /// Scales, and zero points where there are any; none where they are those of rounding to nearest.
    scales: Option<(Vec<f32>, Option<Vec<i32>>)>,
}

/// The moments that rows share, in the order in which columns are rounded.
struct Problem {
    /// Column j of these matrices is column `order[j]` of the weight.
    order: Vec<usize>,
    /// H with damping, where the method reads it.
    damped: Option<Mat<f64>>,
    /// The upper factor `U` of `H⁻¹ = Uᵀ U`.
    factor: Mat<f64>,
    damping: f64,
}

impl Problem {
    fn new(gram: &Gram, settings: Settings) -> Result<Problem, SolveError> {
        let h = &gram.matrix;
        let n = h.nrows();
        let mut order: Vec<usize> = (0..n).collect();
        if settings.activation_order {
            order.sort_by(|a, b| h[(*b, *b)].total_cmp(&h[(*a, *a)]).then(a.cmp(b)));
        }
        #[allow(clippy::cast_precision_loss, reason = "counts are below 2^53")]
        let mean = (0..n).map(|j| h[(j, j)]).sum::<f64>() / n.max(1) as f64;
        let mut damping = settings.damping;
        loop {
            let damped = |i: usize, j: usize| {
                let x = h[(order[i], order[j])];
                match i == j {
                    // Inputs that are always 0 say nothing about their columns.
                    true if x == 0.0 => mean.max(1.0),
                    true => x + damping * mean,
                    false => x,
                }
            };
            if let Some(factor) = factor_of_inverse(n, damped) {
                let damped = match settings.method {
                    Method::DecoupleQ { .. } => Some(Mat::from_fn(n, n, damped)),
                    Method::Gptq => None,
                };
                return Ok(Problem { order, damped, factor, damping });
            }
            if damping >= MOST_DAMPING {
                return Err(SolveError::NotPositive(damping));
            }
            damping = if damping > 0.0 { (damping * 10.0).max(LEAST_RAISE) } else { 0.01 };
        }
    }
}

/// The upper triangular `U` of `H⁻¹ = Uᵀ U`, if H is positive definite. With `H = V Vᵀ`, V upper triangular, `U = V⁻¹`; V is the Cholesky factor
/// of H with rows and columns in reverse order, in reverse order.
fn factor_of_inverse(n: usize, h: impl Fn(usize, usize) -> f64) -> Option<Mat<f64>> {
    let llt = Mat::from_fn(n, n, |i, j| h(n - 1 - i, n - 1 - j)).llt(Side::Lower).ok()?;
    let mut inverse = Mat::<f64>::zeros(n, n);
    invert_lower_triangular(inverse.as_mut(), llt.L(), get_global_parallelism());
    drop(llt);
    let upper = inverse.reverse_rows_and_cols();
    (0..n).all(|j| upper[(j, j)].is_finite() && upper[(j, j)] > 0.0).then(|| upper.to_owned())
}

/// `Σ (w − ŵ) H (w − ŵ)ᵀ` of codes with these parameters, without damping.
pub(crate) fn error(
    weight: &Weight<'_>,
    parameters: &Parameters<f32>,
    codes: &[i32],
    grams: &[Gram],
) -> Result<f64, SolveError> {
    let grid = Grid::new(weight.dims, weight.to, weight.rules, parameters)?;
    let parts: Vec<f64> = parts(weight, grams.len())
        .par_iter()
        .map(|&(group, first, count)| {
            let h = &grams[group].matrix;
            let miss = Mat::from_fn(count, h.nrows(), |i, j| {
                let at = (first + i) * h.nrows() + j;
                f64::from(weight.values[at]) - f64::from(grid.level(at, codes[at]))
            });
            let weighted = &miss * h;
            let of_column = |j: usize| (0..count).map(|i| weighted[(i, j)] * miss[(i, j)]).sum::<f64>();
            (0..h.nrows()).map(of_column).sum()
        })
        .collect();
    Ok(parts.iter().sum())
}

/// Parts of rows: the group, the first row (of the whole weight) and how many.
fn parts(weight: &Weight<'_>, groups: usize) -> Vec<(usize, usize, usize)> {
    let rows = weight.dims.first().copied().unwrap_or(1) / groups.max(1);
    (0..groups)
        .flat_map(|g| (0..rows).step_by(ROWS).map(move |r| (g, g * rows + r, ROWS.min(rows - r))))
        .collect()
}

/// Some rows of a weight with the moments they share.
struct Rows<'a> {
    problem: &'a Problem,
    grid: &'a Grid<f32>,
    /// `[count, columns]` of the weight, in its order.
    values: &'a [f32],
    /// Index of the first element in the weight.
    offset: usize,
    count: usize,
    columns: usize,
}

impl<'a> Rows<'a> {
    fn new(
        problem: &'a Problem,
        weight: &Weight<'a>,
        grid: &'a Grid<f32>,
        first: usize,
        count: usize,
    ) -> Rows<'a> {
        let columns = problem.order.len();
        let offset = first * columns;
        Rows {
            problem,
            grid,
            values: &weight.values[offset..offset + count * columns],
            offset,
            count,
            columns,
        }
    }

    /// The weight in the order in which columns are rounded.
    fn ordered(&self) -> Mat<f64> {
        let order = &self.problem.order;
        Mat::from_fn(self.count, self.columns, |i, j| f64::from(self.values[i * self.columns + order[j]]))
    }
}
