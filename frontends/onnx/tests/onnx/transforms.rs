//! What transforms find does not depend on where a model comes from: two gated MLPs in a residual stream, as a Llama checkpoint whose
//! attention adds nothing and as ONNX exporters spell them, embedding, RMSNorm and SiLU included, get the same transforms at every layer.

use std::path::Path;

use libtest_mimic::Trial;
use qcc_interpreter::{Interpreter, Precision};
use qcc_ir::{Dim, ElementType, Function};
use qcc_params::{Imported, Tensor};
use qcc_passes::{Context, Instrumentation, Pipeline, Registry, Samples};
use safetensors::tensor::{Dtype, TensorView};
use serde_json::json;

use crate::encode::{Message, initializer, ints, model, node, tensor};

const VOCABULARY: usize = 12;
const STREAM: usize = 8;
const INNER: usize = 16;
const EPSILON: f32 = 1e-5;
/// Its layers in a checkpoint: name, outputs, inputs.
const LAYERS: [(&str, usize, usize); 7] = [
    ("model.layers.0.mlp.gate_proj", INNER, STREAM),
    ("model.layers.0.mlp.up_proj", INNER, STREAM),
    ("model.layers.0.mlp.down_proj", STREAM, INNER),
    ("model.layers.1.mlp.gate_proj", INNER, STREAM),
    ("model.layers.1.mlp.up_proj", INNER, STREAM),
    ("model.layers.1.mlp.down_proj", STREAM, INNER),
    ("lm_head", VOCABULARY, STREAM),
];
/// Its norms.
const NORMS: [&str; 3] =
    ["model.layers.0.post_attention_layernorm", "model.layers.1.post_attention_layernorm", "model.norm"];

pub fn trials() -> Vec<Trial> {
    // KLT would see attention's reading of the stream too, which only a checkpoint has.
    // What each does to at least one layer; the model has no heads to rotate and no means to shift.
    let passes = [
        ("rotate-residual{basis=hadamard}", Some("rotate-residual")),
        ("rotate-heads", None),
        ("rotate-online", Some("rotate-online")),
        ("smooth", Some("smooth")),
        ("shift", None),
        ("permute{weights=int4:block=8}", Some("permute")),
        ("transform{basis=hadamard}", Some("smooth")),
        ("transform{basis=hadamard weights=int4:block=8}", Some("smooth")),
    ];
    let trial = |(pass, does): (&'static str, Option<&'static str>)| {
        Trial::test(format!("as from a checkpoint/{pass}"), move || Ok(same(pass, does)?))
    };
    passes.into_iter().map(trial).collect()
}

fn same(pass: &str, does: Option<&str>) -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
    let file = folder.path().join("mlp.onnx");
    std::fs::write(&file, spelled_out()).map_err(|e| e.to_string())?;
    let from_onnx = done(qcc_onnx::import(&file).map_err(|e| e.to_string())?, pass)?;
    write_checkpoint(folder.path())?;
    let expected = done(qcc_huggingface::import(folder.path()).map_err(|e| e.to_string())?, pass)?;
    if let Some(done) = does
        && !expected.iter().any(|(_, chosen, _)| chosen == done)
    {
        return Err(format!("{done} is nowhere in {expected:?}"));
    }
    // A SiLU in pieces is rounded once more.
    let differs = |(a, b): (&Done, &Done)| {
        let near = match (a.2, b.2) {
            (Some(a), Some(b)) => (a - b).abs() <= 1e-3 * b,
            (a, b) => a == b,
        };
        a.0 != b.0 || a.1 != b.1 || !near
    };
    match from_onnx.len() != expected.len() || from_onnx.iter().zip(&expected).any(differs) {
        true => Err(format!("from ONNX {from_onnx:?}, from a checkpoint {expected:?}")),
        false => Ok(()),
    }
}

/// A layer, what was done to it, and its error after that.
type Done = (String, String, Option<f64>);

/// The same tokens for both; no keys and values.
struct OneSample;

impl Samples for OneSample {
    fn len(&self) -> usize {
        1
    }

    fn inputs(&self, _: usize, function: &Function) -> Result<Vec<Tensor>, String> {
        const TOKENS: usize = 64;
        let input = |&argument: &qcc_ir::ValueId| {
            let ty = function.ty(argument);
            let size =
                |symbol: &str| Some(i64::from(symbol == "B") + if symbol == "T" { TOKENS as i64 } else { 0 });
            let size = |d: &Dim| d.evaluate(&size).and_then(|n| usize::try_from(n).ok()).ok_or("a size");
            let sizes = ty.dims.iter().map(size).collect::<Result<Vec<usize>, _>>()?;
            let tensor = match ty.element {
                ElementType::I64 => {
                    Tensor::i64(&sizes, (0..TOKENS).map(|i| (i * i * 5 + i) as i64 % 12).collect())
                }
                _ => Tensor::f32(&sizes, vec![0.0; sizes.iter().product()]),
            };
            tensor.map_err(|e| e.to_string())
        };
        function.arguments().iter().map(input).collect()
    }
}

/// What a pass does to the layers of the MLPs and the head.
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
    let mut layers = Vec::new();
    for (name, ..) in LAYERS {
        let found = context
            .explanations
            .iter()
            .flat_map(|e| &e.layers)
            .find(|l| l.layer.trim_end_matches(" node") == name);
        let found =
            found.ok_or_else(|| format!("{pass} does not speak of {name}: {:?}", context.explanations))?;
        layers.push((name.to_string(), found.chosen.clone(), found.after));
    }
    Ok(layers)
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

/// The model as a checkpoint.
fn write_checkpoint(folder: &Path) -> Result<(), String> {
    let config = json!({
        "architectures": ["LlamaForCausalLM"], "hidden_size": STREAM, "intermediate_size": INNER,
        "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": VOCABULARY, "rms_norm_eps": EPSILON
    });
    std::fs::write(folder.join("config.json"), config.to_string()).map_err(|e| e.to_string())?;
    let mut tensors = Vec::new();
    let mut add = |name: &str, dims: &[usize], values: Vec<f32>| {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        tensors.push((format!("{name}.weight"), dims.to_vec(), bytes));
    };
    let table = "model.embed_tokens";
    add(table, &[VOCABULARY, STREAM], numbers(table, VOCABULARY * STREAM));
    for (name, rows, columns) in LAYERS {
        add(name, &[rows, columns], numbers(name, rows * columns));
    }
    for name in NORMS {
        add(name, &[STREAM], numbers(name, STREAM));
    }
    for layer in 0..2 {
        add(&format!("model.layers.{layer}.input_layernorm"), &[STREAM], vec![1.0; STREAM]);
        for part in ["q_proj", "k_proj", "v_proj", "o_proj"] {
            add(
                &format!("model.layers.{layer}.self_attn.{part}"),
                &[STREAM, STREAM],
                vec![0.0; STREAM * STREAM],
            );
        }
    }
    let views = tensors.iter().map(|(name, dims, bytes)| {
        Ok((name, TensorView::new(Dtype::F32, dims.clone(), bytes).map_err(|e| e.to_string())?))
    });
    let views = views.collect::<Result<Vec<_>, String>>()?;
    safetensors::serialize_to_file(views, None, &folder.join("model.safetensors")).map_err(|e| e.to_string())
}

/// The model as PyTorch's exporter writes it: transposed weights, RMSNorm and SiLU in pieces.
fn spelled_out() -> Vec<u8> {
    let mut graph = Message::default();
    let mut add = |message: Message| graph = std::mem::take(&mut graph).bytes(1, message);
    let mut layers = LAYERS.iter();
    let mut linear = |add: &mut dyn FnMut(Message), x: &str| {
        let (name, ..) = layers.next().expect("a layer");
        add(node("MatMul", &[x, &format!("{name}.weight")], name));
        *name
    };
    let mut norms = NORMS.iter();
    let mut norm = |add: &mut dyn FnMut(Message), x: &str| {
        let norm = norms.next().expect("a norm");
        let name = |part: &str| format!("{norm}.{part}");
        add(node("Pow", &[x, "two"], &name("square")));
        add(node("ReduceMean", &[&name("square")], &name("mean")).bytes(5, ints("axes", &[2])));
        add(node("Add", &[&name("mean"), "epsilon"], &name("shifted")));
        add(node("Sqrt", &[&name("shifted")], &name("root")));
        add(node("Div", &["one", &name("root")], &name("inverse")));
        add(node("Mul", &[x, &name("inverse")], &name("normal")));
        add(node("Mul", &[&name("weight"), &name("normal")], &name("scaled")));
        name("scaled")
    };
    let mut stream = "model.embed_tokens".to_string();
    add(node("Gather", &["model.embed_tokens.weight", "tokens"], &stream));
    for block in 0..2 {
        let x = norm(&mut add, &stream);
        let (gate, up) = (linear(&mut add, &x), linear(&mut add, &x));
        let name = |part: &str| format!("{block}.{part}");
        add(node("Sigmoid", &[gate], &name("sigmoid")));
        add(node("Mul", &[gate, &name("sigmoid")], &name("silu")));
        add(node("Mul", &[&name("silu"), up], &name("product")));
        let x = linear(&mut add, &name("product"));
        add(node("Add", &[&stream, x], &name("sum")));
        stream = name("sum");
    }
    let x = norm(&mut add, &stream);
    let logits = linear(&mut add, &x);
    for (name, rows, columns) in LAYERS {
        let w = numbers(name, rows * columns);
        let transposed = (0..columns).flat_map(|j| w.iter().skip(j).step_by(columns)).copied();
        let transposed: Vec<f32> = transposed.collect();
        graph = graph.bytes(5, initializer(&format!("{name}.weight"), &[columns, rows], &transposed));
    }
    let table = "model.embed_tokens";
    let rows = numbers(table, VOCABULARY * STREAM);
    graph = graph.bytes(5, initializer(&format!("{table}.weight"), &[VOCABULARY, STREAM], &rows));
    for name in NORMS {
        graph = graph.bytes(5, initializer(&format!("{name}.weight"), &[STREAM], &numbers(name, STREAM)));
    }
    for (name, number) in [("one", 1.0), ("two", 2.0), ("epsilon", EPSILON)] {
        graph = graph.bytes(5, initializer(name, &[], &[number]));
    }
    const I64: u64 = 7;
    const F32: u64 = 1;
    let tokens = tensor("tokens", I64, &["B", "T"], &[]);
    let logits = tensor(logits, F32, &["B", "T"], &[VOCABULARY as u64]);
    model(13, graph.bytes(11, tokens).bytes(12, logits))
}
