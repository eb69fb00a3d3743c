//! Convolutions, pools and resizing. The direct sums in `tests/convolution.rs` check convolutions more widely.

use qcc_interpreter::Precision;
use qcc_ir::ops::{CoordinateTransform, ImageLayout, NearestRounding, ResizeMode};
use qcc_ir::{ElementType, Float, Granularity, Op, QuantType, ScaleType, Storage};
use qcc_params::{Data, Tensor};

use crate::case::{Case, case, check, evaluate, f32s, i64s};

const FIRST: ImageLayout = ImageLayout::ChannelsFirst;
const LAST: ImageLayout = ImageLayout::ChannelsLast;

fn max_pool(kernel: i64, stride: i64, pad: i64, ceil: bool, layout: ImageLayout) -> Op {
    Op::MaxPool {
        kernel: vec![kernel],
        strides: vec![stride],
        pads: vec![pad; 2],
        dilations: vec![1],
        ceil,
        layout,
    }
}

fn avg_pool(count_pads: bool, pads: [i64; 2]) -> Op {
    Op::AvgPool {
        kernel: vec![7],
        strides: vec![3],
        pads: pads.to_vec(),
        dilations: vec![1],
        ceil: true,
        count_pads,
        layout: FIRST,
    }
}

fn resize(mode: ResizeMode, coordinates: CoordinateTransform, sizes: [i64; 2], scales: [f64; 2]) -> Op {
    let rounding = NearestRounding::RoundPreferFloor;
    Op::Resize { mode, coordinates, rounding, sizes: sizes.to_vec(), scales: scales.map(Float).to_vec() }
}

pub fn cases() -> Vec<Case> {
    let line = || f32s(&[1, 1, 5], &[1.0, 5.0, 2.0, 4.0, 3.0]);
    let nine =
        || f32s(&[1, 1, 9], &[2.0903, 4.6493, 1.6320, -3.2051, 4.6975, 4.7296, 3.3653, -1.5815, -2.3832]);
    let square = || f32s(&[1, 1, 2, 2], &[1.0, 2.0, 3.0, 4.0]);
    let wide = || f32s(&[1, 1, 2, 4], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
    let transposed = [
        0.0, 1.0, 3.0, 3.0, 2.0, 3.0, 8.0, 15.0, 12.0, 7.0, 9.0, 21.0, 36.0, 27.0, 15.0, 9.0, 20.0, 33.0,
        24.0, 13.0, 6.0, 13.0, 21.0, 15.0, 8.0,
    ];
    vec![
        case(
            "convolution with padding and bias",
            Op::Conv { strides: vec![1], pads: vec![1, 0], dilations: vec![1], groups: 1, layout: FIRST },
            [
                f32s(&[1, 2, 3], &[1.0, 2.0, 3.0, 10.0, 20.0, 30.0]),
                f32s(&[1, 2, 2], &[1.0, 2.0, 0.0, 1.0]),
                f32s(&[1], &[0.5]),
            ],
            [f32s(&[1, 1, 3], &[12.5, 25.5, 38.5])],
        ),
        case(
            "depthwise convolution, channels last",
            Op::Conv { strides: vec![2], pads: vec![0, 0], dilations: vec![1], groups: 2, layout: LAST },
            [f32s(&[1, 3, 2], &[1.0, 10.0, 2.0, 20.0, 3.0, 30.0]), f32s(&[2, 1, 1], &[2.0, -1.0])],
            [f32s(&[1, 2, 2], &[2.0, -10.0, 6.0, -30.0])],
        ),
        case(
            "transposed convolution",
            Op::ConvTranspose {
                strides: vec![1, 1],
                pads: vec![0; 4],
                dilations: vec![1, 1],
                output_padding: vec![0, 0],
                groups: 1,
            },
            [
                f32s(&[1, 1, 3, 3], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]),
                f32s(&[1, 2, 3, 3], &[1.0; 18]),
                f32s(&[2], &[0.0, 1.0]),
            ],
            [f32s(&[1, 2, 5, 5], &[transposed.to_vec(), transposed.map(|v| v + 1.0).to_vec()].concat())],
        ),
        case(
            "transposed convolution with stride, padding and output padding",
            Op::ConvTranspose {
                strides: vec![2],
                pads: vec![1, 0],
                dilations: vec![2],
                output_padding: vec![1],
                groups: 1,
            },
            [f32s(&[1, 1, 2], &[1.0, 10.0]), f32s(&[1, 1, 2], &[2.0, 3.0])],
            // Full result 2 0 (3 + 20) 0 30 0, without its first element.
            [f32s(&[1, 1, 5], &[0.0, 23.0, 0.0, 30.0, 0.0])],
        ),
        case(
            "maximum over padded windows",
            max_pool(2, 2, 1, false, FIRST),
            [line()],
            [f32s(&[1, 1, 3], &[1.0, 5.0, 4.0])],
        ),
        case(
            "ceil adds a partial window",
            max_pool(2, 2, 0, true, FIRST),
            [line()],
            [f32s(&[1, 1, 3], &[5.0, 4.0, 3.0])],
        ),
        case(
            "maximum, channels last, integers",
            max_pool(2, 1, 0, false, LAST),
            [i64s(&[1, 3, 2], &[1, -1, 5, -5, 2, -2])],
            [i64s(&[1, 2, 2], &[5, -1, 5, -2])],
        ),
        case(
            "padding counts, the overhang of ceil does not",
            avg_pool(true, [3, 3]),
            [nine()],
            [f32s(&[1, 1, 4], &[0.7380714, 2.5655571, 0.8032286, -0.0999])],
        ),
        case(
            "padding does not count",
            avg_pool(false, [3, 3]),
            [nine()],
            [f32s(&[1, 1, 4], &[1.291625, 2.5655571, 0.9371, -0.1998])],
        ),
        case(
            "only the end padding counts",
            Op::AvgPool {
                kernel: vec![2, 2],
                strides: vec![1, 1],
                pads: vec![0, 0, 1, 1],
                dilations: vec![1, 1],
                ceil: false,
                count_pads: true,
                layout: FIRST,
            },
            [f32s(&[1, 1, 2, 2], &[1.0; 4])],
            [f32s(&[1, 1, 2, 2], &[1.0, 0.5, 0.5, 0.25])],
        ),
        case(
            "nearest, enlarged",
            resize(ResizeMode::Nearest, CoordinateTransform::HalfPixel, [4, 6], [2.0, 3.0]),
            [square()],
            [f32s(
                &[1, 1, 4, 6],
                &[
                    [1.0, 1.0, 1.0, 2.0, 2.0, 2.0],
                    [1.0, 1.0, 1.0, 2.0, 2.0, 2.0],
                    [3.0, 3.0, 3.0, 4.0, 4.0, 4.0],
                    [3.0, 3.0, 3.0, 4.0, 4.0, 4.0],
                ]
                .concat(),
            )],
        ),
        case(
            "nearest, reduced",
            resize(ResizeMode::Nearest, CoordinateTransform::HalfPixel, [1, 2], [0.6, 0.6]),
            [wide()],
            [f32s(&[1, 1, 1, 2], &[1.0, 3.0])],
        ),
        case(
            "linear by half pixels",
            resize(ResizeMode::Linear, CoordinateTransform::HalfPixel, [4, 4], [2.0, 2.0]),
            [square()],
            [f32s(
                &[1, 1, 4, 4],
                &[1.0, 1.25, 1.75, 2.0, 1.5, 1.75, 2.25, 2.5, 2.5, 2.75, 3.25, 3.5, 3.0, 3.25, 3.75, 4.0],
            )],
        ),
        case(
            "linear with aligned corners",
            resize(ResizeMode::Linear, CoordinateTransform::AlignCorners, [4, 4], [2.0, 2.0]),
            [square()],
            [f32s(
                &[1, 1, 4, 4],
                &[
                    1.0,
                    1.333_333_4,
                    1.666_666_6,
                    2.0,
                    1.666_666_6,
                    2.0,
                    2.333_333_3,
                    2.666_666_7,
                    2.333_333_3,
                    2.666_666_7,
                    3.0,
                    3.333_333_3,
                    3.0,
                    3.333_333_3,
                    3.666_666_7,
                    4.0,
                ],
            )],
        ),
        case(
            "linear, reduced",
            resize(ResizeMode::Linear, CoordinateTransform::HalfPixel, [1, 2], [0.6, 0.6]),
            [wide()],
            [f32s(&[1, 1, 1, 2], &[2.666_666_7, 4.333_333_3])],
        ),
        case(
            "linear, PyTorch's half pixel of a single row",
            resize(ResizeMode::Linear, CoordinateTransform::PytorchHalfPixel, [1, 4], [0.5, 1.0]),
            [wide()],
            [f32s(&[1, 1, 1, 4], &[1.0, 2.0, 3.0, 4.0])],
        ),
        case(
            "linear, asymmetric",
            resize(ResizeMode::Linear, CoordinateTransform::Asymmetric, [2, 4], [1.0, 2.0]),
            [square()],
            [f32s(&[1, 1, 2, 4], &[1.0, 1.5, 2.0, 2.0, 3.0, 3.5, 4.0, 4.0])],
        ),
    ]
}

#[test]
fn windows_yield_the_expected_values() {
    check(cases());
}

#[test]
fn nearest_rounding_decides_ties() {
    let x = || Some(i64s(&[1, 1, 4], &[0, 1, 2, 3]));
    for (rounding, expected) in [
        (NearestRounding::RoundPreferFloor, [0, 0, 1, 1, 2, 2, 3, 3]),
        (NearestRounding::RoundPreferCeil, [0, 1, 1, 2, 2, 3, 3, 3]),
        (NearestRounding::Floor, [0, 0, 1, 1, 2, 2, 3, 3]),
        (NearestRounding::Ceil, [0, 1, 1, 2, 2, 3, 3, 3]),
    ] {
        let op = Op::Resize {
            mode: ResizeMode::Nearest,
            coordinates: CoordinateTransform::Asymmetric,
            rounding,
            sizes: vec![8],
            scales: vec![Float(2.0)],
        };
        let y = evaluate(&op, &[x()], Precision::F32).expect("fits");
        assert_eq!(y[0], i64s(&[1, 1, 8], &expected), "{rounding:?}");
    }
}

#[test]
fn codes_have_maxima_but_no_means() {
    let q = QuantType {
        storage: Storage::UInt(8),
        granularity: Granularity::Tensor,
        scale: ScaleType::F32,
        zero_point: true,
    };
    let x = Tensor::new(vec![1, 1, 2], ElementType::Quant(q), Data::U8(vec![200, 100])).expect("fits");
    let y = evaluate(&max_pool(2, 1, 0, false, FIRST), &[Some(x.clone())], Precision::F32).expect("fits");
    assert_eq!(y[0].data, Data::U8(vec![200]));
    let mean = Op::AvgPool {
        kernel: vec![2],
        strides: vec![1],
        pads: vec![0, 0],
        dilations: vec![1],
        ceil: false,
        count_pads: false,
        layout: FIRST,
    };
    assert!(evaluate(&mean, &[Some(x)], Precision::F32).expect_err("no mean").contains("dequantize"));
}
