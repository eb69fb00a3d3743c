//! `qcc inspect`: what a model, artifact or IR file consists of.

use qcc_data::read;
use qcc_passes::decompose::Branch;
use serde_json::{Map, Value, json};

use crate::cli::InspectArgs;
use crate::layers::{Layer, Sizes, layers, totals};
use crate::source::{self, Kind};
use crate::{Failure, Streams, backend, report, transforms};

/// Runs the command.
///
/// # Errors
/// When the model cannot be read.
pub fn run(args: &InspectArgs, streams: &mut Streams<'_>) -> Result<(), Failure> {
    let path = &args.model;
    let (module, manifest) = match source::kind(path)? {
        Kind::Ir => (backend::parse(path, &read::text(path)?)?, None),
        Kind::Artifact => (backend::artifact_module(path)?, Some(backend::open(path)?.1)),
        Kind::Checkpoint | Kind::Onnx => (source::import(path)?.module, None),
    };
    let sizes = if manifest.is_some() { Sizes::compiled(&module) } else { Sizes::of_types() };
    let mut layers = layers(&module, &sizes);
    if let Some(known) = manifest.as_ref().and_then(|m| m.get("layers")?.as_array()) {
        remember(&mut layers, known);
    }
    let totals = totals(&module, &layers, &sizes);
    // An artifact is all of its files; of anything else only the weights are known.
    let bytes = manifest.as_ref().and_then(file_bytes).unwrap_or(totals.bytes);
    let online_transforms = transforms::online(&module);
    let f32_bytes = totals.parameters.saturating_mul(4);
    if args.json {
        let mut object = Map::new();
        object.insert("parameters".into(), json!(totals.parameters));
        object.insert("bytes".into(), json!(bytes));
        object.insert("parameter_bytes".into(), json!(totals.bytes));
        object.insert("f32_bytes".into(), json!(f32_bytes));
        object.insert("bits_per_weight".into(), json!(totals.bits_per_weight));
        object.insert("online_transforms".into(), json!(online_transforms));
        for key in ["recipe", "target", "entries"] {
            if let Some(value) = manifest.as_ref().and_then(|m| m.get(key)) {
                object.insert(key.into(), value.clone());
            }
        }
        object.insert("layers".into(), layers.iter().map(|l| l.describe()).collect());
        return report::json(streams, &Value::Object(object));
    }
    if args.layers {
        let header =
            ["layer", "op", "branch", "shape", "weights", "activations", "bytes", "weight SQNR", "SQNR"];
        let rows = layers.iter().map(|l| {
            let shape: Vec<String> = l.shape.iter().map(ToString::to_string).collect();
            let formats = [l.weight_format.clone(), l.activation_format.clone()];
            let [weights, activations] = formats;
            let branch = l.branch.map_or("-", Branch::keyword);
            let name = l.name.clone();
            vec![
                name,
                l.op.into(),
                branch.into(),
                shape.join("×"),
                weights,
                activations,
                report::bytes(l.bytes),
                decibels(l.sqnr_db.0),
                decibels(l.sqnr_db.1),
            ]
        });
        // Ratios are known of artifacts that were compiled with a report.
        let known = layers.iter().any(|l| l.sqnr_db != (None, None));
        let columns = if known { header.len() } else { header.len() - 2 };
        let rows = rows.map(|mut row| {
            row.truncate(columns);
            row
        });
        report::table(streams, &header[..columns], rows, &[6, 7, 8])?;
    }
    let recipe = manifest.as_ref().and_then(|m| m.get("recipe")?.get("name")?.as_str());
    let mut rows = vec![
        ("parameters", totals.parameters.to_string()),
        ("bytes", report::bytes(bytes)),
        ("parameter_bytes", report::bytes(totals.bytes)),
        ("f32_bytes", report::bytes(f32_bytes)),
        ("bits_per_weight", totals.bits_per_weight.map_or("-".into(), |b| format!("{b:.3}"))),
        ("layers", layers.len().to_string()),
        ("online_transforms", online_transforms.to_string()),
    ];
    rows.extend(recipe.map(|name| ("recipe", name.to_string())));
    report::pairs(streams, rows)
}

/// Takes over what a manifest says was measured.
fn remember(layers: &mut [Layer], known: &[Value]) {
    for (layer, known) in layers.iter_mut().zip(known) {
        if known.get("name").and_then(Value::as_str) == Some(&layer.name) {
            let of = |key: &str| known.get(key).and_then(Value::as_f64);
            layer.sqnr_db = (of("weight_sqnr_db"), of("sqnr_db"));
        }
    }
}

fn decibels(value: Option<f64>) -> String {
    value.map_or("-".into(), |db| format!("{db:.1} dB"))
}

/// Bytes of the files an artifact's manifest lists.
fn file_bytes(manifest: &Value) -> Option<u64> {
    manifest.get("files")?.as_object()?.values().map(|file| file.get("bytes")?.as_u64()).sum()
}
