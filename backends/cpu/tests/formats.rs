//! Integer and split formats of every width on compiled code: layers on codes give the interpreter's bits, whatever kernel format the codes
//! lie in; layers on floats stay within what the order of a sum may change.

use qcc_cpu::CpuExecutor;
use qcc_interpreter::{Interpreter, Precision};
use qcc_ir::ops::{ImageLayout, Rounding, Special};
use qcc_ir::{
    Dense, DenseData, Dim, ElementType, Float, Format, Function, Granularity, Module, Op, Role, TensorType,
    ValueId,
};
use qcc_params::{Data, Parameters, Tensor};
use qcc_passes::verify_each::relative_error;
use qcc_passes::{Context, Executor, Instrumentation, Pipeline, Registry, Samples};

const FINISH: &str = "canonicalize,lower-quantized,canonicalize";

struct Model {
    function: Function,
    parameters: Parameters,
    state: u64,
}

impl Model {
    fn new() -> Model {
        Model { function: Function::new("main"), parameters: Parameters::new(), state: 1 }
    }

    /// Uniform in [−1, 1), now and then ten times as large.
    fn unit(&mut self) -> f32 {
        self.state =
            self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let x = (self.state >> 40) as f32 / 8_388_608.0 - 1.0;
        if (self.state >> 33).is_multiple_of(61) { 10.0 * x } else { x }
    }

    fn weight(&mut self, name: &str, dims: &[usize]) -> ValueId {
        let data = (0..dims.iter().product()).map(|_| self.unit()).collect();
        let tensor = Tensor::f32(dims, data).expect("counts agree");
        let ty = tensor.ty();
        self.parameters.insert_tensor(name, tensor).expect("a fresh name");
        self.function.add_parameter(name, ty)
    }

    fn op(&mut self, op: Op, operands: &[ValueId]) -> ValueId {
        let name = format!("{}.{}", op.name(), self.function.node_count());
        self.function.add_one(op, operands.iter().copied(), &name).expect("well-typed")
    }

    fn conv(&mut self, x: ValueId, name: &str, dims: &[usize], pad: i64, groups: i64) -> ValueId {
        let w = self.weight(name, dims);
        let op = Op::Conv {
            strides: vec![1, 1],
            pads: vec![pad; 4],
            dilations: vec![1, 1],
            groups,
            layout: ImageLayout::ChannelsFirst,
        };
        self.op(op, &[x, w])
    }
}

/// Two layers on rows; odd sizes, so that panels and blocks have tails.
fn rows() -> Model {
    let mut m = Model::new();
    let x = m.function.add_argument(
        "x",
        TensorType::new(vec![Dim::parse("B").expect("a size"), 70.into()], ElementType::F32),
    );
    let (w, b) = (m.weight("up", &[100, 70]), m.weight("up.bias", &[100]));
    let y = m.op(Op::Linear {}, &[x, w, b]);
    let y = m.op(Op::Relu {}, &[y]);
    let w = m.weight("down", &[33, 100]);
    let y = m.op(Op::Linear {}, &[y, w]);
    m.function.add_result("y", y);
    m
}

/// A convolution over patches, a depthwise one, one in two groups and a pointwise one.
fn image() -> Model {
    let mut m = Model::new();
    let size = |n: i64| Dim::Const(n);
    let dims = vec![Dim::parse("B").expect("a size"), size(3), size(7), size(6)];
    let x = m.function.add_argument("x", TensorType::new(dims, ElementType::F32));
    let y = m.conv(x, "stem", &[20, 3, 3, 3], 1, 1);
    let y = m.op(Op::Relu {}, &[y]);
    let y = m.conv(y, "depthwise", &[20, 1, 3, 3], 1, 20);
    let y = m.conv(y, "grouped", &[8, 10, 3, 3], 0, 2);
    let y = m.conv(y, "pointwise", &[5, 8, 1, 1], 0, 1);
    m.function.add_result("y", y);
    m
}

/// A model in the form that is compiled.
fn quantized(model: Model, weights: &str, activations: Option<&str>) -> (Module, Parameters) {
    let interpreter = Interpreter::new(Precision::F32);
    let mut module = Module { functions: vec![model.function] };
    let mut context = Context::new(model.parameters, &interpreter);
    let activations = activations.map(|a| format!(" activations={a} range=-3..5")).unwrap_or_default();
    let pipeline = format!("quantize{{weights={weights}{activations}}},{FINISH}");
    Pipeline::parse(&pipeline, &Registry::builtin())
        .and_then(|p| p.run(&mut module, &mut context, &mut Instrumentation::default()))
        .unwrap_or_else(|e| panic!("{pipeline}: {e}"));
    (module, context.parameters)
}

/// Compares both executors after quantization; how many layers run on codes.
fn check(mut model: Model, weights: &str, activations: Option<&str>) -> usize {
    let at = format!("weights={weights} activations={}", activations.unwrap_or("f32"));
    let inputs: Vec<Tensor> = [1usize, 5]
        .into_iter()
        .map(|batch| {
            let mut dims = model.function.ty(model.function.arguments()[0]).dims.clone();
            dims[0] = Dim::Const(batch as i64);
            let dims: Vec<usize> = dims.iter().map(|d| d.constant().expect("a size") as usize).collect();
            let data = (0..dims.iter().product()).map(|_| model.unit()).collect();
            Tensor::new(dims, ElementType::F32, Data::F32(data)).expect("counts agree")
        })
        .collect();
    let (module, parameters) = quantized(model, weights, activations);
    let function = &module.functions[0];
    let nodes: Vec<_> = function.order().iter().map(|id| function.node(*id)).collect();
    let on_codes = nodes
        .iter()
        .filter(|n| matches!(n.op, Op::QuantizedLinear { .. } | Op::QuantizedConv { .. }))
        .filter(|n| n.operands[3].is_some())
        .count();
    let all = nodes.iter().filter(|n| n.op.name().contains("linear") || n.op.name().contains("conv")).count();
    let interpreter = Interpreter::new(Precision::F32);
    let mut expected = interpreter.prepare(&module, &parameters).expect("the interpreter");
    let executor = CpuExecutor { threads: 1 };
    let mut compiled = executor.prepare(&module, &parameters).unwrap_or_else(|e| panic!("{at}: {e}"));
    for x in inputs {
        let expected = expected.run(std::slice::from_ref(&x)).expect("the interpreter runs it");
        let got = compiled.run(&[x]).unwrap_or_else(|e| panic!("{at}: {e}"));
        if on_codes == all {
            let bits = |t: &Tensor| t.to_f32_vec().into_iter().map(f32::to_bits).collect::<Vec<_>>();
            assert!(bits(&got[0]) == bits(&expected[0]), "{at}: other bits");
        } else {
            let error = relative_error(&got[0], &expected[0]);
            assert!(error <= 1e-5, "{at}: off by {error:.2e}");
        }
    }
    on_codes
}

/// Granularities of weights.
const ROWS: [&str; 5] = ["tensor", "channel:full", "block=8", "block=32:full:scale=f32", "block=96"];

#[test]
fn rows_of_every_width_quantized_as_they_come() {
    for bits in 2..=8 {
        for granularity in ROWS {
            // Activations have another width than weights.
            let (weights, activations) =
                (format!("int{bits}:{granularity}"), format!("int{}:token", 10 - bits));
            assert_eq!(check(rows(), &weights, Some(&activations)), 2, "{weights}");
        }
    }
}

#[test]
fn rows_of_every_width_quantized_beforehand() {
    for bits in 2..=8 {
        for (granularity, element, zero) in [("tensor", "int", ""), ("channel:full", "uint", ":asym")] {
            let weights = format!("int{bits}:{granularity}");
            let activations = format!("{element}{}{zero}", 10 - bits);
            assert_eq!(check(rows(), &weights, Some(&activations)), 2, "{weights}");
        }
    }
}

#[test]
fn rows_of_every_width_on_floats() {
    for bits in 2..=8 {
        // Each width meets two of the granularities.
        for i in [0, 2] {
            check(rows(), &format!("int{bits}:{}", ROWS[(bits + i) % ROWS.len()]), None);
        }
    }
}

#[test]
fn images_of_every_width() {
    for bits in 2..=8 {
        for (granularity, activations) in [
            ("tensor", format!("int{bits}:full")),
            ("channel:full", format!("uint{bits}:asym")),
            ("channel", format!("int{bits}:asym")),
        ] {
            assert_eq!(check(image(), &format!("int{bits}:{granularity}"), Some(&activations)), 4);
        }
    }
}

#[test]
fn weights_in_blocks_meet_static_activations_in_float() {
    for bits in [2, 8] {
        assert_eq!(check(rows(), &format!("int{bits}:block=32"), Some("uint8:asym")), 0);
    }
}

#[test]
fn rows_of_split_weights() {
    for bits in 2..=8 {
        for (sharing, activations) in [
            ("", None),
            (":channel", None),
            (":tensor", Some("int8:token")),
            (":channel", Some("uint8:asym")),
        ] {
            assert_eq!(check(rows(), &format!("split{bits}{sharing}"), activations), 0);
        }
    }
}

#[test]
fn images_of_split_weights() {
    for (weights, activations) in
        [("split2", None), ("split3:tensor", None), ("split8", None), ("split4", Some("int8"))]
    {
        assert_eq!(check(image(), weights, activations), 0);
    }
}

/// Weight formats of every element, granularity and type of scale, which kernels decode.
const DECODED: [&str; 46] = [
    "bf16",
    "f16",
    "int3:asym",
    "uint8",
    "uint4:block=32:asym",
    "int5:block=100",
    "int4:block=12",
    "int2:tensor:scale=f16",
    "int4:block=32:scale=bf16",
    "int6:block=32:scale=e8m0",
    "int4:block=16:scale=e4m3",
    "fp8e4m3",
    "fp8e5m2:tensor",
    "fp6e2m3:block=32",
    "fp6e3m2:scale=bf16",
    "fp4e2m1:block=16",
    "fp8e4m3:block=24:scale=e8m0",
    "e1m0",
    "e2m0:tensor",
    "e1m6",
    "e3m2:block=20",
    "e4m3",
    "e5m1",
    "e7m0",
    "e5m2:tensor:scale=e8m0",
    "mxfp8",
    "mxfp8e5m2",
    "mxfp6",
    "mxfp6e3m2",
    "mxfp4",
    "mxint8",
    "nvfp4",
    "bfp2",
    "bfp4:block=16",
    "bfp7:block=9",
    "nf4:block=64",
    "nf4",
    "codebook2",
    "codebook5:tensor",
    "codebook8:block=32",
    "powexp4",
    "powexp7:block=32",
    "fixed3.4",
    "fixed7.8",
    "pot4",
    "pot8:tensor",
];

#[test]
fn rows_of_every_weight_format() {
    for weights in DECODED.into_iter().chain(["ternary", "ternary:block=32", "binary", "binary:tensor"]) {
        check(rows(), weights, None);
    }
    for weights in ["mxfp4", "nf4", "int4:asym", "fixed1.8"] {
        assert_eq!(check(rows(), weights, Some("int8:token")), 0);
        assert_eq!(check(rows(), weights, Some("uint8:asym")), 0);
    }
}

#[test]
fn images_of_every_kind_of_weight_format() {
    let kinds = [
        "int3:asym",
        "mxfp4",
        "nvfp4",
        "bfp7:block=9",
        "codebook5:tensor",
        "fixed7.8",
        "e3m2:block=20",
        "binary",
        "bf16",
        "f16",
    ];
    for weights in kinds {
        check(image(), weights, None);
    }
    for weights in ["int4:block=8:asym", "uint6:block=16:asym", "mxfp4", "int8:block=32"] {
        check(deep(), weights, None);
    }
}

/// Convolutions with several blocks of channels a tap, one of them in groups, and depthwise ones with several results a channel.
fn deep() -> Model {
    let mut m = Model::new();
    let dims = vec![Dim::parse("B").expect("a size"), 40.into(), 5.into(), 4.into()];
    let x = m.function.add_argument("x", TensorType::new(dims, ElementType::F32));
    let y = m.conv(x, "patches", &[12, 40, 3, 3], 1, 1);
    let y = m.conv(y, "multiplied", &[36, 1, 3, 2], 1, 12);
    let y = m.conv(y, "grouped", &[10, 18, 2, 3], 0, 2);
    let y = m.conv(y, "points", &[10, 1, 1, 1], 0, 10);
    m.function.add_result("y", y);
    m
}

/// `dequantize(quantize(x))` alone.
fn there_and_back(format: &str, columns: i64) -> Model {
    let mut m = Model::new();
    let dims = vec![Dim::parse("B").expect("a size"), columns.into()];
    let x = m.function.add_argument("x", TensorType::new(dims, ElementType::F32));
    let format = Format::parse(format, Role::Activation).expect(format);
    assert_eq!(format.check_executable(), Ok(()));
    if let Some(float) = format.float() {
        let most =
            Float(if float.element() == ElementType::F16 { 65504.0 } else { half::bf16::MAX.to_f64() });
        let y = m.op(Op::Clamp { min: Float(-most.0), max: most }, &[x]);
        let y = m.op(Op::Cast { to: float.element() }, &[y]);
        let y = m.op(Op::Cast { to: ElementType::F32 }, &[y]);
        m.function.add_result("y", y);
        return m;
    }
    let q = format.quant_type(1, 1).expect("codes");
    let (to, narrow) = (ElementType::Quant(q), format.narrow());
    let (rounding, special) = (Rounding::HalfEven, Special::Saturate);
    let mut operands = if format.dynamic() {
        let codes = m
            .function
            .add(Op::DynamicQuantize { to, narrow, rounding, special }, [x], "codes")
            .expect("well-typed");
        codes.to_vec()
    } else {
        let groups = if q.granularity == Granularity::Tensor { vec![] } else { vec![columns] };
        let count = groups.iter().product::<i64>() as usize;
        let scales: Vec<f32> =
            (0..count).map(|i| (0.01 + i as f32 * 0.003) / q.largest_level() as f32 * 40.0).collect();
        let scale = m.function.add_constant(Dense::f32(&groups, &scales), "scale");
        let zeros = q.zero_point.then(|| {
            let (low, high) = q.storage.integer_range(false).expect("an integer");
            let zeros = (0..count as i32).map(|i| low + (7 * i + 3) % (high - low + 1)).collect();
            m.function.add_constant(Dense { dims: groups, data: DenseData::I32(zeros) }, "zero")
        });
        let given: Vec<ValueId> = [scale].into_iter().chain(zeros).collect();
        let all = [x].into_iter().chain(given.iter().copied());
        let codes = m
            .function
            .add_one(Op::Quantize { to, narrow, rounding, special }, all, "codes")
            .expect("well-typed");
        [codes].into_iter().chain(given).collect()
    };
    operands.truncate(5);
    let y = m.function.add_one(Op::Dequantize {}, operands, "y").expect("well-typed");
    m.function.add_result("y", y);
    m
}

/// Rows of ordinary numbers, of any bits, of tiny and of huge ones, with zeros, NaN and infinities among them.
fn unusual(m: &mut Model, rows: usize, columns: usize) -> Vec<f32> {
    let mut value = |row: usize, i: usize| {
        let x = m.unit();
        match row % 7 {
            0 => x,
            1 => x * 1e-42,
            2 => x * 1e37,
            3 => f32::from_bits((m.state >> 16) as u32),
            4 if i % 9 == 4 => {
                [0.0, -0.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MIN_POSITIVE][i / 9 % 6]
            }
            5 => 0.0 * x,
            6 if i == 5 => f32::NAN,
            _ => x * 0.3,
        }
    };
    (0..rows * columns).map(|at| value(at / columns, at % columns)).collect()
}

/// Activations of every element, granularity and type of scale give the interpreter's bits.
#[test]
fn activations_of_every_format_are_bit_equal() {
    let elements = [
        "int8",
        "int3",
        "int5:full",
        "uint4",
        "uint8:asym",
        "int6:asym",
        "fp8e4m3",
        "fp8e5m2",
        "fp6e2m3",
        "fp6e3m2",
        "fp4e2m1",
        "e1m0",
        "e1m6",
        "e2m0",
        "e3m4",
        "e5m1",
        "e7m0",
        "nf4",
        "pot3",
        "pot8",
        "bfp8",
        "bfp3:block=24",
    ];
    let mut formats: Vec<String> =
        ["mxfp8", "mxfp8e5m2", "mxfp6", "mxfp6e3m2", "mxfp4", "mxint8", "nvfp4"].map(String::from).into();
    formats.extend(
        ["f16", "bf16", "fixed3.4", "fixed1.2", "ternary", "binary", "ternary:channel", "binary:channel"]
            .map(String::from),
    );
    for element in elements {
        let parts: &[&str] = match element {
            e if e.starts_with("bfp") => &[""],
            _ => &[
                "",
                ":channel",
                ":token",
                ":dynamic",
                ":block=16",
                ":block=9:scale=f32",
                ":token:scale=bf16",
                ":block=32:scale=f16",
            ],
        };
        formats.extend(parts.iter().map(|part| format!("{element}{part}")));
        if !element.contains("asym") && !element.contains("bfp") {
            formats.push(format!("{element}:block=32:scale=e8m0"));
        }
    }
    let interpreter = Interpreter::new(Precision::F32);
    let executor = CpuExecutor { threads: 1 };
    for format in &formats {
        let mut model = there_and_back(format, 70);
        let rows = 14;
        let mut values = unusual(&mut model, rows, 70);
        if format.contains("dynamic") || format.contains("nvfp4") {
            // A NaN or an infinity in a reduction over all is another matter.
            values.iter_mut().filter(|x| !x.is_finite()).for_each(|x| *x = 1.0);
        }
        let x = Tensor::f32(&[rows, 70], values.clone()).expect("counts agree");
        let module = Module { functions: vec![model.function] };
        let run = |executor: &dyn Executor| {
            let mut prepared =
                executor.prepare(&module, &model.parameters).unwrap_or_else(|e| panic!("{format}: {e}"));
            prepared.run(std::slice::from_ref(&x)).unwrap_or_else(|e| panic!("{format}: {e}"))[0].to_f32_vec()
        };
        let (expected, got) = (run(&interpreter), run(&executor));
        for (i, (a, b)) in expected.iter().zip(&got).enumerate() {
            let same = a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
            assert!(same, "{format}: row {} column {}: {:e} is {b:e}, not {a:e}", i / 70, i % 70, values[i]);
        }
    }
}

#[test]
fn layers_on_activations_of_other_formats() {
    for (weights, activations) in [
        ("fp8e4m3", "fp8e4m3"),
        ("mxfp8", "mxfp8"),
        ("mxfp4", "mxfp4"),
        ("nvfp4", "nvfp4"),
        ("int8", "int8:block=32"),
        ("int4:block=32", "int8:token:asym"),
        ("bfp8", "bfp8:block=16"),
        ("int8", "int8:channel"),
        ("bf16", "bf16"),
        ("f16", "int8:token"),
        ("int4:block=32", "f16"),
    ] {
        check(whole(false), weights, Some(activations));
    }
    // One layer: in several, a sum that differs in its last bit may be rounded to another code.
    for (weights, activations) in
        [("fp8e4m3", "fp8e4m3"), ("mxfp8", "fp8e5m2"), ("e3m4", "e4m3"), ("nf4", "pot8")]
    {
        let mut m = Model::new();
        let dims = vec![Dim::parse("B").expect("a size"), 40.into(), 5.into(), 5.into()];
        let x = m.function.add_argument("x", TensorType::new(dims, ElementType::F32));
        let y = m.conv(x, "patches", &[32, 40, 3, 3], 1, 1);
        m.function.add_result("y", y);
        check(m, weights, Some(activations));
    }
}

/// Layers whose sizes are whole panels and blocks, without biases.
fn whole(convolution: bool) -> Model {
    let mut m = Model::new();
    let batch = Dim::parse("B").expect("a size");
    let y = if convolution {
        let dims = vec![batch, 64.into(), 5.into(), 5.into()];
        let x = m.function.add_argument("x", TensorType::new(dims, ElementType::F32));
        let y = m.conv(x, "depthwise", &[64, 1, 3, 3], 1, 64);
        m.conv(y, "patches", &[32, 64, 3, 3], 0, 1)
    } else {
        let x = m.function.add_argument("x", TensorType::new(vec![batch, 64.into()], ElementType::F32));
        let w = m.weight("up", &[96, 64]);
        m.op(Op::Linear {}, &[x, w])
    };
    m.function.add_result("y", y);
    m
}

#[test]
fn what_weights_take_is_known_before_they_are_packed() {
    let interpreter = Interpreter::new(Precision::F32);
    for (convolution, weights, activations) in [
        (false, "int3:channel", None),
        (false, "nf4:channel", None),
        (false, "mxfp6", None),
        (false, "int4:block=16:asym", None),
        (false, "uint8:channel:asym", None),
        (false, "bfp4:block=16", None),
        (false, "e3m1:block=32:scale=bf16", Some("int8:token")),
        (true, "fp4e2m1:channel", None),
        (false, "int5:channel", Some("int8:token")),
        (false, "int2:block=32", Some("int4:token")),
        (false, "int7:block=16:scale=f32", None),
        (false, "int4:block=32", Some("int8")),
        (false, "bf16", None),
        (true, "f16", Some("bf16")),
        (false, "split2:channel", None),
        (false, "split6:channel", Some("int8:token")),
        (false, "split7:channel", None),
        (true, "split4", None),
        (true, "int8:channel", None),
        (true, "int3:block=8:asym", None),
        (true, "nf4:channel", None),
        (true, "int8:channel", Some("int8")),
        (true, "mxfp4", None),
        (true, "int2:channel", Some("uint4:asym")),
    ] {
        let at = format!("weights={weights} activations={}", activations.unwrap_or("f32"));
        let (module, parameters) = quantized(whole(convolution), weights, activations);
        let function = &module.functions[0];
        let stored = qcc_cpu::stored_bits(function);
        let mut told = 0;
        for &id in function.order() {
            let node = function.node(id);
            let Op::Parameter { name } = &node.op else { continue };
            let ty = function.ty(node.results[0]);
            let elements = ty.constant_dims().expect("a weight").iter().product::<i64>() as u64;
            let bits = stored.get(name).copied().unwrap_or_else(|| ty.element.bits());
            told += elements * u64::from(bits) / 8;
        }
        let compiled = qcc_cpu::compile::compile(
            &module,
            &parameters,
            &interpreter,
            &qcc_mlir::Target::host(),
            &qcc_passes::SilentProgress,
            None,
        );
        let compiled = compiled.unwrap_or_else(|e| panic!("{at}: {e}"));
        // Beside weights and scales there are the correction of each column for zero points and the scales of activations.
        let weights =
            compiled.packed.iter().filter(|p| !p.reads.is_empty() && !p.name.contains("corrections"));
        let packed: u64 = weights.map(|p| p.bytes).sum();
        // Taps of depthwise convolutions are filled up to fours where they are dotted: three rows of 64 channels here.
        let dotted = compiled.packed.iter().filter(|p| p.name.contains("interleaved taps"));
        let filled = dotted.map(|p| p.bytes / 4).sum::<u64>();
        // And the headers of panels that are expanded: what all columns share.
        let panels = compiled.packed.iter().filter(|p| p.name.contains(" codes in panels"));
        let headers: u64 = panels.map(|p| if p.name.contains("nf4") { 128 } else { 64 }).sum();
        assert_eq!(told, packed - headers - filled, "{at}");
    }
}

/// A layer and an embedding whose weights lie in 16 bits in the model.
fn halves(element: ElementType, width: usize) -> Model {
    let mut m = Model::new();
    let mut half = |name: &str, dims: &[usize]| {
        let values: Vec<f32> = (0..dims.iter().product()).map(|_| m.unit()).collect();
        let data = match element {
            ElementType::F16 => Data::F16(values.into_iter().map(half::f16::from_f32).collect()),
            _ => Data::BF16(values.into_iter().map(half::bf16::from_f32).collect()),
        };
        let tensor = Tensor::new(dims.to_vec(), element, data).expect("counts agree");
        let ty = tensor.ty();
        m.parameters.insert_tensor(name, tensor).expect("a fresh name");
        let w = m.function.add_parameter(name, ty);
        m.function.add_one(Op::Cast { to: ElementType::F32 }, [w], name).expect("well-typed")
    };
    let (table, up, down) = (half("table", &[90, 70]), half("up", &[width, 70]), half("down", &[9, width]));
    let scale = half("scale", &[width]);
    let batch = Dim::parse("B").expect("a size");
    let ids = m.function.add_argument("ids", TensorType::new(vec![batch], ElementType::I64));
    let x = m.op(Op::Embedding {}, &[table, ids]);
    let y = m.op(Op::Linear {}, &[x, up]);
    let y = m.op(Op::Mul {}, &[y, scale]);
    let y = m.op(Op::Linear {}, &[y, down]);
    m.function.add_result("y", y);
    m
}

#[test]
fn weights_of_sixteen_bits_are_stored_in_sixteen() {
    // Weights of 35 MB in f32, and such as fit in a cache.
    let large = 110_000;
    for (element, width, kept) in
        [(ElementType::F16, large, true), (ElementType::BF16, large, true), (ElementType::BF16, 100, false)]
    {
        let model = halves(element, width);
        let module = Module { functions: vec![model.function] };
        let interpreter = Interpreter::new(Precision::F32);
        let legal = qcc_cpu::pipeline::legalize(&module, &model.parameters, &interpreter).expect("legal");
        let function = &legal.module.functions[0];
        let stored = function.order().iter().map(|id| function.node(*id)).filter_map(|node| match &node.op {
            Op::Parameter { name } if function.ty(node.results[0]).element == element => Some(name.as_ref()),
            _ => None,
        });
        let mut stored: Vec<&str> = stored.collect();
        stored.sort_unstable();
        // What other operations than products read is widened beforehand.
        assert_eq!(stored, if kept { &["down", "table", "up"][..] } else { &[] });
        let ids = |n: usize| {
            let data = (0..n as i64).map(|i| 7 * i % 90).collect();
            Tensor::new(vec![n], ElementType::I64, Data::I64(data)).expect("counts agree")
        };
        let mut expected = interpreter.prepare(&module, &model.parameters).expect("the interpreter");
        let executor = CpuExecutor { threads: 1 };
        let mut compiled = executor.prepare(&module, &model.parameters).expect("compiles");
        for rows in [1, 3, 17] {
            let expected = expected.run(&[ids(rows)]).expect("the interpreter runs it");
            let got = compiled.run(&[ids(rows)]).expect("it runs");
            let error = relative_error(&got[0], &expected[0]);
            assert!(error <= 1e-5, "{element:?}, {rows} rows: off by {error:.2e}");
        }
    }
}

/// Inputs of a model that calibrates on them.
struct Inputs(Vec<Tensor>);

impl Samples for Inputs {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn inputs(&self, index: usize, _: &Function) -> Result<Vec<Tensor>, String> {
        Ok(vec![self.0[index].clone()])
    }
}

#[test]
fn what_layers_read_in_sixteen_bits_is_measured_on_compiled_code() {
    for format in ["f16", "bf16"] {
        let mut model = rows();
        let samples = (0..3).map(|_| Tensor::f32(&[40, 70], (0..2800).map(|_| model.unit()).collect()));
        let samples = Inputs(samples.collect::<Result<_, _>>().expect("counts agree"));
        let interpreter = Interpreter::new(Precision::F32);
        let executor = CpuExecutor { threads: 1 };
        let found = [&interpreter as &dyn Executor, &executor].map(|executor| {
            let mut module = Module { functions: vec![model.function.clone()] };
            let mut context = Context::new(model.parameters.clone(), &interpreter);
            context.executor = Some(executor);
            context.samples = Some(&samples);
            let quantize = format!("quantize{{weights=int4 activations={format} rounding=gptq}},{FINISH}");
            Pipeline::parse(&quantize, &Registry::builtin())
                .and_then(|p| p.run(&mut module, &mut context, &mut Instrumentation::default()))
                .unwrap_or_else(|e| panic!("{quantize}: {e}"));
            let mut run = interpreter.prepare(&module, &context.parameters).expect("the interpreter");
            run.run(&samples.0[..1]).expect("it runs").remove(0)
        });
        // Sums in another order may make another code of one that lies in the middle of two.
        let error = relative_error(&found[1], &found[0]);
        assert!(error < 0.05, "{format}: off by {error:.2e}");
    }
}
