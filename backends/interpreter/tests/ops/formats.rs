//! Every number format over every kind of number: nearest levels, ties, specials, scales of their standards.

use qcc_interpreter::formats::{
    Code, Parameters, Quantized, Rules, Scales, dequantize, quantize, quantize_dynamic, rounded,
};
use qcc_ir::ops::{Rounding, Special};
use qcc_ir::{Format, Granularity, QuantType, Role, ScaleType, Storage};
use qcc_params::Data;

fn q(text: &str) -> QuantType {
    Format::parse(text, Role::Weight).expect(text).quant_type(0, 1).expect(text)
}

fn of(storage: &str) -> QuantType {
    let storage = Storage::from_name(storage).expect(storage);
    QuantType { storage, granularity: Granularity::Tensor, scale: ScaleType::F32, zero_point: false }
}

/// All elements with fixed levels.
fn elements() -> Vec<QuantType> {
    let mut names: Vec<String> = [
        "fp8e4m3", "fp8e5m2", "fp6e2m3", "fp6e3m2", "fp4e2m1", "nf4", "ternary", "binary", "fixed3.4",
        "fixed7.8",
    ]
    .map(String::from)
    .into();
    for bits in 2..=8 {
        names.extend(["int", "uint", "bfp", "pot"].map(|word| format!("{word}{bits}")));
        names.extend((1..bits).map(|exponent| format!("e{exponent}m{}", bits - 1 - exponent)));
    }
    names.iter().map(|name| of(name)).collect()
}

struct Random(u64);

impl Random {
    fn bits(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 32) as u32
    }

    /// Any finite float.
    fn any(&mut self) -> f32 {
        let x = f32::from_bits(self.bits());
        if x.is_finite() { x } else { 0.0 }
    }

    fn unit(&mut self) -> f32 {
        self.bits() as f32 / 2f32.powi(31) - 1.0
    }
}

/// The finite levels of an element with their codes; of the two zeros the positive one.
fn levels(q: QuantType, narrow: bool) -> Vec<(f64, i32)> {
    let lowest = if narrow { Some(1u16 << (q.storage.bits() - 1)) } else { None };
    let dropped = |pattern: u16| q.storage.is_signed_integer() && Some(pattern) == lowest;
    let patterns = (0..1u32 << q.storage.bits()).map(|p| p as u16).filter(|p| !dropped(*p));
    let all = patterns.map(|p| (q.level(p).expect("fixed levels"), q.storage.code_of(p)));
    all.filter(|(x, _)| x.is_finite() && !(*x == 0.0 && x.is_sign_negative())).collect()
}

#[test]
fn every_code_encodes_to_itself() {
    for q in elements() {
        let code = Code::new(q, false, Special::Saturate, None).expect("fixed levels");
        for pattern in (0..1u32 << q.storage.bits()).map(|p| p as u16) {
            let level = q.level(pattern).expect("fixed levels");
            if level.is_nan() {
                continue;
            }
            let expected = q.storage.code_of(pattern);
            let special = Code::new(q, false, Special::Ieee, None).expect("fixed levels");
            let coder = if level.is_finite() { &code } else { &special };
            assert_eq!(
                coder.encode(level as f32, 0, Rounding::HalfEven),
                expected,
                "{} {pattern}",
                q.storage.name()
            );
            assert_eq!(
                code.decode::<f32>(expected, 0).to_bits(),
                (level as f32).to_bits(),
                "{} {pattern}",
                q.storage.name()
            );
        }
    }
}

#[test]
fn the_nearest_level_is_taken_and_ties_go_where_they_should() {
    let mut random = Random(1);
    for q in elements() {
        let mut all = levels(q, false);
        all.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        let values: Vec<f64> = all.iter().map(|l| l.0).collect();
        let largest = q.largest_level();
        let mut numbers: Vec<f32> = values.windows(2).map(|pair| pair[0].midpoint(pair[1]) as f32).collect();
        numbers.extend((0..400).map(|_| random.unit() * largest as f32 * 1.2));
        numbers.extend((0..100).map(|_| random.any()));
        numbers.extend([0.0, -0.0, f32::MAX, f32::MIN_POSITIVE, f32::from_bits(1), -f32::from_bits(3)]);
        for rounding in [Rounding::HalfEven, Rounding::HalfAway] {
            let code = Code::new(q, false, Special::Saturate, None).expect("fixed levels");
            for &x in &numbers {
                let at = format!("{} {x:e} {rounding:?}", q.storage.name());
                let got = code.encode(x, 0, rounding);
                let back: f64 = code.decode(got, 0);
                let distance = |level: f64| (level - f64::from(x)).abs();
                let above = values.partition_point(|l| *l < f64::from(x)).clamp(1, values.len() - 1);
                let near = &all[above - 1..=above];
                let best = distance(near[0].0).min(distance(near[1].0));
                assert_eq!(distance(back), best, "{at}: {back}");
                let tied: Vec<&(f64, i32)> = near.iter().filter(|(l, _)| distance(*l) == best).collect();
                // Far away, differences between distances are lost.
                if tied.len() == 2 && f64::from(x).abs() < 2.0 * largest && q.storage != Storage::Binary {
                    let wanted = match rounding {
                        Rounding::HalfEven => {
                            tied.iter().find(|(_, c)| c % 2 == 0).expect("one of two neighbours")
                        }
                        Rounding::HalfAway => {
                            tied.iter().max_by(|a, b| a.0.abs().total_cmp(&b.0.abs())).expect("two")
                        }
                    };
                    assert_eq!(back, wanted.0, "{at}");
                }
                // Small floats keep the sign of what becomes zero.
                if q.storage.minifloat().is_some() && back == 0.0 {
                    assert_eq!(back.is_sign_negative(), x.is_sign_negative(), "{at}");
                }
            }
        }
    }
}

#[test]
fn conversions_are_those_of_ml_dtypes() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../test/formats/small-floats.txt");
    let vectors = std::fs::read_to_string(path).expect("vectors");
    let mut compared = 0;
    for section in vectors.split("round ").skip(1) {
        let (name, rest) = section.split_once('\n').expect("a name");
        let code = Code::new(of(name), true, Special::Ieee, None).expect("fixed levels");
        for pair in rest.split("levels").next().unwrap_or_default().split_whitespace() {
            let (x, expected) = pair.split_once(':').expect(pair);
            let x = f32::from_bits(u32::from_str_radix(x, 16).expect(pair));
            let expected = i32::from_str_radix(expected, 16).expect(pair);
            let got = code.encode(x, 0, Rounding::HalfEven);
            // NaN has many patterns.
            let same = got == expected
                || (code.decode::<f64>(got, 0).is_nan() && code.decode::<f64>(expected, 0).is_nan());
            assert!(same, "{name} {x:e}: {got:#x}, not {expected:#x}");
            compared += 1;
        }
    }
    assert!(compared > 1500, "{compared}");
}

#[test]
fn specials_become_what_the_attribute_says() {
    let encode = |name: &str, special, x: f32| {
        let zero_point = if name == "int4" { 3 } else { 0 };
        Code::new(of(name), true, special, None).expect(name).encode(x, zero_point, Rounding::HalfEven)
    };
    let cases = [
        ("fp8e4m3", Special::Saturate, [0x7e, 0xfe, 0x7e, 0x7f]),
        ("fp8e4m3", Special::Ieee, [0x7f, 0xff, 0x7f, 0x7f]),
        ("fp8e4m3", Special::Finite, [0x7e, 0xfe, 0x7e, 0x00]),
        ("fp8e5m2", Special::Saturate, [0x7b, 0xfb, 0x7b, 0x7f]),
        ("fp8e5m2", Special::Ieee, [0x7c, 0xfc, 0x7c, 0x7f]),
        ("fp8e5m2", Special::Finite, [0x7b, 0xfb, 0x7b, 0x00]),
        ("fp4e2m1", Special::Ieee, [7, 15, 7, 0]),
        ("e4m3", Special::Ieee, [0x7f, 0xff, 0x7f, 0]),
        ("int4", Special::Ieee, [7, -7, 7, 3]),
        ("nf4", Special::Saturate, [15, 0, 15, 7]),
        ("binary", Special::Saturate, [1, -1, 1, 1]),
        ("ternary", Special::Saturate, [1, -1, 1, 0]),
    ];
    for (name, special, expected) in cases {
        let got = [f32::INFINITY, f32::NEG_INFINITY, 1e30, f32::NAN].map(|x| encode(name, special, x));
        assert_eq!(got, expected, "{name} {special:?}");
    }
}

fn made(text: &str, values: &[f32], dims: &[usize]) -> Quantized<f32> {
    quantize_dynamic(values, dims, q(text), Rules::nearest(true), None).expect(text)
}

fn scale_codes(made: &Quantized<f32>) -> &[u8] {
    match &made.parameters.scales {
        Scales::Codes(codes) => codes,
        Scales::Floats(_) => panic!("scales are codes"),
    }
}

/// OCP MX v1.0, §6.3, of blocks that test its corners.
#[test]
fn mx_blocks_are_those_of_the_standard() {
    let block = |first: &[f32]| -> Vec<f32> {
        first.iter().copied().chain(std::iter::repeat_n(0.0, 32 - first.len())).collect()
    };
    // The largest magnitude, the exponent of the scale, and what the first element becomes.
    let almost_two = 2.0 - 2f32.powi(-23);
    let cases: [(&str, &[f32], i32, f32); 14] = [
        ("mxfp4", &[6.0, 1.0], 0, 6.0),
        ("mxfp4", &[4.0, 1.0], 0, 4.0),
        ("mxfp4", &[7.9, 1.0], 0, 6.0),
        ("mxfp4", &[8.0, 1.0], 1, 8.0),
        ("mxfp4", &[2f32.powi(20) * almost_two, 0.0], 18, 6.0 * 2f32.powi(18)),
        ("mxfp8e4m3", &[448.0], 0, 448.0),
        ("mxfp8e4m3", &[511.0], 0, 448.0),
        ("mxfp8e5m2", &[1.0], -15, 1.0),
        ("mxfp6e2m3", &[-7.5], 0, -7.5),
        ("mxfp6e3m2", &[28.0], 0, 28.0),
        ("mxint8", &[1.0, -0.5], 0, 1.0),
        ("mxint8", &[almost_two], 0, 127.0 / 64.0),
        ("mxfp4", &[f32::from_bits(1)], -127, 0.0),
        ("mxfp4", &[f32::MAX], 125, 6.0 * 2f32.powi(125)),
    ];
    for (format, first, exponent, expected) in cases {
        let values = block(first);
        let made = made(format, &values, &[1, 32]);
        assert_eq!(scale_codes(&made), [(exponent + 127) as u8], "{format} {first:?}");
        let back = dequantize(&made.codes, &[1, 32], q(format), &made.parameters).expect(format);
        assert_eq!(back[0], expected, "{format} {first:?}");
    }
    // Zeros have the least scale; a NaN or an infinity takes its block, and no other, with it.
    let mut values = vec![0.0; 64];
    values[40] = 1.0;
    for poison in [f32::NAN, f32::INFINITY] {
        values[41] = poison;
        let made = made("mxfp4", &values, &[1, 64]);
        assert_eq!(scale_codes(&made), [0, 255]);
        let back = dequantize(&made.codes, &[1, 64], q("mxfp4"), &made.parameters).expect("fits");
        assert!(back[..32].iter().all(|x| *x == 0.0) && back[32..].iter().all(|x| x.is_nan()));
    }
    let finite = Rules { special: Special::Finite, ..Rules::nearest(true) };
    let made = quantize_dynamic(&values, &[1, 64], q("mxfp4"), finite, None).expect("fits");
    let back = dequantize(&made.codes, &[1, 64], q("mxfp4"), &made.parameters).expect("fits");
    assert_eq!((back[40], back[41]), (1.0, 1.5), "an infinity is the largest number there is");
}

#[test]
fn nvfp4_has_two_scales() {
    let values: Vec<f32> = (0..32).map(|i| if i < 16 { 0.5 } else { (i - 15) as f32 }).collect();
    let made = made("nvfp4", &values, &[1, 32]);
    let tensor_scale = made.parameters.tensor_scale.expect("NVFP4 has one");
    assert_eq!(tensor_scale, 16.0 * (1.0 / (448.0 * 6.0)));
    // 448 for the block of the largest magnitude; 0.5 / 6 / tensor scale = 14 for the other.
    assert_eq!(scale_codes(&made), [0x56, 0x7e]);
    assert_eq!(ScaleType::E4M3.of_code(0x56), Some(14.0));
    let back = dequantize(&made.codes, &[1, 32], q("nvfp4"), &made.parameters).expect("fits");
    assert!((back[0] - 0.5).abs() < 1e-6 && (back[31] - 16.0).abs() < 1e-5, "{back:?}");
    // A block that is tiny beside the tensor keeps the least positive scale.
    let tiny: Vec<f32> = (0..32).map(|i| if i < 16 { 1e-8 } else { 1.0 }).collect();
    assert_eq!(scale_codes(&self::made("nvfp4", &tiny, &[1, 32])), [1, 0x7e]);
    assert_eq!(self::made("nvfp4", &[0.0; 16], &[1, 16]).parameters.tensor_scale, Some(1.0));
}

#[test]
fn block_floating_point_shares_an_exponent() {
    let values = [1.75, -0.3, 0.126, 0.0, 3.9, 1.0, -4.0, 0.5];
    let made = made("bfp4:block=4", &values, &[1, 8]);
    // ⌊log2 1.75⌋ = 0, steps of 1/4; ⌊log2 4⌋ = 2, steps of 1.
    assert_eq!(scale_codes(&made), [127, 129]);
    assert_eq!(made.codes, Data::I8(vec![7, -1, 1, 0, 4, 1, -4, 0]));
}

#[test]
fn asymmetric_scales_span_the_values_and_zero() {
    let made = made("uint4:channel:asym", &[1.0, 2.0, 4.0, -1.0, 0.0, 2.0], &[2, 3]);
    assert_eq!(made.parameters.zero_points, Some(vec![0, 5]));
    let back =
        rounded(&[1.0f32, 2.0, 4.0, -1.0, 0.0, 2.0], &[2, 3], q("uint4:channel:asym"), Rules::nearest(false))
            .expect("fits");
    for (x, y) in [1.0, 2.0, 4.0, -1.0, 0.0, 2.0].iter().zip(&back) {
        assert!((x - y).abs() <= 0.5 * 4.0 / 15.0 + 1e-6, "{back:?}");
    }
    let same = self::made("int8:tensor:asym", &[0.0; 4], &[1, 4]);
    assert_eq!(
        (same.parameters.scales, same.parameters.zero_points),
        (Scales::Floats(vec![1.0]), Some(vec![0]))
    );
}

/// No other scale (and set of zeros) is better.
#[test]
fn ternary_and_binary_scales_are_of_least_squared_error() {
    let mut random = Random(5);
    let values: Vec<f32> = (0..60).map(|_| random.unit() * random.unit()).collect();
    let error = |text: &str, scale: Option<f32>| {
        let mut made = made(text, &values, &[1, 60]);
        if let Some(scale) = scale {
            made.parameters = Parameters::new(Scales::Floats(vec![scale]), None);
            made.codes =
                quantize(&values, &[1, 60], q(text), Rules::nearest(true), &made.parameters).expect("fits");
        }
        let back = dequantize(&made.codes, &[1, 60], q(text), &made.parameters).expect("fits");
        values.iter().zip(back).map(|(x, y)| f64::from(x - y).powi(2)).sum::<f64>()
    };
    for text in ["ternary:tensor", "binary:tensor"] {
        let best = error(text, None);
        for i in 1..200 {
            assert!(error(text, Some(i as f32 / 200.0)) >= best * (1.0 - 1e-6), "{text} {i}");
        }
    }
}

#[test]
fn codebooks_beat_every_uniform_grid_and_hold_few_values_exactly() {
    let mut random = Random(9);
    let values: Vec<f32> = (0..2000).map(|_| random.unit().powi(3)).collect();
    let error = |text: &str| {
        let back = rounded(&values, &[2, 1000], q(text), Rules::nearest(true)).expect(text);
        values.iter().zip(back).map(|(x, y)| f64::from(x - y).powi(2)).sum::<f64>()
    };
    assert!(
        error("codebook4:tensor") < 0.7 * error("int4:tensor"),
        "{} {}",
        error("codebook4:tensor"),
        error("int4:tensor")
    );
    assert!(
        error("powexp4:tensor") < 0.9 * error("int4:tensor"),
        "{} {}",
        error("powexp4:tensor"),
        error("int4:tensor")
    );
    assert!(error("codebook8:tensor") < 1e-3 * error("codebook4:tensor") * 20.0);
    let few = [0.25f32, -1.0, 0.5, 1.0, 0.25, -1.0];
    assert_eq!(rounded(&few, &[1, 6], q("codebook2:tensor"), Rules::nearest(true)).expect("fits"), few);
}

/// PowerQuant with exponent 1 is the uniform quantizer: of values that are uniform already.
#[test]
fn power_exponents_of_uniform_values_are_integers() {
    let values: Vec<f32> = (-127..=127).map(|i| i as f32).collect();
    let made = made("powexp8:tensor", &values, &[1, 255]);
    let back = dequantize(&made.codes, &[1, 255], q("powexp8:tensor"), &made.parameters).expect("fits");
    for (x, y) in values.iter().zip(back) {
        assert!((x - y).abs() < 1e-4, "{x} {y}");
    }
    let levels = made.parameters.codebook.expect("the levels");
    assert!(levels.is_sorted() && levels.len() == 256);
}

#[test]
fn every_weight_format_is_near_what_it_rounds() {
    let mut random = Random(3);
    let values: Vec<f32> = (0..4 * 70).map(|_| random.unit() * random.unit()).collect();
    for (names, _) in qcc_ir::format::CATALOGUE {
        for name in names.split(' ').filter(|n| !["f32", "f16", "bf16"].contains(n)) {
            let name = name.replace(['N', 'X'], "4").replace(['Y', 'I'], "2").replace('F', "5");
            let format = Format::parse(&name, Role::Weight).expect(&name);
            let q = format.quant_type(0, 1).expect(&name);
            let back = rounded(&values, &[4, 70], q, Rules::nearest(format.narrow())).expect(&name);
            let (mut noise, mut signal) = (0.0, 0.0);
            for (x, y) in values.iter().zip(&back).filter(|(x, _)| **x >= 0.0 || !name.starts_with("uint")) {
                noise += f64::from(x - y).powi(2);
                signal += f64::from(*x).powi(2);
            }
            let bits = f64::from(q.storage.bits());
            // A bit is worth about 6 dB, less those that exponents and signs take.
            let most = 4f64.powf(-(bits - 1.0) * 0.55) * 1.6;
            assert!(noise / signal < most, "{name}: {:e} of at most {most:e}", noise / signal);
            let again = rounded(&back, &[4, 70], q, Rules::nearest(format.narrow())).expect(&name);
            if !matches!(q.storage, Storage::Split(_) | Storage::Codebook(_) | Storage::PowExp(_))
                && q.scale != ScaleType::E4M3
            {
                let moved = back.iter().zip(&again).any(|(x, y)| (x - y).abs() > 1e-5 * (1.0 + x.abs()));
                assert!(!moved, "{name} is not idempotent");
            }
        }
    }
}
