//! decoupleQ: codes and scales in turns. Given scales, codes are GPTQ's, improved one by one until none changes; given codes, scales (and zero
//! points) of all groups of a row are the solution of a linear system. What does not lessen a row's error is not taken, so that errors fall from
//! turn to turn.
//!
//! All codes of the type are used, the lowest too, which may cost a scale its sign: levels are `code · scale`, so that a negative scale mirrors
//! them. Zero points stay integers, as the type has them. The error counts the damping, as the paper has it.

use faer::linalg::solvers::Solve;
use faer::{Mat, Side};
use qcc_interpreter::formats::{IntegerFormat, Parameters, Scales, scale_indices};
use qcc_interpreter::real::Real;
use qcc_ir::{Granularity, QuantType, ScaleType};

use super::gptq::carried;
use super::{Part, Problem, Rows, Weight};

/// Shares of the min-max range that are tried for the first scales: `1 − i / 200`.
const SHARES: usize = 160;

/// Times that all codes of a row are looked at one by one.
const SWEEPS: usize = 8;

/// The rest of rows that still gain, in 1/10000, for which another turn is not worth it.
const FEW: usize = 1;

/// Why this type cannot be solved for.
pub(super) fn unfit(to: QuantType) -> Option<&'static str> {
    if IntegerFormat::new(to.storage, false).is_err() || to.storage.has_codebook() {
        return Some("decoupleQ solves for the scales of integer codes");
    }
    if !matches!(to.scale, ScaleType::F32 | ScaleType::F16 | ScaleType::BF16) {
        return Some("decoupleQ solves for scales, which takes float ones (f32, f16, bf16)");
    }
    match to.granularity {
        Granularity::Channel { axis: 0 } | Granularity::Block { axis: 1, .. } => None,
        _ => Some("decoupleQ solves for scales of a row, by channel or in blocks"),
    }
}

/// Puts the scales of parts in the place of those of rounding to nearest.
pub(super) fn gather(parameters: &mut Parameters<f32>, parts: &[Part]) {
    if parts.iter().any(|part| part.scales.is_none()) {
        return;
    }
    let found = || parts.iter().filter_map(|part| part.scales.as_ref());
    parameters.scales = Scales::Floats(found().flat_map(|(scales, _)| scales.iter().copied()).collect());
    if parameters.zero_points.is_some() {
        parameters.zero_points =
            Some(found().filter_map(|(_, zeros)| zeros.as_ref()).flatten().copied().collect());
    }
}

/// Finds codes and scales of some rows.
pub(super) fn solve(rows: &Rows<'_>, weight: &Weight<'_>, block: usize, rounds: usize) -> Part {
    let solver = Solver::new(rows, weight);
    let mut now: Vec<Row> = (0..rows.count).map(|i| solver.start(i)).collect();
    for _ in 0..rounds {
        let tried = solver.codes(&now, block);
        let mut gained = accept(&mut now, tried);
        let tried = now.iter().enumerate().map(|(i, row)| solver.scales(i, row)).collect();
        gained += accept(&mut now, tried);
        if gained * 10_000 <= FEW * rows.count {
            break;
        }
    }
    let order = &rows.problem.order;
    let mut codes = vec![0; rows.values.len()];
    for (i, row) in now.iter().enumerate() {
        for (j, code) in row.codes.iter().enumerate() {
            codes[i * rows.columns + order[j]] = *code;
        }
    }
    #[allow(clippy::cast_possible_truncation, reason = "scales were rounded to f32 or less")]
    let scales: Vec<f32> = now.iter().flat_map(|row| row.scales.iter().map(|s| *s as f32)).collect();
    let zeros = weight.to.zero_point.then(|| now.iter().flat_map(|row| row.zeros.iter().copied()).collect());
    Part { codes, scales: Some((scales, zeros)) }
}

/// Takes the rows that have less error; how many did.
fn accept(now: &mut [Row], tried: Vec<Row>) -> usize {
    let mut gained = 0;
    for (row, tried) in now.iter_mut().zip(tried) {
        if tried.error < row.error * (1.0 - 1e-9) {
            *row = tried;
            gained += 1;
        }
    }
    gained
}

/// A row as it is now: codes in the order of the problem, a scale and zero point for each of its groups.
#[derive(Clone, Debug)]
struct Row {
    codes: Vec<i32>,
    scales: Vec<f64>,
    zeros: Vec<i32>,
    error: f64,
}

struct Solver<'a> {
    problem: &'a Problem,
    /// H with damping, in the order of the problem.
    h: &'a Mat<f64>,
    /// The weight and its product with H, in the order of the problem.
    w: Mat<f64>,
    hw: Mat<f64>,
    to: QuantType,
    lowest: i32,
    highest: i32,
    /// The group of each column of the weight, and how many groups a row has.
    groups_of: Vec<usize>,
    groups: usize,
}

impl<'a> Solver<'a> {
    fn new(rows: &Rows<'a>, weight: &Weight<'_>) -> Solver<'a> {
        let (lowest, highest) = IntegerFormat::new(weight.to.storage, false)
            .map_or((0, 0), |codes| (codes.lowest, codes.highest));
        // Groups are alike in all rows.
        let row: Vec<usize> = std::iter::once(1).chain(weight.dims[1..].iter().copied()).collect();
        let (groups_of, groups) = scale_indices(&row, weight.to.granularity).unwrap_or_default();
        let w = rows.ordered();
        let h = rows.problem.damped.as_ref().expect("invariant: kept for this method");
        let hw = &w * h;
        Solver { problem: rows.problem, h, hw, w, to: weight.to, lowest, highest, groups_of, groups }
    }

    fn columns(&self) -> usize {
        self.w.ncols()
    }

    /// The group of a column of the problem.
    fn group(&self, j: usize) -> usize {
        self.groups_of[self.problem.order[j]]
    }

    fn level(&self, row: &Row, j: usize, code: i32) -> f64 {
        let group = self.group(j);
        f64::from(code - row.zeros[group]) * row.scales[group]
    }

    /// The code whose level is nearest, ties up.
    fn nearest(&self, scale: f64, zero: i32, x: f64) -> i32 {
        let steps = (x / scale + f64::from(zero) + 0.5).floor();
        #[allow(clippy::cast_possible_truncation, reason = "between two codes; NaN is 0")]
        let code = steps.clamp(f64::from(self.lowest), f64::from(self.highest)) as i32;
        code.clamp(self.lowest, self.highest)
    }

    /// A scale as its type holds it; 1 for what is none.
    fn held(&self, scale: f64) -> f64 {
        #[allow(clippy::cast_possible_truncation, reason = "scales are f32 at most")]
        let held = f64::from((scale as f32).as_scale(self.to.scale));
        if held == 0.0 || !held.is_finite() { 1.0 } else { held }
    }

    /// The error of levels of row i: `e H eᵀ`.
    fn error(&self, i: usize, row: &Row) -> f64 {
        let miss = self.miss(i, row);
        let product = self.h * &miss;
        (0..self.columns()).map(|j| product[j] * miss[j]).sum()
    }

    fn miss(&self, i: usize, row: &Row) -> faer::Col<f64> {
        faer::Col::from_fn(self.columns(), |j| self.w[(i, j)] - self.level(row, j, row.codes[j]))
    }

    /// Nearest codes for the scales that lose least by the diagonal of H, of shares of the range and both signs.
    fn start(&self, i: usize) -> Row {
        let mut row = Row {
            codes: vec![0; self.columns()],
            scales: vec![1.0; self.groups],
            zeros: vec![0; self.groups],
            error: f64::INFINITY,
        };
        let mut members = vec![Vec::new(); self.groups];
        for j in 0..self.columns() {
            members[self.group(j)].push(j);
        }
        for (group, members) in members.iter().enumerate() {
            (row.scales[group], row.zeros[group]) = self.searched(i, members);
        }
        for j in 0..self.columns() {
            let group = self.group(j);
            row.codes[j] = self.nearest(row.scales[group], row.zeros[group], self.w[(i, j)]);
        }
        row.error = self.error(i, &row);
        row
    }

    /// The scale and zero point of one group.
    fn searched(&self, i: usize, members: &[usize]) -> (f64, i32) {
        let w = |j: &usize| self.w[(i, *j)];
        let (low, high) = members.iter().map(w).fold((0f64, 0f64), |(l, h), x| (l.min(x), h.max(x)));
        let (full, signs): (f64, &[f64]) = match self.to.zero_point {
            true => ((high - low) / f64::from(self.highest - self.lowest), &[1.0]),
            false if self.lowest < 0 => (high.max(-low) / f64::from(self.highest.max(1)), &[1.0, -1.0]),
            false => (high / f64::from(self.highest), &[1.0]),
        };
        let zero = match self.to.zero_point && full > 0.0 {
            #[allow(clippy::cast_possible_truncation, reason = "between two codes")]
            true => self.lowest + (-low / full).round() as i32,
            false => 0,
        };
        let zero = zero.clamp(self.lowest.min(0), self.highest);
        let mut best = (f64::INFINITY, 1.0);
        for share in 0..SHARES {
            #[allow(clippy::cast_precision_loss, reason = "a small count")]
            let share = 1.0 - share as f64 / 200.0;
            for sign in signs {
                let scale = self.held(full * share * sign);
                let of = |j: &usize| {
                    let miss = w(j) - f64::from(self.nearest(scale, zero, w(j)) - zero) * scale;
                    miss * miss * self.h[(*j, *j)]
                };
                let error: f64 = members.iter().map(of).sum();
                if error < best.0 {
                    best = (error, scale);
                }
            }
        }
        (best.1, zero)
    }

    /// New codes for the scales of all rows.
    fn codes(&self, now: &[Row], block: usize) -> Vec<Row> {
        let mut tried = now.to_vec();
        carried(self.problem, self.w.clone(), block, |i, j, x| {
            let (row, group) = (&mut tried[i], self.group(j));
            let code = self.nearest(row.scales[group], row.zeros[group], x);
            row.codes[j] = code;
            f64::from(code - row.zeros[group]) * row.scales[group]
        });
        for (i, row) in tried.iter_mut().enumerate() {
            self.improve(i, row);
            row.error = self.error(i, row);
        }
        tried
    }

    /// Coordinate descent: each code in turn becomes the best one while the others stay, until none changes.
    fn improve(&self, i: usize, row: &mut Row) {
        let h = self.h;
        let mut gradient = h * self.miss(i, row);
        for _ in 0..SWEEPS {
            let mut changed = false;
            for j in 0..self.columns() {
                let group = self.group(j);
                let (old, level) = (row.codes[j], self.level(row, j, row.codes[j]));
                let new = self.nearest(row.scales[group], row.zeros[group], level + gradient[j] / h[(j, j)]);
                if new == old {
                    continue;
                }
                let step = self.level(row, j, new) - level;
                row.codes[j] = new;
                changed = true;
                // H is symmetric, and its columns lie side by side.
                for (g, h) in gradient.iter_mut().zip(h.col(j).iter()) {
                    *g -= step * h;
                }
            }
            if !changed {
                return;
            }
        }
    }

    /// The scales (and zero points) of least error for the codes of row i.
    fn scales(&self, i: usize, row: &Row) -> Row {
        let mut tried = row.clone();
        if self.to.zero_point
            && let Some(solution) = self.system(i, row, true)
        {
            for group in 0..self.groups {
                let (scale, shift) = (solution[group], solution[self.groups + group]);
                #[allow(clippy::cast_possible_truncation, reason = "clamped to codes; NaN is 0")]
                let zero = (-shift / scale).round().clamp(-1e9, 1e9) as i32;
                tried.zeros[group] = zero.clamp(self.lowest, self.highest);
            }
        }
        if let Some(solution) = self.system(i, &tried, false) {
            for group in 0..self.groups {
                tried.scales[group] = self.held(solution[group]);
            }
        }
        tried.error = self.error(i, &tried);
        tried
    }

    /// Solves `min (Σ s_g u_g − w) H (…)ᵀ` for s, where `u_g` are the codes of a group less their zero point; with `shifts` of the codes as they
    /// are, and for a shift of each group as well.
    fn system(&self, i: usize, row: &Row, shifts: bool) -> Option<faer::Col<f64>> {
        let n = if shifts { 2 * self.groups } else { self.groups };
        let h = self.h;
        // Column u of the basis: for each column of the weight what it has there, in the group it has it.
        let value = |j: usize, shift: bool| match (shift, shifts) {
            (true, _) => 1.0,
            (false, true) => f64::from(row.codes[j]),
            (false, false) => f64::from(row.codes[j] - row.zeros[self.group(j)]),
        };
        let unknowns = |j: usize| {
            let group = self.group(j);
            let of_shift = shifts.then(|| (self.groups + group, value(j, true)));
            std::iter::once((group, value(j, false))).chain(of_shift).filter(|(_, u)| *u != 0.0)
        };
        // H times the basis.
        let mut products = Mat::<f64>::zeros(self.columns(), n);
        let mut right = faer::Col::<f64>::zeros(n);
        for j in 0..self.columns() {
            for (k, u) in unknowns(j) {
                right[k] += u * self.hw[(i, j)];
                for (p, h) in products.col_mut(k).iter_mut().zip(h.col(j).iter()) {
                    *p += u * h;
                }
            }
        }
        let mut matrix = Mat::<f64>::zeros(n, n);
        for j in 0..self.columns() {
            for (k, u) in unknowns(j) {
                for l in 0..n {
                    matrix[(k, l)] += u * products[(j, l)];
                }
            }
        }
        let mean = (0..n).map(|k| matrix[(k, k)]).sum::<f64>() / n.max(1) as f64;
        for k in 0..n {
            // A group of zeros has any scale.
            matrix[(k, k)] += if matrix[(k, k)] == 0.0 { mean.max(1.0) } else { 1e-10 * mean };
        }
        let solution = matrix.llt(Side::Lower).ok()?.solve(&right);
        let finite = solution.iter().all(|x| x.is_finite());
        finite.then_some(solution)
    }
}
