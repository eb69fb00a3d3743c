use qcc_ir::{Float, Op, ops::ImageLayout, ops::PadMode};

use crate::fixture::{Fixture, conv, dims};

fn pool(ceil: bool) -> Op {
    Op::MaxPool {
        kernel: vec![3, 3],
        strides: vec![2, 2],
        pads: vec![1, 1, 1, 1],
        dilations: vec![1, 1],
        ceil,
        layout: ImageLayout::ChannelsFirst,
    }
}

fn reshape(shape: &str) -> Op {
    Op::Reshape { shape: dims(shape) }
}

#[test]
fn a_network_of_convolutions_needs_one_transpose() {
    let mut f = Fixture::new();
    let x = f.input("x", "B,3,16,16");
    let (w, b) = (f.weight("w", &[8, 3, 3, 3]), f.weight("b", &[8]));
    let y = f.op(conv(2, 2, 1, 1), &[x, w, b]);
    let y = f.op(Op::Relu {}, &[y]);
    let y = f.op(pool(true), &[y]);
    let depthwise = f.weight("depthwise", &[8, 1, 3, 3]);
    let z = f.op(conv(2, 1, 1, 8), &[y, depthwise]);
    let z = f.op(Op::Clamp { min: Float(0.0), max: Float(6.0) }, &[z]);
    let y = f.op(Op::Add {}, &[z, y]);
    let y = f.op(Op::Concat { axis: 1 }, &[y, z]);
    let y = f.op(Op::ReduceMean { axes: vec![2, 3], keep_dims: false }, &[y]);
    let head = f.weight("head", &[5, 16]);
    let y = f.op(Op::Linear {}, &[y, head]);
    f.result(y);
    let t = f.run("channels-last");
    assert_eq!(t.count("transposes"), 1);
    assert_eq!(
        t.ops(),
        ["transpose", "conv", "relu", "max_pool", "conv", "clamp", "add", "concat", "reduce_mean", "linear"]
    );
}

#[test]
fn results_of_the_function_keep_their_order() {
    let mut f = Fixture::new();
    let x = f.input("x", "B,3,8,8");
    let w = f.weight("w", &[4, 3, 1, 1]);
    let y = f.op(conv(2, 1, 0, 1), &[x, w]);
    let z = f.op(Op::Sigmoid {}, &[y]);
    f.result(y);
    f.result(z);
    let t = f.run("channels-last");
    assert_eq!(t.count("transposes"), 3);
    assert_eq!(t.function.ty(t.function.results[0]).dims, dims("B,4,8,8"));
}

#[test]
fn one_pixel_and_one_channel_need_no_transpose() {
    let mut f = Fixture::new();
    let x = f.input("x", "B,1,8,8");
    let w = f.weight("w", &[6, 1, 3, 3]);
    let y = f.op(conv(2, 1, 1, 1), &[x, w]);
    // Squeeze and excite.
    let s = f.op(Op::ReduceMean { axes: vec![2, 3], keep_dims: true }, &[y]);
    let flat = f.op(reshape("B,6"), &[s]);
    let gate = f.weight("gate", &[6, 6]);
    let s = f.op(Op::Linear {}, &[flat, gate]);
    let s = f.op(reshape("B,6,1,1"), &[s]);
    let y = f.op(Op::Mul {}, &[y, s]);
    let y = f.op(Op::ReduceMax { axes: vec![3, 2], keep_dims: true }, &[y]);
    let y = f.op(reshape("B,6"), &[y]);
    f.result(y);
    let t = f.run("channels-last,canonicalize");
    assert!(!t.ops().contains(&"transpose"), "{:?}", t.ops());
}

#[test]
fn parameters_broadcast_along_the_channels() {
    let mut f = Fixture::new();
    let x = f.input("x", "B,3,5,7");
    let w = f.weight("w", &[4, 3, 1, 1]);
    let mut y = f.op(conv(2, 1, 0, 1), &[x, w]);
    for (name, shape) in [
        ("full", &[1, 4, 5, 7][..]),
        ("channel", &[1, 4, 1, 1]),
        ("low", &[4, 1, 1]),
        ("rows", &[5, 1]),
        ("columns", &[7]),
        ("scalar", &[]),
        ("ones", &[1, 1, 1, 1]),
    ] {
        let p = f.weight(name, shape);
        y = f.op(Op::Mul {}, &[y, p]);
        y = f.op(Op::Sub {}, &[p, y]);
        y = f.op(Op::Prelu {}, &[y, p]);
    }
    f.result(y);
    let t = f.run("channels-last,canonicalize");
    let transposes = t.ops().iter().filter(|o| **o == "transpose").count();
    assert_eq!(transposes, 2, "{:?}", t.ops());
}

#[test]
fn axes_are_renumbered() {
    let mut f = Fixture::new();
    let x = f.input("x", "B,3,6,8");
    let w = f.weight("w", &[4, 3, 1, 1]);
    let mut y = f.op(conv(2, 1, 0, 1), &[x, w]);
    y = f.op(Op::Pad { pads: vec![0, 1, 2, 3, 0, 0, 1, 2], mode: PadMode::Edge, value: Float(0.0) }, &[y]);
    y = f.op(Op::Slice { axes: vec![1, 3], starts: vec![1, 9], ends: vec![5, 0], steps: vec![1, -2] }, &[y]);
    y = f.op(Op::Softmax { axis: 1 }, &[y]);
    let sum = f.op(Op::ReduceSum { axes: vec![2], keep_dims: true }, &[y]);
    let sum = f.op(Op::Broadcast { shape: dims("B,4,9,5") }, &[sum]);
    y = f.op(Op::Concat { axis: 3 }, &[y, sum]);
    y = f.normalized("norm", y, 4);
    let channel = f.op(Op::ReduceMax { axes: vec![1], keep_dims: false }, &[y]);
    let kept = f.op(Op::ReduceMean { axes: vec![3], keep_dims: false }, &[y]);
    f.result(channel);
    f.result(kept);
    let t = f.run("channels-last,canonicalize");
    // One for the input, one for the mean that must bring channels and rows in order.
    assert_eq!(t.ops().iter().filter(|o| **o == "transpose").count(), 2, "{:?}", t.ops());
    assert!(!t.ops().contains(&"batch_norm"));
}

#[test]
fn operations_that_care_get_the_channels_first_value_once() {
    let mut f = Fixture::new();
    let x = f.input("x", "B,3,6,8");
    let w = f.weight("w", &[4, 3, 1, 1]);
    let y = f.op(conv(2, 1, 0, 1), &[x, w]);
    let a = f.op(reshape("B,4,48"), &[y]);
    let b = f.op(reshape("B,192"), &[y]);
    f.result(a);
    f.result(b);
    let t = f.run("channels-last");
    assert_eq!(t.ops(), ["transpose", "conv", "transpose", "reshape", "reshape"]);
}

#[test]
fn explicit_transposes_dissolve() {
    let mut f = Fixture::new();
    let x = f.input("x", "B,6,8,3");
    let x = f.op(Op::Transpose { permutation: vec![0, 3, 1, 2] }, &[x]);
    let w = f.weight("w", &[4, 3, 1, 1]);
    let y = f.op(conv(2, 1, 0, 1), &[x, w]);
    let y = f.op(Op::Transpose { permutation: vec![0, 2, 3, 1] }, &[y]);
    let swapped = f.op(Op::Transpose { permutation: vec![0, 2, 1, 3] }, &[y]);
    f.result(y);
    f.result(swapped);
    assert_eq!(f.run("channels-last").ops(), ["conv", "transpose"]);
}

#[test]
fn sequences_and_channel_shuffles_follow() {
    let mut f = Fixture::new();
    let x = f.input("x", "B,4,10");
    let w = f.weight("w", &[6, 4, 3]);
    let y = f.op(conv(1, 1, 1, 1), &[x, w]);
    let y = f.op(reshape("B,2,3,10"), &[y]);
    let y = f.op(Op::Transpose { permutation: vec![0, 2, 1, 3] }, &[y]);
    let z = f.op(reshape("B,6,10"), &[y]);
    let w = f.weight("w2", &[4, 6, 1]);
    let z = f.op(conv(1, 1, 0, 1), &[z, w]);
    f.result(z);
    // The split value itself is wanted, too.
    f.result(y);
    let t = f.run("channels-last");
    assert_eq!(
        t.ops(),
        ["transpose", "conv", "reshape", "transpose", "reshape", "conv", "transpose", "transpose"]
    );
}

#[test]
fn a_function_without_images_is_left_alone() {
    let mut f = Fixture::new();
    let x = f.input("x", "B,T,4");
    let y = f.op(Op::Transpose { permutation: vec![0, 2, 1] }, &[x]);
    let y = f.op(Op::Relu {}, &[y]);
    f.result(y);
    let t = f.run("channels-last");
    assert_eq!((t.ops(), t.count("converted")), (vec!["transpose", "relu"], 0));
}
