//! Split codes: tables worked out by hand, and errors against those of integers of the same width.

use qcc_interpreter::{Precision, formats::clusters::clusters};
use qcc_ir::ops::{Rounding, Special};
use qcc_ir::{ElementType, Granularity, Op, QuantType, ScaleType, Storage};
use qcc_params::{Data, Tensor};

use crate::case::{Case, case, check, evaluate, f32s, i32s};

const ROWS: Granularity = Granularity::Channel { axis: 0 };

fn split(bits: u8, granularity: Granularity) -> QuantType {
    QuantType { storage: Storage::Split(bits), granularity, scale: ScaleType::F32, zero_point: true }
}

fn codes(q: QuantType, dims: &[usize], values: &[u16]) -> Tensor {
    let data = match q.storage.bits() {
        9.. => Data::U16(values.to_vec()),
        _ => Data::U8(values.iter().map(|v| *v as u8).collect()),
    };
    Tensor::new(dims.to_vec(), ElementType::Quant(q), data).expect("the test's sizes fit")
}

fn dynamic(q: QuantType) -> Op {
    Op::DynamicQuantize {
        to: ElementType::Quant(q),
        narrow: false,
        rounding: Rounding::HalfEven,
        special: Special::Saturate,
    }
}

/// The least scale of numbers up to `largest`.
fn least(largest: f32) -> f32 {
    largest / 4_194_304.0
}

pub fn cases() -> Vec<Case> {
    let one = split(2, Granularity::Tensor);
    let rows = split(7, ROWS);
    vec![
        case(
            "three clusters, what belongs to none",
            dynamic(one),
            [f32s(&[9], &[30.0, -10.0, -9.0, -7.0, 0.75, 0.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY])],
            [
                codes(one, &[9], &[8, 0, 1, 3, 7, 4, 4, 11, 0]),
                f32s(&[3], &[1.0, 0.25, least(30.0)]),
                i32s(&[3], &[10, 0, -4_194_304]),
            ],
        ),
        case(
            "fewer clusters, and none",
            dynamic(rows),
            [f32s(&[3, 3], &[0.0, -2.0, -0.0, 5.0, 5.0, 5.0, f32::NAN, f32::NAN, f32::INFINITY])],
            [
                codes(rows, &[3, 3], &[128, 0, 128, 0, 0, 0, 0, 0, 127]),
                f32s(&[3, 3], &[least(2.0), 1.0, 1.0, least(5.0), 1.0, 1.0, 1.0, 1.0, 1.0]),
                i32s(&[3, 3], &[4_194_304, 0, 0, -4_194_304, 0, 0, 0, 0, 0]),
            ],
        ),
        case(
            "levels by the tables of their clusters",
            Op::Dequantize {},
            [
                codes(rows, &[2, 3], &[127, 128, 257, 0, 130, 383]),
                f32s(&[2, 3], &[1.0, 2.0, 4.0, 0.5, 0.25, 0.125]),
                i32s(&[2, 3], &[100, 0, -7, 2, -2, 127]),
            ],
            [f32s(&[2, 3], &[27.0, 0.0, 32.0, -1.0, 1.0, 0.0])],
        ),
    ]
}

#[test]
fn split_operations_yield_the_expected_codes() {
    check(cases());
}

/// Bell-shaped numbers, now and then ten times as large: what weights look like.
fn weights(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let mut unit = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / 16_777_216.0 - 0.5
    };
    (0..count).map(|i| (0..6).map(|_| unit()).sum::<f32>() * if i % 97 == 0 { 10.0 } else { 0.1 }).collect()
}

/// `x` after quantization and back.
fn coded(q: QuantType, x: &Tensor) -> Vec<f64> {
    let coded = evaluate(&dynamic(q), &[Some(x.clone())], Precision::F32).expect("quantizes");
    let coded: Vec<Option<Tensor>> = coded.into_iter().map(Some).collect();
    evaluate(&Op::Dequantize {}, &coded, Precision::F32).expect("decodes")[0].to_f64_vec()
}

/// Squared error after quantization and back.
fn error(q: QuantType, x: &Tensor) -> f64 {
    x.to_f64_vec().iter().zip(coded(q, x)).map(|(x, y)| (x - y) * (x - y)).sum()
}

#[test]
fn clusters_err_less_than_the_whole() {
    for seed in 0..20 {
        let x = f32s(&[4, 200], &weights(800, seed));
        for bits in 2..=8 {
            for granularity in [Granularity::Tensor, ROWS] {
                let integer =
                    QuantType { storage: Storage::Int(bits), zero_point: false, ..split(bits, granularity) };
                let (parts, whole) = (error(split(bits, granularity), &x), error(integer, &x));
                assert!(parts < whole, "split{bits} {granularity}: {parts} of {whole}");
            }
        }
    }
}

#[test]
fn an_error_is_a_step_of_its_cluster_at_most() {
    let x = weights(1000, 5);
    let found = clusters(x.iter().map(|x| f64::from(*x)).collect(), 3);
    for bits in 2..=8 {
        let y = coded(split(bits, Granularity::Tensor), &f32s(&[1000], &x));
        for (&x, y) in x.iter().zip(y) {
            let x = f64::from(x);
            let own = found.iter().find(|c| (c.least..=c.greatest).contains(&x)).expect("covered");
            let step = (own.greatest - own.least) / f64::from((1 << bits) - 1);
            // Zero points are whole steps: the ends of a cluster may be half a step away, and clamped.
            assert!((x - y).abs() <= step * (1.0 + 1e-3), "split{bits}: {x} became {y}, steps of {step}");
        }
    }
}

#[test]
fn broken_codes_are_errors() {
    let q = split(2, Granularity::Tensor);
    let operands = [Some(codes(q, &[1], &[12])), Some(f32s(&[3], &[1.0; 3])), Some(i32s(&[3], &[0; 3]))];
    let error = evaluate(&Op::Dequantize {}, &operands, Precision::F32).expect_err("12");
    assert!(error.contains("code 12 is outside the codes 0..=11"), "{error}");
}
