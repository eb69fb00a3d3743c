//! The code points of every element of up to 8 bits: the table `test/formats/levels.txt`, where a case lists elements and the answer their levels in the
//! order of their codes. Of elements with a sign bit, the negative half is the mirror image of the other, and not written again. `REWRITE=1` writes
//! the answers anew. And those of the OCP elements against PyPI's `ml_dtypes`.

use std::fmt::Write;

use qcc_ir::{Granularity, QuantType, ScaleType, Storage};

fn q(storage: Storage, scale: ScaleType) -> QuantType {
    QuantType { storage, granularity: Granularity::Tensor, scale, zero_point: false }
}

fn levels(q: QuantType) -> Vec<f64> {
    (0..1u32 << q.storage.bits()).map(|c| q.level(c as u16).expect("a fixed element")).collect()
}

#[test]
fn code_points_are_what_the_table_says() {
    datadriven::walk(concat!(env!("CARGO_MANIFEST_DIR"), "/../test/formats/levels.txt"), |file| {
        file.run(|case| {
            let scale = match case.directive.as_str() {
                "levels" => ScaleType::F32,
                "levels-with-e8m0-scales" => ScaleType::E8M0,
                other => panic!("unknown directive `{other}`"),
            };
            case.input.lines().fold(String::new(), |mut out, name| {
                let storage = Storage::from_name(name).expect(name);
                let mut all = levels(q(storage, scale));
                let half = all.len() / 2;
                let negative = all[half..].iter().map(|x| (-x).to_bits());
                let nan = |x: f64| if x.is_nan() { f64::NAN.to_bits() } else { x.to_bits() };
                let mirrored =
                    all[..half].iter().map(|x| nan(*x)).eq(negative.map(|x| nan(f64::from_bits(x))));
                let note = if mirrored { ", and with the sign bit their negatives" } else { "" };
                if mirrored {
                    all.truncate(half);
                }
                writeln!(out, "{name}: {} codes{note}", 2 * half).expect("a string");
                for line in all.chunks(16) {
                    let line: Vec<String> = line.iter().map(f64::to_string).collect();
                    writeln!(out, "  {}", line.join(" ")).expect("a string");
                }
                out
            })
        });
    });
}

#[test]
fn every_element_of_the_grammar_has_its_table() {
    let table = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../test/formats/levels.txt"))
        .expect("a table");
    let mut names: Vec<String> =
        ["fp8e4m3", "fp8e5m2", "fp6e2m3", "fp6e3m2", "fp4e2m1", "nf4", "ternary", "binary"]
            .map(String::from)
            .into();
    for bits in 2..=8 {
        names.extend(["int", "uint", "bfp", "pot"].map(|word| format!("{word}{bits}")));
        names.extend((0..bits).map(|fraction| format!("fixed{}.{fraction}", bits - 1 - fraction)));
        names.extend((1..bits).map(|exponent| format!("e{exponent}m{}", bits - 1 - exponent)));
    }
    for name in names {
        assert!(Storage::from_name(&name).is_some(), "{name}");
        assert!(table.lines().any(|line| line == name), "{name} has no table");
    }
}

#[test]
fn ocp_elements_are_those_of_ml_dtypes() {
    let vectors =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../test/formats/small-floats.txt"))
            .expect("vectors");
    let mut compared = 0;
    for section in vectors.split("levels ").skip(1) {
        let (name, rest) = section.split_once('\n').expect("a name");
        let patterns = rest.split("round").next().unwrap_or_default().split_whitespace();
        let expected: Vec<f64> =
            patterns.map(|p| f64::from(f32::from_bits(u32::from_str_radix(p, 16).expect(p)))).collect();
        let found: Vec<f64> = match Storage::from_name(name) {
            Some(storage) => levels(q(storage, ScaleType::F32)),
            None => (0..=255).map(|c| ScaleType::E8M0.of_code(c).expect("an 8-bit scale")).collect(),
        };
        assert_eq!(found.len(), expected.len(), "{name}");
        for (code, (a, b)) in found.iter().zip(&expected).enumerate() {
            assert!(a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan()), "{name} {code}: {a}, not {b}");
        }
        compared += found.len();
    }
    assert_eq!(compared, 256 + 256 + 64 + 64 + 16 + 256);
}
