//! `qcc inspect`: what a model, artifact or IR file consists of.

use qcc_data::read;
use qcc_passes::decompose::Branch;
use serde_json::{Map, Value, json};

use crate::cli::InspectArgs;
use crate::layers::{Sizes, layers, totals};
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
    let layers = layers(&module, &sizes);
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
        let header = ["layer", "op", "branch", "shape", "weights", "activations", "bytes"];
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
            ]
        });
        report::table(streams, &header, rows, &[6])?;
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

/// Bytes of the files an artifact's manifest lists.
fn file_bytes(manifest: &Value) -> Option<u64> {
    manifest.get("files")?.as_object()?.values().map(|file| file.get("bytes")?.as_u64()).sum()
}
