//! Operations that move elements, and casts.

use qcc_interpreter::Precision;
use qcc_ir::ops::PadMode;
use qcc_ir::{Dim, ElementType, Float, Granularity, Op, QuantType, ScaleType, Storage};
use qcc_params::{Data, Tensor};

use crate::case::{Case, bools, case, check, evaluate, f32s, i32s, i64s};

fn slice(axes: &[i64], starts: &[i64], ends: &[i64], steps: &[i64]) -> Op {
    Op::Slice { axes: axes.to_vec(), starts: starts.to_vec(), ends: ends.to_vec(), steps: steps.to_vec() }
}

fn pad(pads: &[i64], mode: PadMode) -> Op {
    Op::Pad { pads: pads.to_vec(), mode, value: Float(9.0) }
}

fn dims(sizes: &[i64]) -> Vec<Dim> {
    sizes.iter().map(|&n| Dim::Const(n)).collect()
}

pub fn cases() -> Vec<Case> {
    let table = || i64s(&[3, 2], &[0, 1, 10, 11, 20, 21]);
    let line = || i64s(&[4], &[1, 2, 3, 4]);
    vec![
        case(
            "rows of a table",
            Op::Embedding {},
            [table(), i64s(&[1, 3], &[2, 0, 2])],
            [i64s(&[1, 3, 2], &[20, 21, 0, 1, 20, 21])],
        ),
        case(
            "indices along the last axis",
            Op::Gather { axis: 1 },
            [table(), i64s(&[], &[-1])],
            [i64s(&[3], &[1, 11, 21])],
        ),
        case(
            "indices of rank 2",
            Op::Gather { axis: 0 },
            [table(), i32s(&[1, 2], &[1, -3])],
            [i64s(&[1, 2, 2], &[10, 11, 0, 1])],
        ),
        case(
            "the order of elements, equal ones as they come",
            Op::Argsort {},
            [i64s(&[4], &[2, 0, 2, 1])],
            [i64s(&[4], &[1, 3, 0, 2])],
        ),
        case("slice with steps", slice(&[0], &[0], &[4], &[3]), [line()], [i64s(&[2], &[1, 4])]),
        case(
            "slice backwards to the start",
            slice(&[0], &[3], &[-1], &[-2]),
            [line()],
            [i64s(&[2], &[4, 2])],
        ),
        case(
            "slice two axes",
            slice(&[1, 0], &[1, 2], &[2, 0], &[1, -1]),
            [table()],
            [i64s(&[2, 1], &[21, 11])],
        ),
        case("empty slice", slice(&[0], &[4], &[4], &[1]), [line()], [i64s(&[0], &[])]),
        case(
            "concat along the last axis",
            Op::Concat { axis: 1 },
            [table(), i64s(&[3, 1], &[-1, -2, -3])],
            [i64s(&[3, 3], &[0, 1, -1, 10, 11, -2, 20, 21, -3])],
        ),
        case("concat of one", Op::Concat { axis: 0 }, [line()], [line()]),
        case(
            "constant padding",
            pad(&[1, 0, 0, 1], PadMode::Constant),
            [i64s(&[1, 2], &[1, 2])],
            [i64s(&[2, 3], &[9, 9, 9, 1, 2, 9])],
        ),
        case("edge padding", pad(&[2, 1], PadMode::Edge), [line()], [i64s(&[7], &[1, 1, 1, 2, 3, 4, 4])]),
        case("reflection", pad(&[2, 1], PadMode::Reflect), [line()], [i64s(&[7], &[3, 2, 1, 2, 3, 4, 3])]),
        case(
            "reflection goes back and forth",
            pad(&[0, 5], PadMode::Reflect),
            [i64s(&[2], &[1, 2])],
            [i64s(&[7], &[1, 2, 1, 2, 1, 2, 1])],
        ),
        case(
            "reshape",
            Op::Reshape { shape: dims(&[2, 3]) },
            [table()],
            [i64s(&[2, 3], &[0, 1, 10, 11, 20, 21])],
        ),
        case(
            "transpose",
            Op::Transpose { permutation: vec![1, 0] },
            [table()],
            [i64s(&[2, 3], &[0, 10, 20, 1, 11, 21])],
        ),
        case(
            "transpose of three axes",
            Op::Transpose { permutation: vec![2, 0, 1] },
            [i64s(&[1, 2, 3], &[1, 2, 3, 4, 5, 6])],
            [i64s(&[3, 1, 2], &[1, 4, 2, 5, 3, 6])],
        ),
        case(
            "broadcast",
            Op::Broadcast { shape: dims(&[2, 2, 2]) },
            [i64s(&[2, 1], &[1, 2])],
            [i64s(&[2, 2, 2], &[1, 1, 2, 2, 1, 1, 2, 2])],
        ),
        case(
            "float to integer truncates and saturates",
            Op::Cast { to: ElementType::I32 },
            [f32s(&[5], &[1.9, -1.9, 1e10, f32::NAN, f32::NEG_INFINITY])],
            [i32s(&[5], &[1, -1, i32::MAX, 0, i32::MIN])],
        ),
        case(
            "integer to float",
            Op::Cast { to: ElementType::F32 },
            [i64s(&[2], &[-3, 1 << 40])],
            [f32s(&[2], &[-3.0, 1099511627776.0])],
        ),
        case(
            "anything not zero is true",
            Op::Cast { to: ElementType::Bool },
            [f32s(&[3], &[0.0, 0.5, f32::NAN])],
            [bools(&[3], &[false, true, true])],
        ),
        case(
            "booleans are 0 and 1",
            Op::Cast { to: ElementType::I64 },
            [bools(&[2], &[true, false])],
            [i64s(&[2], &[1, 0])],
        ),
    ]
}

#[test]
fn movements_yield_the_expected_elements() {
    check(cases());
}

#[test]
fn an_embedding_keeps_the_type_of_its_table() {
    let rows = [1.0, 2.0].map(half::bf16::from_f32).to_vec();
    let table = Tensor::new(vec![2, 1], ElementType::BF16, Data::BF16(rows)).expect("fits");
    let y =
        evaluate(&Op::Embedding {}, &[Some(table), Some(i64s(&[1], &[1]))], Precision::F32).expect("fits");
    assert_eq!((y[0].element, &y[0].data), (ElementType::BF16, &Data::BF16(vec![half::bf16::from_f32(2.0)])));
}

#[test]
fn casting_a_large_integer_rounds_once() {
    // Rounding to f64 first would make this a tie.
    let value = (1i64 << 60) + (1 << 36) + 1;
    let y = evaluate(&Op::Cast { to: ElementType::F32 }, &[Some(i64s(&[1], &[value]))], Precision::F32)
        .expect("fits");
    assert_eq!(y[0].data, Data::F32(vec![value as f32]));
    let halves =
        evaluate(&Op::Cast { to: ElementType::F16 }, &[Some(f32s(&[1], &[70000.0]))], Precision::F32);
    assert_eq!(halves.expect("fits")[0].data, Data::F16(vec![half::f16::INFINITY]));
}

#[test]
fn indices_outside_are_errors() {
    let x = || Some(f32s(&[2, 1], &[0.0, 1.0]));
    let error = |op, id| evaluate(&op, &[x(), Some(i64s(&[1], &[id]))], Precision::F32).expect_err("outside");
    assert!(error(Op::Embedding {}, 2).contains("index 2 is outside axis 0 of size 2"));
    assert!(error(Op::Embedding {}, -3).contains("index -3"));
    assert!(error(Op::Gather { axis: 0 }, -3).contains("index -3"));
    assert!(error(Op::Gather { axis: 0 }, i64::MIN).contains("outside"));
}

#[test]
fn codes_move_but_only_symmetric_ones_have_a_known_zero() {
    let q = |zero_point| QuantType {
        storage: Storage::Int(8),
        granularity: Granularity::Tensor,
        scale: ScaleType::F32,
        zero_point,
    };
    let codes = |zero_point| {
        Some(Tensor::new(vec![2], ElementType::Quant(q(zero_point)), Data::I8(vec![5, -7])).expect("fits"))
    };
    let zeros = Op::Pad { pads: vec![0, 1], mode: PadMode::Constant, value: Float(0.0) };
    let y = evaluate(&zeros, &[codes(false)], Precision::F32).expect("fits");
    assert_eq!(y[0].data, Data::I8(vec![5, -7, 0]));
    assert!(
        evaluate(&zeros, &[codes(true)], Precision::F32).expect_err("unknown code").contains("symmetric")
    );
    let y = evaluate(&slice(&[0], &[1], &[-1], &[-1]), &[codes(true)], Precision::F64).expect("fits");
    assert_eq!(y[0].data, Data::I8(vec![-7, 5]));
}
