use qcc_interpreter::{Interpreter, Precision};
use qcc_ir::{
    Attribute, ElementType, Float, Function, Granularity, Module, Op, Storage, ops::ImageLayout, ops::PadMode,
};
use qcc_params::{Data, Parameters, Tensor};

use crate::context::{Context, Samples};
use crate::fixture::{Fixture, conv, dims};
use crate::instrument::Instrumentation;
use crate::pass::PassError;
use crate::pipeline::Pipeline;
use crate::registry::Registry;
use crate::verify_each::{random_inputs, relative_error};

/// Random inputs, as often as asked for.
struct Random(usize);

impl Samples for Random {
    fn len(&self) -> usize {
        self.0
    }

    fn inputs(&self, _: usize, function: &Function) -> Result<Vec<Tensor>, String> {
        random_inputs(function)
    }
}

struct Quantized {
    function: Function,
    parameters: Parameters,
    warnings: Vec<String>,
    /// Relative error of the first result against the float function.
    error: f64,
    /// The largest difference of the mean of one of its channels, relative to its largest value.
    error_of_means: f64,
}

fn quantized(f: Fixture, pipeline: &str) -> Quantized {
    let interpreter = Interpreter::new(Precision::F32);
    let inputs = random_inputs(&f.function).expect("inputs");
    let expected = interpreter.run(&f.function, &f.parameters, &inputs).expect("runs");
    let mut module = Module { functions: vec![f.function] };
    let (parameters, warnings) =
        attempt(&mut module, f.parameters, pipeline).unwrap_or_else(|e| panic!("{e}"));
    let function = module.functions.remove(0);
    let got = interpreter.run(&function, &parameters, &inputs).unwrap_or_else(|e| panic!("{e}"));
    Quantized {
        error: relative_error(&got[0], &expected[0]),
        error_of_means: error_of_means(&got[0], &expected[0]),
        function,
        parameters,
        warnings,
    }
}

/// Runs passes that look at samples; the weights and warnings behind them.
fn attempt(
    module: &mut Module,
    parameters: Parameters,
    pipeline: &str,
) -> Result<(Parameters, Vec<String>), PassError> {
    let (interpreter, reference) = (Interpreter::new(Precision::F32), Interpreter::new(Precision::F64));
    let samples = Random(2);
    let mut context = Context::new(parameters, &interpreter);
    context.executor = Some(&interpreter);
    context.samples = Some(&samples);
    context.reference = Some(&reference);
    let mut instrumentation = Instrumentation { verify_each: true, ..Instrumentation::default() };
    let pipeline = Pipeline::parse(pipeline, &Registry::builtin()).unwrap_or_else(|e| panic!("{e}"));
    pipeline.run(module, &mut context, &mut instrumentation)?;
    Ok((context.parameters, context.warnings.into_iter().map(|w| w.message).collect()))
}

/// Channels lie along axis 1.
fn error_of_means(got: &Tensor, expected: &Tensor) -> f64 {
    let (channels, inner) = (got.dims[1], got.dims[2..].iter().product::<usize>());
    let mut sums = vec![0.0; channels];
    for (at, (a, b)) in got.to_f64_vec().iter().zip(expected.to_f64_vec()).enumerate() {
        sums[at / inner % channels] += a - b;
    }
    let largest = expected.to_f64_vec().iter().fold(0f64, |m, x| m.max(x.abs()));
    sums.iter().fold(0f64, |m, s| m.max(s.abs())) / (got.len() / channels) as f64 / largest
}

impl Quantized {
    fn ops(&self) -> Vec<&'static str> {
        let names = self.function.order().iter().map(|id| self.function.node(*id).op.name());
        names.filter(|name| !["parameter", "constant"].contains(name)).collect()
    }
}

fn mlp() -> Fixture {
    let mut f = Fixture::new();
    let x = f.input("x", "B,16");
    let (w, b) = (f.weight("up", &[32, 16]), f.weight("up.bias", &[32]));
    let y = f.op(Op::Linear {}, &[x, w, b]);
    let y = f.op(Op::Relu {}, &[y]);
    let w = f.weight("down", &[8, 32]);
    let y = f.op(Op::Linear {}, &[y, w]);
    f.result(y);
    f
}

const LOWER: &str = "canonicalize,lower-quantized,canonicalize";

#[test]
fn static_layers_hand_codes_to_each_other() {
    let q = quantized(mlp(), &format!("calibrate,quantize{{weights=int8:channel activations=int8}},{LOWER}"));
    assert_eq!(q.ops(), ["quantize", "quantized_linear", "quantized_linear"]);
    assert!(q.error > 0.0 && q.error < 0.03, "{}", q.error);
    assert!(q.warnings.is_empty(), "{:?}", q.warnings);
    // Codes and scales are weight expressions.
    let codes = q.parameters.iter().filter(|(_, ty)| {
        matches!(ty.element, ElementType::Quant(t) if t.storage == Storage::Int(8) && t.granularity == Granularity::Channel { axis: 0 })
    });
    assert_eq!(codes.count(), 2);
}

#[test]
fn dynamic_layers_quantize_each_token() {
    let q =
        quantized(mlp(), &format!("quantize{{weights=int4:block=8 activations=int8:token:dynamic}},{LOWER}"));
    assert_eq!(q.ops(), ["dynamic_quantize", "quantized_linear", "dynamic_quantize", "quantized_linear"]);
    assert!(q.error > 0.0 && q.error < 0.2, "{}", q.error);
}

#[test]
fn weights_alone_leave_activations_in_float() {
    let q = quantized(mlp(), &format!("quantize{{weights=int8:channel}},{LOWER}"));
    assert_eq!(q.ops(), ["quantized_linear", "quantized_linear"]);
    assert!(q.error > 0.0 && q.error < 0.02, "{}", q.error);
}

#[test]
fn asymmetric_activations_carry_a_zero_point() {
    let q = quantized(
        mlp(),
        &format!("calibrate,quantize{{weights=int8:channel activations=uint8:asym}},{LOWER}"),
    );
    assert_eq!(q.ops(), ["quantize", "quantized_linear", "quantized_linear"]);
    assert!(q.error > 0.0 && q.error < 0.03, "{}", q.error);
}

#[test]
fn every_width_of_weights_and_activations_is_computed_on_codes() {
    for bits in 2..=8 {
        for (weights, activations, first) in [
            (format!("int{bits}:tensor"), format!("int{bits}"), "quantize"),
            (format!("int{bits}:channel:full"), format!("uint{bits}:asym"), "quantize"),
            (format!("int{bits}:channel"), format!("int{bits}:token"), "dynamic_quantize"),
            (format!("int{bits}:block=8"), format!("int{bits}:token"), "dynamic_quantize"),
            (format!("int{bits}:block=16:scale=f32"), format!("int{bits}:token"), "dynamic_quantize"),
        ] {
            let quantize =
                format!("calibrate,quantize{{weights={weights} activations={activations}}},{LOWER}");
            let q = quantized(mlp(), &quantize);
            let layers = q.ops().into_iter().filter(|op| *op == "quantized_linear").count();
            assert_eq!((q.ops()[0], layers), (first, 2), "{weights} {activations}");
            assert!(q.warnings.is_empty(), "{weights} {activations}: {:?}", q.warnings);
            // A step is half as wide with each bit more: two cover the range of 2 bits.
            let steps = q.error * f64::from((1 << bits) - 2);
            assert!(q.error > 0.0 && steps < 5.0, "{weights} {activations}: off by {steps} steps");
        }
    }
}

#[test]
fn blocks_of_weights_meet_static_activations_in_float() {
    let q = quantized(mlp(), &format!("calibrate,quantize{{weights=int4:block=8 activations=int8}},{LOWER}"));
    let one = ["quantize", "dequantize", "dequantize", "linear"];
    assert_eq!(q.ops(), [&one[..], &["relu"], &one].concat());
    assert!(q.warnings[0].contains("run in f32 on decoded codes: linear ×2"), "{:?}", q.warnings);
}

#[test]
fn split_weights_are_decoded_for_float_products() {
    for bits in 2..=8 {
        let q = quantized(mlp(), &format!("quantize{{weights=split{bits}}},{LOWER}"));
        assert_eq!(q.ops(), ["dequantize", "linear", "relu", "dequantize", "linear"]);
        let whole = quantized(mlp(), &format!("quantize{{weights=int{bits}:tensor}},{LOWER}"));
        assert!(q.error > 0.0 && q.error < whole.error, "split{bits}: {} of {}", q.error, whole.error);
        assert!(q.warnings.is_empty(), "{:?}", q.warnings);
        // The codes and their two tables are weight expressions.
        let tables = q.parameters.iter().filter(|(_, ty)| ty.constant_dims() == Some(vec![3]));
        assert_eq!(tables.count(), 4);
    }
    for activations in ["int8", "int8:token"] {
        let q = quantized(
            mlp(),
            &format!("calibrate,quantize{{weights=split4 activations={activations}}},{LOWER}"),
        );
        assert!(q.warnings[0].contains("run in f32 on decoded codes: linear ×2"), "{:?}", q.warnings);
        assert!(q.error < 0.1, "{}", q.error);
    }
}

#[test]
fn gptq_rounds_with_less_error_than_to_nearest() {
    for (format, more) in [
        ("int3:block=8", ""),
        ("int3:channel", " sequential=false"),
        ("uint3:asym", " activation-order=false"),
        ("mxfp4", " block=5"),
        ("nf4", " damping=0.1"),
        ("codebook3", ""),
        ("nvfp4", ""),
    ] {
        let of =
            |rounding: &str| quantized(mlp(), &format!("quantize{{weights={format}{rounding}}},{LOWER}"));
        let (nearest, gptq) = (of(""), of(&format!(" rounding=gptq{more}")));
        assert_eq!(gptq.ops(), nearest.ops(), "{format}");
        assert!(gptq.error < nearest.error, "{format}: {} of {}", gptq.error, nearest.error);
        assert!(gptq.warnings.is_empty(), "{:?}", gptq.warnings);
    }
    // Activations too, and a head that embeds tokens.
    let q = quantized(
        mlp(),
        &format!("calibrate,quantize{{weights=int4 activations=int8 rounding=gptq}},{LOWER}"),
    );
    assert_eq!(q.ops(), ["quantize", "quantized_linear", "quantized_linear"]);
}

#[test]
fn damping_that_rises_is_said() {
    // Two rows are seen of 16 and of 32 features: their second moments have no inverse.
    let q = quantized(mlp(), "quantize{weights=int4 rounding=gptq damping=0}");
    assert_eq!(q.warnings.len(), 1, "{:?}", q.warnings);
    assert!(q.warnings[0].contains("the damping 0 was too small"), "{:?}", q.warnings);
    assert!(q.warnings[0].contains("of 2 layer(s)"), "{:?}", q.warnings);
    assert!(q.error < 0.5, "{}", q.error);
}

#[test]
fn functions_without_samples_are_rounded_to_nearest_and_said() {
    let mut second = mlp();
    second.function.name = "second".into();
    let mut module = Module { functions: vec![mlp().function, second.function] };
    let (_, warnings) = attempt(&mut module, second.parameters, "quantize{weights=int4 rounding=gptq}")
        .unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("`@second` is rounded to nearest"), "{warnings:?}");
}

#[test]
fn convolutions_are_rounded_by_what_they_read() {
    for rounding in ["gptq", "decoupleq"] {
        for (groups, channels) in [(1, 6), (2, 3), (6, 1)] {
            let of = |rounding: &str| {
                let mut f = Fixture::new();
                let x = f.input("x", "B,6,9");
                let mix = f.weight("mix", &[6, 6, 1]);
                let mixed = f.op(conv(1, 1, 0, 1), &[x, mix]);
                let w = f.weight("w", &[6, channels, 3]);
                let y = f.op(conv(1, 2, 1, groups), &[mixed, w]);
                f.result(y);
                quantized(f, &format!("quantize{{weights=int3:channel{rounding}}},{LOWER}"))
            };
            let (nearest, found) = (of(""), of(&format!(" rounding={rounding}")));
            assert!(found.error < nearest.error, "{rounding}: {} of {}", found.error, nearest.error);
            assert!(found.warnings.is_empty() || found.warnings == nearest.warnings, "{:?}", found.warnings);
        }
    }
}

#[test]
fn what_cannot_be_solved_for_is_rounded_to_nearest_and_said() {
    let q = quantized(mlp(), "quantize{weights=mxfp4 rounding=decoupleq}");
    assert!(q.warnings[0].contains("decoupleQ solves for the scales of integer codes"), "{:?}", q.warnings);
    let q = quantized(mlp(), "quantize{weights=int4:tensor rounding=decoupleq}");
    assert!(q.warnings[0].contains("by channel or in blocks"), "{:?}", q.warnings);
    let q = quantized(mlp(), "quantize{weights=split4 rounding=gptq}");
    assert!(q.warnings[0].contains("is rounded to nearest: split codes"), "{:?}", q.warnings);
    let error = mlp().try_run("quantize{weights=int4 rounding=gptq}").err().expect("no samples").to_string();
    assert!(error.contains("--calibration"), "{error}");
}

#[test]
fn kernels_of_a_convolution_have_clusters_of_their_own() {
    let build = || {
        let mut f = Fixture::new();
        let x = f.input("x", "B,3,8");
        let w = f.weight("w", &[4, 3, 3]);
        let y = f.op(conv(1, 1, 1, 1), &[x, w]);
        f.result(y);
        f
    };
    for (format, granularity) in [
        ("split4", Granularity::Channel { axis: 0 }),
        ("split4:channel", Granularity::Channel { axis: 0 }),
        ("split4:tensor", Granularity::Tensor),
    ] {
        let q = quantized(build(), &format!("quantize{{weights={format}}},{LOWER}"));
        let mut codes = q.parameters.iter().filter_map(|(_, ty)| ty.element.quantized());
        assert!(codes.all(|t| (t.storage, t.granularity) == (Storage::Split(4), granularity)), "{format}");
        assert_eq!(q.ops(), ["dequantize", "conv"]);
    }
}

#[test]
fn what_lies_between_convolutions_runs_on_codes() {
    let mut f = Fixture::new();
    let x = f.input("x", "B,3,9,9");
    let w = f.weight("w", &[4, 3, 3, 3]);
    let y = f.op(conv(2, 1, 1, 1), &[x, w]);
    let y = f.op(Op::Clamp { min: Float(0.0), max: Float(6.0) }, &[y]);
    let pool = Op::MaxPool {
        kernel: vec![3, 3],
        strides: vec![2, 2],
        pads: vec![1, 1, 1, 1],
        dilations: vec![1, 1],
        ceil: false,
        layout: ImageLayout::ChannelsFirst,
    };
    let y = f.op(pool, &[y]);
    let y = f
        .op(Op::Pad { pads: vec![0, 0, 1, 1, 0, 0, 1, 1], mode: PadMode::Constant, value: Float(0.0) }, &[y]);
    let w = f.weight("w2", &[2, 4, 3, 3]);
    let y = f.op(conv(2, 1, 0, 1), &[y, w]);
    let y = f.op(Op::Reshape { shape: dims("B,50") }, &[y]);
    f.result(y);
    let q = quantized(f, &format!("calibrate,quantize{{weights=int8:channel activations=int8}},{LOWER}"));
    assert_eq!(q.ops(), ["quantize", "quantized_conv", "max_pool", "pad", "quantized_conv", "reshape"]);
    assert!(q.error > 0.0 && q.error < 0.03, "{}", q.error);
}

#[test]
fn hoisting_changes_no_bit() {
    let build = || {
        let mut f = Fixture::new();
        let x = f.input("x", "B,4,9");
        let a = f.op(Op::Transpose { permutation: vec![0, 2, 1] }, &[x]);
        let b = f.op(Op::Exp {}, &[a]);
        let b = f.op(Op::Slice { axes: vec![1], starts: vec![1], ends: vec![6], steps: vec![2] }, &[b]);
        let y = f.op(Op::Concat { axis: 1 }, &[a, b]);
        let w = f.weight("w", &[3, 4]);
        let y = f.op(Op::Linear {}, &[y, w]);
        f.result(y);
        f
    };
    let run = |pipeline: &str| {
        let q = quantized(build(), pipeline);
        let inputs = random_inputs(&q.function).expect("inputs");
        let y = Interpreter::new(Precision::F32).run(&q.function, &q.parameters, &inputs).expect("runs");
        (q.ops(), y)
    };
    let quantize = "calibrate,quantize{weights=int8:channel activations=uint8:asym}";
    let (plain, expected) = run(quantize);
    let (hoisted, got) = run(&format!("{quantize},lower-quantized"));
    assert!(plain.contains(&"dequantize") && !hoisted.contains(&"dequantize"), "{hoisted:?}");
    assert_eq!(hoisted.last(), Some(&"quantized_linear"));
    // Only the order of float operations in the linear layer differs.
    assert!(relative_error(&got[0], &expected[0]) < 1e-5);
}

#[test]
fn an_activation_of_two_layers_is_quantized_once() {
    let mut f = Fixture::new();
    let x = f.input("x", "B,8");
    let (a, b) = (f.weight("a", &[4, 8]), f.weight("b", &[4, 8]));
    let (a, b) = (f.op(Op::Linear {}, &[x, a]), f.op(Op::Linear {}, &[x, b]));
    let y = f.op(Op::Mul {}, &[a, b]);
    f.result(y);
    let q = quantized(f, &format!("quantize{{weights=int8:channel activations=int8:token:dynamic}},{LOWER}"));
    assert_eq!(q.ops(), ["dynamic_quantize", "quantized_linear", "quantized_linear", "mul"]);
}

fn language_model() -> Fixture {
    let mut f = Fixture::new();
    let ids = f.function.add_argument("ids", qcc_ir::TensorType::new(dims("B,T"), ElementType::I64));
    let table = f.weight("table", &[5, 8]);
    let x = f.op(Op::Embedding {}, &[table, ids]);
    let w = f.weight("w", &[8, 8]);
    let y = f.op(Op::Linear {}, &[x, w]);
    let logits = f.op(Op::Linear {}, &[y, table]);
    let logits = f.op(Op::Cast { to: ElementType::F32 }, &[logits]);
    f.result(logits);
    f
}

#[test]
fn the_output_head_keeps_its_type_unless_asked() {
    let q = quantized(language_model(), &format!("quantize{{weights=int8:channel}},{LOWER}"));
    assert_eq!(q.ops(), ["embedding", "quantized_linear", "linear"]);
    let q =
        quantized(language_model(), &format!("quantize{{weights=int8:channel head=int8:channel}},{LOWER}"));
    assert_eq!(q.ops(), ["embedding", "quantized_linear", "quantized_linear"]);
}

#[test]
fn a_table_that_is_also_the_head_has_no_split_codes() {
    let q = quantized(language_model(), &format!("quantize{{weights=split4 head=split4}},{LOWER}"));
    assert_eq!(q.ops(), ["embedding", "dequantize", "linear", "linear"]);
    assert!(q.warnings[0].contains("its weight is also the table of an embedding"), "{:?}", q.warnings);
}

#[test]
fn what_keeps_its_type_is_said() {
    let mut f = Fixture::new();
    let x = f.input("x", "B,3,8");
    let w = f.weight("w", &[4, 3, 3]);
    let y = f.op(conv(1, 1, 1, 1), &[x, w]);
    f.result(y);
    let q = quantized(f, "quantize{weights=int4:block=32 activations=int8:token}");
    assert!(q.warnings[0].contains("keeps its type: a convolution has no tokens"), "{:?}", q.warnings);
    assert!(q.warnings[1].contains("no linear layer or convolution was quantized"), "{:?}", q.warnings);
    let q = quantized(mlp(), "quantize{weights=int8:channel activations=int8}");
    assert!(q.warnings[0].contains("run `calibrate` first"), "{:?}", q.warnings);
}

#[test]
fn operations_on_decoded_codes_are_said() {
    let mut f = Fixture::new();
    let x = f.input("x", "B,8");
    let w = f.weight("w", &[8, 8]);
    let y = f.op(Op::Linear {}, &[x, w]);
    let y = f.op(Op::Add {}, &[y, x]);
    f.result(y);
    // The float `x` is still there for the sum, so nothing decodes.
    let q = quantized(f, &format!("calibrate,quantize{{weights=int8:channel activations=int8}},{LOWER}"));
    assert_eq!((q.ops(), q.warnings.len()), (vec!["quantize", "quantized_linear", "add"], 0));
    let mut f = Fixture::new();
    let x = f.input("x", "B,4,8");
    let w = f.weight("w", &[4, 4, 3]);
    let y = f.op(conv(1, 1, 1, 1), &[x, w]);
    f.result(y);
    let q = quantized(f, &format!("calibrate,quantize{{weights=int4:block=2 activations=int8}},{LOWER}"));
    assert!(q.warnings[0].contains("run in f32 on decoded codes: conv ×1"), "{:?}", q.warnings);
}

#[test]
fn bad_options_are_refused() {
    let parse = |text: &str| match Pipeline::parse(text, &Registry::builtin()) {
        Ok(_) => String::new(),
        Err(e) => e.to_string(),
    };
    assert!(parse("quantize").contains("`weights=FORMAT` is needed"));
    assert!(parse("quantize{weights=int4 rounding=up}").contains("unknown rounding `up`"));
    assert!(parse("quantize{weights=int4 damping=1}").contains("need `rounding=gptq`"));
    assert!(
        parse("quantize{weights=int4 rounding=gptq rounds=3}")
            .contains("`rounds` needs `rounding=decoupleq`")
    );
    assert!(parse("quantize{weights=int4 rounding=gptq block=0}").contains("`block` at least 1"));
    assert!(parse("quantize{weights=f32}").contains("is what weights are in"));
    assert!(parse("quantize{weights=bf16 rounding=gptq}").contains("are floats"));
    assert!(!parse("quantize{weights=int99}").is_empty());
    for range in ["1", "1..", "2..1", "nan..1", "0..inf"] {
        let error = parse(&format!("quantize{{weights=int8 range={range}}}"));
        assert!(error.contains("is no range"), "{error}");
    }
    assert_eq!(parse("quantize{weights=int8 activations=f32 range=-1..1.5}"), "");
}

#[test]
fn floats_are_rounded_to_narrower_ones_that_kernels_widen() {
    let q = quantized(mlp(), &format!("quantize{{weights=bf16 activations=f16}},{LOWER}"));
    let casts: Vec<ElementType> = q
        .function
        .order()
        .iter()
        .filter_map(|id| match q.function.node(*id).op {
            Op::Cast { to } => Some(to),
            _ => None,
        })
        .collect();
    // Weights are stored in bf16; activations are narrowed and widened again.
    assert!(casts.contains(&ElementType::F16) && !casts.contains(&ElementType::BF16), "{casts:?}");
    let stored = |id: &&qcc_ir::OpId| {
        let node = q.function.node(**id);
        matches!(node.op, Op::Parameter { .. }) && q.function.ty(node.results[0]).element == ElementType::BF16
    };
    assert_eq!(q.function.order().iter().filter(stored).count(), 2);
    assert!(q.error > 0.0 && q.error < 0.02, "{}", q.error);
    assert!(q.warnings.is_empty(), "{:?}", q.warnings);
}

#[test]
fn halves_saturate() {
    let mut f = Fixture::new();
    let x = f.input("x", "B,2");
    let tensor = Tensor::f32(&[1, 2], vec![1e6, -0.5]).expect("counts agree");
    let name = f.parameters.insert_tensor("w", tensor).expect("fits");
    let w = crate::weights::value(&mut f.function, &f.parameters, &name).expect("known");
    let y = f.op(Op::Linear {}, &[x, w]);
    f.result(y);
    let q = quantized(f, "quantize{weights=f16},canonicalize");
    let halves = q.function.order().iter().find_map(|id| match &q.function.node(*id).op {
        Op::Parameter { name } => Some(name.clone()),
        _ => None,
    });
    let interpreter = Interpreter::new(Precision::F32);
    let stored = q.parameters.evaluate(&halves.expect("a weight"), &interpreter).expect("evaluates");
    assert_eq!(stored.to_f64_vec(), [65504.0, -0.5]);
}

#[test]
fn halves_of_the_other_kind_are_kept() {
    let mut f = Fixture::new();
    let x = f.input("x", "B,2");
    let data = [1e-30, 3.0].map(half::bf16::from_f32).to_vec();
    let tensor = Tensor::new(vec![1, 2], ElementType::BF16, Data::BF16(data)).expect("counts agree");
    let w = f.tensor("w", tensor);
    let x = f.op(Op::Cast { to: ElementType::BF16 }, &[x]);
    let y = f.op(Op::Linear {}, &[x, w]);
    let y = f.op(Op::Cast { to: ElementType::F32 }, &[y]);
    f.result(y);
    let q = quantized(f, "quantize{weights=f16}");
    assert_eq!(q.error, 0.0);
    assert!(
        q.warnings.iter().any(|w| w.contains("its weight is in bf16 and stays in it")),
        "{:?}",
        q.warnings
    );
}

#[test]
fn annotations_survive() {
    let mut f = mlp();
    let id = *f.function.order().last().expect("not empty");
    f.function.node_mut(id).annotations.insert("note".into(), Attribute::Bool(true));
    let q = quantized(f, &format!("quantize{{weights=int8:channel}},{LOWER}"));
    let last = q.function.order().last().expect("not empty");
    assert!(q.function.node(*last).annotations.contains_key("note"));
}

#[test]
fn a_convolutional_network_goes_all_the_way() {
    let mut f = Fixture::new();
    let x = f.input("x", "B,3,12,12");
    let w = f.weight("stem", &[8, 3, 3, 3]);
    let y = f.op(conv(2, 2, 1, 1), &[x, w]);
    let y = f.normalized("stem.norm", y, 8);
    let y = f.op(Op::Relu {}, &[y]);
    let w = f.weight("depthwise", &[8, 1, 3, 3]);
    let z = f.op(conv(2, 1, 1, 8), &[y, w]);
    let z = f.normalized("depthwise.norm", z, 8);
    let z = f.op(Op::Clamp { min: Float(0.0), max: Float(6.0) }, &[z]);
    let w = f.weight("pointwise", &[8, 8, 1, 1]);
    let z = f.op(conv(2, 1, 0, 1), &[z, w]);
    let z = f.normalized("pointwise.norm", z, 8);
    let y = f.op(Op::Add {}, &[y, z]);
    let y = f.op(Op::ReduceMean { axes: vec![2, 3], keep_dims: true }, &[y]);
    let y = f.op(Op::Reshape { shape: dims("B,8") }, &[y]);
    let (w, b) = (f.weight("head", &[5, 8]), f.weight("head.bias", &[5]));
    let y = f.op(Op::Linear {}, &[y, w, b]);
    f.result(y);
    let q = quantized(
        f,
        "canonicalize,fold-batch-norm,canonicalize,calibrate,\
         quantize{weights=int8:channel activations=uint8:tensor:asym},canonicalize,lower-quantized,\
         channels-last,canonicalize,plan-memory",
    );
    assert_eq!(
        q.ops(),
        [
            "quantize",
            "transpose",
            "quantized_conv",
            "quantize",
            "quantized_conv",
            "quantized_conv",
            "add",
            "reduce_mean",
            "quantize",
            "reshape",
            "quantized_linear"
        ]
    );
    assert!(q.error > 0.0 && q.error < 0.05, "{}", q.error);
    assert!(q.warnings.is_empty(), "{:?}", q.warnings);
}

#[test]
fn biases_take_up_what_rounding_adds_to_means() {
    let image = || {
        let mut f = Fixture::new();
        let x = f.input("x", "B,4,6");
        let w = f.weight("w", &[8, 4, 3]);
        let y = f.op(conv(1, 1, 1, 1), &[x, w]);
        let y = f.op(Op::Relu {}, &[y]);
        let w = f.weight("v", &[5, 8, 1]);
        let b = f.weight("b", &[5]);
        let y = f.op(conv(1, 1, 0, 1), &[y, w, b]);
        f.result(y);
        f
    };
    for (fixture, format) in [
        (&mlp as &dyn Fn() -> Fixture, "weights=int3:tensor"),
        (&mlp, "weights=int4:channel activations=int4"),
        (&mlp, "weights=int2:block=8 rounding=gptq"),
        (&image, "weights=int3:tensor activations=uint8:tensor:asym"),
    ] {
        let of = |more: &str| {
            quantized(fixture(), &format!("calibrate,quantize{{{format}{more}}},canonicalize,{LOWER}"))
        };
        let (plain, corrected) = (of(""), of(" bias-correction=true"));
        assert!(plain.error_of_means > 1e-3, "{format}: {}", plain.error_of_means);
        assert!(corrected.error_of_means < 1e-5, "{format}: {}", corrected.error_of_means);
    }
}

#[test]
fn samples_that_give_no_numbers_correct_no_bias() {
    let mut f = Fixture::new();
    let x = f.input("x", "B,4");
    let w = f.weight("w", &[3, 4]);
    let b = f.tensor("b", Tensor::f32(&[3], vec![0.0, f32::INFINITY, 1.0]).expect("counts agree"));
    let y = f.op(Op::Linear {}, &[x, w, b]);
    f.result(y);
    let mut module = Module { functions: vec![f.function] };
    let pipeline = "quantize{weights=int4 bias-correction=true}";
    let error = attempt(&mut module, f.parameters, pipeline).expect_err("no mean").to_string();
    assert!(error.contains("linear") && error.contains("NaN or infinite outputs"), "{error}");
}
