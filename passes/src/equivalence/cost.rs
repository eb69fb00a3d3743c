//! What an operation costs while the model runs, roughly: multiply-adds and elements moved, with symbolic sizes at 1. It only has to rank
//! the forms of one function, whose sizes grow alike.

use egg::Id;
use qcc_ir::{Op, TensorType};

use super::facts::{Facts, Graph};
use super::heads::{Meaning, meaning};
use super::language::Term;

/// The cost of an e-node by itself; positive.
pub fn cost(graph: &Graph, class: Id, term: &Term) -> f64 {
    let Term::Apply(head, children) = term else { return 1.0 };
    let facts: Vec<&Facts> = children.iter().map(|c| &graph[*c].data).collect();
    let y = graph[class].data.tensor().map_or(0.0, |t| elements(&t.ty));
    let activations: f64 =
        facts.iter().filter_map(|f| f.tensor()).filter(|t| !t.weight).map(|t| elements(&t.ty)).sum();
    // Each operation costs something even on empty tensors.
    let moved = 1.0 + y + activations;
    match meaning(head, &facts) {
        Ok(Meaning::Op(op, from)) => moved + y * products(&op, &facts[from..]),
        Ok(Meaning::Steps(steps)) => moved * steps.0.len() as f64,
        // Its operation costs; in a patch it is a name.
        Ok(Meaning::Projection(_)) => 1e-3,
        Err(_) => f64::INFINITY,
    }
}

/// Multiply-adds for one element of the result.
fn products(op: &Op, operands: &[&Facts]) -> f64 {
    let ty = |i: usize| operands.get(i).and_then(|f| f.tensor()).map(|t| &t.ty);
    let inner = |ty: &TensorType| ty.dims.iter().skip(1).map(|d| size(d.evaluate(&|_| Some(1)))).product();
    match op {
        Op::Linear {} | Op::Conv { .. } | Op::ConvTranspose { .. } => ty(1).map_or(0.0, inner),
        Op::QuantizedLinear { .. } | Op::QuantizedConv { .. } => ty(1).map_or(0.0, inner),
        Op::Matmul {} => ty(0).and_then(|t| t.dims.last()).map_or(0.0, |d| size(d.evaluate(&|_| Some(1)))),
        _ => 0.0,
    }
}

#[allow(clippy::cast_precision_loss, reason = "an estimate")]
fn size(n: Option<i64>) -> f64 {
    n.map_or(f64::from(u32::MAX), |n| n as f64)
}

fn elements(ty: &TensorType) -> f64 {
    ty.dims.iter().map(|d| size(d.evaluate(&|_| Some(1)))).product()
}
