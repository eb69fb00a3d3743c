use qcc_interpreter::{Interpreter, Precision};
use qcc_ir::format::CacheFormat;
use qcc_ir::{Dense, ElementType, Float, Function, Module, Op, StateBinding, TensorType, ValueId};
use qcc_params::{Parameters, Tensor};

use crate::context::{Context, Samples};
use crate::fixture::{Fixture, dims};
use crate::instrument::Instrumentation;
use crate::pass::PassError;
use crate::pipeline::Pipeline;
use crate::registry::Registry;
use crate::verify_each::{fresh_inputs, random_inputs, relative_error};

/// Heads of queries and keys, features of a head, width of the stream.
const HEADS: [i64; 3] = [4, 2, 16];
const WIDTH: usize = 24;

struct Shape {
    bias: bool,
    norms: bool,
}

/// A layer of attention; four pairs of features of each head of keys are ten times as large.
fn attention(shape: Shape) -> Fixture {
    let mut f = Fixture::new();
    let [heads, shared, features] = HEADS;
    let x = f.input("x", "B,T,24");
    let state = |f: &mut Fixture, name: &str| {
        let ty = TensorType::new(dims("B,P,2,16"), ElementType::F32);
        f.function.add_argument(name, ty)
    };
    let (past_keys, past_values) = (state(&mut f, "keys"), state(&mut f, "values"));
    let positions = f.op(Op::Positions { axis: 1 }, &[x, past_keys]);
    let frequencies: Vec<f32> = (0..features / 2).map(|i| 0.9f32.powi(i as i32)).collect();
    let frequencies = f.function.add_constant(Dense::f32(&[features / 2], &frequencies), "frequencies");
    let project = |f: &mut Fixture, name: &str, heads: i64| {
        let rows = (heads * features) as usize;
        let w = outliers(f, name, rows);
        let mut operands = vec![x, w];
        if shape.bias {
            operands.push(f.weight(&format!("{name}.bias"), &[rows]));
        }
        let y = f.op(Op::Linear {}, &operands);
        f.op(Op::Reshape { shape: dims(&format!("B,T,{heads},{features}")) }, &[y])
    };
    let turn = |f: &mut Fixture, name: &str, heads: i64| {
        let mut y = project(f, name, heads);
        if shape.norms {
            let gain = f.positive(&format!("{name}.norm"), &[features as usize]);
            y = f.op(Op::RmsNorm { epsilon: Float(1e-5) }, &[y, gain]);
        }
        f.op(Op::RotaryEmbedding { interleaved: false }, &[y, positions, frequencies])
    };
    let (q, k) = (turn(&mut f, "q", heads), turn(&mut f, "k", shared));
    let v = project(&mut f, "v", shared);
    let k = f.op(Op::Concat { axis: 1 }, &[past_keys, k]);
    let v = f.op(Op::Concat { axis: 1 }, &[past_values, v]);
    let (keys, values) = (CacheFormat::F32, CacheFormat::F32);
    let op = Op::Attention { scale: Float(0.25), causal: true, window: 0, keys, values };
    let y = f.function.add_one(op, [q, k, v], "attention").expect("typed");
    let y = f.op(Op::Reshape { shape: dims(&format!("B,T,{}", heads * features)) }, &[y]);
    let w = f.weight("o", &[WIDTH, (heads * features) as usize]);
    let y = f.op(Op::Linear {}, &[y, w]);
    f.result(y);
    f.result(k);
    f.result(v);
    f.function.states =
        vec![StateBinding { argument: 1, result: 1 }, StateBinding { argument: 2, result: 2 }];
    f
}

/// A weight some of whose rows are large, of queries as much smaller.
fn outliers(f: &mut Fixture, name: &str, rows: usize) -> ValueId {
    let w = f.weight(name, &[rows, WIDTH]);
    let stored = f.function.parameter_name(w).cloned().expect("a weight");
    let interpreter = Interpreter::new(Precision::F32);
    let mut values = f.parameters.evaluate(&stored, &interpreter).expect("a weight").to_f32_vec();
    let factor = match name {
        "k" => 16.0,
        "q" => 1.0 / 16.0,
        _ => 1.0,
    };
    for (row, values) in values.chunks_exact_mut(WIDTH).enumerate() {
        if [1, 5, 6].contains(&(row % 8)) {
            values.iter_mut().for_each(|w| *w *= factor);
        }
    }
    let tensor = Tensor::f32(&[rows, WIDTH], values).expect("as many");
    let name = f.parameters.insert_tensor(&format!("{name}.large"), tensor).expect("fresh");
    crate::weights::value(&mut f.function, &f.parameters, &name).expect("known")
}

struct OneSample;

impl Samples for OneSample {
    fn len(&self) -> usize {
        1
    }

    fn inputs(&self, _: usize, function: &Function) -> Result<Vec<Tensor>, String> {
        fresh_inputs(function)
    }
}

struct After {
    function: Function,
    parameters: Parameters,
    warnings: Vec<String>,
}

/// Runs passes, each compared in f64.
fn run(f: Fixture, pipeline: &str) -> Result<After, PassError> {
    let (evaluator, reference) = (Interpreter::new(Precision::F32), Interpreter::new(Precision::F64));
    let mut module = Module { functions: vec![f.function] };
    let mut context = Context::new(f.parameters, &evaluator);
    context.executor = Some(&evaluator);
    context.samples = Some(&OneSample);
    context.reference = Some(&reference);
    let mut instrumentation = Instrumentation { verify_each: true, ..Instrumentation::default() };
    let pipeline = Pipeline::parse(pipeline, &Registry::builtin()).unwrap_or_else(|e| panic!("{e}"));
    pipeline.run(&mut module, &mut context, &mut instrumentation)?;
    let warnings = context.warnings.into_iter().map(|w| w.message).collect();
    Ok(After { function: module.functions.remove(0), parameters: context.parameters, warnings })
}

/// The first result for tokens from the start.
fn result(function: &Function, parameters: &Parameters) -> Tensor {
    let interpreter = Interpreter::new(Precision::F32);
    let inputs = fresh_inputs(function).expect("inputs");
    interpreter.run(function, parameters, &inputs).expect("it runs").remove(0)
}

const FORMS: [&str; 5] = ["", " form=any", " by=keys", " values=true", " form=any by=keys values=true"];

#[test]
fn sorting_keeps_the_function() {
    for (bias, norms) in [(false, false), (true, false), (false, true), (true, true)] {
        let plain = attention(Shape { bias, norms });
        let expected = result(&plain.function, &plain.parameters);
        for form in FORMS {
            let f = attention(Shape { bias, norms });
            let after = run(f, &format!("rearrange-kv-channels{{keys=bfp4:block=8{form}}}"))
                .unwrap_or_else(|e| panic!("{form}: {e}"));
            assert!(after.warnings.is_empty(), "{:?}", after.warnings);
            let error = relative_error(&result(&after.function, &after.parameters), &expected);
            assert!(error < 1e-5, "{form} bias={bias} norms={norms}: off by {error:.2e}");
            // A cache of the model as it was has another name.
            let keys = &after.function.value(after.function.arguments()[1]).name;
            assert!(keys.starts_with("keys.sorted-"), "{keys}");
        }
    }
}

#[test]
fn sorted_keys_lose_less_in_blocks() {
    let plain = attention(Shape { bias: true, norms: false });
    let expected = result(&plain.function, &plain.parameters);
    let error = |passes: &str| {
        let f = attention(Shape { bias: true, norms: false });
        let after = run(f, passes).unwrap_or_else(|e| panic!("{passes}: {e}"));
        relative_error(&result(&after.function, &after.parameters), &expected)
    };
    let rounded = "quantize-kv-cache{keys=bfp4:block=8}";
    let before = error(rounded);
    for form in ["{keys=bfp4:block=8}", "{keys=bfp4:block=8 by=keys}", "{keys=bfp4:block=8 form=any}"] {
        let after = error(&format!("rearrange-kv-channels{form},{rounded}"));
        assert!(after < 0.6 * before, "{form}: {after} of {before}");
    }
}

#[test]
fn what_is_not_sorted_says_why() {
    let warnings = |f: Fixture, passes: &str| run(f, passes).unwrap_or_else(|e| panic!("{e}")).warnings;
    let plain = || attention(Shape { bias: false, norms: false });
    let whole = warnings(plain(), "rearrange-kv-channels{keys=bfp4:block=16}");
    assert!(whole[0].contains("a block of 16 holds a whole head of 16 features"), "{whole:?}");
    let tokens = warnings(plain(), "rearrange-kv-channels{keys=int8:token}");
    assert!(tokens[0].contains("in int8:token no features"), "{tokens:?}");
    let sort = "rearrange-kv-channels{keys=bfp4:block=8}";
    let twice = warnings(plain(), &format!("{sort},{sort}"));
    assert!(twice[0].contains("are not turned by halves of a head"), "{twice:?}");
    let mut f = Fixture::new();
    let x = f.input("x", "B,4");
    f.result(x);
    let none = warnings(f, "rearrange-kv-channels,quantize-kv-cache{keys=bf16}");
    assert!(none.iter().all(|w| w.contains("there is no attention that keeps keys and values")), "{none:?}");
    assert_eq!(none.len(), 2);
}

#[test]
fn heads_that_are_one_block_can_be_rotated_instead() {
    let plain = attention(Shape { bias: true, norms: false });
    let expected = result(&plain.function, &plain.parameters);
    let after = |block: usize| {
        let passes = format!("rearrange-kv-channels{{keys=bfp4:block={block} whole=rotate}}");
        run(attention(Shape { bias: true, norms: false }), &passes).unwrap_or_else(|e| panic!("{e}"))
    };
    for (block, name) in [(16, "keys.rotated"), (8, "keys.sorted-")] {
        let after = after(block);
        assert!(after.warnings.is_empty(), "{:?}", after.warnings);
        let error = relative_error(&result(&after.function, &after.parameters), &expected);
        assert!(error < 1e-5, "off by {error:.2e}");
        let keys = &after.function.value(after.function.arguments()[1]).name;
        assert!(keys.starts_with(name), "{keys}");
    }
}

/// A bias of keys is a part of them.
#[test]
fn biases_count_as_sizes_of_features() {
    let sorted = |bias: bool| {
        let f = attention(Shape { bias, norms: false });
        let after = run(f, "rearrange-kv-channels{keys=bfp4:block=8}").unwrap_or_else(|e| panic!("{e}"));
        after.function.value(after.function.arguments()[1]).name.to_string()
    };
    assert_ne!(sorted(true), sorted(false));
}

#[test]
fn formats_become_attributes() {
    let after = run(
        attention(Shape { bias: false, norms: false }),
        "quantize-kv-cache{keys=bfp4:block=16 values=int8}",
    );
    let after = after.unwrap_or_else(|e| panic!("{e}"));
    let formats = after.function.order().iter().find_map(|id| match after.function.node(*id).op {
        Op::Attention { keys, values, .. } => Some((keys.to_string(), values.to_string())),
        _ => None,
    });
    assert_eq!(formats, Some(("bfp4:block=16".into(), "int8:token".into())));
    // Values of what was read before are read through the format too.
    let interpreter = Interpreter::new(Precision::F32);
    let inputs = random_inputs(&after.function).expect("inputs");
    interpreter.run(&after.function, &after.parameters, &inputs).expect("it runs");
}

#[test]
fn formats_by_channel_divide_by_calibrated_scales() {
    let plain = attention(Shape { bias: true, norms: false });
    let expected = result(&plain.function, &plain.parameters);
    let after = |formats: &str| {
        let passes = format!("quantize-kv-cache{{{formats}}}");
        run(attention(Shape { bias: true, norms: false }), &passes).unwrap_or_else(|e| panic!("{e}"))
    };
    let error = |formats: &str| {
        let after = after(formats);
        assert!(after.warnings.is_empty(), "{:?}", after.warnings);
        relative_error(&result(&after.function, &after.parameters), &expected)
    };
    // What is divided is multiplied again: codes of many bits lose next to nothing.
    assert!(error("keys=int8:channel values=int8:channel") < 0.02);
    // A few channels are much larger than the others.
    let (token, channel) = (error("keys=int4:token"), error("keys=int4:channel"));
    assert!(channel < 0.6 * token, "{channel} of {token}");
    let marked = after("values=fp8e4m3:channel").function;
    let names: Vec<String> =
        marked.states.iter().map(|s| marked.value(marked.arguments()[s.argument]).name.to_string()).collect();
    assert!(names[0] == "keys" && names[1].starts_with("values.divided-"), "{names:?}");
}

#[test]
fn bad_options_are_refused() {
    let refused =
        |text: &str| Pipeline::parse(text, &Registry::builtin()).err().expect("refused").to_string();
    assert!(refused("quantize-kv-cache").contains("is needed"));
    assert!(refused("quantize-kv-cache{keys=int8:tensor}").contains("`:token`, `:block=N` or `:channel`"));
    assert!(refused("rearrange-kv-channels{by=size}").contains("there are weights and keys"));
    assert!(refused("rearrange-kv-channels{form=b}").contains("there are pairs and any"));
}

#[test]
fn rotated_keys_give_the_same_scores() {
    for norms in [false, true] {
        let plain = attention(Shape { bias: true, norms });
        let expected = result(&plain.function, &plain.parameters);
        let after =
            run(attention(Shape { bias: true, norms }), "rotate-keys").unwrap_or_else(|e| panic!("{e}"));
        let error = relative_error(&result(&after.function, &after.parameters), &expected);
        assert!(error < 1e-5, "off by {error:.2e}");
        assert_eq!(&*after.function.value(after.function.arguments()[1]).name, "keys.rotated");
        let transforms =
            after.function.order().iter().filter(|id| {
                after.function.node(**id).op == (Op::Hadamard { size: HEADS[2], transpose: false })
            });
        assert_eq!(transforms.count(), 2);
    }
}
