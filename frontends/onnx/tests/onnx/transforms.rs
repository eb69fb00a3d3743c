//! What transforms find does not depend on where a model comes from: two gated MLPs in a residual stream, as checkpoints hold them and as
//! ONNX exporters spell them, RMSNorm and SiLU included, get the same transforms at every layer.

use libtest_mimic::Trial;
use qcc_interpreter::{Interpreter, Precision};
use qcc_ir::{Dim, ElementType, Float, Function, Module, Op, TensorType, ValueId};
use qcc_params::{Imported, Parameters, Tensor};
use qcc_passes::{Context, Instrumentation, Pipeline, Registry, Samples};

use crate::encode::{Message, initializer, ints, model, node, sized};

const STREAM: usize = 8;
const INNER: usize = 16;
const EPSILON: f32 = 1e-5;

pub fn trials() -> Vec<Trial> {
    let passes = [
        "rotate-residual",
        "rotate-heads",
        "rotate-online",
        "smooth",
        "shift",
        "permute{weights=int4:block=8}",
        "transform",
        "transform{weights=int4:block=8}",
    ];
    let trial = |pass: &'static str| Trial::test(format!("as from a checkpoint/{pass}"), || Ok(same(pass)?));
    passes.into_iter().map(trial).collect()
}

fn same(pass: &str) -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
    let file = folder.path().join("mlp.onnx");
    std::fs::write(&file, spelled_out()).map_err(|e| e.to_string())?;
    let from_onnx = done(qcc_onnx::import(&file).map_err(|e| e.to_string())?, pass)?;
    let expected = done(checkpoint()?, pass)?;
    // A SiLU in pieces is rounded once more.
    let differs = |(a, b): (&Done, &Done)| a.0 != b.0 || (a.1 - b.1).abs() > 1e-3 * b.1;
    match from_onnx.len() != expected.len() || from_onnx.iter().zip(&expected).any(differs) {
        true => Err(format!("from ONNX {from_onnx:?}, from a checkpoint {expected:?}")),
        false => Ok(()),
    }
}

/// What was done to a layer, and its error after that.
type Done = (String, f64);

struct OneSample;

impl Samples for OneSample {
    fn len(&self) -> usize {
        1
    }

    fn inputs(&self, _: usize, _: &Function) -> Result<Vec<Tensor>, String> {
        Ok(vec![Tensor::f32(&[64, 6], numbers("x", 64 * 6)).map_err(|e| e.to_string())?])
    }
}

fn done(imported: Imported, pass: &str) -> Result<Vec<Done>, String> {
    let Imported { mut module, parameters, .. } = imported;
    let (fast, reference) = (Interpreter::new(Precision::F32), Interpreter::new(Precision::F64));
    let mut context = Context::new(parameters, &fast);
    context.executor = Some(&fast);
    context.reference = Some(&reference);
    context.samples = Some(&OneSample);
    let mut instrumentation = Instrumentation { verify_each: true, ..Instrumentation::default() };
    let pipeline = format!("canonicalize,{pass}");
    let pipeline = Pipeline::parse(&pipeline, &Registry::builtin()).map_err(|e| e.to_string())?;
    pipeline.run(&mut module, &mut context, &mut instrumentation).map_err(|e| e.to_string())?;
    let layers = context.explanations.iter().flat_map(|e| &e.layers);
    Ok(layers.map(|l| (l.chosen.clone(), l.after.unwrap_or(f64::NAN))).collect())
}

/// Pseudo-random numbers, seeded by the name of what they are for.
fn numbers(name: &str, n: usize) -> Vec<f32> {
    // Numerical Recipes' generator.
    let mut state = name.bytes().fold(17u32, |h, b| h.wrapping_mul(31).wrapping_add(u32::from(b)));
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..n).map(|_| next()).collect()
}

/// The layers: name, outputs, inputs.
fn layers() -> Vec<(String, usize, usize)> {
    let mut layers = vec![("embed".to_string(), STREAM, 6)];
    for block in 0..2 {
        layers.push((format!("{block}.gate"), INNER, STREAM));
        layers.push((format!("{block}.up"), INNER, STREAM));
        layers.push((format!("{block}.down"), STREAM, INNER));
    }
    layers.push(("last".to_string(), 5, STREAM));
    layers
}

/// The model as a checkpoint's importer makes it.
fn checkpoint() -> Result<Imported, String> {
    let mut parameters = Parameters::new();
    let mut function = Function::new("main");
    let mut weight = |function: &mut Function, name: &str, sizes: &[usize]| {
        let tensor = Tensor::f32(sizes, numbers(name, sizes.iter().product())).map_err(|e| e.to_string())?;
        let ty = tensor.ty();
        parameters.insert_tensor(name, tensor).map_err(|e| e.to_string())?;
        Ok::<ValueId, String>(function.add_parameter(name, ty))
    };
    let mut layers = layers().into_iter();
    let mut linear = |function: &mut Function, x: ValueId| {
        let (name, rows, columns) = layers.next().ok_or("too few layers")?;
        let w = weight(function, &name, &[rows, columns])?;
        function.add_one(Op::Linear {}, [x, w], &name).map_err(|e| e.to_string())
    };
    let x = function.add_argument("x", TensorType::new([Dim::symbol("n"), Dim::Const(6)], ElementType::F32));
    let mut stream = linear(&mut function, x)?;
    let mut gains = Vec::new();
    let mut norm = |function: &mut Function, x: ValueId| {
        let name = format!("{}.gain", gains.len());
        gains.push(name.clone());
        let ty = TensorType::new([Dim::Const(STREAM as i64)], ElementType::F32);
        let gain = function.add_parameter(&name, ty);
        let op = Op::RmsNorm { epsilon: Float(f64::from(EPSILON)) };
        function.add_one(op, [x, gain], "norm").map_err(|e| e.to_string())
    };
    for _ in 0..2 {
        let x = norm(&mut function, stream)?;
        let gate = linear(&mut function, x)?;
        let up = linear(&mut function, x)?;
        let mut op = |op: Op, operands: &[ValueId]| {
            function.add_one(op, operands.iter().copied(), "mlp").map_err(|e| e.to_string())
        };
        let gate = op(Op::Silu {}, &[gate])?;
        let x = op(Op::Mul {}, &[gate, up])?;
        let x = linear(&mut function, x)?;
        stream = function.add_one(Op::Add {}, [stream, x], "mlp").map_err(|e| e.to_string())?;
    }
    let x = norm(&mut function, stream)?;
    let y = linear(&mut function, x)?;
    function.add_result("y", y);
    for name in gains {
        let tensor = Tensor::f32(&[STREAM], numbers(&name, STREAM)).map_err(|e| e.to_string())?;
        parameters.insert_tensor(&name, tensor).map_err(|e| e.to_string())?;
    }
    Ok(Imported {
        module: Module { functions: vec![function] },
        parameters,
        files: Vec::new(),
        warnings: Vec::new(),
    })
}

/// The model as PyTorch's exporter writes it: transposed weights, RMSNorm and SiLU in pieces.
fn spelled_out() -> Vec<u8> {
    let mut graph = Message::default();
    let mut add = |message: Message| graph = std::mem::take(&mut graph).bytes(1, message);
    let mut layers_left = layers().into_iter();
    let mut linear = |add: &mut dyn FnMut(Message), x: &str| {
        let (name, ..) = layers_left.next().expect("a layer");
        add(node("MatMul", &[x, &format!("{name}.weight")], &name));
        name
    };
    let mut norms = 0..3;
    let mut norm = |add: &mut dyn FnMut(Message), x: &str| {
        let i = norms.next().expect("a norm");
        let name = |part: &str| format!("{i}.norm.{part}");
        add(node("Pow", &[x, "two"], &name("square")));
        add(node("ReduceMean", &[&name("square")], &name("mean")).bytes(5, ints("axes", &[1])));
        add(node("Add", &[&name("mean"), "epsilon"], &name("shifted")));
        add(node("Sqrt", &[&name("shifted")], &name("root")));
        add(node("Div", &["one", &name("root")], &name("inverse")));
        add(node("Mul", &[x, &name("inverse")], &name("normal")));
        add(node("Mul", &[&format!("{i}.gain"), &name("normal")], &name("scaled")));
        name("scaled")
    };
    let mut stream = linear(&mut add, "x");
    for block in 0..2 {
        let x = norm(&mut add, &stream);
        let (gate, up) = (linear(&mut add, &x), linear(&mut add, &x));
        let name = |part: &str| format!("{block}.{part}");
        add(node("Sigmoid", &[&gate], &name("sigmoid")));
        add(node("Mul", &[&gate, &name("sigmoid")], &name("silu")));
        add(node("Mul", &[&name("silu"), &up], &name("product")));
        let x = linear(&mut add, &name("product"));
        add(node("Add", &[&stream, &x], &name("sum")));
        stream = name("sum");
    }
    let x = norm(&mut add, &stream);
    let y = linear(&mut add, &x);
    for (name, rows, columns) in layers() {
        let w = numbers(&name, rows * columns);
        let transposed = (0..columns).flat_map(|j| w.iter().skip(j).step_by(columns)).copied();
        let transposed: Vec<f32> = transposed.collect();
        graph = graph.bytes(5, initializer(&format!("{name}.weight"), &[columns, rows], &transposed));
    }
    for i in 0..3 {
        let name = format!("{i}.gain");
        graph = graph.bytes(5, initializer(&name, &[STREAM], &numbers(&name, STREAM)));
    }
    for (name, number) in [("one", 1.0), ("two", 2.0), ("epsilon", EPSILON)] {
        graph = graph.bytes(5, initializer(name, &[], &[number]));
    }
    model(13, graph.bytes(11, sized("x", 6)).bytes(12, sized(&y, 5)))
}
