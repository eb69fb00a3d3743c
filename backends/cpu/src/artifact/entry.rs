//! Entry points as the manifest describes them.

use qcc_runtime::program::{Expr, Port, Program};
use serde_json::{Value, json};

/// `{name, inputs, outputs, states}` of each entry point; a tensor is `{name, element, shape}` with symbols by name.
pub(super) fn describe(program: &Program) -> Value {
    let ports = |ports: &[Port]| -> Value {
        ports
            .iter()
            .map(|p| {
                let shape: Vec<Value> = p.dims.iter().map(|d| dimension(d, &program.symbols)).collect();
                json!({ "name": p.name, "element": p.element, "shape": shape })
            })
            .collect()
    };
    program
        .entries
        .iter()
        .map(|e| {
            json!({ "name": e.name, "inputs": ports(&e.inputs), "outputs": ports(&e.outputs), "states": ports(&e.states) })
        })
        .collect()
}

fn dimension(dim: &Expr, symbols: &[String]) -> Value {
    match dim {
        Expr::Const(n) => json!(n),
        other => json!(formula(other, symbols)),
    }
}

fn formula(expr: &Expr, symbols: &[String]) -> String {
    let both =
        |a: &Expr, b: &Expr, op: &str| format!("({} {op} {})", formula(a, symbols), formula(b, symbols));
    match expr {
        Expr::Const(n) => n.to_string(),
        Expr::Symbol(i) => symbols.get(*i as usize).cloned().unwrap_or_else(|| format!("s{i}")),
        Expr::Add(a, b) => both(a, b, "+"),
        Expr::Mul(a, b) => both(a, b, "*"),
        Expr::Max(a, b) => format!("max({}, {})", formula(a, symbols), formula(b, symbols)),
        Expr::FloorDiv(a, by) => format!("floor({} / {by})", formula(a, symbols)),
        Expr::CeilDiv(a, by) => format!("ceil({} / {by})", formula(a, symbols)),
    }
}
