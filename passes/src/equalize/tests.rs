use qcc_interpreter::{Interpreter, Precision};
use qcc_ir::{Float, Function, Op, ValueId, ops::ImageLayout};

use super::carry::Carry;
use super::site::sites;
use super::{BUILTIN, RULES, parameter, parse};
use crate::context::Context;
use crate::fixture::{Fixture, Transformed, conv};

/// A convolution with a bias; padded so that the size stays.
fn layer(f: &mut Fixture, name: &str, x: ValueId, weight: [usize; 4], groups: i64) -> ValueId {
    let w = f.weight(&format!("{name}.weight"), &weight);
    let b = f.weight(&format!("{name}.bias"), &weight[..1]);
    let pad = (weight[2] as i64 - 1) / 2;
    let op = conv(2, 1, pad, groups);
    f.function.add_one(op, [x, w, b], name).expect("well-typed")
}

fn equalized(f: Fixture) -> Transformed {
    // The fixture compares outputs in f64 before and after.
    f.run("equalize")
}

fn relu6() -> Op {
    Op::Clamp { min: Float(0.0), max: Float(6.0) }
}

fn pool() -> Op {
    let (kernel, strides, pads, dilations) = (vec![2, 2], vec![2, 2], vec![0; 4], vec![1, 1]);
    Op::MaxPool { kernel, strides, pads, dilations, ceil: false, layout: ImageLayout::ChannelsFirst }
}

#[test]
fn scales_pass_what_keeps_them() {
    for (between, others) in [
        (Op::Relu {}, &["relu"][..]),
        (Op::LeakyRelu { alpha: Float(0.1) }, &["leaky_relu"]),
        (pool(), &["max_pool"]),
        (relu6(), &["relu", "min"]),
        (Op::Clamp { min: Float(-0.5), max: Float(0.25) }, &["max", "min"]),
    ] {
        let mut f = Fixture::new();
        let x = f.input("x", "2, 3, 6, 6");
        let a = layer(&mut f, "a", x, [4, 3, 3, 3], 1);
        let a = f.op(between, &[a]);
        let b = layer(&mut f, "b", a, [5, 4, 3, 3], 1);
        f.result(b);
        let t = equalized(f);
        assert_eq!(t.count("pairs"), 1, "{others:?}");
        let ops = t.ops();
        for other in others {
            assert_eq!(ops.iter().filter(|op| *op == other).count(), 1, "{other} in {ops:?}");
        }
        assert_eq!(ops.iter().filter(|op| **op == "conv").count(), 2, "{ops:?}");
    }
}

#[test]
fn a_depthwise_convolution_is_between_two_pairs() {
    let mut f = Fixture::new();
    let x = f.input("x", "B, 3, 6, 6");
    let a = layer(&mut f, "expand", x, [4, 3, 1, 1], 1);
    let a = f.op(relu6(), &[a]);
    let a = layer(&mut f, "depthwise", a, [4, 1, 3, 3], 4);
    let a = f.op(relu6(), &[a]);
    let a = layer(&mut f, "project", a, [3, 4, 1, 1], 1);
    let y = layer(&mut f, "next", a, [2, 3, 1, 1], 1);
    f.result(y);
    assert_eq!(equalized(f).count("pairs"), 3);
}

#[test]
fn layers_that_share_an_input_share_its_scale() {
    let mut f = Fixture::new();
    let x = f.input("x", "B, 3, 6, 6");
    let a = layer(&mut f, "a", x, [4, 3, 1, 1], 1);
    let a = f.op(Op::Relu {}, &[a]);
    let left = layer(&mut f, "left", a, [4, 4, 1, 1], 1);
    let right = layer(&mut f, "right", a, [4, 4, 3, 3], 1);
    let y = f.op(Op::Add {}, &[left, right]);
    f.result(y);
    assert_eq!(equalized(f).count("pairs"), 1);
}

#[test]
fn what_has_other_users_stays() {
    let mut f = Fixture::new();
    let x = f.input("x", "B, 4, 6, 6");
    let a = layer(&mut f, "a", x, [4, 4, 1, 1], 1);
    let a = f.op(Op::Relu {}, &[a]);
    let b = layer(&mut f, "b", a, [4, 4, 3, 3], 1);
    let y = f.op(Op::Add {}, &[a, b]);
    let z = layer(&mut f, "z", y, [4, 4, 3, 3], 1);
    f.result(z);
    assert_eq!(equalized(f).count("pairs"), 0);
}

#[test]
fn a_shared_weight_stays() {
    let mut f = Fixture::new();
    let x = f.input("x", "B, 4, 6, 6");
    let w = f.weight("w", &[4, 4, 1, 1]);
    let a = f.op(conv(2, 1, 0, 1), &[x, w]);
    let a = f.op(Op::Relu {}, &[a]);
    let y = f.op(conv(2, 1, 0, 1), &[a, w]);
    f.result(y);
    assert_eq!(equalized(f).count("pairs"), 0);
}

/// For each site, why its scale cannot be carried; empty where it can.
fn reasons(f: Fixture) -> Vec<String> {
    let Fixture { mut function, parameters, .. } = f;
    let evaluator = Interpreter::new(Precision::F32);
    let context = Context::new(parameters, &evaluator);
    let (sites, refused) = sites(&function);
    let scales: Vec<ValueId> = sites.iter().map(|s| parameter(&mut function, s, &context)).collect();
    let (file, text) = BUILTIN.iter().find(|(file, _)| *file == RULES).expect("built in");
    let rules = parse(file, text).expect("they parse");
    let (carry, _) = Carry::new(&function, &sites, &scales, &rules).expect("it saturates");
    let reasons = (0..sites.len()).map(|i| carry.reach(i).err().unwrap_or_default());
    reasons.chain(refused.into_iter().map(|r| r.reason)).collect()
}

#[test]
fn what_stays_says_why() {
    let mut f = Fixture::new();
    let x = f.input("x", "B, 4, 6, 6");
    let a = layer(&mut f, "a", x, [4, 4, 1, 1], 1);
    let relu = f.op(Op::Relu {}, &[a]);
    let b = layer(&mut f, "b", relu, [4, 4, 3, 3], 1);
    let sum = f.op(Op::Add {}, &[relu, b]);
    let c = layer(&mut f, "c", sum, [4, 4, 3, 3], 1);
    let silu = f.op(Op::Silu {}, &[c]);
    let d = layer(&mut f, "d", silu, [4, 4, 1, 1], 1);
    let e = layer(&mut f, "e", d, [4, 2, 1, 1], 2);
    f.result(e);
    let name = |function: &Function, v: ValueId| function.value(v).name.to_string();
    let [relu, sum, silu] = [relu, sum, silu].map(|v| name(&f.function, v));
    assert_eq!(
        reasons(f),
        [
            "a scale cannot pass `x`, an input of the function".to_string(),
            format!("`{relu}` (qcc.relu) has other users"),
            format!("a scale cannot pass `{sum}` (qcc.add)"),
            format!("a scale cannot pass `{silu}` (qcc.silu)"),
            "it has 2 groups and is not depthwise".to_string(),
        ]
    );
}
