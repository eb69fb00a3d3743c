//! One table of cases a family: each evaluates an operation on given operands, in both precisions, and compares with values computed by
//! hand or by an independent formula. An operation of the op table without a case fails [`every_operation_has_a_case`].

#![allow(
    clippy::excessive_precision,
    clippy::approx_constant,
    reason = "expected values as other software printed them"
)]

mod attention;
mod case;
mod contraction;
mod elementwise;
mod formats;
mod hadamard;
mod movement;
mod normalization;
mod quantization;
mod split;
mod window;

use std::collections::BTreeSet;
use std::sync::Arc;

use qcc_interpreter::{Interpreter, Precision};
use qcc_ir::{Function, Op, TABLE};
use qcc_params::{OpEvaluator, Parameters, Tensor};

#[test]
fn every_operation_has_a_case() {
    let families = [
        attention::cases(),
        contraction::cases(),
        elementwise::cases(),
        hadamard::cases(),
        movement::cases(),
        normalization::cases(),
        quantization::cases(),
        split::cases(),
        window::cases(),
    ];
    let mut covered: BTreeSet<&str> = families.iter().flatten().map(|case| case.op.name()).collect();
    // Not an evaluation: `a_parameter_is_read_from_the_table` covers it.
    covered.insert("parameter");
    let missing: Vec<&str> =
        TABLE.iter().map(|spec| spec.name).filter(|name| !covered.contains(name)).collect();
    assert!(missing.is_empty(), "operations without a case: {missing:?}");
}

#[test]
fn a_parameter_is_read_from_the_table() {
    let weight = Tensor::f32(&[2], vec![1.0, -2.0]).expect("fits");
    let mut parameters = Parameters::new();
    parameters.insert_tensor("w", weight.clone()).expect("new");
    let mut function = Function::new("main");
    let w = function.add_parameter("w", weight.ty());
    function.add_result("y", w);
    let results = Interpreter::new(Precision::F32).run(&function, &parameters, &[]).expect("runs");
    assert_eq!(results, std::slice::from_ref(&weight));
    let alone = Interpreter::new(Precision::F32).evaluate(
        &Op::Parameter { name: Arc::from("w") },
        &[],
        &[weight.ty()],
    );
    assert!(alone.expect_err("needs the table").contains("parameter table"));
}
