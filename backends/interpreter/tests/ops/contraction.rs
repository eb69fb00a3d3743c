//! Linear layers, matrix products and the recurrences of state-space models.

use qcc_interpreter::Precision;
use qcc_ir::{Dense, ElementType, Op};
use qcc_params::{Data, Tensor};

use crate::case::{Case, case, check, evaluate, f32s};

/// Values 0, 1, 2, … .
fn count(dims: &[usize]) -> Tensor {
    let n: usize = dims.iter().product();
    f32s(dims, &(0..n).map(|i| i as f32).collect::<Vec<_>>())
}

pub fn cases() -> Vec<Case> {
    vec![
        case(
            "constant",
            Op::Constant { value: Dense::f32(&[2], &[1.5, -2.0]) },
            Vec::<Tensor>::new(),
            [f32s(&[2], &[1.5, -2.0])],
        ),
        case(
            "linear with bias",
            Op::Linear {},
            [
                f32s(&[1, 2, 2], &[1.0, 2.0, -1.0, 0.5]),
                f32s(&[3, 2], &[1.0, 0.0, 0.0, 1.0, 2.0, -3.0]),
                f32s(&[3], &[10.0, 20.0, 30.0]),
            ],
            [f32s(&[1, 2, 3], &[11.0, 22.0, 26.0, 9.0, 20.5, 26.5])],
        ),
        case(
            "linear on a vector",
            Op::Linear {},
            [count(&[5]), count(&[6, 5])],
            [f32s(&[6], &[30.0, 80.0, 130.0, 180.0, 230.0, 280.0])],
        ),
        case(
            "nothing to sum",
            Op::Linear {},
            [f32s(&[2, 0], &[]), f32s(&[2, 0], &[]), f32s(&[2], &[1.0, 2.0])],
            [f32s(&[2, 2], &[1.0, 2.0, 1.0, 2.0])],
        ),
        case(
            "matmul",
            Op::Matmul {},
            [count(&[2, 3]), count(&[3, 2])],
            [f32s(&[2, 2], &[10.0, 13.0, 28.0, 40.0])],
        ),
        case(
            "matmul broadcasts its batches",
            Op::Matmul {},
            [count(&[2, 1, 1, 2]), f32s(&[2, 2, 1], &[1.0, 10.0, 100.0, 1000.0])],
            [f32s(&[2, 2, 1, 1], &[10.0, 1000.0, 32.0, 3200.0])],
        ),
        case(
            "causal convolution, oldest input first",
            Op::CausalConv {},
            [
                f32s(&[1, 3, 2], &[1.0, 10.0, 2.0, 20.0, 3.0, 30.0]),
                f32s(&[2, 3], &[1.0, 10.0, 100.0, 0.0, 0.0, 1.0]),
                f32s(&[1, 2, 2], &[-2.0, -1.0, 0.0, 0.0]),
                f32s(&[2], &[0.5, 0.25]),
            ],
            [
                f32s(&[1, 3, 2], &[88.5, 10.25, 209.5, 20.25, 321.5, 30.25]),
                f32s(&[1, 2, 2], &[2.0, 3.0, 20.0, 30.0]),
            ],
        ),
        case(
            "causal convolution of one step shifts its state",
            Op::CausalConv {},
            [f32s(&[1, 1, 1], &[7.0]), f32s(&[1, 3], &[1.0, 1.0, 1.0]), f32s(&[1, 1, 2], &[5.0, 6.0])],
            [f32s(&[1, 1, 1], &[18.0]), f32s(&[1, 1, 2], &[6.0, 7.0])],
        ),
        case(
            "selective scan",
            Op::SelectiveScan {},
            [
                f32s(&[1, 2, 1], &[1.0, 2.0]),
                f32s(&[1, 2, 1], &[0.1, 0.2]),
                f32s(&[1, 2], &[-1.0, -2.0]),
                f32s(&[1, 2, 2], &[1.0, 0.5, 0.25, -1.0]),
                f32s(&[1, 2, 2], &[1.0, 2.0, 0.5, 0.5]),
                f32s(&[1], &[3.0]),
                f32s(&[1, 1, 2], &[0.5, -0.25]),
            ],
            [f32s(&[1, 2, 1], &[3.243053332, 6.02429764]), f32s(&[1, 1, 2], &[0.552282186, -0.503686907])],
        ),
        case(
            "states of a selective scan",
            Op::SelectiveScanStates {},
            [
                f32s(&[1, 2, 1], &[1.0, 2.0]),
                f32s(&[1, 2, 1], &[0.1, 0.2]),
                f32s(&[1, 2], &[-1.0, -2.0]),
                f32s(&[1, 2, 2], &[1.0, 0.5, 0.25, -1.0]),
                f32s(&[1, 1, 2], &[0.5, -0.25]),
            ],
            [
                f32s(&[1, 2, 1, 2], &[0.552418709, -0.154682688, 0.552282186, -0.503686907]),
                f32s(&[1, 1, 2], &[0.552282186, -0.503686907]),
            ],
        ),
        case(
            "no step leaves the state",
            Op::SelectiveScanStates {},
            [
                f32s(&[1, 0, 1], &[]),
                f32s(&[1, 0, 1], &[]),
                f32s(&[1, 2], &[-1.0, -2.0]),
                f32s(&[1, 0, 2], &[]),
                f32s(&[1, 1, 2], &[0.5, -0.25]),
            ],
            [f32s(&[1, 0, 1, 2], &[]), f32s(&[1, 1, 2], &[0.5, -0.25])],
        ),
    ]
}

#[test]
fn contractions_yield_the_expected_values() {
    check(cases());
}

#[test]
fn linear_takes_a_narrow_weight() {
    let weight = [1.0, 0.1].map(half::bf16::from_f32).to_vec();
    let expected = weight[0].to_f32() * 3.0 + weight[1].to_f32() * 5.0;
    let weight = Tensor::new(vec![1, 2], ElementType::BF16, Data::BF16(weight)).expect("fits");
    let y = evaluate(&Op::Linear {}, &[Some(f32s(&[2], &[3.0, 5.0])), Some(weight)], Precision::F32)
        .expect("fits");
    assert_eq!(y, [f32s(&[1], &[expected])]);
}

#[test]
fn sums_are_wider_than_f32() {
    // 1e8 + 1 − 1e8 loses the 1 in f32.
    let x = f32s(&[3], &[1e8, 1.0, -1e8]);
    let y =
        evaluate(&Op::Linear {}, &[Some(x), Some(f32s(&[1, 3], &[1.0; 3]))], Precision::F32).expect("fits");
    assert_eq!(y, [f32s(&[1], &[1.0])]);
}
