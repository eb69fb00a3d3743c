//! Artifacts: written, opened, used by a C program that knows nothing of the compiler; the same bytes each time; damage is refused.

use std::path::{Path, PathBuf};
use std::process::Command;

use qcc_cpu::artifact::{self, ArtifactExtras};
use qcc_interpreter::{Interpreter, Precision};
use qcc_ir::{Module, Op};
use qcc_mlir::Target;
use qcc_params::{Parameters, Tensor};
use qcc_passes::{Context, Instrumentation, Pipeline, Registry, SilentProgress};
use qcc_runtime::{InputView, OutputBuffer, State};

const PIPELINE: &str =
    "quantize{weights=int8:channel activations=int8:token:dynamic},canonicalize,lower-quantized,canonicalize";

fn model() -> (Module, Parameters) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../test/codegen/linear.mlir");
    let text = std::fs::read_to_string(path).expect("the suite is there");
    let mut module = qcc_ir::parse::parse_module("linear.mlir", &text).expect("a valid module");
    let mut parameters = Parameters::new();
    let function = module.entry().expect("a function");
    for &id in function.order() {
        let node = function.node(id);
        if let Op::Parameter { name } = &node.op {
            let dims: Vec<usize> = function
                .ty(node.results[0])
                .constant_dims()
                .expect("constant")
                .iter()
                .map(|&d| d as usize)
                .collect();
            let n: usize = dims.iter().product();
            let data = (0..n).map(|i| ((i * 37) % 101) as f32 / 101.0 - 0.5).collect();
            parameters.insert_tensor(name, Tensor::f32(&dims, data).expect("it fits")).expect("a fresh name");
        }
    }
    let interpreter = Interpreter::new(Precision::F32);
    let mut context = Context::new(parameters, &interpreter);
    Pipeline::parse(PIPELINE, &Registry::builtin())
        .and_then(|p| p.run(&mut module, &mut context, &mut Instrumentation::default()))
        .expect("the pipeline runs");
    (module, context.parameters)
}

fn write(folder: &Path, name: &str, threads: usize) -> PathBuf {
    let (module, parameters) = model();
    let out = folder.join(name);
    let interpreter = Interpreter::new(Precision::F32);
    let extras = ArtifactExtras::default();
    let target = Target::host();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads start");
    pool.install(|| {
        artifact::write(&module, &parameters, &interpreter, &target, &extras, &out, &SilentProgress)
            .expect("the artifact is written");
    });
    out
}

fn ramp() -> Vec<u8> {
    (0..2 * 3 * 70).flat_map(|i| ((i % 17) as f32 / 16.0 - 0.5).to_le_bytes()).collect()
}

fn run(artifact: &Path) -> Vec<f32> {
    let (model, _) = artifact::open(artifact).expect("it opens");
    let mut state = State::new(&model, 1).expect("threads start");
    let mut y = vec![0u8; 2 * 3 * 33 * 4];
    state
        .run("main", &[InputView { shape: &[2, 3, 70], data: &ramp() }], &mut [OutputBuffer { data: &mut y }])
        .expect("it runs");
    y.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

#[test]
fn a_c_program_runs_an_artifact() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = write(folder.path(), "model.qcc", 2);
    let expected = run(&out);
    assert!(expected.iter().any(|y| *y != 0.0));
    let Some(printed) = printed_by("run_artifact.c", &out, folder.path()) else { return };
    let got: Vec<f32> = printed.lines().map(|l| l.parse().expect("a number")).collect();
    assert_eq!(got, expected);
}

/// What a C program of this folder prints of an artifact; none without a C compiler.
fn printed_by(source: &str, artifact: &Path, folder: &Path) -> Option<String> {
    let program = folder.join("run");
    let mut cc = Command::new("cc");
    cc.args(["-std=c99", "-Wall", "-Werror", "-I"]).arg(artifact);
    cc.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(source)).arg(artifact.join("model.so"));
    cc.arg(format!("-Wl,-rpath,{}", artifact.display())).arg("-o").arg(&program);
    match cc.status() {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("skipped: no C compiler `cc` here");
            return None;
        }
        status => assert!(status.expect("cc runs").success()),
    }
    let output = Command::new(&program).arg(artifact).output().expect("the program runs");
    let printed = String::from_utf8(output.stdout).expect("text");
    assert!(output.status.success(), "{printed}");
    Some(printed)
}

const PIECES: &str = "\
4: read, 4 held
2: the sequence would have 6 tokens, its limit is 5: raise the limit or start a new sequence, 4 held
1: read, 5 held
2: read, 7 held
8: read, 8 held
-1 tokens: pass 0 or more
";

#[test]
fn a_c_program_reads_a_sequence_in_pieces_up_to_a_limit() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../test/codegen/attention.mlir");
    let text = std::fs::read_to_string(path).expect("the suite is there");
    let module = qcc_ir::parse::parse_module("attention.mlir", &text).expect("a valid module");
    let (interpreter, extras) = (Interpreter::new(Precision::F32), ArtifactExtras::default());
    let (parameters, target, out) = (Parameters::new(), Target::host(), folder.path().join("model.qcc"));
    artifact::write(&module, &parameters, &interpreter, &target, &extras, &out, &SilentProgress)
        .expect("the artifact is written");
    let printed = printed_by("run_cache.c", &out, folder.path());
    assert!(printed.is_none_or(|printed| printed == PIECES), "prints something else");
}

#[test]
fn the_same_module_gives_the_same_bytes() {
    let folder = tempfile::tempdir().expect("a folder");
    let (a, b) = (write(folder.path(), "a.qcc", 1), write(folder.path(), "b.qcc", 2));
    let names = |dir: &Path| {
        let mut names: Vec<_> =
            std::fs::read_dir(dir).expect("a folder").map(|e| e.expect("an entry").file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(names(&a), names(&b));
    for name in names(&a) {
        let read = |dir: &Path| std::fs::read(dir.join(&name)).expect("a file");
        assert!(read(&a) == read(&b), "{} differs", name.display());
    }
    // Nothing else is left in the folder, and an artifact can be replaced.
    write(folder.path(), "a.qcc", 1);
    assert_eq!(names(folder.path()), ["a.qcc", "b.qcc"]);
}

#[test]
fn damage_is_refused_with_the_reason() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = write(folder.path(), "model.qcc", 1);
    for name in ["model.so", "parameters.safetensors"] {
        let path = out.join(name);
        let whole = std::fs::read(&path).expect("a file");
        let mut damaged = whole.clone();
        damaged[whole.len() / 2] ^= 1;
        std::fs::write(&path, &damaged).expect("written");
        let error = artifact::open(&out).expect_err("a flipped bit").to_string();
        assert!(error.contains(name) && error.contains("hash"), "{error}");
        std::fs::write(&path, &whole[..whole.len() - 1]).expect("written");
        let error = artifact::open(&out).expect_err("a byte less").to_string();
        assert!(error.contains(name), "{error}");
        std::fs::write(&path, &whole).expect("written");
    }
    std::fs::write(out.join("manifest.json"), "{").expect("written");
    assert!(artifact::open(&out).is_err());
    let foreign = folder.path().join("precious");
    std::fs::create_dir(&foreign).expect("a folder");
    std::fs::write(foreign.join("file"), "x").expect("written");
    let (module, parameters) = model();
    let interpreter = Interpreter::new(Precision::F32);
    let extras = ArtifactExtras::default();
    let refused = || {
        let target = Target::host();
        artifact::write(&module, &parameters, &interpreter, &target, &extras, &foreign, &SilentProgress)
            .expect_err("a foreign folder")
            .to_string()
    };
    assert!(refused().contains("no artifact"));
    assert!(foreign.join("file").is_file());
    // A manifest of something else, and a stranger beside an artifact's own files.
    for (manifest, reason) in [
        ("{\"name\": \"an extension\"}", "no artifact"),
        ("{\"schema\": 1, \"files\": {}}", "`file`, which is no part"),
    ] {
        std::fs::write(foreign.join("manifest.json"), manifest).expect("written");
        assert!(refused().contains(reason), "{reason}");
        assert!(foreign.join("file").is_file());
    }
}
