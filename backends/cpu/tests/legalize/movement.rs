//! Resizes, pads, slices and indices.

use qcc_ir::ops::{CoordinateTransform, ImageLayout, NearestRounding, PadMode, ResizeMode};
use qcc_ir::{Dense, ElementType, Float, Op};

use crate::fixture::{Fixture, conv};

const COORDINATES: [CoordinateTransform; 4] = [
    CoordinateTransform::HalfPixel,
    CoordinateTransform::PytorchHalfPixel,
    CoordinateTransform::AlignCorners,
    CoordinateTransform::Asymmetric,
];
const ROUNDINGS: [NearestRounding; 4] = [
    NearestRounding::RoundPreferFloor,
    NearestRounding::RoundPreferCeil,
    NearestRounding::Floor,
    NearestRounding::Ceil,
];

/// Resizes an image of 4 × 5 pixels.
fn resized(
    mode: ResizeMode,
    coordinates: CoordinateTransform,
    rounding: NearestRounding,
    sizes: [i64; 2],
    scales: [f64; 2],
) -> Vec<&'static str> {
    let mut f = Fixture::new();
    let x = f.input("x", "B,3,4,5");
    let op =
        Op::Resize { mode, coordinates, rounding, sizes: sizes.to_vec(), scales: scales.map(Float).to_vec() };
    let y = f.op(op, &[x]);
    f.result(y);
    f.lower()
}

#[test]
fn resizes_become_gathers() {
    for coordinates in COORDINATES {
        for (sizes, scales) in [([8, 10], [2.0, 2.0]), ([3, 9], [0.75, 1.8]), ([1, 7], [0.3, 1.433])] {
            for rounding in ROUNDINGS {
                let ops = resized(ResizeMode::Nearest, coordinates, rounding, sizes, scales);
                assert!(!ops.contains(&"resize") && !ops.contains(&"mul"), "{ops:?}");
            }
            let ops = resized(ResizeMode::Linear, coordinates, ROUNDINGS[0], sizes, scales);
            assert!(!ops.contains(&"resize"), "{ops:?}");
        }
    }
}

#[test]
fn an_axis_that_keeps_its_size_is_left_alone() {
    let ops = resized(ResizeMode::Linear, CoordinateTransform::HalfPixel, ROUNDINGS[0], [8, 5], [2.0, 1.0]);
    assert_eq!(ops, ["transpose", "gather", "gather", "mul", "mul", "add", "transpose"]);
}

#[test]
fn resizes_between_convolutions_need_no_transposes() {
    let mut f = Fixture::new();
    let x = f.input("x", "B,1,4,4");
    let (a, b) = (f.weight("a", &[4, 1, 3, 3]), f.weight("b", &[1, 4, 3, 3]));
    let y = f.op(conv(2, 1, 1, 1, ImageLayout::ChannelsFirst), &[x, a]);
    let op = Op::Resize {
        mode: ResizeMode::Nearest,
        coordinates: CoordinateTransform::Asymmetric,
        rounding: NearestRounding::Floor,
        sizes: vec![8, 8],
        scales: vec![Float(2.0); 2],
    };
    let y = f.op(op, &[y]);
    let y = f.op(conv(2, 1, 1, 1, ImageLayout::ChannelsFirst), &[y, b]);
    f.result(y);
    assert_eq!(f.lower(), ["reshape", "conv", "gather", "gather", "conv", "reshape"]);
}

#[test]
fn repeating_pads_become_gathers() {
    for mode in [PadMode::Reflect, PadMode::Edge] {
        for image in [false, true] {
            let mut f = Fixture::new();
            let mut x = f.input("x", "B,3,4,1");
            if image {
                let w = f.weight("w", &[3, 3, 1, 1]);
                x = f.op(conv(2, 1, 0, 1, ImageLayout::ChannelsFirst), &[x, w]);
            }
            let y = f.op(Op::Pad { pads: vec![0, 1, 9, 2, 0, 0, 2, 1], mode, value: Float(0.0) }, &[x]);
            f.result(y);
            let ops = f.lower();
            assert_eq!(ops.iter().filter(|o| **o == "gather").count(), 3, "{ops:?}");
        }
    }
}

#[test]
fn constant_pads_of_integers_have_their_value() {
    for element in [ElementType::I64, ElementType::I32, ElementType::U8] {
        let mut f = Fixture::new();
        let x = f.typed_input("x", "B,3", element);
        let y = f.op(Op::Pad { pads: vec![0, 1, 0, 2], mode: PadMode::Constant, value: Float(7.0) }, &[x]);
        f.result(y);
        assert_eq!(f.lower(), ["pad"]);
    }
}

#[test]
fn backward_slices_become_gathers() {
    let mut f = Fixture::new();
    let x = f.input("x", "B,6,7,5");
    let slice = |axes: &[i64], starts: &[i64], ends: &[i64], steps: &[i64]| Op::Slice {
        axes: axes.to_vec(),
        starts: starts.to_vec(),
        ends: ends.to_vec(),
        steps: steps.to_vec(),
    };
    let y = f.op(slice(&[1, 3, 2], &[5, 1, 6], &[-1, 5, 0], &[-2, 3, -3]), &[x]);
    f.result(y);
    assert_eq!(f.lower(), ["slice", "gather", "gather"]);
}

#[test]
fn indices_of_any_integer_type() {
    for element in [ElementType::I64, ElementType::I32, ElementType::U8] {
        let mut f = Fixture::new();
        let (x, ids) = (f.input("x", "B,4,3"), f.typed_input("ids", "2,T", element));
        let table = f.weight("table", &[5, 3]);
        let y = f.op(Op::Gather { axis: 1 }, &[x, ids]);
        let z = f.op(Op::Embedding {}, &[table, ids]);
        let last = f.function.add_constant(Dense::i64(&[], &[-1]), "last");
        let w = f.op(Op::Gather { axis: 1 }, &[x, last]);
        for y in [y, z, w] {
            f.result(y);
        }
        f.lower();
    }
}
