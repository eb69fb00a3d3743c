//! Transposed and grouped convolutions.

use qcc_ir::ops::{ImageLayout, Rounding, Special};
use qcc_ir::{Dense, DenseData, ElementType, Float, Granularity, Op, QuantType, ScaleType, Storage};
use qcc_params::{Data, Tensor};

use crate::fixture::{Fixture, conv};

struct Transposed {
    sizes: &'static str,
    weight: &'static [usize],
    strides: &'static [i64],
    pads: &'static [i64],
    dilations: &'static [i64],
    output_padding: &'static [i64],
    groups: i64,
}

fn transposed(case: &Transposed) -> Vec<&'static str> {
    let mut f = Fixture::new();
    let x = f.input("x", case.sizes);
    let weight = f.weight("w", case.weight);
    let bias = f.weight("b", &[case.weight[1] * case.groups as usize]);
    let op = Op::ConvTranspose {
        strides: case.strides.to_vec(),
        pads: case.pads.to_vec(),
        dilations: case.dilations.to_vec(),
        output_padding: case.output_padding.to_vec(),
        groups: case.groups,
    };
    let y = f.op(op, &[x, weight, bias]);
    f.result(y);
    f.lower()
}

#[test]
fn transposed_convolutions_become_convolutions_of_phases() {
    let plain = Transposed {
        sizes: "B,3,4,5",
        weight: &[3, 4, 3, 3],
        strides: &[2, 2],
        pads: &[1, 1, 1, 1],
        dilations: &[1, 1],
        output_padding: &[1, 1],
        groups: 1,
    };
    let ops = transposed(&plain);
    assert_eq!(ops.iter().filter(|o| **o == "conv").count(), 1, "{ops:?}");
    assert!(!ops.contains(&"pad"), "{ops:?}");
    let cases = [
        Transposed { strides: &[1, 1], output_padding: &[0, 0], ..plain },
        Transposed { strides: &[1, 1], output_padding: &[0, 0], dilations: &[2, 3], ..plain },
        Transposed { strides: &[3, 2], output_padding: &[2, 0], pads: &[0, 2, 1, 0], ..plain },
        Transposed { strides: &[3, 2], output_padding: &[2, 1], dilations: &[2, 3], pads: &[0; 4], ..plain },
        // A kernel smaller than the stride leaves gaps; padding larger than the kernel crops the image.
        Transposed {
            weight: &[3, 2, 1, 2],
            strides: &[3, 3],
            pads: &[0, 4, 2, 5],
            output_padding: &[0, 0],
            ..plain
        },
        Transposed {
            weight: &[3, 2, 2, 2],
            strides: &[2, 2],
            pads: &[0; 4],
            output_padding: &[0, 0],
            ..plain
        },
        Transposed { sizes: "B,4,4,5", weight: &[4, 3, 3, 2], groups: 2, ..plain },
        Transposed { sizes: "B,4,4,5", weight: &[4, 1, 4, 4], groups: 4, ..plain },
        Transposed {
            sizes: "B,3,7",
            weight: &[3, 2, 4],
            strides: &[2],
            pads: &[1, 1],
            dilations: &[1],
            output_padding: &[0],
            groups: 1,
        },
    ];
    for case in &cases {
        transposed(case);
    }
}

#[test]
fn transposed_convolutions_between_convolutions_need_no_transposes() {
    let mut f = Fixture::new();
    let x = f.input("x", "B,3,4,4");
    let (w, deconvolve) = (f.weight("w", &[4, 3, 3, 3]), f.weight("t", &[4, 4, 2, 2]));
    let y = f.op(conv(2, 1, 1, 1, ImageLayout::ChannelsFirst), &[x, w]);
    let op = Op::ConvTranspose {
        strides: vec![2, 2],
        pads: vec![0; 4],
        dilations: vec![1, 1],
        output_padding: vec![0, 0],
        groups: 1,
    };
    let y = f.op(op, &[y, deconvolve]);
    let y = f.op(Op::Relu {}, &[y]);
    let w = f.weight("w2", &[1, 4, 3, 3]);
    let y = f.op(conv(2, 1, 1, 1, ImageLayout::ChannelsFirst), &[y, w]);
    f.result(y);
    // The input's transpose and the one that moves phases into the image; the result has one channel.
    assert_eq!(
        f.lower(),
        ["transpose", "conv", "conv", "reshape", "transpose", "reshape", "relu", "conv", "reshape"]
    );
}

#[test]
fn strides_beyond_reason_are_left_to_an_error() {
    let mut f = Fixture::new();
    let x = f.input("x", "B,1,2,2");
    let w = f.weight("w", &[1, 1, 2, 2]);
    let op = Op::ConvTranspose {
        strides: vec![1 << 40, 1],
        pads: vec![1 << 40, 0, 0, 0],
        dilations: vec![1, 1],
        output_padding: vec![0, 0],
        groups: 1,
    };
    let y = f.function.add_one(op, [x, w], "t").expect("well-typed");
    let y = f.op(Op::Slice { axes: vec![2], starts: vec![0], ends: vec![1], steps: vec![1] }, &[y]);
    f.result(y);
    let error = f.lowered_without_proof().expect_err("too large");
    assert!(error.contains("conv_transpose: has no CPU kernel"), "{error}");
}

#[test]
fn three_spatial_axes_have_no_kernel() {
    let mut f = Fixture::new();
    let x = f.input("x", "B,2,4,4,4");
    let w = f.weight("w", &[2, 2, 3, 3, 3]);
    let y = f.op(conv(3, 1, 1, 1, ImageLayout::ChannelsFirst), &[x, w]);
    f.result(y);
    let error = f.try_lower().expect_err("five axes");
    assert!(error.contains("3 spatial axes have no CPU kernel; one or two do"), "{error}");
}

#[test]
fn groups_become_convolutions_of_slices() {
    for (layout, sizes) in [(ImageLayout::ChannelsFirst, "B,6,5,4"), (ImageLayout::ChannelsLast, "B,5,4,6")] {
        let mut f = Fixture::new();
        let x = f.input("x", sizes);
        let (w, b) = (f.weight("w", &[9, 2, 3, 3]), f.weight("b", &[9]));
        let y = f.op(conv(2, 2, 1, 3, layout), &[x, w, b]);
        f.result(y);
        let ops = f.lower();
        assert_eq!(ops.iter().filter(|o| **o == "conv").count(), 3, "{ops:?}");
    }
}

#[test]
fn several_results_a_channel_repeat_the_channels() {
    for (layout, sizes) in [(ImageLayout::ChannelsFirst, "B,3,5,4"), (ImageLayout::ChannelsLast, "B,5,4,3")] {
        let mut f = Fixture::new();
        let x = f.input("x", sizes);
        let (w, b) = (f.weight("w", &[6, 1, 3, 3]), f.weight("b", &[6]));
        let y = f.op(conv(2, 1, 1, 3, layout), &[x, w, b]);
        f.result(y);
        let ops = f.lower();
        assert_eq!(ops.iter().filter(|o| **o == "conv").count(), 1, "{ops:?}");
    }
}

/// Codes with zero point 5 of an image and of a weight with a scale a channel; codes or floats out.
fn quantized(groups: i64, weight: &[usize], codes_out: bool, layout: ImageLayout) -> Vec<&'static str> {
    let mut f = Fixture::new();
    let x = f.input("x", if layout == ImageLayout::ChannelsFirst { "B,4,5,3" } else { "B,5,3,4" });
    let q = |storage, granularity, zero_point| {
        ElementType::Quant(QuantType { storage, granularity, scale: ScaleType::F32, zero_point })
    };
    let image = q(Storage::UInt(8), Granularity::Tensor, true);
    let scale = f.function.add_constant(Dense::scalar(0.01), "scale");
    let zero = Dense { dims: Vec::new(), data: DenseData::I32(vec![128]) };
    let zero = f.function.add_constant(zero, "zero");
    let quantize =
        Op::Quantize { to: image, narrow: false, rounding: Rounding::HalfEven, special: Special::Saturate };
    let codes = f.op(quantize, &[x, scale, zero]);
    let element = q(Storage::Int(8), Granularity::Channel { axis: 0 }, false);
    let count = weight.iter().product::<usize>();
    let weights = (0..count).map(|i| (i as i64 * 37 % 255 - 127) as i8).collect();
    let w = f.tensor("w", Tensor::new(weight.to_vec(), element, Data::I8(weights)).expect("counts agree"));
    let (scales, b) = (f.positive("scales", &[weight[0]]), f.weight("b", &[weight[0]]));
    let op = Op::QuantizedConv {
        strides: vec![1, 1],
        pads: vec![1; 4],
        dilations: vec![1, 1],
        groups,
        layout,
        to: if codes_out { image } else { ElementType::F32 },
        narrow: false,
        lower: Float(0.0),
        upper: Float(f64::INFINITY),
    };
    let out = |v| codes_out.then_some(v);
    let operands =
        [Some(codes), Some(w), Some(scales), Some(scale), Some(zero), Some(b), out(scale), out(zero)];
    let y = f.function.add_one(op, operands, "conv").expect("well-typed");
    let y = if codes_out { f.op(Op::Dequantize {}, &[y, scale, zero]) } else { y };
    f.result(y);
    f.lower()
}

#[test]
fn quantized_groups_keep_their_scales() {
    for layout in [ImageLayout::ChannelsFirst, ImageLayout::ChannelsLast] {
        for codes_out in [false, true] {
            let ops = quantized(2, &[6, 2, 3, 3], codes_out, layout);
            assert_eq!(ops.iter().filter(|o| **o == "quantized_conv").count(), 2, "{ops:?}");
            quantized(4, &[8, 1, 3, 3], codes_out, layout);
        }
    }
}
