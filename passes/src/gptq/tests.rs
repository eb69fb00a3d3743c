use faer::Mat;

use qcc_interpreter::formats::{Grid, Rules, quantize_dynamic};
use qcc_ir::{Format, Role};

use super::solve::solve;
use super::{Gram, Settings};
use crate::random::Random;

fn grid(weight: &[f32], dims: &[usize], format: &str) -> Grid<f32> {
    let format = Format::parse(format, Role::Weight).expect(format);
    let q = format.quant_type(0, 1).expect("codes");
    let rules = Rules::nearest(format.narrow());
    let parameters = quantize_dynamic(weight, dims, q, rules, None).expect("fits").parameters;
    Grid::new(dims, q, rules, &parameters).expect("fits")
}

/// Nearly normal: a sum of uniform numbers.
fn normal(random: &mut Random) -> f64 {
    (0..12).map(|_| f64::from(random.unit())).sum::<f64>() / 2.0
}

const ROWS: usize = 6;
const COLUMNS: usize = 32;

fn weight(seed: u64) -> Vec<f32> {
    let mut random = Random::new(seed);
    (0..ROWS * COLUMNS).map(|_| normal(&mut random) as f32).collect()
}

/// Moments of inputs whose features depend on each other, some larger than others.
fn correlated(seed: u64) -> Gram {
    let mut random = Random::new(seed);
    let mix: Vec<f64> = (0..COLUMNS * 8).map(|_| normal(&mut random)).collect();
    let mut gram = Gram::new(COLUMNS);
    for _ in 0..4 {
        let mut rows = Vec::new();
        for _ in 0..64 {
            let hidden: Vec<f64> = (0..8).map(|_| normal(&mut random)).collect();
            rows.extend((0..COLUMNS).map(|j| {
                let x: f64 = (0..8).map(|k| mix[j * 8 + k] * hidden[k]).sum();
                ((x + 0.3 * normal(&mut random)) * (1.0 + (j % 5) as f64)) as f32
            }));
        }
        gram.see(&rows);
    }
    gram
}

fn identity() -> Gram {
    Gram { matrix: Mat::identity(COLUMNS, COLUMNS), rows: 1 }
}

const PLAIN: Settings =
    Settings { damping: 0.01, block: COLUMNS, activation_order: false, sequential: false };

#[test]
fn inputs_that_do_not_depend_on_each_other_leave_rounding_to_nearest() {
    let w = weight(1);
    for format in ["int4:channel", "int3:block=8", "fp4e2m1:block=16", "nf4", "uint4:asym"] {
        let grid = grid(&w, &[ROWS, COLUMNS], format);
        let settings = Settings { damping: 0.0, ..PLAIN };
        let solution = solve(&w, &identity(), &grid, settings).expect("solvable");
        let nearest: Vec<i32> = w.iter().enumerate().map(|(at, x)| grid.nearest(at, *x).0).collect();
        assert_eq!(solution.codes, nearest, "{format}");
        assert_eq!(solution.error, solution.error_of_nearest);
    }
}

#[test]
fn errors_are_smaller_than_those_of_rounding_to_nearest() {
    for (seed, format) in
        ["int4:channel", "int3:block=8", "int2:block=16", "fp4e2m1:block=16", "nf4", "mxfp4", "e2m1"]
            .into_iter()
            .enumerate()
    {
        let w = weight(seed as u64 + 1);
        let grid = grid(&w, &[ROWS, COLUMNS], format);
        for activation_order in [false, true] {
            let settings = Settings { activation_order, ..PLAIN };
            let solution = solve(&w, &correlated(3), &grid, settings).expect("solvable");
            assert!(solution.error < 0.7 * solution.error_of_nearest, "{format}: {solution:?}");
        }
    }
}

#[test]
fn blocks_of_columns_change_no_code() {
    let w = weight(2);
    let grid = grid(&w, &[ROWS, COLUMNS], "int4:block=8");
    let gram = correlated(5);
    let of = |block: usize| solve(&w, &gram, &grid, Settings { block, ..PLAIN }).expect("solvable").codes;
    for block in [1, 5, 8, 31] {
        assert_eq!(of(block), of(COLUMNS), "{block}");
    }
}

/// Optimal brain quantization in the order of the columns, with the inverse of what is left recomputed at each: no factor, no blocks.
#[test]
fn it_is_optimal_brain_quantization_in_a_fixed_order() {
    let w = weight(4);
    let grid = grid(&w, &[ROWS, COLUMNS], "int4:channel");
    let gram = correlated(7);
    let mean = (0..COLUMNS).map(|j| gram.matrix[(j, j)]).sum::<f64>() / COLUMNS as f64;
    let damped =
        Mat::from_fn(COLUMNS, COLUMNS, |i, j| gram.matrix[(i, j)] + if i == j { 0.01 * mean } else { 0.0 });
    let solution = solve(&w, &gram, &grid, PLAIN).expect("solvable");
    for row in 0..ROWS {
        let mut left: Vec<f64> =
            w[row * COLUMNS..(row + 1) * COLUMNS].iter().map(|x| f64::from(*x)).collect();
        for j in 0..COLUMNS {
            use faer::linalg::solvers::DenseSolveCore;
            let rest = damped.submatrix(j, j, COLUMNS - j, COLUMNS - j).to_owned();
            let inverse = rest.llt(faer::Side::Lower).expect("positive").inverse();
            let (code, level) = grid.nearest(row * COLUMNS + j, left[j] as f32);
            assert_eq!(code, solution.codes[row * COLUMNS + j], "row {row} column {j}");
            let error = (left[j] - f64::from(level)) / inverse[(0, 0)];
            for k in j..COLUMNS {
                left[k] -= error * inverse[(k - j, 0)];
            }
        }
    }
}

#[test]
fn damping_rises_where_inputs_depend_on_each_other_entirely() {
    let w = weight(3);
    let grid = grid(&w, &[ROWS, COLUMNS], "int4:channel");
    // One row, so that all but one direction is unseen, and a feature that is always 0.
    let mut gram = Gram::new(COLUMNS);
    gram.see(&(0..COLUMNS).map(|j| j as f32 - 3.0).collect::<Vec<f32>>());
    let solution = solve(&w, &gram, &grid, Settings { damping: 0.0, ..PLAIN }).expect("solvable");
    assert!(solution.damping >= 0.01, "{}", solution.damping);
    assert!(solution.error <= solution.error_of_nearest);
    let broken = Gram { matrix: Mat::from_fn(COLUMNS, COLUMNS, |_, _| f64::INFINITY), rows: 1 };
    assert!(
        solve(&w, &broken, &grid, PLAIN).expect_err("infinite").to_string().contains("not positive definite")
    );
}

#[test]
fn moments_are_means_however_rows_come() {
    let rows: Vec<f32> = (0..5 * 3).map(|i| (i * i % 7) as f32 - 3.0).collect();
    let (mut whole, mut parts) = (Gram::new(3), Gram::new(3));
    whole.see(&rows);
    for row in rows.chunks(3) {
        parts.see(row);
    }
    for i in 0..3 {
        for j in 0..3 {
            let expected = rows.chunks(3).map(|r| f64::from(r[i]) * f64::from(r[j])).sum::<f64>() * 2.0 / 5.0;
            assert!(
                (whole.matrix[(i, j)] - expected).abs() < 1e-9
                    && (parts.matrix[(i, j)] - expected).abs() < 1e-9
            );
        }
    }
}
