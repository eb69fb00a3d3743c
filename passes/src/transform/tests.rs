//! A LLaMA block: what each pass finds in it, that outputs stay, and that names have no part in it.

use std::collections::HashMap;

use qcc_interpreter::{Interpreter, Precision};
use qcc_ir::{Dim, ElementType, Float, Function, Module, Op, TensorType, ValueId};
use qcc_params::Tensor;

use super::Explanation;
use crate::context::{Context, Samples};
use crate::equivalence::rules::parse;
use crate::fixture::{Fixture, dims};
use crate::instrument::Instrumentation;
use crate::pipeline::Pipeline;
use crate::registry::Registry;
use crate::verify_each::random_inputs;

const WIDTH: usize = 24;
const HEADS: i64 = 3;
const INNER: usize = 40;
const VOCABULARY: usize = 16;

struct OneRandomSample;

impl Samples for OneRandomSample {
    fn len(&self) -> usize {
        1
    }

    fn inputs(&self, _: usize, function: &Function) -> Result<Vec<Tensor>, String> {
        random_inputs(function)
    }
}

/// A LLaMA model of one block without positions, with names that this makes of the usual ones.
struct Llama<F> {
    fixture: Fixture,
    named: F,
    gate: Op,
}

impl<F: Fn(&str) -> String> Llama<F> {
    fn usual(named: F) -> Fixture {
        Llama::gated(named, Op::Silu {})
    }

    fn gated(named: F, gate: Op) -> Fixture {
        let mut llama = Llama { fixture: Fixture::new(), named, gate };
        let tokens = TensorType::new(dims("B,T"), ElementType::I64);
        let tokens = llama.fixture.function.add_argument("tokens", tokens);
        let table = llama.weight("embed", &[VOCABULARY, WIDTH]);
        let x = llama.op(Op::Embedding {}, &[table, tokens], "embed");
        let x = llama.attention(x);
        let x = llama.mlp(x);
        let x = llama.norm(x, "norm");
        let y = llama.linear(x, "head", VOCABULARY, WIDTH);
        llama.fixture.result(y);
        llama.fixture
    }

    fn weight(&mut self, name: &str, sizes: &[usize]) -> ValueId {
        self.fixture.weight(&(self.named)(name), sizes)
    }

    fn op(&mut self, op: Op, operands: &[ValueId], name: &str) -> ValueId {
        let name = (self.named)(name);
        self.fixture.function.add_one(op, operands.iter().copied(), &name).expect("well-typed")
    }

    fn linear(&mut self, x: ValueId, name: &str, rows: usize, columns: usize) -> ValueId {
        let w = self.weight(&format!("{name}.weight"), &[rows, columns]);
        self.op(Op::Linear {}, &[x, w], name)
    }

    fn norm(&mut self, x: ValueId, name: &str) -> ValueId {
        let name = (self.named)(name);
        let gain = self.fixture.positive(&format!("{name}.gain"), &[WIDTH]);
        self.op(Op::RmsNorm { epsilon: Float(1e-5) }, &[x, gain], &name)
    }

    fn attention(&mut self, x: ValueId) -> ValueId {
        let normal = self.norm(x, "attention.norm");
        let size = WIDTH as i64 / HEADS;
        let split = vec![Dim::symbol("B"), Dim::symbol("T"), Dim::Const(HEADS), Dim::Const(size)];
        let [q, k, v] = ["q", "k", "v"].map(|name| {
            let y = self.linear(normal, name, WIDTH, WIDTH);
            let y = self.op(Op::Reshape { shape: split.clone() }, &[y], name);
            let permutation = if name == "k" { vec![0, 2, 3, 1] } else { vec![0, 2, 1, 3] };
            self.op(Op::Transpose { permutation }, &[y], name)
        });
        let scores = self.op(Op::Matmul {}, &[q, k], "scores");
        let shares = self.op(Op::Softmax { axis: 3 }, &[scores], "shares");
        let y = self.op(Op::Matmul {}, &[shares, v], "mixed");
        let y = self.op(Op::Transpose { permutation: vec![0, 2, 1, 3] }, &[y], "mixed");
        let joined = vec![Dim::symbol("B"), Dim::symbol("T"), Dim::Const(WIDTH as i64)];
        let y = self.op(Op::Reshape { shape: joined }, &[y], "mixed");
        let y = self.linear(y, "o", WIDTH, WIDTH);
        self.op(Op::Add {}, &[x, y], "attention")
    }

    fn mlp(&mut self, x: ValueId) -> ValueId {
        let normal = self.norm(x, "mlp.norm");
        let gate = self.linear(normal, "gate", INNER, WIDTH);
        let gate = self.op(self.gate.clone(), &[gate], "gate");
        let up = self.linear(normal, "up", INNER, WIDTH);
        let y = self.op(Op::Mul {}, &[gate, up], "mlp");
        let y = self.linear(y, "down", WIDTH, INNER);
        self.op(Op::Add {}, &[x, y], "mlp")
    }
}

/// The text of the module after a pass that proved itself, and what it found.
fn transformed(fixture: Fixture, pass: &str) -> (String, Explanation) {
    with_rules(fixture, pass, "")
}

/// The same with rules of a user.
fn with_rules(fixture: Fixture, pass: &str, rules: &str) -> (String, Explanation) {
    let (fast, reference) = (Interpreter::new(Precision::F32), Interpreter::new(Precision::F64));
    let mut context = Context::new(fixture.parameters, &fast);
    context.executor = Some(&fast);
    context.reference = Some(&reference);
    context.samples = Some(&OneRandomSample);
    context.rules = parse("user.rules", rules).expect("rules");
    let mut module = Module { functions: vec![fixture.function] };
    let pipeline = Pipeline::parse(&format!("{pass},canonicalize"), &Registry::builtin()).expect("it parses");
    let mut instrumentation = Instrumentation { verify_each: true, ..Instrumentation::default() };
    pipeline.run(&mut module, &mut context, &mut instrumentation).unwrap_or_else(|e| panic!("{pass}: {e}"));
    let text = qcc_ir::print::print_module(&module, qcc_ir::print::Options { locations: false });
    (text, context.explanations.remove(0))
}

const PASSES: [&str; 6] = [
    "rotate-residual",
    "rotate-online",
    "smooth",
    "permute{weights=int4:block=8}",
    "transform",
    "transform{weights=int4:block=8}",
];

#[test]
fn each_pass_finds_its_layers_and_keeps_the_function() {
    let layers = ["q", "k", "v", "o", "gate", "up", "down", "head"];
    let (stream, none) = ("rotate-residual", "as it is");
    for (pass, expected) in PASSES.into_iter().zip([
        [stream, stream, stream, none, stream, stream, none, stream],
        [none, none, none, "rotate-online", none, none, "rotate-online", none],
        ["smooth", "smooth", "smooth", none, "smooth", "smooth", "smooth", none],
        [none, none, none, none, none, none, "permute", none],
    ]) {
        let (_, explanation) = transformed(Llama::usual(str::to_string), pass);
        let done = explanation.layers.iter().map(|l| (l.layer.as_str(), l.chosen.as_str()));
        assert_eq!(done.collect::<Vec<_>>(), layers.into_iter().zip(expected).collect::<Vec<_>>(), "{pass}");
        assert!(explanation.difference.is_some_and(|d| d < 1e-5), "{pass}: {:?}", explanation.difference);
    }
}

#[test]
fn a_rule_of_the_users_lets_a_transform_pass() {
    let rule =
        "rule permute-sigmoid (permute (sigmoid ?x) ?p) => (sigmoid (permute ?x ?p)) if (activations ?x)";
    for (rules, expected) in [("", "as it is"), (rule, "permute")] {
        let model = Llama::gated(str::to_string, Op::Sigmoid {});
        let (_, explanation) = with_rules(model, PASSES[3], rules);
        let down = explanation.layers.iter().find(|l| l.layer == "down").expect("the layer");
        assert_eq!(down.chosen, expected);
    }
}

#[test]
fn names_do_not_matter() {
    let hashed = |salt: u64| {
        move |name: &str| {
            let hash = name.bytes().fold(salt, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
            format!("{hash:016x}")
        }
    };
    for pass in PASSES {
        let (text, as_named) = transformed(Llama::usual(str::to_string), pass);
        for salt in [1, 2] {
            let (other_text, other) = transformed(Llama::usual(hashed(salt)), pass);
            for (a, b) in other.layers.iter().zip(&as_named.layers) {
                assert_eq!(
                    (&a.chosen, a.before, a.after),
                    (&b.chosen, b.before, b.after),
                    "{pass}: {}",
                    b.layer
                );
            }
            assert_eq!(spelled(&other_text), spelled(&text), "{pass}");
        }
    }
}

/// A module's text with a number for each weight; inputs and outputs keep their names.
fn spelled(text: &str) -> String {
    let mut numbers: HashMap<&str, usize> = HashMap::new();
    let mut parts = text.split("name = \"");
    let mut spelled = parts.next().unwrap_or_default().to_string();
    for part in parts {
        let (name, rest) = part.split_once('"').expect("a name ends");
        let next = numbers.len();
        let number = numbers.entry(name).or_insert(next);
        spelled.push_str(&format!("name = {number}{rest}"));
    }
    spelled
}

/// Layers of many blocks read what an encoder made: they are never looked at together, which is told.
#[test]
fn layers_of_several_blocks_are_refused_with_the_reason() {
    let mut decoder = Llama { fixture: Fixture::new(), named: str::to_string, gate: Op::Silu {} };
    let tokens = TensorType::new(dims("B,T"), ElementType::I64);
    let tokens = decoder.fixture.function.add_argument("tokens", tokens);
    let table = decoder.weight("embed", &[VOCABULARY, WIDTH]);
    let mut x = decoder.op(Op::Embedding {}, &[table, tokens], "embed");
    let encoded = decoder.op(Op::Embedding {}, &[table, tokens], "encoder");
    for block in 0..50 {
        let read = decoder.linear(encoded, &format!("{block}.k"), WIDTH, WIDTH);
        let normalised = decoder.norm(x, &format!("{block}.norm"));
        let y = decoder.linear(normalised, &format!("{block}.q"), WIDTH, WIDTH);
        let y = decoder.op(Op::Mul {}, &[y, read], &format!("{block}.product"));
        let y = decoder.linear(y, &format!("{block}.o"), WIDTH, WIDTH);
        x = decoder.op(Op::Add {}, &[x, y], &format!("{block}.sum"));
    }
    decoder.fixture.result(x);
    let (_, explanation) = transformed(decoder.fixture, "rotate-online");
    let told = explanation.refused.iter().find(|r| r.layers.contains(&"3.k".to_string())).expect("told");
    assert_eq!(
        told.reason,
        "its layers lie in several blocks, between which all but the stream stays as it is"
    );
}
