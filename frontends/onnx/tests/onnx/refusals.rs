//! Models that are refused, and what the error says.

use std::fs;
use std::path::Path;

use libtest_mimic::Trial;

use crate::encode::{Message, external, model, node, value};

pub fn trials() -> Vec<Trial> {
    vec![
        Trial::test("refused/all unsupported operators are named", || Ok(unsupported()?)),
        Trial::test("refused/quantized models", || Ok(quantized()?)),
        Trial::test("refused/opsets that are not known", || Ok(opset()?)),
        Trial::test("refused/attributes that are not known", || Ok(attribute()?)),
        Trial::test("refused/nodes out of order", || Ok(order()?)),
        Trial::test("refused/names given twice", || Ok(twice()?)),
        Trial::test("refused/sizes beyond memory", || Ok(sizes()?)),
        Trial::test("refused/external data outside the folder", || Ok(outside()?)),
        Trial::test("external data beside the model", || Ok(beside()?)),
    ]
}

fn import(folder: &Path, bytes: &[u8]) -> Result<qcc_params::Imported, String> {
    let file = folder.join("model.onnx");
    fs::write(&file, bytes).map_err(|e| e.to_string())?;
    qcc_onnx::import(&file).map_err(|e| e.to_string())
}

/// Checks that a model is refused with a message that has all `parts`.
fn refused(bytes: &[u8], parts: &[&str]) -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
    match import(folder.path(), bytes) {
        Ok(_) => Err("it was imported".into()),
        Err(message) => match parts.iter().find(|part| !message.contains(**part)) {
            None => Ok(()),
            Some(part) => Err(format!("`{part}` is not in: {message}")),
        },
    }
}

/// A graph from `x` to `y`.
fn graph(nodes: &[Message]) -> Message {
    let graph = nodes.iter().fold(Message::default(), |graph, node| graph.bytes(1, node));
    graph.bytes(11, value("x")).bytes(12, value("y"))
}

fn unsupported() -> Result<(), String> {
    let nodes = [
        node("NonZero", &["x"], "a"),
        node("Loop", &["a"], "b"),
        node("Loop", &["b"], "c"),
        node("Relu", &["c"], "y"),
    ];
    refused(&model(13, graph(&nodes)), &["`a node`", "NonZero", "opset 13", "Loop (2 nodes)"])?;
    let foreign = node("FusedConv", &["x"], "y").bytes(7, "com.microsoft");
    refused(&model(13, graph(&[foreign])), &["com.microsoft.FusedConv"])
}

fn quantized() -> Result<(), String> {
    refused(
        &model(13, graph(&[node("QuantizeLinear", &["x", "s"], "y")])),
        &["`QuantizeLinear`", "quantized already"],
    )
}

fn opset() -> Result<(), String> {
    refused(&model(6, graph(&[node("Relu", &["x"], "y")])), &["opset 6"])?;
    refused(&model(1 << 40, graph(&[node("Relu", &["x"], "y")])), &["opsets 7 to 23"])
}

fn attribute() -> Result<(), String> {
    let attribute = Message::default().bytes(1, "leak").number(3, 1).number(20, 2);
    refused(
        &model(13, graph(&[node("Relu", &["x"], "y").bytes(5, attribute)])),
        &["`y node` (Relu, opset 13)", "`leak`"],
    )
}

fn order() -> Result<(), String> {
    refused(
        &model(13, graph(&[node("Relu", &["a"], "y"), node("Relu", &["x"], "a")])),
        &["`y node`", "`a`", "order"],
    )
}

fn twice() -> Result<(), String> {
    refused(
        &model(13, graph(&[node("Relu", &["x"], "y"), node("Abs", &["x"], "y")])),
        &["`y` is given twice"],
    )
}

fn sizes() -> Result<(), String> {
    let huge =
        Message::default().number(1, 1 << 40).number(1, 1 << 40).number(2, 1).bytes(8, "w").bytes(9, [0; 4]);
    refused(
        &model(13, graph(&[node("Add", &["x", "w"], "y")]).bytes(5, huge)),
        &["initializer `w`", "need"],
    )?;
    let negative = Message::default().number(1, u64::MAX).number(2, 1).bytes(8, "w").bytes(9, [0; 4]);
    refused(&model(13, graph(&[node("Add", &["x", "w"], "y")]).bytes(5, negative)), &["initializer `w`"])
}

fn outside() -> Result<(), String> {
    for location in ["../weights.bin", "/etc/hostname", "a/../../weights.bin", "", "model.onnx/.."] {
        let w = external("w", location);
        refused(&model(13, graph(&[node("Add", &["x", "w"], "y")]).bytes(5, w)), &["initializer `w`"])?;
    }
    Ok(())
}

fn beside() -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
    let data: Vec<u8> = [1.5f32, -2.0].iter().flat_map(|v| v.to_le_bytes()).collect();
    fs::write(folder.path().join("weights.bin"), data).map_err(|e| e.to_string())?;
    let nodes = [node("Unsqueeze", &["w", "axis"], "column"), node("Mul", &["x", "column"], "y")];
    let axis = Message::default().number(1, 1).number(2, 7).bytes(8, "axis").bytes(9, 1u64.to_le_bytes());
    let bytes = model(13, graph(&nodes).bytes(5, external("w", "weights.bin")).bytes(5, axis));
    let imported = import(folder.path(), &bytes)?;
    if imported.files.len() != 2 || imported.parameters.len() != 1 {
        return Err(format!("files {:?}, {} parameters", imported.files, imported.parameters.len()));
    }
    Ok(())
}
