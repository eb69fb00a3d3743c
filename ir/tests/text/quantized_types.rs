//! Every quantized element type there is: each storage of the format grammar with each granularity, type of scales, with and without a
//! zero point. Their names come back, and they print, parse and verify.

use qcc_ir::{
    Dim, ElementType, Function, Granularity, Module, QuantType, ScaleType, Storage, TensorType, parse, print,
    verify,
};

use crate::suite::types;

fn storages() -> Vec<Storage> {
    let mut all = vec![
        Storage::Fp8E4M3,
        Storage::Fp8E5M2,
        Storage::Fp6E2M3,
        Storage::Fp6E3M2,
        Storage::Fp4E2M1,
        Storage::Nf4,
        Storage::Ternary,
        Storage::Binary,
        Storage::Codebook(1),
    ];
    let widths: [fn(u8) -> Storage; 7] = [
        Storage::Int,
        Storage::UInt,
        Storage::Bfp,
        Storage::Codebook,
        Storage::PowExp,
        Storage::Split,
        Storage::Pot,
    ];
    for bits in 2..=8 {
        all.extend(widths.iter().map(|storage| storage(bits)));
    }
    for exponent in 1..=7 {
        all.extend((0..=7 - exponent).map(|mantissa| Storage::Minifloat { exponent, mantissa }));
    }
    for integer in 0..=15 {
        let fractions = (0..=15 - integer).filter(|fraction| integer + fraction >= 1);
        all.extend(fractions.map(|fraction| Storage::Fixed { integer, fraction }));
    }
    all
}

#[test]
fn names_come_back() {
    for storage in storages() {
        assert_eq!(Storage::from_name(&storage.name()), Some(storage), "{}", storage.name());
    }
    for name in
        ["int1", "int9", "e0m3", "e4m4", "bfp1", "fixed0.0", "fixed9.9", "int", "nf5", "int08", "e3m", ""]
    {
        assert_eq!(Storage::from_name(name), None, "{name}");
    }
}

/// Parameters of all types.
pub fn module() -> Module {
    let granularities = [
        Granularity::Tensor,
        Granularity::Channel { axis: 0 },
        Granularity::Token,
        Granularity::Block { axis: 1, block: 32 },
    ];
    let scales = [ScaleType::F32, ScaleType::F16, ScaleType::BF16, ScaleType::E4M3, ScaleType::E8M0];
    let mut function = Function::new("main");
    for storage in storages() {
        for granularity in granularities {
            for scale in scales {
                for zero_point in [false, true] {
                    let element = ElementType::Quant(QuantType { storage, granularity, scale, zero_point });
                    let ty = TensorType::new([Dim::Const(4), Dim::Const(64)], element);
                    function.add_parameter(&format!("p{}", function.node_count()), ty);
                }
            }
        }
    }
    Module { functions: vec![function] }
}

#[test]
fn types_print_parse_and_verify() {
    let module = module();
    assert!(module.functions[0].node_count() > 5000);
    let text = print::print_module(&module, print::Options::default());
    let again = parse::parse_module("types", &text).unwrap_or_else(|e| panic!("{}", e[0].render(&text, 1)));
    verify::verify(&again, verify::Options::default()).unwrap_or_else(|e| panic!("{}", e[0]));
    assert_eq!(print::print_module(&again, print::Options::default()), text);
    assert_eq!(types(&module.functions[0]), types(&again.functions[0]));
}
