//! Damaged files: an import ends with a model or an error, never with a panic, and soon.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;

use crate::vectors;

/// Far more than any import of so small a file takes.
const PATIENCE: Duration = Duration::from_secs(5);

pub fn trials() -> Vec<Trial> {
    vec![
        Trial::test("hostile/truncations", || Ok(truncations()?)),
        Trial::test("hostile/byte flips", || Ok(flips()?)),
        Trial::test("hostile/no file", || Ok(nothing()?)),
    ]
}

fn small() -> Vec<u8> {
    fs::read(vectors().join("small.onnx")).expect("the small model is committed")
}

/// Imports damaged bytes; a panic fails the test.
fn import(folder: &Path, bytes: &[u8]) -> Result<bool, String> {
    let file = folder.join("damaged.onnx");
    fs::write(&file, bytes).map_err(|e| e.to_string())?;
    let start = Instant::now();
    let outcome = qcc_onnx::import(&file);
    if start.elapsed() > PATIENCE {
        return Err(format!("the import took {:?}", start.elapsed()));
    }
    if let Ok(imported) = &outcome {
        let options = qcc_ir::verify::Options::default();
        qcc_ir::verify::verify(&imported.module, options).map_err(|e| format!("{e:?}"))?;
    }
    Ok(outcome.is_ok())
}

fn truncations() -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
    let bytes = small();
    for length in (0..bytes.len()).step_by(97) {
        if import(folder.path(), &bytes[..length])? {
            return Err(format!("the first {length} bytes were imported"));
        }
    }
    Ok(())
}

fn flips() -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
    let original = small();
    let mut state = 7u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    for round in 0..300 {
        let mut bytes = original.clone();
        // Most of the bytes are weights; every other round changes the graph, which lies before them.
        let at = if round % 2 == 0 { random(bytes.len() / 3) } else { random(bytes.len()) };
        bytes[at] = random(256) as u8;
        import(folder.path(), &bytes).map_err(|e| format!("byte {at} as {}: {e}", bytes[at]))?;
    }
    Ok(())
}

fn nothing() -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
    for path in [folder.path().to_path_buf(), folder.path().join("none.onnx")] {
        if qcc_onnx::import(&path).is_ok() {
            return Err(format!("{} was imported", path.display()));
        }
    }
    Ok(())
}
