//! What decompositions keep: sums bit for bit, functions in f64 (every pipeline here proves itself), and the floats of their branches.

use qcc_interpreter::{Interpreter, Precision};
use qcc_ir::{Function, Module, Op, OpId, Str};
use qcc_params::{Parameters, Tensor};

use super::Branch;
use crate::context::{Context, Samples};
use crate::fixture::{Fixture, conv};
use crate::instrument::Instrumentation;
use crate::pipeline::Pipeline;
use crate::random::Random;
use crate::registry::Registry;
use crate::verify_each::random_inputs;

struct Decomposed {
    function: Function,
    parameters: Parameters,
    warnings: Vec<String>,
}

/// Inputs of which the last feature is 100 times larger.
struct Outlying;

impl Samples for Outlying {
    fn len(&self) -> usize {
        2
    }

    fn inputs(&self, _: usize, function: &Function) -> Result<Vec<Tensor>, String> {
        let enlarged = |x: Tensor| {
            let width = x.dims.last().copied().unwrap_or(1);
            let scale = |(i, x): (usize, &f32)| if i % width == width - 1 { x * 100.0 } else { *x };
            let data = x.to_f32_vec().iter().enumerate().map(scale).collect();
            Tensor::f32(&x.dims, data).map_err(|e| e.to_string())
        };
        random_inputs(function)?.into_iter().map(enlarged).collect()
    }
}

fn decomposed(f: Fixture, pipeline: &str) -> Decomposed {
    let interpreter = Interpreter::new(Precision::F32);
    let mut module = Module { functions: vec![f.function] };
    let mut context = Context::new(f.parameters, &interpreter);
    context.executor = Some(&interpreter);
    context.samples = Some(&Outlying);
    let reference = Interpreter::new(Precision::F64);
    context.reference = Some(&reference);
    let mut instrumentation = Instrumentation { verify_each: true, ..Instrumentation::default() };
    let pipeline = Pipeline::parse(pipeline, &Registry::builtin()).unwrap_or_else(|e| panic!("{e}"));
    pipeline.run(&mut module, &mut context, &mut instrumentation).unwrap_or_else(|e| panic!("{e}"));
    Decomposed {
        function: module.functions.remove(0),
        parameters: context.parameters,
        warnings: context.warnings.into_iter().map(|w| w.message).collect(),
    }
}

impl Decomposed {
    fn branches(&self) -> Vec<(OpId, Branch)> {
        let nodes = self.function.order().iter().map(|id| (*id, Branch::of(self.function.node(*id))));
        nodes.filter_map(|(id, branch)| Some((id, branch?))).collect()
    }

    fn kinds(&self) -> Vec<Branch> {
        self.branches().into_iter().map(|(_, branch)| branch).collect()
    }

    fn count(&self, op: &str) -> usize {
        self.function.order().iter().filter(|id| self.function.node(**id).op.name() == op).count()
    }

    fn evaluate(&self, name: &Str) -> Vec<f32> {
        let interpreter = Interpreter::new(Precision::F32);
        self.parameters.evaluate(name, &interpreter).expect("evaluates").to_f32_vec()
    }

    /// The elements of each branch's operand `slot`.
    fn parts(&self, slot: usize) -> Vec<Vec<f32>> {
        let operand = |id: OpId| self.function.node(id).operands.get(slot).copied().flatten();
        let operands = self.branches().into_iter().filter_map(|(id, _)| operand(id));
        operands.map(|v| self.evaluate(self.function.parameter_name(v).expect("a weight"))).collect()
    }
}

/// A linear layer or convolution with these numbers.
fn layer(op: Op, input: &str, dims: &[usize], weight: Vec<f32>, bias: Option<Vec<f32>>) -> Fixture {
    let mut f = Fixture::new();
    let x = f.input("x", input);
    let mut operands = vec![x, f.tensor("w", Tensor::f32(dims, weight).expect("counts agree"))];
    if let Some(bias) = bias {
        operands.push(f.tensor("b", Tensor::f32(&[bias.len()], bias).expect("counts agree")));
    }
    let y = f.op(op, &operands);
    f.result(y);
    f
}

fn numbers(n: usize, seed: u64) -> Vec<f32> {
    let mut random = Random::new(seed);
    (0..n).map(|_| random.unit() * random.unit().abs().powi(3)).collect()
}

fn assert_sums_up(parts: &[Vec<f32>], whole: &[f32]) {
    for (i, x) in whole.iter().enumerate() {
        let sum = parts.iter().map(|p| p[i]).reduce(|a, b| a + b).expect("parts");
        assert_eq!(sum.to_bits(), x.to_bits(), "element {i}: {sum} instead of {x}");
        assert!(parts.iter().filter(|p| p[i] != 0.0).count() <= 1, "element {i} is in several parts");
    }
}

#[test]
fn parts_sum_up_to_the_weight_bit_for_bit() {
    for seed in 0..20 {
        let mut w = numbers(24 * 10, seed);
        (w[0], w[1], w[2], w[3]) = (0.0, -0.0, f32::MIN_POSITIVE / 4.0, -3e38);
        let b = numbers(24, seed + 100);
        let d = decomposed(layer(Op::Linear {}, "B,10", &[24, 10], w.clone(), Some(b.clone())), "split");
        assert_eq!(d.kinds(), [Branch::Low, Branch::Middle, Branch::High]);
        assert_sums_up(&d.parts(1), &w);
        assert_sums_up(&d.parts(2), &b);

        let w = numbers(8 * 4 * 9, seed);
        let f = layer(conv(2, 1, 1, 1), "B,4,5,5", &[8, 4, 3, 3], w.clone(), None);
        let d = decomposed(f, "split");
        assert_sums_up(&d.parts(1), &w);
        // Each output channel has clusters of its own, none of them empty.
        for part in d.parts(1) {
            assert!(part.chunks(36).all(|channel| channel.iter().any(|x| *x != 0.0)));
        }
    }
}

#[test]
fn fewer_values_make_fewer_parts() {
    let f =
        |w: Vec<f32>, b: Option<Vec<f32>>| decomposed(layer(Op::Linear {}, "B,2", &[2, 2], w, b), "split");
    assert!(f(vec![0.5; 4], None).kinds().is_empty());
    let two = f(vec![0.5, 0.25, 0.5, 0.25], Some(vec![0.0; 2]));
    assert_eq!(two.kinds(), [Branch::Low, Branch::High]);
    assert_sums_up(&two.parts(1), &[0.5, 0.25, 0.5, 0.25]);
    // A bias of one value goes to the first part as it is.
    assert_eq!(two.parts(2), [vec![0.0; 2]]);
    // A channel of one value has zeros in the other parts.
    let w = vec![1.0, 1.0, 1.0, -1.0, 0.0, 1.0];
    let channels = decomposed(layer(conv(1, 1, 0, 1), "B,3,4", &[2, 3, 1], w.clone(), None), "split");
    assert_eq!(channels.kinds(), [Branch::Low, Branch::Middle, Branch::High]);
    assert_sums_up(&channels.parts(1), &w);
}

#[test]
fn what_is_a_branch_is_not_decomposed_again() {
    let f = || layer(Op::Linear {}, "B,16", &[16, 16], numbers(256, 1), None);
    for (pass, branches) in [("split", 3), ("low-rank", 3), ("outlier-columns{columns=2}", 2)] {
        for again in ["split", "low-rank", "outlier-columns{columns=2}"] {
            let d = decomposed(f(), &format!("{pass},canonicalize,{again},canonicalize"));
            assert_eq!(d.kinds().len(), branches, "{pass}, {again}");
        }
    }
}

#[test]
fn layers_behind_each_other_are_all_decomposed() {
    for (pass, branches) in [("split", 6), ("low-rank", 6), ("outlier-columns{columns=2}", 4)] {
        let mut f = Fixture::new();
        let x = f.input("x", "B,8");
        let (v, w) = (f.weight("v", &[8, 8]), f.weight("w", &[8, 8]));
        let y = f.op(Op::Linear {}, &[x, v]);
        let y = f.op(Op::Linear {}, &[y, w]);
        f.result(y);
        let d = decomposed(f, pass);
        assert_eq!(d.kinds().len(), branches, "{pass}");
        assert!(d.warnings.is_empty(), "{:?}", d.warnings);
    }
}

#[test]
fn weights_without_a_value_are_left() {
    let mut w = numbers(16, 1);
    w[3] = f32::INFINITY;
    for pass in ["split", "low-rank{rank=1}"] {
        let d = decomposed(layer(Op::Linear {}, "B,4", &[4, 4], w.clone(), None), pass);
        assert!(d.kinds().is_empty());
        assert!(d.warnings[0].contains("NaN or infinite"), "{pass}: {:?}", d.warnings);
    }
}

#[test]
fn the_branch_of_low_rank_takes_what_is_large() {
    // One direction 100 times larger than the rest.
    let (u, v) = (numbers(32, 1), numbers(24, 2));
    let outer = |i: usize| 100.0 * u[i / 24] * v[i % 24];
    let w: Vec<f32> = numbers(32 * 24, 3).iter().enumerate().map(|(i, x)| x + outer(i)).collect();
    let d = decomposed(layer(Op::Linear {}, "B,24", &[32, 24], w.clone(), None), "low-rank{rank=1}");
    assert_eq!(d.kinds(), [Branch::LowRank, Branch::LowRank, Branch::Rest]);
    let norm = |w: &[f32]| w.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>();
    let rest = &d.parts(1)[2];
    assert!(norm(rest) < 0.1 * norm(&w), "{} {}", norm(rest), norm(&w));
}

#[test]
fn layers_that_share_an_input_share_a_factor() {
    let mut f = Fixture::new();
    let x = f.input("x", "B,16");
    for name in ["q", "k", "v"] {
        let w = f.weight(name, &[16, 16]);
        let y = f.op(Op::Linear {}, &[x, w]);
        f.result(y);
    }
    let d = decomposed(f, "low-rank{rank=2}");
    let low = d.kinds().into_iter().filter(|b| *b == Branch::LowRank).count();
    assert_eq!((low, d.count("linear")), (4, 7));
}

#[test]
fn a_quarter_of_the_smaller_side_is_the_most() {
    let f = |rows| layer(Op::Linear {}, "B,16", &[rows, 16], numbers(rows * 16, 1), None);
    let d = decomposed(f(8), "low-rank");
    assert_eq!(d.parts(1)[0].len(), 2 * 16);
    assert!(decomposed(f(3), "low-rank").kinds().is_empty());
}

#[test]
fn only_features_that_stand_out_are_taken() {
    let f = || layer(Op::Linear {}, "B,16", &[8, 16], numbers(128, 1), None);
    let d = decomposed(f(), "outlier-columns");
    assert_eq!(d.kinds(), [Branch::Outliers, Branch::Rest]);
    // One stands out; kernels take eight.
    assert_eq!((d.count("gather"), d.count("mul")), (1, 1));
    assert_eq!(d.parts(1)[0].len(), 8 * 8);
    assert_eq!(d.parts(1)[1].iter().filter(|x| **x == 0.0).count(), 8 * 8);
    // Without outliers nothing is done; nor where all features would be taken.
    let mut plain = Fixture::new();
    let x = plain.input("x", "B,16");
    let w = plain.weight("w", &[16, 16]);
    let y = plain.op(Op::Relu {}, &[x]);
    let y = plain.op(Op::Sigmoid {}, &[y]);
    let y = plain.op(Op::Linear {}, &[y, w]);
    plain.result(y);
    assert!(decomposed(plain, "outlier-columns").kinds().is_empty());
    assert!(decomposed(f(), "outlier-columns{columns=16}").kinds().is_empty());
}

#[test]
fn branches_keep_floats() {
    let f = || layer(Op::Linear {}, "B,16", &[16, 16], numbers(256, 1), None);
    let quantize = "canonicalize,calibrate,quantize{weights=int8:channel activations=int8},canonicalize,lower-quantized,canonicalize";
    for (pass, floats) in [("low-rank", 2), ("outlier-columns{columns=2}", 1), ("split", 0)] {
        let d = decomposed(f(), &format!("{pass},{quantize}"));
        assert_eq!(d.count("linear"), floats, "{pass}");
        assert_eq!(d.count("quantized_linear"), if floats == 0 { 3 } else { 1 }, "{pass}");
        for (id, branch) in d.branches() {
            assert_eq!(branch.keeps_floats(), d.function.node(id).op == (Op::Linear {}), "{pass}");
        }
        assert!(d.warnings.is_empty(), "{:?}", d.warnings);
    }
}

#[test]
fn outliers_need_samples() {
    let f = layer(Op::Linear {}, "B,16", &[16, 16], numbers(256, 1), None);
    let error = f.try_run("outlier-columns").err().expect("no samples").to_string();
    assert!(error.contains("pass `--calibration FILE|DIR`"), "{error}");
}

#[test]
fn options_that_mean_nothing_are_refused() {
    for (pipeline, expected) in [
        ("low-rank{rank=0}", "use at least 1"),
        ("outlier-columns{columns=0}", "use at least 1"),
        ("outlier-columns{columns=8 share=0.1}", "exclude each other"),
        ("outlier-columns{share=2}", "must lie between 0 and 1"),
        ("outlier-columns{share=nan}", "must lie between 0 and 1"),
    ] {
        let error = Pipeline::parse(pipeline, &Registry::builtin()).err().expect(pipeline).to_string();
        assert!(error.contains(expected), "{pipeline}: {error}");
    }
}

/// Masks compare a weight in any precision with bounds that are f32: no element may fall between two parts.
#[test]
fn folded_weights_of_two_outputs_are_split_exactly() {
    for (inputs, outputs, kernel) in [(4, 2, 3), (2, 4, 1), (3, 1, 2)] {
        let mut f = Fixture::new();
        let x = f.input("x", &format!("B,{inputs},5,5"));
        let w = f.weight("w", &[outputs, inputs, kernel, kernel]);
        let y = f.op(conv(2, 1, 0, 1), &[x, w]);
        let y = f.normalized("bn", y, outputs);
        f.result(y);
        let done = f.try_run("fold-batch-norm,canonicalize,split,canonicalize");
        assert!(done.is_ok(), "{:?}", done.err().map(|e| e.to_string()));
    }
}

#[test]
fn layers_that_cannot_be_split_are_said() {
    let mut f = Fixture::new();
    let x = f.input("x", "4,4");
    let y = f.op(Op::Linear {}, &[x, x]);
    f.result(y);
    let done = f.try_run("split").unwrap_or_else(|e| panic!("{e}"));
    let measures = &done.outcomes[0].measures;
    assert_eq!(measures.get("left"), Some(&1), "{measures:?}");
}
