//! Where scales and transforms of states go, and where they cannot; every pipeline here proves itself in f64, states included.

use qcc_interpreter::{Interpreter, Precision};
use qcc_ir::{Function, Module, Op, StateBinding, ValueId};
use qcc_params::Tensor;

use crate::context::{Context, Samples};
use crate::fixture::{Fixture, dims};
use crate::instrument::Instrumentation;
use crate::pipeline::Pipeline;
use crate::registry::Registry;
use crate::transform::Explanation;
use crate::verify_each::random_inputs;

struct Random;

impl Samples for Random {
    fn len(&self) -> usize {
        2
    }

    fn inputs(&self, _: usize, function: &Function) -> Result<Vec<Tensor>, String> {
        random_inputs(function)
    }
}

/// A convolution and a scan of 6 channels with 4 states, from layers over `[B, T, 5]`; `cut` leaves B and C slices of one layer.
fn block(cut: bool) -> Fixture {
    let mut f = Fixture::new();
    let x = f.input("x", "B,T,5");
    let layer = |f: &mut Fixture, name: &str, rows: usize| {
        let w = f.weight(name, &[rows, 5]);
        f.op(Op::Linear {}, &[x, w])
    };
    let (s, t) = (layer(&mut f, "in", 6), layer(&mut f, "dt", 6));
    let (b, c) = match cut {
        false => (layer(&mut f, "b", 4), layer(&mut f, "c", 4)),
        true => {
            let both = layer(&mut f, "bc", 8);
            (half(&mut f, both, 0), half(&mut f, both, 4))
        }
    };
    let window = f.input("window", "B,6,2");
    let state = f.input("state", "B,6,4");
    let (taps, bias) = (f.weight("taps", &[6, 3]), f.weight("bias", &[6]));
    let conv =
        f.function.add(Op::CausalConv {}, [s, taps, window, bias], "conv").expect("well-typed").to_vec();
    let t = f.op(Op::Softplus {}, &[t]);
    let a = f.positive("a", &[6, 4]);
    let a = f.op(Op::Neg {}, &[a]);
    let d = f.weight("d", &[6]);
    let scan =
        f.function.add(Op::SelectiveScan {}, [conv[0], t, a, b, c, d, state], "scan").expect("well-typed");
    let scan = scan.to_vec();
    [scan[0], conv[1], scan[1]].into_iter().for_each(|v| f.result(v));
    f.function.states =
        vec![StateBinding { argument: 1, result: 1 }, StateBinding { argument: 2, result: 2 }];
    assert_eq!(f.function.ty(scan[0]).dims, dims("B,T,6"));
    f
}

fn half(f: &mut Fixture, x: ValueId, start: i64) -> ValueId {
    f.op(Op::Slice { axes: vec![2], starts: vec![start], ends: vec![start + 4], steps: vec![1] }, &[x])
}

fn run(f: Fixture, pipeline: &str) -> (Vec<&'static str>, Explanation) {
    let interpreter = Interpreter::new(Precision::F32);
    let reference = Interpreter::new(Precision::F64);
    let mut module = Module { functions: vec![f.function] };
    let mut context = Context::new(f.parameters, &interpreter);
    context.executor = Some(&interpreter);
    context.samples = Some(&Random);
    context.reference = Some(&reference);
    let mut instrumentation = Instrumentation { verify_each: true, ..Instrumentation::default() };
    let pipeline = Pipeline::parse(pipeline, &Registry::builtin()).unwrap_or_else(|e| panic!("{e}"));
    pipeline.run(&mut module, &mut context, &mut instrumentation).unwrap_or_else(|e| panic!("{e}"));
    let function = &module.functions[0];
    let ops = function.order().iter().map(|id| function.node(*id).op.name());
    let ops = ops.filter(|op| !["parameter", "constant"].contains(op)).collect();
    (ops, context.explanations.pop().expect("explains"))
}

fn count(ops: &[&str], name: &str) -> usize {
    ops.iter().filter(|op| **op == name).count()
}

#[test]
fn weights_take_up_the_scale_of_the_state_axis() {
    let (ops, told) = run(block(false), "canonicalize,smooth-state,canonicalize");
    assert_eq!(told.layers.len(), 1, "{told:?}");
    // The caller's state on its way in and out.
    assert_eq!((count(&ops, "mul"), count(&ops, "linear")), (2, 4), "{ops:?}");
    assert_eq!(count(&ops, "selective_scan"), 1);
}

#[test]
fn weights_take_up_the_scale_of_the_window() {
    let (ops, told) = run(block(false), "canonicalize,smooth-window,canonicalize");
    assert_eq!(told.layers.len(), 1, "{told:?}");
    assert_eq!((count(&ops, "mul"), count(&ops, "causal_conv")), (2, 1), "{ops:?}");
}

#[test]
fn a_slice_of_a_layer_takes_up_no_scale_until_it_is_a_layer() {
    let (ops, told) = run(block(true), "canonicalize,smooth-state,canonicalize");
    assert_eq!((told.layers.len(), count(&ops, "mul")), (0, 0), "{ops:?}");
    let [refused] = told.refused.as_slice() else { panic!("{told:?}") };
    assert!(
        refused.reason.contains("qcc.slice") && refused.reason.contains("split-projections"),
        "{refused:?}"
    );
    let (_, told) = run(block(true), "canonicalize,split-projections,smooth-state,canonicalize");
    assert_eq!(told.layers.len(), 1, "{told:?}");
}

#[test]
fn the_product_with_c_is_transformed_while_the_model_runs() {
    let (ops, _) = run(block(false), "canonicalize,rotate-state,canonicalize");
    // C's transform is part of its layer's weight.
    assert_eq!((count(&ops, "hadamard"), count(&ops, "selective_scan_states")), (1, 1), "{ops:?}");
    let (ops, _) = run(block(false), "canonicalize,rotate-state{axis=channel},canonicalize");
    assert_eq!((count(&ops, "hadamard"), count(&ops, "selective_scan_states")), (2, 1), "{ops:?}");
}

#[test]
fn channels_of_states_are_scaled_before_and_after_the_product() {
    let (ops, told) = run(block(false), "canonicalize,smooth-state{axis=channel},canonicalize");
    assert_eq!((told.layers.len(), count(&ops, "matmul")), (1, 1), "{ops:?}");
}

#[test]
fn all_together() {
    let all =
        "canonicalize,split-projections,smooth-window,smooth-state,canonicalize,rotate-state,canonicalize";
    let (ops, _) = run(block(true), all);
    assert_eq!((count(&ops, "hadamard"), count(&ops, "linear")), (1, 4), "{ops:?}");
}

#[test]
fn a_function_without_states_is_left_alone() {
    let mut f = Fixture::new();
    let x = f.input("x", "B,5");
    let w = f.weight("w", &[3, 5]);
    let y = f.op(Op::Linear {}, &[x, w]);
    f.result(y);
    let (ops, told) = run(f, "smooth-state,smooth-window,rotate-state");
    assert_eq!((ops, told.layers.len()), (vec!["linear"], 0));
}
