use faer::Mat;

use qcc_interpreter::formats::{Grid, Rules, Scales, quantize_dynamic};
use qcc_ir::{Format, Role};

use super::{Gram, Method, Settings, Solution, SolveError, Weight, error};
use crate::random::Random;

/// A weight `[ROWS, COLUMNS]` in a format.
fn in_format<'a>(values: &'a [f32], format: &str) -> Weight<'a> {
    let dims = &[ROWS, COLUMNS];
    let format = Format::parse(format, Role::Weight).expect(format);
    let to = format.quant_type(0, 1).expect("codes");
    let rules = Rules::nearest(format.narrow());
    let parameters = quantize_dynamic(values, dims, to, rules, None).expect("fits").parameters;
    Weight { values, dims, to, rules, parameters }
}

fn grid(weight: &Weight<'_>) -> Grid<f32> {
    Grid::new(weight.dims, weight.to, weight.rules, &weight.parameters).expect("fits")
}

fn solve(weight: &Weight<'_>, gram: &Gram, settings: Settings) -> Result<Solution, SolveError> {
    super::solve(weight, std::slice::from_ref(gram), settings)
}

/// What the codes of a solution cost, and what nearest codes do.
fn errors(weight: &Weight<'_>, solution: &Solution, gram: &Gram) -> (f64, f64) {
    let grid = grid(weight);
    let nearest: Vec<i32> = weight.values.iter().enumerate().map(|(at, x)| grid.nearest(at, *x).0).collect();
    let of = |parameters, codes: &[i32]| {
        error(weight, parameters, codes, std::slice::from_ref(gram)).expect("fits")
    };
    (of(&solution.parameters, &solution.codes), of(&weight.parameters, &nearest))
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

const PLAIN: Settings = Settings {
    method: Method::Gptq,
    damping: 0.01,
    block: COLUMNS,
    activation_order: false,
    sequential: false,
};

#[test]
fn inputs_that_do_not_depend_on_each_other_leave_rounding_to_nearest() {
    let w = weight(1);
    for format in ["int4:channel", "int3:block=8", "fp4e2m1:block=16", "nf4", "uint4:asym"] {
        let weight = in_format(&w, format);
        let settings = Settings { damping: 0.0, ..PLAIN };
        let solution = solve(&weight, &identity(), settings).expect("solvable");
        let grid = grid(&weight);
        let nearest: Vec<i32> = w.iter().enumerate().map(|(at, x)| grid.nearest(at, *x).0).collect();
        assert_eq!(solution.codes, nearest, "{format}");
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
        let weight = in_format(&w, format);
        for activation_order in [false, true] {
            let settings = Settings { activation_order, ..PLAIN };
            let solution = solve(&weight, &correlated(3), settings).expect("solvable");
            let (error, of_nearest) = errors(&weight, &solution, &correlated(3));
            assert!(error < 0.7 * of_nearest, "{format}: {solution:?}");
        }
    }
}

#[test]
fn blocks_of_columns_change_no_code() {
    let w = weight(2);
    let weight = in_format(&w, "int4:block=8");
    let gram = correlated(5);
    let of = |block: usize| solve(&weight, &gram, Settings { block, ..PLAIN }).expect("solvable").codes;
    for block in [1, 5, 8, 31] {
        assert_eq!(of(block), of(COLUMNS), "{block}");
    }
}

/// Optimal brain quantization in the order of the columns, with the inverse of what is left recomputed at each: no factor, no blocks.
#[test]
fn it_is_optimal_brain_quantization_in_a_fixed_order() {
    let w = weight(4);
    let weight = in_format(&w, "int4:channel");
    let gram = correlated(7);
    let mean = (0..COLUMNS).map(|j| gram.matrix[(j, j)]).sum::<f64>() / COLUMNS as f64;
    let damped =
        Mat::from_fn(COLUMNS, COLUMNS, |i, j| gram.matrix[(i, j)] + if i == j { 0.01 * mean } else { 0.0 });
    let solution = solve(&weight, &gram, PLAIN).expect("solvable");
    let grid = grid(&weight);
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
    let weight = in_format(&w, "int4:channel");
    // One row, so that all but one direction is unseen, and a feature that is always 0.
    let mut gram = Gram::new(COLUMNS);
    gram.see(&(0..COLUMNS).map(|j| j as f32 - 3.0).collect::<Vec<f32>>());
    let solution = solve(&weight, &gram, Settings { damping: 0.0, ..PLAIN }).expect("solvable");
    assert!(solution.damping >= 0.01, "{}", solution.damping);
    let (error, of_nearest) = errors(&weight, &solution, &gram);
    assert!(error <= of_nearest);
    let broken = Gram { matrix: Mat::from_fn(COLUMNS, COLUMNS, |_, _| f64::INFINITY), rows: 1 };
    assert!(
        solve(&weight, &broken, PLAIN).expect_err("infinite").to_string().contains("not positive definite")
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

fn decoupled(rounds: usize) -> Settings {
    Settings { method: Method::DecoupleQ { rounds }, ..PLAIN }
}

#[test]
fn solving_for_scales_too_loses_less_than_gptq() {
    let w = weight(1);
    for format in ["int2:block=8", "int2:channel", "int3:block=16:asym", "uint2:block=8:asym", "int4:channel"]
    {
        let weight = in_format(&w, format);
        for activation_order in [false, true] {
            let gptq =
                solve(&weight, &correlated(3), Settings { activation_order, ..PLAIN }).expect("solvable");
            let both = Settings { activation_order, ..decoupled(4) };
            let both = solve(&weight, &correlated(3), both).expect("solvable");
            let of = |solution| errors(&weight, solution, &correlated(3)).0;
            assert!(of(&both) < of(&gptq), "{format}: {} of {}", of(&both), of(&gptq));
        }
    }
}

#[test]
fn errors_fall_from_turn_to_turn() {
    let w = weight(2);
    for format in ["int2:block=8", "int3:channel:asym"] {
        let weight = in_format(&w, format);
        // Without damping, which the solver counts as well.
        let of = |rounds| {
            let settings = Settings { damping: 0.0, ..decoupled(rounds) };
            let solution = solve(&weight, &correlated(3), settings).expect("solvable");
            errors(&weight, &solution, &correlated(3)).0
        };
        let errors: Vec<f64> = (0..5).map(of).collect();
        assert!(errors.windows(2).all(|e| e[1] <= e[0] * (1.0 + 1e-9)), "{format}: {errors:?}");
        assert!(errors[4] < 0.9 * errors[0], "{format}: {errors:?}");
    }
}

#[test]
fn scales_are_a_stationary_point() {
    let w = weight(5);
    // Scales in f32: rounding them to f16 would move them.
    let weight = in_format(&w, "int3:block=8:scale=f32");
    let gram = correlated(9);
    let settings = Settings { damping: 0.0, ..decoupled(8) };
    let solution = solve(&weight, &gram, settings).expect("solvable");
    let Scales::Floats(scales) = &solution.parameters.scales else { panic!("float scales") };
    let error_with = |scales: &[f32]| {
        let level = |at: usize| f64::from(solution.codes[at] as f32 * scales[at / 8]);
        let miss: Vec<f64> = (0..w.len()).map(|at| f64::from(w[at]) - level(at)).collect();
        let of_row = |miss: &[f64]| {
            (0..COLUMNS * COLUMNS)
                .map(|k| miss[k / COLUMNS] * gram.matrix[(k / COLUMNS, k % COLUMNS)] * miss[k % COLUMNS])
                .sum::<f64>()
        };
        miss.chunks(COLUMNS).map(of_row).sum::<f64>()
    };
    let least = error_with(scales);
    assert!((least - errors(&weight, &solution, &gram).0).abs() < 1e-6 * least);
    for at in 0..scales.len() {
        for by in [0.99, 1.01] {
            let mut moved = scales.clone();
            moved[at] *= by;
            // The last codes may have come after the last scales.
            assert!(error_with(&moved) > least * (1.0 - 1e-6), "scale {at}");
        }
    }
}

#[test]
fn planted_codes_are_found() {
    // All four codes: min-max scales take them for a wider range.
    let mut random = Random::new(11);
    let codes: Vec<i32> = (0..ROWS * COLUMNS).map(|_| ((random.unit() + 1.0) * 2.0) as i32 - 2).collect();
    let w: Vec<f32> = codes.iter().map(|c| 0.3 * *c as f32).collect();
    let weight = in_format(&w, "int2:channel");
    let solution = solve(&weight, &correlated(3), decoupled(4)).expect("solvable");
    let (error, _) = errors(&weight, &solution, &correlated(3));
    assert!(error < 1e-9, "{error}");
}

#[test]
fn parts_of_a_weight_have_moments_of_their_own() {
    // Two groups of rows, as a grouped convolution has them.
    let w = weight(6);
    let weight = in_format(&w, "int4:channel");
    let grams = [correlated(3), correlated(5)];
    let both = super::solve(&weight, &grams, PLAIN).expect("solvable").codes;
    let half = ROWS / 2 * COLUMNS;
    let alone = |gram: &Gram| solve(&weight, gram, PLAIN).expect("solvable").codes;
    assert_eq!(both[..half], alone(&grams[0])[..half]);
    assert_eq!(both[half..], alone(&grams[1])[half..]);
}
