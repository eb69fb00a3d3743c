//! How much memory compiled models take for their activations, against what is alive at once.

use std::path::{Path, PathBuf};

use qcc_cpu::compile::compile;
use qcc_interpreter::{Interpreter, Precision};
use qcc_ir::Module;
use qcc_mlir::Target;
use qcc_params::Parameters;
use qcc_passes::{Context, Instrumentation, Pipeline, Registry, SilentProgress};

/// The arena is at most this many times as large as what is alive at once.
const MOST: f64 = 1.15;

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// The arena of each entry point, with these sizes for all symbols.
fn check(what: &str, mut module: Module, parameters: Parameters, pipeline: &str) {
    let interpreter = Interpreter::new(Precision::F32);
    let mut context = Context::new(parameters, &interpreter);
    Pipeline::parse(pipeline, &Registry::builtin())
        .and_then(|p| p.run(&mut module, &mut context, &mut Instrumentation::default()))
        .expect("the pipeline runs");
    let target = Target::host();
    let compiled = compile(&module, &context.parameters, &interpreter, &target, &SilentProgress, None)
        .unwrap_or_else(|e| panic!("{what}: {e}"));
    for entry in &compiled.program.entries {
        let name = &entry.name;
        for size in [1, 7, 64, 512] {
            // One sequence.
            let of = |symbol: &String| if symbol == "B" { 1 } else { size };
            let sizes: Vec<u64> = compiled.program.symbols.iter().map(of).collect();
            let memory = entry.activation_memory(&sizes).expect("small sizes");
            let times = memory.arena as f64 / memory.least.max(1) as f64;
            println!("{what} @{name} {size}: {} of {} bytes, {times:.3}", memory.arena, memory.least);
            assert!(times <= MOST, "{what} @{name} at {size}: {memory:?}, {times:.3} times");
        }
    }
}

const INT8: &str =
    "quantize{weights=int8:channel activations=int8:token},canonicalize,lower-quantized,canonicalize";

#[test]
fn language_models_take_little_more_than_what_is_alive() {
    for folder in ["test/models/mamba-tiny", "../shared/models/trained-here/llama-tiny"].map(root) {
        if !folder.exists() {
            eprintln!("skipped: no {}", folder.display());
            continue;
        }
        for pipeline in ["", INT8] {
            let imported = qcc_huggingface::import(&folder).expect("it imports");
            let what = format!("{} {pipeline}", folder.display());
            check(&what, imported.module, imported.parameters, pipeline);
        }
    }
}

#[test]
fn image_models_take_little_more_than_what_is_alive() {
    let folder = root("../shared/models");
    let mut files = Vec::new();
    for folder in ["imagenet", "cifar"].map(|name| folder.join(name)) {
        let Ok(entries) = std::fs::read_dir(&folder) else {
            eprintln!("skipped: no {}", folder.display());
            continue;
        };
        files.extend(
            entries.flatten().map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "onnx")),
        );
    }
    files.sort();
    for file in files {
        for pipeline in ["", INT8_IMAGES] {
            let imported = qcc_onnx::import(&file).expect("it imports");
            let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            check(&format!("{name} {pipeline}"), imported.module, imported.parameters, pipeline);
        }
    }
}

const INT8_IMAGES: &str = "fold-batch-norm,canonicalize,quantize{weights=int8:channel activations=uint8:tensor:asym range=0..6},canonicalize,lower-quantized,canonicalize";
