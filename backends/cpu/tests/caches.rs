//! Attention over keys and values in every format: compiled code against the interpreter, and token by token as all at once.

use qcc_cpu::CpuExecutor;
use qcc_interpreter::{Interpreter, Precision};
use qcc_ir::format::CacheFormat;
use qcc_ir::{Dim, ElementType, Float, Function, Module, Op, StateBinding, TensorType, ValueId};
use qcc_mlir::Target;
use qcc_params::{Parameters, Tensor};
use qcc_passes::verify_each::relative_error;
use qcc_passes::{Executor, SilentProgress};
use qcc_runtime::{InputView, Model, OutputBuffer, State};

/// Heads of queries, of keys, features of keys and of values.
const SIZES: [usize; 4] = [6, 2, 20, 18];

/// Attention on states that grow.
fn module(keys: &str, values: &str, window: i64) -> Module {
    let parse = |text: &str| CacheFormat::parse(text).unwrap_or_else(|e| panic!("{e}"));
    let mut f = Function::new("main");
    let tensor = |tokens: &str, heads: usize, features: usize| {
        let sizes = ["B", tokens].map(|s| Dim::parse(s).expect("a size"));
        let dims = sizes.into_iter().chain([heads, features].map(|n| Dim::Const(n as i64)));
        TensorType::new(dims.collect::<Vec<_>>(), ElementType::F32)
    };
    let [heads, shared, features, width] = SIZES;
    let q = f.add_argument("q", tensor("T", heads, features));
    let k = f.add_argument("k", tensor("T", shared, features));
    let v = f.add_argument("v", tensor("T", shared, width));
    let past_k = f.add_argument("keys", tensor("P", shared, features));
    let past_v = f.add_argument("values", tensor("P", shared, width));
    let mut concat =
        |a: ValueId, b: ValueId| f.add_one(Op::Concat { axis: 1 }, [a, b], "concat").expect("typed");
    let (k, v) = (concat(past_k, k), concat(past_v, v));
    let (keys, values) = (parse(keys), parse(values));
    let op = Op::Attention { scale: Float(0.05), causal: true, window, keys, values };
    let y = f.add_one(op, [q, k, v], "attention").expect("typed");
    f.add_result("y", y);
    f.add_result("keys", k);
    f.add_result("values", v);
    f.states = vec![StateBinding { argument: 3, result: 1 }, StateBinding { argument: 4, result: 2 }];
    Module { functions: vec![f] }
}

struct Random(u64);

impl Random {
    /// In [−8, 8), now and then larger.
    fn tensor(&mut self, dims: &[usize]) -> Tensor {
        let mut next = || {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let x = (self.0 >> 40) as f32 / (1u32 << 20) as f32 - 8.0;
            if (self.0 >> 33).is_multiple_of(61) { 10.0 * x } else { x }
        };
        Tensor::f32(dims, (0..dims.iter().product()).map(|_| next()).collect()).expect("as many")
    }
}

/// Queries, keys and values of so many tokens.
fn inputs(random: &mut Random, batch: usize, time: usize) -> Vec<Tensor> {
    let [heads, shared, features, width] = SIZES;
    [(heads, features), (shared, features), (shared, width)]
        .map(|(heads, features)| random.tensor(&[batch, time, heads, features]))
        .into()
}

/// Tokens `start..start + count` of each sequence.
fn part(x: &Tensor, start: usize, count: usize) -> Tensor {
    let (batch, time) = (x.dims[0], x.dims[1]);
    let row: usize = x.dims[2..].iter().product();
    let values = x.as_f32().expect("f32");
    let tokens = (0..batch).flat_map(|b| &values[(b * time + start) * row..][..count * row]);
    let mut dims = x.dims.clone();
    dims[1] = count;
    Tensor::f32(&dims, tokens.copied().collect()).expect("as many")
}

fn compiled(module: &Module) -> Model {
    let interpreter = Interpreter::new(Precision::F32);
    qcc_cpu::load(module, &Parameters::new(), &interpreter, &Target::host(), &SilentProgress)
        .unwrap_or_else(|e| panic!("{e}"))
}

/// Results of tokens that are read in pieces of these lengths.
fn run(state: &mut State, inputs: &[Tensor], pieces: &[usize]) -> Tensor {
    state.reset();
    let (batch, time) = (inputs[0].dims[0], inputs[0].dims[1]);
    let row = SIZES[0] * SIZES[3];
    let mut y = vec![0.0; batch * time * row];
    let mut start = 0;
    for &count in pieces {
        let parts: Vec<Tensor> = inputs.iter().map(|x| part(x, start, count)).collect();
        let data: Vec<(Vec<u64>, Vec<u8>)> =
            parts.iter().map(|x| (x.dims.iter().map(|d| *d as u64).collect(), x.to_le_bytes())).collect();
        let views: Vec<InputView<'_>> = data.iter().map(|(shape, data)| InputView { shape, data }).collect();
        let mut out = vec![0; 4 * batch * count * row];
        state.run("main", &views, &mut [OutputBuffer { data: &mut out }]).unwrap_or_else(|e| panic!("{e}"));
        let out: Vec<f32> =
            out.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        for (b, rows) in out.chunks_exact(count * row).enumerate() {
            y[(b * time + start) * row..][..count * row].copy_from_slice(rows);
        }
        start += count;
    }
    assert_eq!(start, time);
    Tensor::f32(&[batch, time, SIZES[0], SIZES[3]], y).expect("as many")
}

const FORMATS: [&str; 27] = [
    "f16",
    "bf16",
    "int8",
    "int4",
    "int3:token:full",
    "int2:block=8:scale=f32",
    "int5:block=16",
    "int6:block=8",
    "int8:block=64:scale=bf16",
    "fp8e4m3",
    "fp8e5m2:block=32",
    "e2m3:token:scale=f16",
    "fp4e2m1:block=16:scale=e8m0",
    "bfp8",
    "bfp4:block=16",
    "bfp3:block=8",
    "mxint8",
    "mxfp8",
    "mxfp6",
    "mxfp4",
    "nf4",
    "nf4:block=32",
    "pot4",
    "int8:channel",
    "int4:channel:full",
    "fp8e4m3:channel",
    "nf4:channel",
];

#[test]
fn formats_agree_with_the_interpreter_whichever_way_tokens_come() {
    let mut random = Random(3);
    let interpreter = Interpreter::new(Precision::F32);
    for (at, format) in FORMATS.iter().enumerate() {
        // Keys and values have formats of their own.
        for (keys, values) in
            [(*format, *format), ("f32", *format), (*format, FORMATS[(at + 7) % FORMATS.len()])]
        {
            let window = if at % 3 == 0 { 21 } else { 0 };
            let module = module(keys, values, window);
            let (batch, time) = (1 + at % 2, 75);
            let inputs = inputs(&mut random, batch, time);
            let [_, shared, features, width] = SIZES;
            let none = |features| Tensor::f32(&[batch, 0, shared, features], Vec::new()).expect("none");
            let all: Vec<Tensor> = inputs.iter().cloned().chain([none(features), none(width)]).collect();
            let mut reference = interpreter.prepare(&module, &Parameters::new()).expect("the interpreter");
            let expected = reference.run(&all).expect("it runs").remove(0);
            let mut state = State::new(&compiled(&module), 2).expect("a state");
            let whole = run(&mut state, &inputs, &[time]);
            let error = relative_error(&whole, &expected);
            assert!(error < 1e-5, "{keys}, {values}: off by {error:.2e}");
            for pieces in [vec![1; time], vec![5, 1, 1, 30, 1, 37], vec![16, 16, 1, 31, 11]] {
                let again = run(&mut state, &inputs, &pieces);
                let bits = |t: &Tensor| t.to_f32_vec().into_iter().map(f32::to_bits).collect::<Vec<_>>();
                assert!(bits(&again) == bits(&whole), "{keys}, {values} in {pieces:?}: other bits");
            }
        }
    }
}

#[test]
fn what_has_no_kernel_is_refused() {
    let refused = |keys: &str, values: &str| {
        let prepared = CpuExecutor { threads: 1 }.prepare(&module(keys, values, 0), &Parameters::new());
        prepared.err().expect("it is refused")
    };
    let blocks = refused("bfp4:block=24", "bfp4:block=24");
    assert!(blocks.contains("blocks of 24 tokens; blocks of 8, 16, 32 and 64 do"), "{blocks}");
}

#[test]
fn packed_states_cannot_be_handed_on() {
    let module = module("int8", "bf16", 0);
    let mut random = Random(9);
    let mut all = inputs(&mut random, 1, 4);
    all.extend([SIZES[2], SIZES[3]].map(|n| Tensor::f32(&[1, 0, SIZES[1], n], Vec::new()).expect("none")));
    let executor = CpuExecutor { threads: 1 };
    let mut run = executor.prepare(&module, &Parameters::new()).expect("it compiles");
    let results = run.run(&all).expect("it runs");
    assert_eq!(results[1].dims, [1, 4, SIZES[1], SIZES[2]]);
    assert!(results[1].to_f32_vec().iter().all(|x| x.is_nan()));
    all[3] = results[1].clone();
    all[4] = results[2].clone();
    let error = run.run(&all).expect_err("the codes are not there").to_string();
    assert!(error.contains("codes are packed"), "{error}");
}
