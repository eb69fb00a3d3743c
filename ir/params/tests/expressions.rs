//! Weight expressions: evaluated once each, however deep, and named.

use qcc_ir::{ElementType, Op, Str, TensorType};
use qcc_params::{Expression, OpEvaluator, ParameterError, Parameters, Tensor};

/// Knows `neg` on f32.
struct Negation;

impl OpEvaluator for Negation {
    fn evaluate(
        &self,
        _: &Op,
        operands: &[Option<&Tensor>],
        _: &[TensorType],
    ) -> Result<Vec<Tensor>, String> {
        let x = operands[0].and_then(Tensor::as_f32).ok_or("an f32 operand is missing")?;
        Ok(vec![Tensor::f32(&[x.len()], x.iter().map(|v| -v).collect()).map_err(|e| e.to_string())?])
    }
}

fn negation(of: &Str) -> Expression {
    Expression { op: Op::Neg {}, operands: vec![Some(of.clone())], result: 0 }
}

fn ty() -> TensorType {
    TensorType::new([1i64], ElementType::F32)
}

fn one_weight() -> (Parameters, Str) {
    let mut parameters = Parameters::new();
    let tensor = Tensor::f32(&[1], vec![1.5]).expect("counts agree");
    let name = parameters.insert_tensor("w", tensor).expect("a new name");
    (parameters, name)
}

#[test]
fn a_very_deep_expression_is_evaluated() {
    let (mut parameters, mut name) = one_weight();
    for _ in 0..100_001 {
        name = parameters.insert_expression("w.neg", ty(), negation(&name));
    }
    assert_eq!(&*name, "w.neg.100000");
    let value = parameters.evaluate(&name, &Negation).expect("evaluates");
    assert_eq!(value.as_f32(), Some(&[-1.5][..]));
}

#[test]
fn equal_expressions_are_one_weight() {
    let (mut parameters, name) = one_weight();
    let first = parameters.insert_expression("a", ty(), negation(&name));
    assert_eq!(parameters.insert_expression("b", ty(), negation(&name)), first);
}

#[test]
fn what_refers_to_itself_or_to_nothing_is_an_error() {
    let (mut parameters, _) = one_weight();
    let (a, b): (Str, Str) = ("a".into(), "b".into());
    parameters.insert_expression("a", ty(), negation(&b));
    parameters.insert_expression("b", ty(), negation(&a));
    parameters.insert_expression("c", ty(), negation(&"nothing".into()));
    assert!(matches!(parameters.evaluate("a", &Negation), Err(ParameterError::Cycle(_))));
    let unknown = parameters.evaluate("c", &Negation).expect_err("no such operand");
    assert_eq!(unknown, ParameterError::Unknown("nothing".into()));
}
