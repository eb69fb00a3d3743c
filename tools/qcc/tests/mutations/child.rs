//! The child process: damages one kind of file again and again and runs a command on it, in this process.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::damage::{Random, damage};
use crate::samples;

/// Environment: what to damage.
pub const KIND: &str = "QCC_MUTATION_KIND";
/// Environment: how often.
pub const COUNT: &str = "QCC_MUTATION_COUNT";

/// A command on damaged input ends sooner on any machine; the longest time is printed.
const PATIENCE: Duration = Duration::from_secs(30);
/// Resident memory of the process.
const MEMORY: u64 = 1 << 30;
/// Every so many mutations a whole compilation is tried.
const COMPILE_EVERY: usize = 100;

/// What is damaged and what is then run.
struct Case {
    /// The files to damage, one at a time.
    files: Vec<PathBuf>,
    /// The command on them.
    command: Vec<OsString>,
    /// What a compilation reads, if it is tried.
    model: Option<PathBuf>,
}

pub fn run(kind: &str) {
    let count: usize =
        std::env::var(COUNT).ok().and_then(|n| n.parse().ok()).expect("the parent says how many");
    let folder = tempfile::tempdir().expect("a folder");
    let case = case(kind, folder.path());
    let whole: Vec<Vec<u8>> = case.files.iter().map(|f| std::fs::read(f).expect("a whole file")).collect();
    let watched = watch();
    let before = listing(folder.path());
    let out = folder.path().join("out.qcc");
    let (mut refused, mut slowest) = (0, Duration::ZERO);
    for seed in 0..count {
        let mut random = Random::new(seed as u64 + 1);
        let which = random.below(case.files.len());
        let file = &case.files[which];
        std::fs::write(file, damage(&whole[which], &mut random)).expect("written");
        watched.store(seed as u64 + 1, Ordering::Relaxed);
        let start = Instant::now();
        let (code, said) = command(&case.command);
        check(kind, seed, file, code, &said);
        refused += usize::from(code == 1);
        if let Some(model) = case.model.as_ref().filter(|_| seed % COMPILE_EVERY == 0) {
            let arguments = ["compile".into(), model.into(), "-o".into(), out.clone().into_os_string()];
            let (code, said) = command(&arguments);
            check(kind, seed, file, code, &said);
            assert_eq!(code == 0, out.exists(), "{kind} {seed}: exit code {code}\n{said}");
            let _ = std::fs::remove_dir_all(&out);
        }
        slowest = slowest.max(start.elapsed());
        watched.store(0, Ordering::Relaxed);
        std::fs::write(file, &whole[which]).expect("written");
        assert_eq!(listing(folder.path()), before, "{kind} {seed}: something was left behind");
    }
    let peak = peak_memory();
    assert!(peak < MEMORY, "{kind}: {peak} bytes resident");
    println!(
        "mutations: {kind}: {count} tried, {refused} refused, slowest {slowest:.2?}, peak {} MiB",
        peak >> 20
    );
}

fn case(kind: &str, folder: &Path) -> Case {
    let model = folder.join("model");
    let inspect = |path: &Path| vec!["inspect".into(), path.into(), "--json".into()];
    let of_checkpoint = |name: &str| {
        samples::checkpoint(&model);
        Case { files: vec![model.join(name)], command: inspect(&model), model: Some(model.clone()) }
    };
    match kind {
        "safetensors" => of_checkpoint("model.safetensors"),
        "config" => of_checkpoint("config.json"),
        "tokenizer" => {
            samples::checkpoint(&model);
            // Windows longer than the text: an error that comes after the tokenizer did its work, before anything is compiled.
            let text = folder.join("text.txt");
            std::fs::write(&text, "The ship sailed from the harbour at noon .\n".repeat(8)).expect("written");
            let command = ["eval", "MODEL", "--perplexity", "TEXT", "--seq-len", "100000", "--json"];
            let command = command.map(|word| match word {
                "MODEL" => model.clone().into_os_string(),
                "TEXT" => text.clone().into_os_string(),
                other => other.into(),
            });
            Case { files: vec![model.join("tokenizer.json")], command: command.to_vec(), model: None }
        }
        "onnx" => {
            let file = folder.join("small.onnx");
            std::fs::copy(samples::suite().join("frontends/onnx/small.onnx"), &file)
                .expect("the suite is there");
            Case { files: vec![file.clone()], command: inspect(&file), model: Some(file) }
        }
        "mlir" => {
            let file = folder.join("module.mlir");
            std::fs::copy(samples::suite().join("codegen/mamba.mlir"), &file).expect("the suite is there");
            let pipeline =
                "--pass-pipeline=canonicalize,fold-batch-norm,quantize{weights=int8:channel},canonicalize";
            let command = vec!["opt".into(), file.clone().into(), pipeline.into()];
            Case { files: vec![file], command, model: None }
        }
        "artifact" => {
            samples::checkpoint(&model);
            let out = compile(&model, &folder.join("model.qcc"));
            let names =
                ["manifest.json", "model.so", "parameters.safetensors", "module.mlirbc", "tokenizer.json"];
            let command = ["run", "OUT", "--prompt", "The", "--max-tokens", "1", "--json"];
            let command =
                command.map(|word| if word == "OUT" { out.clone().into_os_string() } else { word.into() });
            Case { files: names.map(|n| out.join(n)).to_vec(), command: command.to_vec(), model: None }
        }
        other => panic!("unknown kind {other}"),
    }
}

fn compile(model: &Path, out: &Path) -> PathBuf {
    let arguments = ["compile".into(), model.into(), "-o".into(), out.into()];
    let (code, said) = command(&arguments);
    assert_eq!(code, 0, "{said}");
    out.to_path_buf()
}

/// Exit code and what was said on stderr.
fn command(arguments: &[OsString]) -> (u8, String) {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let mut streams = qcc::Streams { stdin: &mut std::io::empty(), stdout: &mut stdout, stderr: &mut stderr };
    let arguments = std::iter::once(OsString::from("qcc")).chain(arguments.iter().cloned());
    let code = qcc::run(arguments, &mut streams);
    (code, String::from_utf8_lossy(&stderr).into_owned())
}

/// A refusal says where: it names the file, or a folder or file it belongs to.
fn check(kind: &str, seed: usize, file: &Path, code: u8, said: &str) {
    match code {
        0 => {}
        1 => {
            let own = [Some(file), file.parent()].into_iter().flatten().filter_map(Path::file_name);
            // A tokenizer that still is one meets a text that is too short.
            let located =
                own.map(|n| n.to_string_lossy()).any(|n| said.contains(&*n)) || said.contains("text.txt");
            assert!(
                said.contains("error") && located,
                "{kind} {seed}: the message does not say where:\n{said}"
            );
        }
        other => panic!("{kind} {seed}: exit code {other}\n{said}"),
    }
}

/// All paths below a folder.
fn listing(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            found.extend(listing(&entry.path()));
        }
        found.push(entry.path());
    }
    found.sort();
    found
}

/// Ends the process when a mutation takes too long; 0 means none is under way.
fn watch() -> Arc<AtomicU64> {
    let current = Arc::new(AtomicU64::new(0));
    let seen = current.clone();
    std::thread::spawn(move || {
        let (mut last, mut since) = (0, Instant::now());
        loop {
            std::thread::sleep(Duration::from_millis(100));
            let now = seen.load(Ordering::Relaxed);
            if now != last {
                (last, since) = (now, Instant::now());
            } else if now != 0 && since.elapsed() > PATIENCE {
                eprintln!("seed {} takes more than {PATIENCE:?}", now - 1);
                std::process::exit(3);
            }
        }
    });
    current
}

/// The most memory that was ever resident, in bytes; 0 where the system does not tell.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or(0) << 10
}
