//! What a case is, and how it is checked.

use qcc_interpreter::{Interpreter, Precision};
use qcc_ir::{ElementType, Op, TensorType, infer::infer};
use qcc_params::{Data, OpEvaluator, Tensor};

/// An operation, its operands and what it must yield.
pub struct Case {
    pub title: &'static str,
    pub op: Op,
    pub operands: Vec<Option<Tensor>>,
    pub expected: Vec<Tensor>,
}

/// Relative to `1 + |expected|`: expected values are written with about eight digits.
const TOLERANCE: f64 = 1e-6;

pub fn case<O: Into<Option<Tensor>>>(
    title: &'static str,
    op: Op,
    operands: impl IntoIterator<Item = O>,
    expected: impl IntoIterator<Item = Tensor>,
) -> Case {
    Case {
        title,
        op,
        operands: operands.into_iter().map(Into::into).collect(),
        expected: expected.into_iter().collect(),
    }
}

pub fn f32s(dims: &[usize], values: &[f32]) -> Tensor {
    Tensor::f32(dims, values.to_vec()).expect("the test's sizes fit")
}

pub fn i64s(dims: &[usize], values: &[i64]) -> Tensor {
    Tensor::i64(dims, values.to_vec()).expect("the test's sizes fit")
}

pub fn i32s(dims: &[usize], values: &[i32]) -> Tensor {
    Tensor::new(dims.to_vec(), ElementType::I32, Data::I32(values.to_vec())).expect("the test's sizes fit")
}

pub fn bools(dims: &[usize], values: &[bool]) -> Tensor {
    Tensor::new(dims.to_vec(), ElementType::Bool, Data::Bool(values.to_vec())).expect("the test's sizes fit")
}

/// Result types of an operation on tensors.
pub fn types(op: &Op, operands: &[Option<Tensor>]) -> Vec<TensorType> {
    let types: Vec<_> = operands.iter().map(|o| o.as_ref().map(Tensor::ty)).collect();
    let references: Vec<_> = types.iter().map(Option::as_ref).collect();
    infer(op, &references, None).expect("the case is well typed").to_vec()
}

pub fn evaluate(op: &Op, operands: &[Option<Tensor>], precision: Precision) -> Result<Vec<Tensor>, String> {
    let borrowed: Vec<_> = operands.iter().map(Option::as_ref).collect();
    Interpreter::new(precision).evaluate(op, &borrowed, &types(op, operands))
}

pub fn check(cases: Vec<Case>) {
    for case in cases {
        for precision in [Precision::F32, Precision::F64] {
            let at = format!("`{}` (qcc.{}, {precision:?})", case.title, case.op.name());
            let results =
                evaluate(&case.op, &case.operands, precision).unwrap_or_else(|e| panic!("{at}: {e}"));
            assert_eq!(results.len(), case.expected.len(), "{at}");
            for (result, expected) in results.iter().zip(&case.expected) {
                compare(&at, result, expected, precision);
            }
        }
    }
}

fn compare(at: &str, result: &Tensor, expected: &Tensor, precision: Precision) {
    assert_eq!((&result.dims, result.element), (&expected.dims, expected.element), "{at}");
    if !expected.element.is_float() {
        assert_eq!(result.data, expected.data, "{at}");
        return;
    }
    let wide = matches!(result.data, Data::F64(_));
    assert_eq!(
        wide,
        precision == Precision::F64 || expected.element == ElementType::F64,
        "{at}: how it is held"
    );
    for (i, (a, b)) in result.to_f64_vec().into_iter().zip(expected.to_f64_vec()).enumerate() {
        let same = a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= TOLERANCE * (1.0 + b.abs());
        assert!(same, "{at}: element {i} is {a}, expected {b}");
    }
}
