//! Normalisations, softmaxes, reductions and products.

use qcc_ir::ops::ImageLayout;
use qcc_ir::{Dense, Float, Op};

use crate::fixture::{Fixture, conv, dims};

#[test]
fn batch_norm_is_a_product_and_a_sum() {
    for (sizes, image) in [("B,3", false), ("B,3,4,5", false), ("B,3,4,5", true)] {
        let mut f = Fixture::new();
        let mut x = f.input("x", sizes);
        if image {
            let w = f.weight("w", &[3, 3, 1, 1]);
            x = f.op(conv(2, 1, 0, 1, ImageLayout::ChannelsFirst), &[x, w]);
        }
        let vectors = ["scale", "bias", "mean"].map(|name| f.weight(name, &[3]));
        let variance = f.positive("variance", &[3]);
        let [scale, bias, mean] = vectors;
        let y = f.op(Op::BatchNorm { epsilon: Float(1e-5) }, &[x, scale, bias, mean, variance]);
        f.result(y);
        let ops = f.lower();
        assert_eq!(ops.iter().filter(|o| ["mul", "add"].contains(o)).count(), 2, "{ops:?}");
    }
}

#[test]
fn softmaxes_along_any_axis() {
    for sizes in ["B,3,4", "B,4,T"] {
        for axis in 0..3 {
            for op in [Op::Softmax { axis }, Op::LogSoftmax { axis }] {
                let mut f = Fixture::new();
                let x = f.input("x", sizes);
                let y = f.op(op, &[x]);
                f.result(y);
                f.lower();
            }
        }
    }
}

#[test]
fn layer_norm_over_several_axes() {
    let mut f = Fixture::new();
    let x = f.input("x", "B,3,4,5");
    let (gain, bias) = (f.weight("gain", &[4, 5]), f.weight("bias", &[4, 5]));
    let y = f.op(Op::LayerNorm { axis: 2, epsilon: Float(1e-5) }, &[x, gain, bias]);
    let z = f.op(Op::LayerNorm { axis: 1, epsilon: Float(1e-5) }, &[x]);
    f.result(y);
    f.result(z);
    let ops = f.lower();
    assert_eq!(ops.iter().filter(|o| **o == "layer_norm").count(), 2, "{ops:?}");
}

#[test]
fn layer_norm_of_symbolic_rows_is_spelled_out() {
    let mut f = Fixture::new();
    let x = f.input("x", "B,3,T");
    let y = f.op(Op::LayerNorm { axis: 1, epsilon: Float(1e-5) }, &[x]);
    f.result(y);
    assert!(!f.lower().contains(&"layer_norm"));
}

#[test]
fn reductions_over_any_axes() {
    let cases: [&[i64]; 6] = [&[], &[2], &[3, 1], &[0, 2], &[0, 3], &[2, 0, 3]];
    for axes in cases {
        for keep_dims in [false, true] {
            let axes = axes.to_vec();
            for op in [
                Op::ReduceMean { axes: axes.clone(), keep_dims },
                Op::ReduceSum { axes: axes.clone(), keep_dims },
                Op::ReduceMax { axes: axes.clone(), keep_dims },
            ] {
                let mut f = Fixture::new();
                let x = f.input("x", "B,3,4,5");
                let y = f.op(op, &[x]);
                f.result(y);
                f.lower();
            }
        }
    }
}

#[test]
fn matrix_products_with_any_batches() {
    for (a, b, broadcasts) in [
        ("B,2,3,4", "4,5", 0),
        ("3,4", "B,2,4,5", 0),
        ("B,1,3,4", "B,2,4,5", 1),
        ("1,2,3,4", "B,1,4,5", 2),
        ("B,2,3,4", "2,4,5", 1),
        ("1,2,3,4", "2,4,5", 0),
    ] {
        let mut f = Fixture::new();
        let (a, b) = (f.input("a", a), f.input("b", b));
        let y = f.op(Op::Matmul {}, &[a, b]);
        f.result(y);
        let ops = f.lower();
        assert_eq!(ops.iter().filter(|o| **o == "broadcast").count(), broadcasts, "{ops:?}");
    }
}

#[test]
fn products_with_weights_are_linear() {
    let mut f = Fixture::new();
    let x = f.input("x", "B,T,4");
    let w = f.weight("w", &[4, 3]);
    let y = f.op(Op::Matmul {}, &[x, w]);
    let constant =
        f.function.add_constant(Dense::f32(&[3, 2], &[1.0, -2.0, 3.0, 0.5, 0.25, -1.0]), "constant");
    let y = f.op(Op::Matmul {}, &[y, constant]);
    let again = f.function.add_constant(Dense::f32(&[1, 2], &[2.0, 4.0]), "again");
    let y = f.op(Op::Linear {}, &[y, again]);
    f.result(y);
    assert_eq!(f.lower(), ["linear", "linear", "linear"]);
}

#[test]
fn computed_weights_and_biases() {
    let mut f = Fixture::new();
    let (x, row) = (f.input("x", "B,4"), f.input("row", "4"));
    let (w, b) = (f.input("w", "3,4"), f.input("b", "3"));
    let y = f.op(Op::Linear {}, &[x, w, b]);
    let z = f.op(Op::Linear {}, &[row, w, b]);
    let fixed = f.weight("fixed", &[3, 4]);
    let v = f.op(Op::Linear {}, &[x, fixed, b]);
    let image = f.input("image", "B,2,3,3");
    let kernel = f.weight("kernel", &[3, 2, 3, 3]);
    let u = f.op(conv(2, 1, 1, 1, ImageLayout::ChannelsFirst), &[image, kernel, b]);
    for y in [y, z, v, u] {
        f.result(y);
    }
    f.lower();
}

#[test]
fn a_convolution_with_computed_weights_is_named() {
    let mut f = Fixture::new();
    let (x, w) = (f.input("x", "B,2,4,4"), f.input("w", "3,2,3,3"));
    let y = f.op(conv(2, 1, 1, 1, ImageLayout::ChannelsFirst), &[x, w]);
    f.result(y);
    let error = f.try_lower().expect_err("computed");
    assert!(error.contains("the weight is computed at run time"), "{error}");
}

#[test]
fn broadcasting_needs_no_rewrite() {
    let mut f = Fixture::new();
    let (x, row, column) = (f.input("x", "B,3,T"), f.input("row", "T"), f.input("column", "3,1"));
    let y = f.op(Op::Prelu {}, &[x, column]);
    let y = f.op(Op::Max {}, &[row, y]);
    let y = f.op(Op::Pow {}, &[y, column]);
    let y = f.op(Op::Broadcast { shape: dims("2,B,3,T") }, &[y]);
    f.result(y);
    assert_eq!(f.lower(), ["prelu", "max", "pow", "broadcast"]);
}
