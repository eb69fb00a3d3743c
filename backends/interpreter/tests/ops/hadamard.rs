//! Hadamard transforms: values of NumPy, and the dense matrix `base ⊗ Sylvester` at many orders.

use qcc_interpreter::Precision;
use qcc_ir::{Op, hadamard::Order};
use qcc_params::Tensor;

use crate::case::{Case, case, check, evaluate, f32s};

fn transform(size: i64, transpose: bool) -> Op {
    Op::Hadamard { size, transpose }
}

/// `sums`, which are whole numbers, over √n.
fn over_root(sums: &[i16]) -> Tensor {
    let root = f64::from(i16::try_from(sums.len()).expect("short")).sqrt();
    #[allow(clippy::cast_possible_truncation, reason = "f32 expectations")]
    f32s(&[sums.len()], &sums.iter().map(|s| (f64::from(*s) / root) as f32).collect::<Vec<_>>())
}

pub fn cases() -> Vec<Case> {
    let twelve = || [f32s(&[12], &(0..12u8).map(f32::from).collect::<Vec<_>>())];
    let squares: Vec<f32> = (0..28u16).map(|i| f32::from(i * i % 13)).collect();
    vec![
        case("order 1", transform(1, false), [f32s(&[2], &[3.0, -1.0])], [f32s(&[2], &[3.0, -1.0])]),
        case(
            "order 4, two rows",
            transform(4, false),
            [f32s(&[2, 4], &[1.0, 2.0, 3.0, 4.0, 1.0, 0.0, 0.0, -1.0])],
            [f32s(&[2, 4], &[5.0, -1.0, -2.0, 0.0, 0.0, 1.0, 1.0, 0.0])],
        ),
        case(
            "two blocks in a row",
            transform(2, true),
            [f32s(&[4], &[1.0, 2.0, 3.0, 5.0])],
            [f32s(&[4], &[2.121320344, -0.707106781, 5.656854249, -1.414213562])],
        ),
        case(
            "order 12, rows times the matrix",
            transform(12, false),
            twelve(),
            [over_root(&[-66, -10, 2, -8, 4, 16, 28, 18, 8, -2, 10, 0])],
        ),
        case(
            "order 12, rows times its transpose",
            transform(12, true),
            twelve(),
            [over_root(&[66, 12, 2, 14, 4, -6, -16, -4, 8, 20, 10, 22])],
        ),
        case(
            "order 28, of the second kind",
            transform(28, false),
            [f32s(&[28], &squares)],
            [over_root(&[
                155, -1, 9, -27, -21, -29, -51, -21, -3, -3, 19, -1, 41, -15, 11, 7, 7, 13, -23, 3, -27, -49,
                -5, -39, 17, -19, 39, 11,
            ])],
        ),
        case("no rows", transform(4, false), [f32s(&[0, 4], &[])], [f32s(&[0, 4], &[])]),
    ]
}

#[test]
fn transforms_yield_the_expected_values() {
    check(cases());
}

/// `base ⊗ Sylvester / √n`, row-major; element (i, j) of the Sylvester matrix is −1 to the number of common bits of i and j.
#[allow(clippy::cast_precision_loss, reason = "small orders")]
fn dense(size: usize) -> Vec<f64> {
    let order = Order::of(i64::try_from(size).expect("small")).expect("a known order");
    let (base, run, matrix) = (order.base(), 1 << order.log2(), order.base_matrix());
    let cells = (0..size).flat_map(|i| (0..size).map(move |j| (i, j)));
    cells
        .map(|(i, j)| {
            let sign = if ((i % run) & (j % run)).count_ones() % 2 == 0 { 1.0 } else { -1.0 };
            f64::from(matrix[i / run * base + j / run]) * sign / (size as f64).sqrt()
        })
        .collect()
}

fn run(size: usize, transpose: bool, x: &Tensor) -> Vec<f64> {
    let op = transform(i64::try_from(size).expect("small"), transpose);
    let y = evaluate(&op, &[Some(x.clone())], Precision::F64).expect("fits");
    y[0].to_f64_vec()
}

const SIZES: [usize; 19] = [1, 2, 4, 12, 16, 20, 24, 28, 36, 40, 44, 60, 76, 84, 96, 108, 124, 140, 160];

#[test]
fn every_block_of_a_row_is_multiplied_by_the_dense_matrix() {
    for (size, transpose) in SIZES.into_iter().flat_map(|size| [(size, false), (size, true)]) {
        let (h, width) = (dense(size), 3 * size);
        #[allow(clippy::cast_precision_loss, reason = "small numbers")]
        let values: Vec<f32> = (0..2 * width).map(|i| (i * i % 17) as f32 - 8.0).collect();
        let y = run(size, transpose, &f32s(&[2, 1, width], &values));
        for (block, (x, y)) in values.chunks(size).zip(y.chunks(size)).enumerate() {
            for (j, y) in y.iter().enumerate() {
                let cell = |i: usize| if transpose { h[j * size + i] } else { h[i * size + j] };
                let expected: f64 = x.iter().enumerate().map(|(i, x)| f64::from(*x) * cell(i)).sum();
                let at = format!("order {size}, transpose {transpose}, block {block}, element {j}");
                assert!((y - expected).abs() <= 1e-12 * 200.0, "{at}: {y}, expected {expected}");
            }
        }
    }
}

#[test]
fn the_transpose_undoes_the_transform() {
    for size in SIZES {
        let mut identity = vec![0.0; size * size];
        identity.iter_mut().step_by(size + 1).for_each(|v| *v = 1.0);
        let once = run(size, false, &f32s(&[size, size], &identity));
        let once = Tensor::new(vec![size, size], qcc_ir::ElementType::F64, qcc_params::Data::F64(once));
        let twice = run(size, true, &once.expect("fits"));
        for (i, (a, b)) in twice.iter().zip(&identity).enumerate() {
            assert!((a - f64::from(*b)).abs() <= 1e-12, "order {size}, element {i}: {a}");
        }
    }
}
