//! Softmax, normalisations, reductions.

use qcc_interpreter::Precision;
use qcc_ir::{Float, Op};

use crate::case::{Case, case, check, evaluate, f32s, i64s};

const EPSILON: Float = Float(1e-5);

pub fn cases() -> Vec<Case> {
    let row = || f32s(&[1, 4], &[1.0, 2.0, 3.0, 4.0]);
    let cube = || f32s(&[2, 2, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 9.0]);
    let reduce = |title, op, dims: &[usize], y: &[f32]| case(title, op, [cube()], [f32s(dims, y)]);
    vec![
        case(
            "softmax along a middle axis",
            Op::Softmax { axis: 0 },
            [f32s(&[3, 2], &[1.0, 1003.0, 2.0, 1002.0, 3.0, 1001.0])],
            [f32s(&[3, 2], &[0.090030573, 0.665240956, 0.244728471, 0.244728471, 0.665240956, 0.090030573])],
        ),
        case(
            "softmax with a masked element",
            Op::Softmax { axis: 0 },
            [f32s(&[3], &[0.0, f32::NEG_INFINITY, 0.0])],
            [f32s(&[3], &[0.5, 0.0, 0.5])],
        ),
        case(
            "log-softmax of far-apart values",
            Op::LogSoftmax { axis: 1 },
            [f32s(&[2, 3], &[1.0, 2.0, 3.0, 0.0, -1000.0, 0.0])],
            [f32s(
                &[2, 3],
                &[-2.407605964, -1.407605964, -0.407605964, -0.693147181, -1000.693147181, -0.693147181],
            )],
        ),
        case(
            "rms norm",
            Op::RmsNorm { epsilon: EPSILON },
            [row(), f32s(&[4], &[1.0, 1.0, 2.0, -1.0])],
            [f32s(&[1, 4], &[0.365148128, 0.730296256, 2.190888769, -1.460592513])],
        ),
        case(
            "layer norm",
            Op::LayerNorm { axis: 1, epsilon: EPSILON },
            [Some(row()), Some(f32s(&[4], &[1.0, 1.0, 2.0, 1.0])), Some(f32s(&[4], &[0.0, 0.0, 0.0, 1.0]))],
            [f32s(&[1, 4], &[-1.34163542, -0.447211807, 0.894423613, 2.34163542])],
        ),
        case(
            "layer norm over two axes without weight",
            Op::LayerNorm { axis: 0, epsilon: EPSILON },
            [f32s(&[2, 2], &[1.0, 2.0, 3.0, 4.0])],
            [f32s(&[2, 2], &[-1.34163542, -0.447211807, 0.447211807, 1.34163542])],
        ),
        case(
            "batch norm per channel",
            Op::BatchNorm { epsilon: Float(0.0) },
            [
                f32s(&[1, 2, 2], &[1.0, 3.0, 10.0, 20.0]),
                f32s(&[2], &[2.0, 1.0]),
                f32s(&[2], &[0.5, -1.0]),
                f32s(&[2], &[1.0, 10.0]),
                f32s(&[2], &[4.0, 25.0]),
            ],
            [f32s(&[1, 2, 2], &[0.5, 2.5, -1.0, 1.0])],
        ),
        reduce(
            "mean over outer and inner axis",
            Op::ReduceMean { axes: vec![0, 2], keep_dims: false },
            &[2],
            &[3.5, 5.75],
        ),
        reduce(
            "sum over a middle axis",
            Op::ReduceSum { axes: vec![1], keep_dims: true },
            &[2, 1, 2],
            &[4.0, 6.0, 12.0, 15.0],
        ),
        reduce("sum over everything", Op::ReduceSum { axes: vec![0, 1, 2], keep_dims: false }, &[], &[37.0]),
        reduce("maximum", Op::ReduceMax { axes: vec![2], keep_dims: false }, &[2, 2], &[2.0, 4.0, 6.0, 9.0]),
        reduce(
            "no axes",
            Op::ReduceSum { axes: vec![], keep_dims: false },
            &[2, 2, 2],
            &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 9.0],
        ),
        case(
            "integer mean truncates",
            Op::ReduceMean { axes: vec![0], keep_dims: false },
            [i64s(&[3], &[-1, -2, -2])],
            [i64s(&[], &[-1])],
        ),
        case(
            "maximum of nothing",
            Op::ReduceMax { axes: vec![0], keep_dims: false },
            [f32s(&[0, 1], &[])],
            [f32s(&[1], &[f32::NEG_INFINITY])],
        ),
        case(
            "maximum keeps NaN",
            Op::ReduceMax { axes: vec![0], keep_dims: false },
            [f32s(&[3], &[1.0, f32::NAN, 2.0])],
            [f32s(&[], &[f32::NAN])],
        ),
    ]
}

#[test]
fn normalizations_yield_the_expected_values() {
    check(cases());
}

#[test]
fn empty_tensors_normalize_to_empty_ones() {
    for op in
        [Op::Softmax { axis: 0 }, Op::LogSoftmax { axis: 1 }, Op::LayerNorm { axis: 0, epsilon: EPSILON }]
    {
        for dims in [[0, 2], [2, 0]] {
            let y = evaluate(&op, &[Some(f32s(&dims, &[]))], Precision::F32).expect("fits");
            assert_eq!(y, [f32s(&dims, &[])]);
        }
    }
}

#[test]
fn the_integer_mean_of_nothing_is_an_error() {
    let op = Op::ReduceMean { axes: vec![0], keep_dims: false };
    assert!(
        evaluate(&op, &[Some(i64s(&[0], &[]))], Precision::F32).expect_err("no mean").contains("nothing")
    );
}
