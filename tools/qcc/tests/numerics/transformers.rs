//! Small transformers against what `transformers` computes (`tools/transformers-vectors`): read at once, in pieces and token by token.

use std::path::{Path, PathBuf};

use qcc_cpu::CpuExecutor;
use qcc_interpreter::{Interpreter, Precision};
use qcc_ir::{Function, Module, Op};
use qcc_params::{Imported, Parameters, Tensor, open_safetensors};
use qcc_passes::verify_each::relative_error;
use qcc_passes::{Context, Executor, Instrumentation, Pipeline, Registry};

/// Both compute in f32, in other orders.
const TOLERANCE: f64 = 2e-5;

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// Tensors of a folder of vectors.
fn vectors<const N: usize>(folder: &Path, names: [&str; N]) -> [Tensor; N] {
    let archive = open_safetensors(&folder.join("expected")).expect("committed vectors");
    names.map(|name| {
        let (ty, bytes) = archive.get(name).expect("it is there");
        Tensor::from_le_bytes(&ty, bytes.as_slice()).expect("it fits")
    })
}

/// Tokens, and their logits by `transformers`.
fn expected(name: &str) -> (Vec<i64>, Tensor) {
    let folder = repository("test/frontends/huggingface").join(name);
    let [tokens, logits] = vectors(&folder, ["tokens", "logits"]);
    (tokens.to_f64_vec().into_iter().map(|id| id as i64).collect(), logits)
}

fn model(folder: &Path) -> (Module, Parameters) {
    canonical(qcc_huggingface::import(folder).unwrap_or_else(|e| panic!("{e}")))
}

fn canonical(mut imported: Imported) -> (Module, Parameters) {
    assert_eq!(imported.warnings, Vec::<String>::new());
    let interpreter = Interpreter::new(Precision::F32);
    let mut context = Context::new(imported.parameters, &interpreter);
    Pipeline::parse("canonicalize", &Registry::builtin())
        .and_then(|p| p.run(&mut imported.module, &mut context, &mut Instrumentation::default()))
        .expect("the pipeline runs");
    (imported.module, context.parameters)
}

/// Empty states of a batch of one.
fn states(function: &Function) -> Vec<Tensor> {
    let of = |argument: usize| {
        let ty = function.ty(function.arguments()[argument]);
        let size = |symbol: &str| Some(i64::from(symbol == "B"));
        let dims = ty.dims.iter().map(|d| d.evaluate(&size).expect("a size of the batch") as usize);
        let dims: Vec<usize> = dims.collect();
        Tensor::f32(&dims, vec![0.0; dims.iter().product()]).expect("it fits")
    };
    function.states.iter().map(|s| of(s.argument)).collect()
}

/// Logits of tokens that are read in these pieces.
fn logits(executor: &dyn Executor, model: &(Module, Parameters), pieces: &[&[i64]]) -> Vec<f32> {
    let mut prepared = executor.prepare(&model.0, &model.1).unwrap_or_else(|e| panic!("{e}"));
    let mut held = states(model.0.entry().expect("a function"));
    let mut logits = Vec::new();
    for piece in pieces {
        let mut inputs = vec![Tensor::i64(&[1, piece.len()], piece.to_vec()).expect("it fits")];
        inputs.append(&mut held);
        let mut outputs = prepared.run(&inputs).unwrap_or_else(|e| panic!("{e}"));
        held = outputs.split_off(1);
        logits.extend_from_slice(outputs[0].as_f32().expect("logits are f32"));
    }
    logits
}

fn check(folder: &Path, name: &str) {
    let (tokens, expected) = expected(name);
    let model = model(folder);
    let interpreter = Interpreter::new(Precision::F32);
    let steps: Vec<&[i64]> = std::iter::once(&tokens[..10]).chain(tokens[10..].chunks(1)).collect();
    let whole: &[&[i64]] = &[&tokens];
    let halves: &[&[i64]] = &[&tokens[..17], &tokens[17..]];
    let cpu = |threads| CpuExecutor { threads };
    let ways: [(&dyn Executor, &[&[i64]]); 5] = [
        (&interpreter, whole),
        (&interpreter, &steps),
        (&cpu(1), whole),
        (&cpu(2), halves),
        (&cpu(2), &steps),
    ];
    for (way, (executor, pieces)) in ways.into_iter().enumerate() {
        let got = Tensor::f32(&expected.dims, logits(executor, &model, pieces)).expect("as many logits");
        let error = relative_error(&got, &expected);
        assert!(error < TOLERANCE, "{name}, way {way}: off by {error:.2e}");
    }
}

#[test]
fn logits_are_those_of_transformers() {
    for name in ["llama", "llama-linear", "llama-llama3", "mistral", "qwen2", "qwen3"] {
        check(&repository("test/frontends/huggingface").join(name), name);
    }
}

#[test]
fn stories_are_those_of_transformers() {
    let folder = repository("../shared/models/stories260K");
    if !folder.exists() {
        println!("skipped: shared/models/stories260K is not beside this checkout");
        return;
    }
    check(&folder, "stories260K");
}

/// A model from ONNX whose two attentions are recognised, however it was exported.
fn exported(folder: &Path, name: &str) -> (Module, Parameters) {
    let file = folder.join(format!("{name}.onnx"));
    let model = canonical(qcc_onnx::import(&file).unwrap_or_else(|e| panic!("{e}")));
    let function = model.0.entry().expect("a function");
    let ops = || function.order().iter().map(|id| &function.node(*id).op);
    assert_eq!(ops().filter(|op| matches!(op, Op::Attention { .. })).count(), 2, "{name}");
    assert_eq!(ops().filter(|op| matches!(op, Op::Softmax { .. })).count(), 0, "{name}");
    model
}

fn computes(name: &str, model: &(Module, Parameters), inputs: &[Tensor], y: &Tensor) {
    for executor in [&Interpreter::new(Precision::F32) as &dyn Executor, &CpuExecutor { threads: 2 }] {
        let mut prepared = executor.prepare(&model.0, &model.1).unwrap_or_else(|e| panic!("{name}: {e}"));
        let got = prepared.run(inputs).unwrap_or_else(|e| panic!("{name}: {e}")).remove(0);
        let error = relative_error(&got, y);
        assert!(error < TOLERANCE, "{name}: off by {error:.2e}");
    }
}

#[test]
fn images_are_those_of_transformers() {
    let folder = repository("test/frontends/onnx/vit");
    for name in ["vit-17", "vit-17-sdpa", "vit-23"] {
        let model = exported(&folder, name);
        let [x, y] = vectors(&folder.join(name), ["x", "y"]);
        computes(name, &model, &[x], &y);
    }
}

/// Sentences of several lengths, which a mask tells.
#[test]
fn texts_are_those_of_transformers() {
    let folder = repository("test/frontends/onnx/bert");
    for name in [
        "bert-17",
        "bert-17-sdpa",
        "bert-18",
        "bert-23",
        "distilbert-17",
        "distilbert-23",
        "roberta-17",
        "roberta-23",
        "mpnet-17",
        "modernbert-23",
    ] {
        let model = exported(&folder, name);
        let [tokens, mask, y] = vectors(&folder.join(name), ["tokens", "mask", "y"]);
        computes(name, &model, &[tokens, mask], &y);
    }
}

/// There are 40 positions; where they are counted from tokens, the first two of them are for what is no token.
#[test]
fn sentences_that_are_too_long_are_refused() {
    for (name, most) in [("bert-23", 40), ("roberta-17", 38), ("mpnet-17", 38)] {
        let model = exported(&repository("test/frontends/onnx/bert"), name);
        let inputs =
            |tokens: usize| [3, 1].map(|id| Tensor::i64(&[1, tokens], vec![id; tokens]).expect("it fits"));
        for executor in [&Interpreter::new(Precision::F32) as &dyn Executor, &CpuExecutor { threads: 1 }] {
            let mut prepared = executor.prepare(&model.0, &model.1).unwrap_or_else(|e| panic!("{e}"));
            prepared.run(&inputs(most)).unwrap_or_else(|e| panic!("{name}: {e}"));
            let error = prepared.run(&inputs(most + 1)).expect_err("there are 40 positions").to_string();
            assert!(error.contains("40"), "{name}: {error}");
            prepared.run(&inputs(most)).unwrap_or_else(|e| panic!("{name}: {e}"));
        }
    }
}
