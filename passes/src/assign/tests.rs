use qcc_interpreter::{Interpreter, Precision};
use qcc_ir::{Float, Function, Module, Op};
use qcc_params::Tensor;

use super::*;
use crate::context::{Context, Samples};
use crate::fixture::{Fixture, conv};
use crate::instrument::Instrumentation;
use crate::pipeline::Pipeline;
use crate::registry::Registry;
use crate::verify_each::random_inputs;

struct OneRandomSample;

impl Samples for OneRandomSample {
    fn len(&self) -> usize {
        1
    }

    fn inputs(&self, _: usize, function: &Function) -> Result<Vec<Tensor>, String> {
        random_inputs(function)
    }
}

/// Three layers in a row, called `a.up`, `a.down` and `b.up`.
fn mlp() -> Fixture {
    let mut f = Fixture::new();
    let mut x = f.input("x", "B,16");
    for (name, rows, columns) in [("a.up", 32, 16), ("a.down", 8, 32), ("b.up", 32, 8)] {
        let w = f.weight(&format!("{name}.weight"), &[rows, columns]);
        x = f.function.add_one(Op::Linear {}, [x, w], name).expect("well-typed");
    }
    f.result(x);
    f
}

struct After {
    function: Function,
    choices: Choices,
    warnings: Vec<String>,
}

impl After {
    /// The formats of the weights, as annotated.
    fn weights(&self) -> Vec<String> {
        let nodes = self.function.order().iter().map(|id| self.function.node(*id));
        let layers = nodes.filter(|node| matches!(node.op, Op::Linear {} | Op::Conv { .. }));
        layers
            .map(|node| match Requested::of(node).expect("formats").weights {
                Some(format) => format.to_string(),
                None => "-".into(),
            })
            .collect()
    }
}

fn run(f: Fixture, pipeline: &str) -> Result<After, String> {
    let interpreter = Interpreter::new(Precision::F32);
    let mut module = Module { functions: vec![f.function] };
    let mut context = Context::new(f.parameters, &interpreter);
    context.executor = Some(&interpreter);
    context.samples = Some(&OneRandomSample);
    let pipeline = Pipeline::parse(pipeline, &Registry::builtin()).map_err(|e| e.to_string())?;
    pipeline.run(&mut module, &mut context, &mut Instrumentation::default()).map_err(|e| e.to_string())?;
    let warnings = context.warnings.into_iter().map(|w| w.message).collect();
    Ok(After { function: module.functions.remove(0), choices: context.choices, warnings })
}

fn annotated(pipeline: &str) -> Vec<String> {
    run(mlp(), pipeline).unwrap_or_else(|e| panic!("{e}")).weights()
}

#[test]
fn overrides_pick_by_name_kind_and_shape() {
    assert_eq!(
        annotated("override{layers=*.up weights=int4:channel}"),
        ["int4:channel", "-", "int4:channel"]
    );
    assert_eq!(annotated("override{shape=32x* weights=int8}"), ["int8:channel", "-", "int8:channel"]);
    assert_eq!(annotated("override{shape=*x32 op=linear weights=f32}"), ["-", "f32", "-"]);
    assert_eq!(
        annotated("override{op=linear weights=int8},override{layers=\"{a,c}.down\" weights=int4}"),
        ["int8:channel", "int4:channel", "int8:channel"]
    );
}

#[test]
fn names_that_match_nothing_are_told_with_what_is_near() {
    let error = |text: &str| run(mlp(), text).err().unwrap_or_default();
    assert!(error("override{layers=a.dwn weights=int8}").contains("did you mean `a.down`?"));
    assert!(error("override{layers=*.down.* weights=int8}").contains("`a.down`"));
    assert!(error("override{layers=*.dwn weights=int8}").contains("down`?"));
    assert!(error("override{layers=zzzzzzzz weights=int8}").contains("the first layer is `a.up`"));
    assert!(error("override{layers=a.* op=conv weights=int8}").contains("op `conv`"));
    assert!(error("override{weights=int8}").contains("say which layers"));
    assert!(error("override{layers=*}").contains("say what they get"));
    assert!(error("override{layers=[ weights=int8}").contains("is no glob"));
    assert!(error("override{op=matmul weights=int8}").contains("linear or conv"));
    assert!(error("override{op=conv weights=int99}").contains("int99"));
}

#[test]
fn quantize_gives_layers_their_own_formats() {
    let text = "override{layers=a.up weights=f32},override{layers=b.* weights=int4:channel activations=int8:token:dynamic},quantize{weights=int8:channel}";
    let after = run(mlp(), text).unwrap_or_else(|e| panic!("{e}"));
    let nodes = after.function.order().iter().map(|id| after.function.node(*id));
    let quantized: Vec<String> = nodes
        .filter(|node| matches!(node.op, Op::DynamicQuantize { .. }))
        .map(|node| after.function.ty(node.results[0]).element.to_string())
        .collect();
    assert_eq!(quantized.len(), 3, "{quantized:?}");
    assert!(after.warnings.is_empty(), "{:?}", after.warnings);
}

#[test]
fn the_format_of_least_output_error_is_found() {
    // Three levels, which ternary codes hold exactly and others of so few bits do not.
    let mut f = mlp();
    let values: Vec<f32> = (0..8 * 32).map(|i| [0.0, 0.7, -0.7][i * 7 % 3]).collect();
    let tensor = Tensor::f32(&[8, 32], values).expect("counts agree");
    let name = f.parameters.insert_tensor("levels", tensor).expect("fits");
    let weight = crate::weights::value(&mut f.function, &f.parameters, &name).expect("known");
    let down = |id: &qcc_ir::OpId| &*f.function.node(*id).location == "a.down";
    let down = f.function.order().iter().copied().find(down).expect("a layer");
    f.function.node_mut(down).operands[1] = Some(weight);
    f.function.sort();
    let after = run(f, "search-formats{bits=6}").unwrap_or_else(|e| panic!("{e}"));
    let weights = after.weights();
    assert!(weights.iter().all(|w| w != "-"), "{weights:?}");
    let of = |layer: &str| after.choices.tried.iter().filter(|t| t.layer == layer).collect::<Vec<_>>();
    let tried = of("a.down");
    assert!(tried.len() > 5 && tried[0].error < 1e-6, "{tried:?}");
    assert!(tried.iter().all(|t| t.bits <= 6.0), "{tried:?}");
    let tried = of("a.up");
    assert!(tried[0].error > 1e-3 && tried[1..].iter().all(|t| t.error * 1.01 >= tried[0].error));
    let fixed = run(mlp(), "search-formats{bits=9 formats=int4+e2m1}").unwrap_or_else(|e| panic!("{e}"));
    assert!(
        fixed.weights().iter().all(|w| w == "int4:channel" || w == "e2m1:channel"),
        "{:?}",
        fixed.weights()
    );
    let error = run(mlp(), "search-formats{bits=0.5}").err().expect("no format");
    assert!(error.contains("no format takes 0.5 bits"), "{error}");
}

#[test]
fn a_layer_that_reads_nothing_but_zeros_is_searched_by_its_weight() {
    let mut f = Fixture::new();
    let x = f.input("x", "B,16");
    let x = f.op(Op::Clamp { min: Float(0.0), max: Float(0.0) }, &[x]);
    let w = f.weight("w", &[8, 16]);
    let y = f.op(Op::Linear {}, &[x, w]);
    f.result(y);
    let after = run(f, "search-formats{bits=10 formats=int2+int8}").unwrap_or_else(|e| panic!("{e}"));
    let errors: Vec<f64> = after.choices.tried.iter().map(|t| t.error).collect();
    assert_eq!(after.weights(), ["int8:channel"]);
    assert!(errors[0] > 0.0 && errors[1] > 100.0 * errors[0], "{errors:?}");
}

#[test]
fn the_worst_layers_get_more_bits_until_the_loss_is_small_enough() {
    let protect = |loss: f64, weights: &str| {
        let text = format!("protect{{loss={loss} passes=\"quantize{{weights={weights}}}\"}}");
        run(mlp(), &text).unwrap_or_else(|e| panic!("{e}"))
    };
    let all = protect(90.0, "int4:channel");
    assert_eq!(all.weights(), ["-", "-", "-"]);
    assert_eq!((all.choices.sensitivities.len(), all.choices.kept.len()), (3, 0));
    assert!(all.choices.sensitivities.windows(2).all(|s| s[0].loss >= s[1].loss));
    let (whole, _) = all.choices.loss.expect("measured");
    assert!(whole > 0.0);
    // Somewhat less than all lose: the worst layers get 8 bits.
    let some = protect(whole * 0.6, "int4:channel");
    let (before, after) = some.choices.loss.expect("measured");
    assert!(before == whole && after <= whole * 0.6, "{before} {after}");
    assert!(!some.choices.kept.is_empty() && some.choices.kept.iter().all(|k| k.format == "int8:channel"));
    assert_eq!(some.choices.kept[0].layer, some.choices.sensitivities[0].layer);
    assert_eq!(some.weights().iter().filter(|w| *w == "int8:channel").count(), some.choices.kept.len());
    // Less than 8 bits lose: floats.
    let most = protect(1e-9, "int4:channel");
    assert!(most.choices.kept.iter().any(|k| k.format == "f32"), "{:?}", most.choices.kept);
    assert!(most.choices.loss.expect("measured").1 <= 1e-9);
    let error = run(mlp(), "protect{loss=0 passes=quantize}").err().expect("refused");
    assert!(error.contains("above 0"), "{error}");
}

#[test]
fn convolutions_are_searched_by_their_patches() {
    let mut f = Fixture::new();
    let x = f.input("x", "B,4,9");
    let w = f.weight("w", &[6, 2, 3]);
    let y = f.op(conv(1, 1, 1, 2), &[x, w]);
    f.result(y);
    let after =
        run(f, "search-formats{bits=12 formats=int4:channel+int3:channel}").unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(after.weights(), ["int4:channel"]);
}
