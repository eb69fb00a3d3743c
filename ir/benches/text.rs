//! How long a large module takes to parse, verify and print: `cargo bench -p qcc-ir`. Less than 0.2 s together is what is asked for.

use std::time::Instant;

use qcc_ir::{Dim, ElementType, Function, Module, Op, TensorType, parse, print, verify};

const OPERATIONS: usize = 10_000;
const ROUNDS: usize = 9;

fn main() {
    let text = print::print_module(&module(), print::Options::default());
    println!("{OPERATIONS} operations, {} bytes of text; medians of {ROUNDS} runs", text.len());
    let mut seconds: [Vec<f64>; 3] = Default::default();
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let module = parse::parse_module("bench.mlir", &text).expect("the printer's text parses");
        let parsed = Instant::now();
        verify::verify(&module, verify::Options::default()).expect("parsed modules are valid");
        let verified = Instant::now();
        let again = print::print_module(&module, print::Options::default());
        let printed = Instant::now();
        assert_eq!(again, text);
        for (all, time) in seconds.iter_mut().zip([parsed - start, verified - parsed, printed - verified]) {
            all.push(time.as_secs_f64());
        }
    }
    let mut total = 0.0;
    for (name, all) in ["parse", "verify", "print"].iter().zip(&mut seconds) {
        all.sort_by(f64::total_cmp);
        total += all[ROUNDS / 2];
        println!("{name:8}{:.4} s", all[ROUNDS / 2]);
    }
    println!("total   {total:.4} s");
}

/// Blocks of a weight, a linear layer, a norm, an activation and a sum, as in a language model.
fn module() -> Module {
    let mut function = Function::new("main");
    let sizes = [Dim::symbol("B"), Dim::symbol("T"), Dim::Const(64)];
    let mut x = function.add_argument("x", TensorType::new(sizes, ElementType::F32));
    for layer in 0..OPERATIONS / 5 {
        let name = |part: &str| format!("model.layers.{layer}.{part}");
        let ty = TensorType::new([64i64, 64], ElementType::F32);
        let weight = function.add_parameter(&name("weight"), ty);
        let mut op = |op: Op, operands: &[qcc_ir::ValueId], part: &str| {
            function.add_one(op, operands.iter().copied(), &name(part)).expect("well typed")
        };
        let y = op(Op::Linear {}, &[x, weight], "linear");
        let y = op(Op::Softmax { axis: 2 }, &[y], "softmax");
        let y = op(Op::Silu {}, &[y], "act");
        x = op(Op::Add {}, &[y, x], "sum");
    }
    function.add_result("y", x);
    Module { functions: vec![function] }
}
