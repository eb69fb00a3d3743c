//! The committed Mamba model, compiled and interpreted: what is promised of logits, on a text of its own.

use std::path::{Path, PathBuf};

use qcc_cpu::CpuExecutor;
use qcc_data::Tokenizer;
use qcc_interpreter::{Interpreter, Precision};
use qcc_ir::{Function, Module};
use qcc_params::{Parameters, Tensor};
use qcc_passes::verify_each::relative_error;
use qcc_passes::{Context, Executor, Instrumentation, Pipeline, Registry, Samples};

/// Tokens of the text.
const LENGTH: usize = 64;

/// Sums of f32 in another order move a few activations to the next code, which moves the loss of so short a text a little either way. Over
/// a thousand tokens it mostly cancels: there int8 differs by 0.03 %.
const TOLERANCE: f64 = 0.004;

fn suite(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../test").join(path)
}

/// The model after a pipeline.
fn model(pipeline: &str) -> (Module, Parameters) {
    let mut imported =
        qcc_huggingface::import(&suite("models/mamba-tiny")).expect("the committed model imports");
    let interpreter = Interpreter::new(Precision::F32);
    let mut context = Context::new(imported.parameters, &interpreter);
    context.executor = Some(&CPU);
    context.samples = Some(&Text);
    Pipeline::parse(pipeline, &Registry::builtin())
        .and_then(|p| p.run(&mut imported.module, &mut context, &mut Instrumentation::default()))
        .expect("the pipeline runs");
    (imported.module, context.parameters)
}

/// The text, for passes that look at activations.
struct Text;

impl Samples for Text {
    fn len(&self) -> usize {
        1
    }

    fn inputs(&self, _: usize, function: &Function) -> Result<Vec<Tensor>, String> {
        let mut inputs = vec![Tensor::i64(&[1, LENGTH], tokens()).map_err(|e| e.to_string())?];
        inputs.extend(states(function));
        Ok(inputs)
    }
}

fn tokens() -> Vec<i64> {
    let tokenizer = Tokenizer::from_file(suite("models/mamba-tiny/tokenizer.json")).expect("a tokenizer");
    let text = std::fs::read_to_string(suite("data/lighthouse.txt")).expect("a text");
    let ids = tokenizer.encode(&text).expect("it encodes");
    ids.into_iter().take(LENGTH).map(i64::from).collect()
}

/// Zeros for the states of a batch of one.
fn states(function: &Function) -> Vec<Tensor> {
    let of = |argument: usize| {
        let ty = function.ty(function.arguments()[argument]);
        let dims: Vec<usize> = ty
            .dims
            .iter()
            .map(|d| d.evaluate(&|_| Some(1)).expect("a size of the batch alone") as usize)
            .collect();
        Tensor::f32(&dims, vec![0.0; dims.iter().product()]).expect("it fits")
    };
    function.states.iter().map(|s| of(s.argument)).collect()
}

fn run(executor: &dyn Executor, (module, parameters): &(Module, Parameters), tokens: &[i64]) -> Tensor {
    let mut prepared = executor.prepare(module, parameters).expect("it is ready to run");
    let mut inputs = vec![Tensor::i64(&[1, tokens.len()], tokens.to_vec()).expect("it fits")];
    inputs.extend(states(module.entry().expect("a function")));
    prepared.run(&inputs).expect("it runs").swap_remove(0)
}

fn rows(logits: &Tensor) -> Vec<&[f32]> {
    let width = *logits.dims.last().expect("logits have rows");
    logits.as_f32().expect("logits are f32").chunks_exact(width).collect()
}

/// Mean negative log-likelihood of each next token.
fn loss(logits: &Tensor, tokens: &[i64]) -> f64 {
    let rows = rows(logits);
    let each = rows.iter().zip(&tokens[1..]).map(|(row, &next)| {
        let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = row.iter().map(|x| f64::from(x - most).exp()).sum();
        sum.ln() - f64::from(row[next as usize] - most)
    });
    each.sum::<f64>() / (tokens.len() - 1) as f64
}

fn largest(row: &[f32]) -> usize {
    (0..row.len()).max_by(|a, b| row[*a].total_cmp(&row[*b])).expect("a row has elements")
}

const QUANTIZED: [&str; 3] = [
    "canonicalize,quantize{weights=int8:channel activations=int8:token:dynamic},canonicalize,lower-quantized,canonicalize",
    "canonicalize,quantize{weights=int4:block=32},canonicalize,lower-quantized,canonicalize",
    "canonicalize,quantize{weights=int4:block=32 activations=int8:token:dynamic},canonicalize,lower-quantized,canonicalize",
];

/// Transforms, and what they are for: rotations at run time, factors inside of gates, layers in parts.
const TRANSFORMED: [&str; 3] = [
    "canonicalize,split-projections,smooth,rotate-heads,rotate-residual,rotate-online,canonicalize,quantize{weights=int8:channel activations=int8:token:dynamic},canonicalize,lower-quantized,canonicalize",
    "canonicalize,low-rank{rank=8},canonicalize,quantize{weights=int4:block=32},canonicalize,lower-quantized,canonicalize",
    "canonicalize,outlier-columns{columns=8},canonicalize,quantize{weights=int8:channel activations=int8:token:dynamic},canonicalize,lower-quantized,canonicalize",
];

const CPU: CpuExecutor = CpuExecutor { threads: 2 };

#[test]
fn compiled_models_have_the_interpreters_perplexity() {
    let tokens = tokens();
    for pipeline in std::iter::once("canonicalize").chain(QUANTIZED).chain(TRANSFORMED) {
        let model = model(pipeline);
        let expected = loss(&run(&Interpreter::new(Precision::F32), &model, &tokens), &tokens);
        let got = loss(&run(&CPU, &model, &tokens), &tokens);
        // Perplexity is the exponential of the loss.
        let ratio = (got - expected).exp();
        assert!(
            (ratio - 1.0).abs() < if pipeline == "canonicalize" { 1e-6 } else { TOLERANCE },
            "{pipeline}: the perplexity is {ratio} times the interpreter's"
        );
    }
}

#[test]
fn int8_keeps_the_most_likely_token_where_f32_is_sure() {
    let tokens = tokens();
    let reference = run(&CPU, &model("canonicalize"), &tokens);
    let quantized = run(&CPU, &model(QUANTIZED[0]), &tokens);
    let mut sure = 0;
    for (position, (a, b)) in rows(&reference).into_iter().zip(rows(&quantized)).enumerate() {
        let best = largest(a);
        let second = (0..a.len()).filter(|i| *i != best).map(|i| a[i]).fold(f32::NEG_INFINITY, f32::max);
        if a[best] - second > 0.1 {
            sure += 1;
            assert_eq!(largest(b), best, "position {position}: the gap is {}", a[best] - second);
        }
    }
    assert!(sure > LENGTH / 2, "only {sure} positions say anything");
}

#[test]
fn one_token_at_a_time_gives_the_logits_of_the_whole_text() {
    let tokens = tokens();
    for pipeline in ["canonicalize", QUANTIZED[0]] {
        let model = model(pipeline);
        let function = model.0.entry().expect("a function");
        let whole = run(&CPU, &model, &tokens);
        let mut prepared = CPU.prepare(&model.0, &model.1).expect("it is ready to run");
        let mut held = states(function);
        let mut logits = Vec::new();
        // A prefill of ten tokens, then one by one.
        for piece in std::iter::once(&tokens[..10]).chain(tokens[10..].chunks(1)) {
            let mut inputs = vec![Tensor::i64(&[1, piece.len()], piece.to_vec()).expect("it fits")];
            inputs.append(&mut held);
            let mut outputs = prepared.run(&inputs).expect("it runs");
            held = outputs.split_off(1);
            logits.extend_from_slice(outputs[0].as_f32().expect("logits are f32"));
        }
        let pieces = Tensor::f32(&whole.dims, logits).expect("as many logits");
        let error = relative_error(&pieces, &whole);
        assert!(error < 1e-5, "{pipeline}: off by {error:.2e}");
    }
}
