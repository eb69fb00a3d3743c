use std::cell::Cell;
use std::sync::OnceLock;

use qcc_interpreter::{Interpreter, Precision};
use qcc_ir::ops::{Rounding, Special};
use qcc_ir::{ElementType, Function, Granularity, Module, Op, QuantType, ScaleType, Storage, ValueId};
use qcc_params::{Parameters, Tensor};

use super::{Walk, cut, observe, observe_parts};
use crate::context::{Context, Executor, Prepared, Samples};
use crate::fixture::Fixture;
use crate::verify_each::random_inputs;

/// Different inputs each.
struct Random(usize);

impl Samples for Random {
    fn len(&self) -> usize {
        self.0
    }

    fn inputs(&self, index: usize, function: &Function) -> Result<Vec<Tensor>, String> {
        let mut inputs = random_inputs(function)?;
        for input in &mut inputs {
            let moved: Vec<f32> = input.to_f32_vec().iter().map(|x| x + index as f32 * 0.1).collect();
            *input = Tensor::f32(&input.dims.clone(), moved).expect("counts agree");
        }
        Ok(inputs)
    }
}

/// Counts the operations on weights that it runs.
struct Counting(Cell<usize>);

impl Executor for Counting {
    fn prepare(&self, module: &Module, parameters: &Parameters) -> Result<Box<dyn Prepared + '_>, String> {
        let function = &module.functions[0];
        let layers = function.order().iter().filter(|id| matches!(function.node(**id).op, Op::Linear {}));
        self.0.set(self.0.get() + layers.count());
        interpreter().prepare(module, parameters)
    }
}

fn interpreter() -> &'static Interpreter {
    static INTERPRETER: OnceLock<Interpreter> = OnceLock::new();
    INTERPRETER.get_or_init(|| Interpreter::new(Precision::F32))
}

/// What may run functions over samples.
fn context<'a>(parameters: &Parameters, executor: &'a dyn Executor, samples: &'a dyn Samples) -> Context<'a> {
    let mut context = Context::new(parameters.clone(), interpreter());
    context.executor = Some(executor);
    context.samples = Some(samples);
    context
}

/// A residual stream over four layers, each on codes that the next one could share; their inputs.
fn stream() -> (Fixture, Vec<ValueId>) {
    let mut f = Fixture::new();
    let mut x = f.input("x", "B,8");
    let q = QuantType {
        storage: Storage::Int(8),
        granularity: Granularity::Token,
        scale: ScaleType::F32,
        zero_point: false,
    };
    let to = ElementType::Quant(q);
    let mut inputs = Vec::new();
    for i in 0..4 {
        let quantize = Op::DynamicQuantize {
            to,
            narrow: true,
            rounding: Rounding::HalfEven,
            special: Special::Saturate,
        };
        let codes = f.function.add(quantize, [x], "codes").expect("well-typed").to_vec();
        let read = f.function.add_one(Op::Dequantize {}, codes, "read").expect("well-typed");
        let w = f.weight(&format!("w{i}"), &[8, 8]);
        let y = f.op(Op::Linear {}, &[read, w]);
        x = f.op(Op::Add {}, &[x, y]);
        inputs.push(read);
    }
    // Nothing that is asked for needs the head.
    let head = f.weight("head", &[100, 8]);
    let logits = f.op(Op::Linear {}, &[x, head]);
    f.result(logits);
    (f, inputs)
}

fn expected(f: &Fixture, values: &[ValueId], samples: &Random) -> Vec<Vec<Vec<f32>>> {
    let whole = cut(&f.function, values, f.function.arguments()).expect("a part");
    (0..samples.0)
        .map(|i| {
            let inputs = samples.inputs(i, &f.function).expect("inputs");
            let results = interpreter().run(&whole, &f.parameters, &inputs).expect("runs");
            results.iter().map(Tensor::to_f32_vec).collect()
        })
        .collect()
}

#[test]
fn a_walk_runs_each_layer_once_and_sees_what_the_whole_makes() {
    let (f, inputs) = stream();
    let samples = Random(3);
    let expected = expected(&f, &inputs, &samples);
    let counting = Counting(Cell::new(0));
    let context = context(&f.parameters, &counting, &samples);
    let module = Module { functions: vec![f.function] };
    let mut walk = Walk::new("test", "it", &context).expect("samples");
    for (i, input) in inputs.iter().enumerate() {
        let (mut sample, wanted) = (0, [*input]);
        walk.advance(&module, &f.parameters, &wanted, &wanted, &inputs[i + 1..], |tensors| {
            assert_eq!(tensors[0].to_f32_vec(), expected[sample][i]);
            sample += 1;
            Ok(())
        })
        .unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(sample, samples.0);
    }
    // Three layers are in front of the last input; what lies on the way is kept, not the codes.
    assert_eq!(counting.0.get(), 3);
    assert!(walk.held.is_empty() && walk.tensors.is_empty());
    // Back to the start: all of it runs again.
    walk.look(&module, &f.parameters, &inputs[3..], |_| Ok(())).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(counting.0.get(), 6);
    let error = walk.look(&module, &f.parameters, &inputs, |_| Err("no".into())).err();
    assert!(error.is_some_and(|e| e.to_string().contains("no")));
}

#[test]
fn arguments_of_a_part_have_names_of_their_own() {
    let (f, inputs) = stream();
    let part = cut(&f.function, &inputs[3..], &inputs[..3]);
    assert!(part.is_err_and(|e| e.contains("needs `x`")), "the residual stream starts at the argument");
    let all = [f.function.arguments(), &inputs[..3]].concat();
    let part = cut(&f.function, &inputs[3..], &all).expect("a part");
    let names: Vec<&str> = part.arguments().iter().map(|a| &*part.value(*a).name).collect();
    assert_eq!(names, ["x", "read", "read#2", "read#3"]);
}

#[test]
fn what_changes_in_front_of_a_walk_is_seen() {
    let (mut f, inputs) = stream();
    let samples = Random(2);
    let context = context(&f.parameters, interpreter(), &samples);
    let mut module = Module { functions: vec![f.function.clone()] };
    let mut walk = Walk::new("test", "it", &context).expect("samples");
    let to = [inputs[1]];
    walk.advance(&module, &f.parameters, &to, &to, &inputs[1..], |_| Ok(()))
        .unwrap_or_else(|e| panic!("{e}"));
    let other = f.weight("other", &[8, 8]);
    let layer = f.function.uses()[&inputs[1]][0].0;
    f.function.node_mut(layer).operands[1] = Some(other);
    f.function.sort();
    module.functions[0] = f.function.clone();
    let expected = expected(&f, &inputs[2..3], &samples);
    let mut sample = 0;
    walk.look(&module, &f.parameters, &inputs[2..3], |tensors| {
        assert_eq!(tensors[0].to_f32_vec(), expected[sample][0]);
        sample += 1;
        Ok(())
    })
    .unwrap_or_else(|e| panic!("{e}"));
}

#[test]
fn parts_hold_few_weights() {
    let (f, inputs) = stream();
    // In the order of the function, whatever that of the values is.
    let values = [inputs[3], inputs[0], inputs[2], inputs[1]];
    assert_eq!(super::cut::parts(&f.function, &values, u64::MAX), [vec![1, 3, 2, 0]]);
    assert_eq!(super::cut::parts(&f.function, &values, 512), [vec![1, 3, 2], vec![0]]);
    assert_eq!(super::cut::parts(&f.function, &values, 1), [vec![1], vec![3], vec![2], vec![0]]);
    assert!(super::cut::parts(&f.function, &[], 1).is_empty());
}

#[test]
fn rounds_of_a_value_follow_each_other() {
    let (f, inputs) = stream();
    let samples = Random(2);
    let expected = expected(&f, &inputs, &samples);
    let idle = Context::new(f.parameters.clone(), interpreter());
    let context = context(&f.parameters, interpreter(), &samples);
    let module = Module { functions: vec![f.function] };
    let error = observe("test", "it needs data", &module, &inputs, 1, &idle, |_, _, _| ());
    assert!(error.is_err_and(|e| e.to_string().contains("it needs data: pass `--calibration FILE|DIR`")));
    let mut seen = vec![Vec::new(); inputs.len()];
    observe("test", "it", &module, &inputs, 2, &context, |round, part, tensors| {
        for (i, tensor) in part.iter().zip(tensors) {
            seen[*i].push((round, tensor.to_f32_vec()));
        }
    })
    .unwrap_or_else(|e| panic!("{e}"));
    for (i, seen) in seen.into_iter().enumerate() {
        let of = |round: usize, sample: usize| (round, expected[sample][i].clone());
        assert_eq!(seen, [of(0, 0), of(0, 1), of(1, 0), of(1, 1)]);
    }
}

#[test]
fn what_memory_has_no_room_for_lies_in_a_file() {
    let (f, inputs) = stream();
    let samples = Random(5);
    let expected = expected(&f, &inputs, &samples);
    let context = context(&f.parameters, interpreter(), &samples);
    let module = Module { functions: vec![f.function.clone()] };
    let parts: Vec<Vec<usize>> = (0..inputs.len()).map(|i| vec![i]).collect();
    // Room for nothing, for some samples, for all.
    for budget in [0, 200, u64::MAX] {
        let mut walk = Walk::new("test", "it", &context).expect("samples");
        walk.budget = budget;
        let mut seen = vec![Vec::new(); inputs.len()];
        observe_parts(walk, &module, &inputs, &parts, 2, &context, |round, part, tensors| {
            seen[part[0]].push((round, tensors[0].to_f32_vec()));
        })
        .unwrap_or_else(|e| panic!("{e}"));
        for (i, seen) in seen.into_iter().enumerate() {
            let all = (0..2).flat_map(|round| expected.iter().map(move |x| (round, x)));
            let all: Vec<_> = all.map(|(round, x)| (round, x[i].clone())).collect();
            assert_eq!(seen, all, "value {i}, {budget} bytes");
        }
        let mut walk = Walk::new("test", "it", &context).expect("samples");
        walk.budget = budget;
        walk.advance(&module, &f.parameters, &inputs[..1], &inputs[..1], &inputs[1..], |_| Ok(()))
            .unwrap_or_else(|e| panic!("{e}"));
        let in_file = walk.tensors.in_file();
        assert_eq!((in_file == 5, in_file == 0), (budget == 0, budget == u64::MAX), "{budget} bytes");
    }
}

#[test]
fn operations_that_are_not_in_order_yet_do_not_keep_a_walk_back() {
    let (mut f, inputs) = stream();
    // As quantization leaves it: what is in front of a layer stands behind it.
    let layer = f.function.uses()[&inputs[1]][0].0;
    let moved = f.op(Op::Neg {}, &[inputs[1]]);
    f.function.node_mut(layer).operands[0] = Some(moved);
    let samples = Random(2);
    let counting = Counting(Cell::new(0));
    let context = context(&f.parameters, &counting, &samples);
    let module = Module { functions: vec![f.function.clone()] };
    let mut walk = Walk::new("test", "it", &context).expect("samples");
    for (at, input) in inputs.iter().enumerate() {
        let to = std::slice::from_ref(input);
        walk.advance(&module, &f.parameters, to, to, &inputs[at + 1..], |_| Ok(()))
            .unwrap_or_else(|e| panic!("{e}"));
    }
    // Each layer ran once.
    assert_eq!(counting.0.get(), 3);
}
