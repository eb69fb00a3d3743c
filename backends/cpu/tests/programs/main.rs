//! Compiled functions against the interpreter: every file of `test/codegen`, after the passes it names in `// PIPELINE:` lines (none: as it
//! is), on seeded random weights and inputs of several sizes, with one thread and with two.

mod machines;

use std::path::{Path, PathBuf};

use qcc_cpu::CpuExecutor;
use qcc_interpreter::{Interpreter, Precision};
use qcc_ir::{ElementType, Function, Module, Op, TensorType};
use qcc_params::{Data, Parameters, Tensor};
use qcc_passes::verify_each::relative_error;
use qcc_passes::{Context, Executor, Instrumentation, Pipeline, Registry};
use qcc_runtime::program::{Arg, Program, Step};

/// Relative to the largest value of an output.
const TOLERANCE: f64 = 1e-5;

struct Random(u64);

impl Random {
    fn unit(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1u32 << 23) as f32 - 1.0
    }

    fn tensor(&mut self, ty: &TensorType, sizes: &[(&str, i64)]) -> Tensor {
        let bind = |s: &str| sizes.iter().find(|(name, _)| *name == s).map(|(_, n)| *n);
        let dims: Vec<usize> =
            ty.dims.iter().map(|d| d.evaluate(&bind).expect("a size of every symbol") as usize).collect();
        let n: usize = dims.iter().product();
        let data = match ty.element {
            ElementType::F32 => Data::F32((0..n).map(|_| self.unit()).collect()),
            ElementType::I64 => Data::I64((0..n).map(|_| (self.unit().abs() * 4.0) as i64).collect()),
            ElementType::BF16 => Data::BF16((0..n).map(|_| half::bf16::from_f32(self.unit())).collect()),
            other => panic!("inputs of type {other}"),
        };
        Tensor::new(dims, ty.element, data).expect("the data fits")
    }
}

fn weights(module: &Module) -> Parameters {
    let (mut parameters, mut random) = (Parameters::new(), Random(1));
    for function in &module.functions {
        for &id in function.order() {
            let node = function.node(id);
            if let Op::Parameter { name } = &node.op
                && parameters.ty(name).is_none()
            {
                let tensor = random.tensor(function.ty(node.results[0]), &[]);
                // Scan decays and variances are on one side of zero.
                let tensor = match &tensor.data {
                    Data::F32(v) if name.starts_with("negative") => {
                        Tensor::f32(&tensor.dims, v.iter().map(|x| -x.abs() - 0.1).collect())
                            .expect("same size")
                    }
                    Data::F32(v) if name.starts_with("positive") => {
                        Tensor::f32(&tensor.dims, v.iter().map(|x| x.abs() + 0.1).collect())
                            .expect("same size")
                    }
                    _ => tensor,
                };
                parameters.insert_tensor(name, tensor).expect("a fresh name");
            }
        }
    }
    parameters
}

fn inputs(function: &Function, random: &mut Random, sizes: &[(&str, i64)]) -> Vec<Tensor> {
    function.arguments().iter().map(|&a| random.tensor(function.ty(a), sizes)).collect()
}

/// The functions of a file, each after each of the pipelines that it names, with what it is called and its weights.
fn quantized(path: &Path) -> Vec<(String, Module, Parameters)> {
    let text = std::fs::read_to_string(path).expect("a readable file");
    let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    let module = qcc_ir::parse::parse_module(name, &text).unwrap_or_else(|e| panic!("{name}: {}", e[0]));
    let pipelines: Vec<&str> =
        text.lines().filter_map(|l| l.strip_prefix("// PIPELINE:")).map(str::trim).collect();
    let interpreter = Interpreter::new(Precision::F32);
    let mut all = Vec::new();
    for function in &module.functions {
        let single = Module { functions: vec![function.clone()] };
        for pipeline in if pipelines.is_empty() { &[""][..] } else { &pipelines } {
            let mut module = single.clone();
            let mut context = Context::new(weights(&single), &interpreter);
            Pipeline::parse(pipeline, &Registry::builtin())
                .and_then(|p| p.run(&mut module, &mut context, &mut Instrumentation::default()))
                .unwrap_or_else(|e| panic!("{name}: {e}"));
            all.push((format!("{name} @{} {pipeline}", function.name), module, context.parameters));
        }
    }
    all
}

fn compare(at: &str, module: &Module, parameters: &Parameters) {
    let interpreter = Interpreter::new(Precision::F32);
    let function = module.entry().expect("a function");
    let mut reference = interpreter.prepare(module, parameters).expect("the interpreter takes every module");
    let executors = [CpuExecutor { threads: 1 }, CpuExecutor { threads: 2 }];
    let mut compiled =
        executors.each_ref().map(|e| e.prepare(module, parameters).unwrap_or_else(|e| panic!("{at}: {e}")));
    let mut random = Random(7);
    for sizes in [
        [("B", 1), ("T", 1), ("P", 0)],
        [("B", 2), ("T", 19), ("P", 0)],
        [("B", 1), ("T", 70), ("P", 70)],
        [("B", 2), ("T", 3), ("P", 61)],
    ] {
        let inputs = inputs(function, &mut random, &sizes);
        let expected = reference.run(&inputs).expect("the interpreter runs every module");
        for run in &mut compiled {
            let got = run.run(&inputs).unwrap_or_else(|e| panic!("{at}: {e}"));
            for (i, (a, b)) in got.iter().zip(&expected).enumerate() {
                let error = relative_error(a, b);
                assert!(error <= TOLERANCE, "{at}: output {i} at {sizes:?} is off by {error:.2e}");
            }
        }
    }
}

/// The files of the suite.
fn codegen_files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../test/codegen");
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder).expect("the suite").filter_map(|e| Some(e.ok()?.path())).collect();
    files.retain(|f| f.extension().is_some_and(|e| e == "mlir"));
    files.sort();
    assert!(!files.is_empty());
    files
}

#[test]
fn compiled_functions_agree_with_the_interpreter() {
    for file in codegen_files() {
        for (at, module, parameters) in quantized(&file) {
            compare(&at, &module, &parameters);
        }
    }
}

#[test]
fn states_that_grow_for_others_than_attention_are_refused() {
    let refused = |text: &str| {
        let module = qcc_ir::parse::parse_module("test", text).unwrap_or_else(|e| panic!("{}", e[0]));
        let prepared = CpuExecutor { threads: 1 }.prepare(&module, &weights(&module));
        prepared.err().expect("it is refused")
    };
    let keys = refused(
        r#""func.func"() <{arg_attrs = [{qcc.dims = ["B", "T"]}, {qcc.dims = ["B", "P"], qcc.name = "keys"}],
            function_type = (tensor<?x?xf32>, tensor<?x?xf32>) -> tensor<?x?xf32>, sym_name = "main"}> ({
        ^bb0(%x: tensor<?x?xf32>, %past: tensor<?x?xf32>):
            %k = "qcc.concat"(%past, %x) {axis = 1} : (tensor<?x?xf32>, tensor<?x?xf32>) -> tensor<?x?xf32>
            "func.return"(%k) : (tensor<?x?xf32>) -> ()
        }) {qcc.states = array<i64: 1, 0>} : () -> ()"#,
    );
    let expected = "the state `keys` grows from tensor<[B, P] x f32> to tensor<[B, P + T] x f32>";
    assert!(keys.contains(expected), "{keys}");
    let read = refused(
        r#""func.func"() <{arg_attrs = [{qcc.dims = ["B", "T", "2", "4"]}, {qcc.dims = ["B", "P", "2", "4"], qcc.name = "keys"}],
            function_type = (tensor<?x?x2x4xf32>, tensor<?x?x2x4xf32>) -> (tensor<?x?x2x4xf32>, tensor<?x?x2x4xf32>), sym_name = "main"}> ({
        ^bb0(%x: tensor<?x?x2x4xf32>, %past: tensor<?x?x2x4xf32>):
            %k = "qcc.concat"(%past, %x) {axis = 1} : (tensor<?x?x2x4xf32>, tensor<?x?x2x4xf32>) -> tensor<?x?x2x4xf32>
            %y = "qcc.attention"(%x, %k, %k) {scale = 0.5, causal = true, window = 0}
                : (tensor<?x?x2x4xf32>, tensor<?x?x2x4xf32>, tensor<?x?x2x4xf32>) -> tensor<?x?x2x4xf32> loc("attn")
            "func.return"(%y, %k) : (tensor<?x?x2x4xf32>, tensor<?x?x2x4xf32>) -> ()
        }) {qcc.states = array<i64: 1, 1>} : () -> ()"#,
    );
    assert!(read.contains("something else than attention reads it"), "{read}");
}

/// The program of a module for this machine.
fn program(module: &Module, parameters: &Parameters) -> Program {
    let (interpreter, target) = (Interpreter::new(Precision::F32), qcc_mlir::Target::host());
    qcc_cpu::compile::compile(module, parameters, &interpreter, &target, &qcc_passes::SilentProgress, None)
        .expect("it compiles")
        .program
}

/// The kinds of kernels that a function of the suite runs after one of its pipelines, but for copies of its inputs.
fn kernels(file: &str, function: &str, pipeline: &str) -> Vec<String> {
    let file = codegen_files().into_iter().find(|f| f.ends_with(file)).expect("a file of the suite");
    let variants = quantized(&file).into_iter();
    let mut wanted = variants.filter(|(at, ..)| at.contains(function) && at.contains(pipeline));
    let (_, module, parameters) = wanted.next().expect("a function and pipeline of the file");
    let program = program(&module, &parameters);
    let kind = |step: &Step| {
        let name = &program.kernels[step.kernel as usize];
        name.rsplit('_').next().unwrap_or_default().to_string()
    };
    program.entries[0].steps.iter().map(kind).filter(|kind| kind != "copy").collect()
}

#[test]
fn rows_are_quantized_where_they_are_made() {
    for weights in ["int8:channel", "int4:block=32", "int4:channel"] {
        let pipeline = format!("weights={weights} activations=int8:token");
        assert_eq!(kernels("gated.mlir", "@main", &pipeline), ["elementwise", "gemm"], "{weights}");
    }
}

#[test]
fn products_of_bf16_read_it_as_it_is() {
    let both = "weights=bf16 activations=bf16";
    assert_eq!(kernels("halves.mlir", "@two", both), ["elementwise", "gemm", "gemm"]);
    // Other halves are widened to f32.
    let other = "weights=bf16 activations=f16";
    assert_eq!(kernels("halves.mlir", "@one", other), ["elementwise", "gemm"]);
}

/// Two layers side by side, of which the first is the last reader of its input: the second one's result must not take its place.
#[test]
fn products_that_run_together_share_no_memory_that_one_writes() {
    let text = r#""func.func"() <{arg_attrs = [{qcc.dims = ["B", "64"]}], function_type = (tensor<?x64xf32>) -> tensor<?x64xf32>, sym_name = "main"}> ({
    ^bb0(%x: tensor<?x64xf32>):
        %v = "qcc.parameter"() {name = "v"} : () -> tensor<64x64xf32>
        %w = "qcc.parameter"() {name = "w"} : () -> tensor<64x64xf32>
        %a = "qcc.exp"(%x) : (tensor<?x64xf32>) -> tensor<?x64xf32>
        %b = "qcc.neg"(%x) : (tensor<?x64xf32>) -> tensor<?x64xf32>
        %p = "qcc.linear"(%a, %v) : (tensor<?x64xf32>, tensor<64x64xf32>) -> tensor<?x64xf32>
        %q = "qcc.linear"(%b, %w) : (tensor<?x64xf32>, tensor<64x64xf32>) -> tensor<?x64xf32>
        %r = "qcc.linear"(%b, %v) : (tensor<?x64xf32>, tensor<64x64xf32>) -> tensor<?x64xf32>
        %s = "qcc.add"(%p, %q) : (tensor<?x64xf32>, tensor<?x64xf32>) -> tensor<?x64xf32>
        %y = "qcc.add"(%s, %r) : (tensor<?x64xf32>, tensor<?x64xf32>) -> tensor<?x64xf32>
        "func.return"(%y) : (tensor<?x64xf32>) -> ()
    }) : () -> ()"#;
    let module = qcc_ir::parse::parse_module("test", text).unwrap_or_else(|e| panic!("{}", e[0]));
    let program = program(&module, &weights(&module));
    let steps = &program.entries[0].steps;
    let slots = |step: &Step| -> Vec<u32> {
        let slot = |arg: &Arg| if let Arg::Slot { index, .. } = arg { Some(*index) } else { None };
        step.args.iter().filter_map(slot).collect()
    };
    let result = |step: &Step| match step.args[8] {
        Arg::Slot { index, .. } => index,
        _ => panic!("the result lies elsewhere"),
    };
    let group: Vec<&Step> = {
        let first = steps.iter().position(|s| s.beside).expect("some run together") - 1;
        steps[first..].iter().enumerate().take_while(|(i, s)| *i == 0 || s.beside).map(|(_, s)| s).collect()
    };
    assert_eq!(group.len(), 3);
    // What is in use at the same time has places of its own.
    let at_once = |a: u32, b: u32| {
        let [a, b] = [a, b].map(|index| &program.entries[0].slots[index as usize]);
        a.first <= b.last && b.first <= a.last
    };
    for (i, step) in group.iter().enumerate() {
        for (j, other) in group.iter().enumerate().filter(|(j, _)| *j != i) {
            let written = result(step);
            let apart = |slot: &u32| *slot != written && at_once(*slot, written);
            assert!(slots(other).iter().all(apart), "step {j} uses what step {i} writes");
        }
    }
    compare("side by side", &module, &weights(&module));
}
