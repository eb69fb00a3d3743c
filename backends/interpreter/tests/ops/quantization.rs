//! Quantize, dequantize and contractions on codes, with every float step worked out by hand.

use qcc_interpreter::Precision;
use qcc_ir::ops::{ImageLayout, Rounding, Special};
use qcc_ir::{ElementType, Float, Granularity, Op, QuantType, ScaleType, Storage};
use qcc_params::{Data, Tensor};

use crate::case::{Case, case, check, evaluate, f32s, i32s};

const TENSOR: Granularity = Granularity::Tensor;
const ROWS: Granularity = Granularity::Channel { axis: 0 };

fn quant(storage: Storage, granularity: Granularity, zero_point: bool) -> QuantType {
    QuantType { storage, granularity, scale: ScaleType::F32, zero_point }
}

fn int8(granularity: Granularity) -> QuantType {
    quant(Storage::Int(8), granularity, false)
}

fn uint8() -> QuantType {
    quant(Storage::UInt(8), TENSOR, true)
}

fn codes(q: QuantType, dims: &[usize], values: &[i32]) -> Tensor {
    let data = match q.storage {
        Storage::UInt(_) => Data::U8(values.iter().map(|v| *v as u8).collect()),
        _ => Data::I8(values.iter().map(|v| *v as i8).collect()),
    };
    Tensor::new(dims.to_vec(), ElementType::Quant(q), data).expect("the test's sizes fit")
}

fn quantize(q: QuantType, narrow: bool, rounding: Rounding) -> Op {
    Op::Quantize { to: ElementType::Quant(q), narrow, rounding, special: Special::Saturate }
}

fn dynamic(q: QuantType) -> Op {
    Op::DynamicQuantize {
        to: ElementType::Quant(q),
        narrow: true,
        rounding: Rounding::HalfEven,
        special: Special::Saturate,
    }
}

fn linear(to: ElementType, lower: f64) -> Op {
    Op::QuantizedLinear { to, narrow: false, lower: Float(lower), upper: Float(f64::INFINITY) }
}

fn scalar(value: f32) -> Tensor {
    f32s(&[], &[value])
}

pub fn cases() -> Vec<Case> {
    let ties = || f32s(&[8], &[0.5, 1.5, -0.5, -1.5, 1000.0, -1000.0, f32::NAN, -0.0]);
    let x = codes(int8(TENSOR), &[1, 2], &[10, -20]);
    let weight = codes(int8(ROWS), &[2, 2], &[3, 4, -1, 2]);
    let w = || Some(weight.clone());
    let sw = || Some(f32s(&[2], &[0.25, 2.0]));
    let block = Granularity::Block { axis: 1, block: 2 };
    let u8s = || codes(uint8(), &[1, 3, 1], &[130, 127, 140]);
    vec![
        case(
            "ties to even, narrow",
            quantize(int8(TENSOR), true, Rounding::HalfEven),
            [ties(), scalar(1.0)],
            [codes(int8(TENSOR), &[8], &[0, 2, 0, -2, 127, -127, 0, 0])],
        ),
        case(
            "ties away, full range",
            quantize(int8(TENSOR), false, Rounding::HalfAway),
            [ties(), scalar(1.0)],
            [codes(int8(TENSOR), &[8], &[1, 2, -1, -2, 127, -128, 0, 0])],
        ),
        case(
            "a zero point shifts, NaN becomes it",
            quantize(uint8(), false, Rounding::HalfEven),
            [f32s(&[5], &[1.0, -64.0, 100.0, f32::NAN, f32::INFINITY]), scalar(0.5), i32s(&[], &[128])],
            [codes(uint8(), &[5], &[130, 0, 255, 128, 255])],
        ),
        case(
            "scales of channels",
            quantize(
                quant(Storage::Int(4), Granularity::Channel { axis: 1 }, false),
                true,
                Rounding::HalfEven,
            ),
            [f32s(&[2, 2], &[1.0, 1.0, -2.0, -2.0]), f32s(&[2], &[1.0, 0.25])],
            [codes(
                quant(Storage::Int(4), Granularity::Channel { axis: 1 }, false),
                &[2, 2],
                &[1, 4, -2, -7],
            )],
        ),
        case(
            "a row of zeros has scale 1",
            dynamic(int8(Granularity::Token)),
            [f32s(&[3, 2], &[127.0, -63.4, 0.0, -0.0, f32::NAN, 254.0])],
            [
                codes(int8(Granularity::Token), &[3, 2], &[127, -63, 0, 0, 0, 127]),
                f32s(&[3, 1], &[1.0, 1.0, 2.0]),
            ],
        ),
        case(
            "blocks, the last one short",
            dynamic(quant(Storage::Int(4), block, false)),
            [f32s(&[1, 3], &[7.0, 3.5, 14.0])],
            [codes(quant(Storage::Int(4), block, false), &[1, 3], &[7, 4, 7]), f32s(&[1, 2], &[1.0, 2.0])],
        ),
        case(
            "dequantize",
            Op::Dequantize {},
            [codes(uint8(), &[2], &[0, 255]), scalar(0.5), i32s(&[], &[3])],
            [f32s(&[2], &[-1.5, 126.0])],
        ),
        case(
            "integer linear",
            linear(ElementType::F32, f64::NEG_INFINITY),
            [Some(x.clone()), w(), sw(), Some(scalar(0.5)), None, Some(f32s(&[2], &[1.0, 2.0]))],
            [f32s(&[1, 2], &[-5.25, -48.0])],
        ),
        case(
            "integer linear, clamped and requantized",
            linear(ElementType::Quant(uint8()), -6.0),
            [
                Some(x.clone()),
                w(),
                sw(),
                Some(scalar(0.5)),
                None,
                None,
                Some(scalar(0.5)),
                Some(i32s(&[], &[100])),
            ],
            // −6.25 and −50, both clamped to −6: −12 + 100.
            [codes(uint8(), &[1, 2], &[88, 88])],
        ),
        case(
            "integer linear, scales of tokens and zero points",
            linear(ElementType::F32, 0.0),
            [
                Some(codes(quant(Storage::UInt(8), Granularity::Token, true), &[2, 2], &[110, 80, 4, 6])),
                w(),
                sw(),
                Some(f32s(&[2, 1], &[0.5, 2.0])),
                Some(i32s(&[2, 1], &[100, 5])),
            ],
            // Sums −50, −50; 1, 3.
            [f32s(&[2, 2], &[0.0, 0.0, 0.5, 12.0])],
        ),
        case(
            "block scales",
            linear(ElementType::F32, f64::NEG_INFINITY),
            [
                Some(codes(int8(TENSOR), &[1, 3], &[1, 2, 3])),
                Some(codes(quant(Storage::Int(4), block, false), &[2, 3], &[1, 1, 1, 2, -2, 7])),
                Some(f32s(&[2, 2], &[0.5, 0.25, 1.0, 2.0])),
                Some(scalar(2.0)),
                None,
                Some(f32s(&[2], &[0.0, 1.0])),
            ],
            // 3 · 0.5 + 3 · 0.25 = 2.25; −2 · 1 + 21 · 2 = 40.
            [f32s(&[1, 2], &[4.5, 81.0])],
        ),
        case(
            "float activations meet dequantized weights",
            linear(ElementType::F32, f64::NEG_INFINITY),
            [Some(f32s(&[1, 2], &[0.5, 1.0])), w(), sw(), None, None, Some(f32s(&[2], &[1.0, 2.0]))],
            [f32s(&[1, 2], &[2.375, 5.0])],
        ),
        case(
            "integer convolution, padding is the zero point",
            Op::QuantizedConv {
                strides: vec![1],
                pads: vec![1, 0],
                dilations: vec![1],
                groups: 1,
                layout: ImageLayout::ChannelsLast,
                to: ElementType::F32,
                narrow: true,
                lower: Float(-2.0),
                upper: Float(6.0),
            },
            [
                Some(u8s()),
                Some(codes(int8(ROWS), &[2, 1, 2], &[5, 1, -1, 2])),
                Some(f32s(&[2], &[1.0, 0.5])),
                Some(scalar(0.5)),
                Some(i32s(&[], &[128])),
                Some(f32s(&[2], &[0.0, 0.25])),
            ],
            // x − z = 2 −1 12; channel 0: 2, 9, 7 halved; channel 1: 4, −4, 25 quartered, plus 0.25.
            [f32s(&[1, 3, 2], &[1.0, 1.25, 4.5, -0.75, 3.5, 6.0])],
        ),
        case(
            "integer convolution, channels with bounds",
            Op::QuantizedConv {
                strides: vec![1],
                pads: vec![0, 0],
                dilations: vec![1],
                groups: 1,
                layout: ImageLayout::ChannelsLast,
                to: ElementType::F32,
                narrow: true,
                lower: Float(0.0),
                upper: Float(6.0),
            },
            [
                Some(u8s()),
                Some(codes(int8(ROWS), &[2, 1, 1], &[1, 1])),
                Some(f32s(&[2], &[1.0, 2.0])),
                Some(scalar(0.5)),
                Some(i32s(&[], &[128])),
                None,
                None,
                None,
                Some(f32s(&[2], &[0.75, 10.0])),
            ],
            // x − z = 2 −1 12; halved in channel 0.
            [f32s(&[1, 3, 2], &[0.75, 2.0, 0.0, 0.0, 0.75, 6.0])],
        ),
    ]
}

#[test]
fn quantized_operations_yield_the_expected_codes() {
    check(cases());
}

/// Storage, narrow, lowest code, highest code: as ONNX and MLIR define the types, and the contract the narrow ranges.
const RANGES: [(Storage, bool, i32, i32); 21] = [
    (Storage::Int(2), true, -1, 1),
    (Storage::Int(2), false, -2, 1),
    (Storage::UInt(2), false, 0, 3),
    (Storage::Int(3), true, -3, 3),
    (Storage::Int(3), false, -4, 3),
    (Storage::UInt(3), false, 0, 7),
    (Storage::Int(4), true, -7, 7),
    (Storage::Int(4), false, -8, 7),
    (Storage::UInt(4), false, 0, 15),
    (Storage::Int(5), true, -15, 15),
    (Storage::Int(5), false, -16, 15),
    (Storage::UInt(5), false, 0, 31),
    (Storage::Int(6), true, -31, 31),
    (Storage::Int(6), false, -32, 31),
    (Storage::UInt(6), false, 0, 63),
    (Storage::Int(7), true, -63, 63),
    (Storage::Int(7), false, -64, 63),
    (Storage::UInt(7), false, 0, 127),
    (Storage::Int(8), true, -127, 127),
    (Storage::Int(8), false, -128, 127),
    (Storage::UInt(8), false, 0, 255),
];

#[test]
fn every_width_clamps_to_its_codes() {
    for (storage, narrow, lowest, highest) in RANGES {
        let at = format!("{} narrow: {narrow}", storage.name());
        let q = quant(storage, TENSOR, false);
        let x = [-1e9, -1000.0, lowest as f32, 0.4, 0.5, 1.0, highest as f32, 1000.0, 1e9, f32::NAN];
        let operands = [Some(f32s(&[10], &x)), Some(scalar(1.0))];
        let y = evaluate(&quantize(q, narrow, Rounding::HalfEven), &operands, Precision::F32).expect(&at);
        let expected = [lowest, lowest, lowest, 0, 0, 1, highest, highest, highest, 0];
        assert_eq!(y[0], codes(q, &[10], &expected), "{at}");
        // All of the full range decodes; the next codes are refused.
        let all = |from: i32, to: i32| -> Result<Vec<Tensor>, String> {
            let list: Vec<i32> = (from..=to).collect();
            let operands = [Some(codes(q, &[list.len()], &list)), Some(scalar(0.5))];
            evaluate(&Op::Dequantize {}, &operands, Precision::F32)
        };
        let decoded = all(lowest, highest).expect(&at);
        let values: Vec<f32> = (lowest..=highest).map(|c| c as f32 * 0.5).collect();
        assert_eq!(decoded[0].data, Data::F32(values), "{at}");
        if highest < 127 {
            assert!(all(0, highest + 1).expect_err(&at).contains("is outside the codes"), "{at}");
        }
    }
}

#[test]
fn the_largest_value_gets_the_highest_code_of_every_width() {
    for (storage, narrow, _, highest) in RANGES {
        let Storage::Int(_) = storage else { continue };
        let q = quant(storage, Granularity::Token, false);
        let op = Op::DynamicQuantize {
            to: ElementType::Quant(q),
            narrow,
            rounding: Rounding::HalfEven,
            special: Special::Saturate,
        };
        let x = f32s(&[2, 3], &[3.0, -3.0, 0.0, -0.125, 0.0625, 0.125]);
        let y = evaluate(&op, &[Some(x)], Precision::F32).expect("fits");
        let inverse = 1.0 / highest as f32;
        assert_eq!(y[1].data, Data::F32(vec![3.0 * inverse, 0.125 * inverse]), "{}", storage.name());
        // Half of the highest code, which is odd, lies between two codes.
        let half = (0.0625 * (1.0 / (0.125 * inverse))).round_ties_even() as i32;
        assert_eq!(y[0], codes(q, &[2, 3], &[highest, -highest, 0, -highest, half, highest]));
    }
}

#[test]
fn scales_are_rounded_before_codes_are_computed() {
    let q =
        QuantType { storage: Storage::Int(8), granularity: TENSOR, scale: ScaleType::F16, zero_point: false };
    let x: Vec<f32> = (0..100).map(|i| (i as f32) * 0.731 - 31.7).collect();
    let y = evaluate(&dynamic(q), &[Some(f32s(&[100], &x))], Precision::F32).expect("fits");
    let largest = x.iter().fold(0f32, |m, v| m.max(v.abs()));
    let scale = half::f16::from_f32(largest * (1.0 / 127.0));
    assert_eq!(y[1].data, Data::F16(vec![scale]));
    let inverse = 1.0 / scale.to_f32();
    let expected = x.iter().map(|v| (v * inverse).round_ties_even().clamp(-127.0, 127.0) as i8).collect();
    assert_eq!(y[0].data, Data::I8(expected));
}

#[test]
fn the_multiplier_is_rounded_before_the_fused_product() {
    // sx · sw is inexact in f32; the definition rounds it, then uses one fma.
    let (sx, sw, bias) = (0.1f32, 0.3f32, 0.7f32);
    let operands = [
        Some(codes(int8(TENSOR), &[1, 3], &[127, 126, 125])),
        Some(codes(int8(ROWS), &[1, 3], &[101, -99, 97])),
        Some(f32s(&[1], &[sw])),
        Some(scalar(sx)),
        None,
        Some(f32s(&[1], &[bias])),
    ];
    let sum = 127 * 101 - 126 * 99 + 125 * 97;
    let y = evaluate(&linear(ElementType::F32, f64::NEG_INFINITY), &operands, Precision::F32).expect("fits");
    assert_eq!(y[0].data, Data::F32(vec![(sum as f32).mul_add(sx * sw, bias)]));
    let wide =
        evaluate(&linear(ElementType::F32, f64::NEG_INFINITY), &operands, Precision::F64).expect("fits");
    let exact = f64::from(sum).mul_add(f64::from(sx) * f64::from(sw), f64::from(bias));
    assert_eq!(wide[0].data, Data::F64(vec![exact]));
}

#[test]
fn what_is_not_implemented_says_so() {
    let error = |q: QuantType| {
        evaluate(&dynamic(q), &[Some(f32s(&[1, 2], &[1.0, 2.0]))], Precision::F32)
            .expect_err("not implemented")
    };
    let mut q = uint8();
    q.scale = ScaleType::E8M0;
    assert!(error(q).contains("f8E8M0FNU"));
    let activation = int8(Granularity::Block { axis: 1, block: 2 });
    let operands = [
        Some(codes(activation, &[1, 2], &[1, 2])),
        Some(codes(int8(ROWS), &[1, 2], &[1, 2])),
        Some(f32s(&[1], &[1.0])),
        Some(f32s(&[1, 1], &[1.0])),
    ];
    let op = linear(ElementType::F32, 0.0);
    assert!(
        evaluate(&op, &operands, Precision::F32).expect_err("not implemented").contains("cannot be summed")
    );
}

#[test]
fn broken_codes_and_zero_points_are_errors() {
    let four = quant(Storage::Int(4), TENSOR, false);
    let operands = [Some(codes(four, &[1], &[9])), Some(scalar(1.0))];
    assert!(
        evaluate(&Op::Dequantize {}, &operands, Precision::F32).expect_err("9").contains("code 9 is outside")
    );
    let operands = [Some(f32s(&[1], &[0.0])), Some(scalar(1.0)), Some(i32s(&[], &[256]))];
    let op = quantize(uint8(), false, Rounding::HalfEven);
    assert!(evaluate(&op, &operands, Precision::F32).expect_err("256").contains("zero point 256"));
}
