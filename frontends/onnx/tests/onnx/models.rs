//! Whole models against ONNX Runtime, on an image that `tools/onnx-vectors` and this file make alike.

use std::fs;
use std::path::{Path, PathBuf};

use libtest_mimic::Trial;
use qcc_interpreter::{Interpreter, Precision};
use qcc_params::{Imported, Tensor};
use serde_json::Value;

use crate::vectors;

/// Models that are also run; the others are imported and verified.
const RUN: &[&str] =
    &["small.onnx", "cifar/resnet20_cifar10_bn.onnx", "imagenet/mobilenet_v1_0.25_224_bn.onnx"];

pub fn trials() -> Vec<Trial> {
    let text = fs::read_to_string(vectors().join("models.json")).expect("the expected outputs are committed");
    let expected: Value = serde_json::from_str(&text).expect("JSON");
    let expected = expected.as_object().expect("models by name").clone();
    let models = expected
        .into_iter()
        .map(|(name, expected)| Trial::test(format!("model/{name}"), move || Ok(check(&name, &expected)?)));
    models.chain([Trial::test("model/a shape chain leaves one reshape", || Ok(shape_chain()?))]).collect()
}

/// Where a model is: the small one is committed, the others lie beside the checkout.
fn path(name: &str) -> PathBuf {
    match name {
        "small.onnx" => vectors().join(name),
        _ => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/models").join(name),
    }
}

fn check(name: &str, expected: &Value) -> Result<(), String> {
    let file = path(name);
    if !file.is_file() {
        println!("skipped: {} is not there", file.display());
        return Ok(());
    }
    let imported = qcc_onnx::import(&file).map_err(|e| e.to_string())?;
    let names = imported.parameters.iter().map(|(name, _)| name.to_string()).collect();
    let options = qcc_ir::verify::Options { parameters: Some(&names), ..Default::default() };
    qcc_ir::verify::verify(&imported.module, options).map_err(|e| format!("{e:?}"))?;
    let function = imported.module.entry().ok_or("no function")?;
    let batch = &function.ty(function.arguments()[0]).dims[0];
    if batch.as_symbol().is_none() || function.ty(function.results[0]).dims[0] != *batch {
        return Err(format!("the batch is {batch}, it must be a symbol from input to output"));
    }
    if RUN.contains(&name) { compare(&imported, expected) } else { Ok(()) }
}

/// `Shape`, `Gather`, `Unsqueeze` and `Concat` over a batch of any length are gone after the import; names are kept.
fn shape_chain() -> Result<(), String> {
    let imported = qcc_onnx::import(&path("small.onnx")).map_err(|e| e.to_string())?;
    let function = imported.module.entry().ok_or("no function")?;
    let nodes: Vec<String> = function
        .order()
        .iter()
        .map(|id| function.node(*id))
        .filter(|node| node.op.name() != "parameter")
        .map(|node| format!("{} {}", node.op.name(), node.location))
        .collect();
    let expected = [
        "conv conv",
        "batch_norm norm",
        "relu relu",
        "max_pool pool",
        "reshape flat",
        "transpose product",
        "linear product",
        "add logits",
        "softmax softmax",
    ];
    if nodes == expected { Ok(()) } else { Err(format!("{nodes:?}")) }
}

fn compare(imported: &Imported, expected: &Value) -> Result<(), String> {
    let shape: Vec<usize> =
        list(&expected["shape"]).iter().map(|v| v.as_u64().expect("a size") as usize).collect();
    let image = Tensor::f32(&shape, image(shape.iter().product())).map_err(|e| e.to_string())?;
    let function = imported.module.entry().ok_or("no function")?;
    let interpreter = Interpreter::new(Precision::F32);
    let output = interpreter.run(function, &imported.parameters, &[image]).map_err(|e| e.to_string())?;
    let output = output[0].to_f64_vec();
    let close = |what: &str, got: f64, want: f64| {
        let tolerance = 1e-4 + 1e-4 * want.abs();
        if (got - want).abs() <= tolerance {
            Ok(())
        } else {
            Err(format!("{what} is {got}, ONNX Runtime has {want}"))
        }
    };
    if output.len() as u64 != expected["count"].as_u64().unwrap_or(0) {
        return Err(format!("{} outputs", output.len()));
    }
    for entry in list(&expected["top"]) {
        let (class, want) =
            (entry[0].as_u64().expect("a class") as usize, entry[1].as_f64().expect("a number"));
        close(&format!("output {class}"), output[class], want)?;
    }
    let largest = (0..output.len()).max_by(|a, b| output[*a].total_cmp(&output[*b]));
    if largest.map(|c| c as u64) != expected["top"][0][0].as_u64() {
        return Err(format!("the largest output is {largest:?}"));
    }
    let sum = expected["sum"].as_f64().expect("a number");
    let spread = 1e-4 * output.iter().map(|v| v.abs()).sum::<f64>();
    let got: f64 = output.iter().sum();
    if (got - sum).abs() <= spread {
        Ok(())
    } else {
        Err(format!("the outputs add up to {got}, expected {sum}"))
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().expect("a list")
}

/// A linear congruential sequence in [-2, 2).
#[allow(clippy::cast_possible_truncation, reason = "the definition rounds here")]
fn image(count: usize) -> Vec<f32> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (f64::from(state) / f64::from(1 << 30) - 2.0) as f32
    };
    (0..count).map(|_| next()).collect()
}
