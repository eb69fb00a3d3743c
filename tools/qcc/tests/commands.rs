//! The road as a user walks it: compile the committed Mamba, inspect it, run it, measure it. Every command through its command line.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use qcc::Streams;
use serde_json::Value;

fn suite(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../test").join(path)
}

/// What a command line that succeeds prints as JSON.
fn qcc(command: &str, model: &Path, flags: &[&str]) -> Value {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut args: Vec<OsString> = vec!["qcc".into(), command.into(), model.into(), "--json".into()];
    args.extend(flags.iter().map(Into::into));
    let mut streams = Streams { stdin: &mut std::io::empty(), stdout: &mut out, stderr: &mut err };
    let code = qcc::run(args, &mut streams);
    assert_eq!(code, 0, "qcc {command} {flags:?}: {}", String::from_utf8_lossy(&err));
    serde_json::from_slice(&out).expect("one JSON object")
}

fn mamba() -> PathBuf {
    suite("models/mamba-tiny")
}

fn compile(folder: &Path, name: &str, flags: &[&str]) -> (PathBuf, Value) {
    let out = folder.join(name);
    let path = out.display().to_string();
    let report = qcc("compile", &mamba(), &[flags, &["-o", &path]].concat());
    (out, report)
}

fn perplexity(model: &Path) -> f64 {
    let text = suite("data/lighthouse.txt").display().to_string();
    let report = qcc("eval", model, &["--perplexity", &text, "--seq-len", "128", "--limit", "6"]);
    assert_eq!(report["tokens"], 6 * 127);
    let (perplexity, nll) = (report["perplexity"].as_f64(), report["nll"].as_f64().expect("nll"));
    let perplexity = perplexity.expect("perplexity");
    assert!((perplexity.ln() - nll).abs() < 1e-4);
    perplexity
}

#[test]
fn recipes_stay_close_to_f32_and_say_what_they_are() {
    let folder = tempfile::tempdir().expect("a folder");
    let f32 = perplexity(&mamba());
    for (recipe, most, bits, weight, activation) in [
        ("f32", 1.00001, 32.0..32.1, "f32", "f32"),
        ("w8a8-dynamic", 1.006, 8.0..8.2, "int8:channel", "int8:token:dynamic"),
        ("w4a16", 1.03, 4.5..4.6, "int4:block=32", "f32"),
        ("w4a8", 1.03, 4.5..4.6, "int4:block=32", "int8:token:dynamic"),
    ] {
        let (artifact, report) = compile(folder.path(), recipe, &["--recipe", recipe]);
        assert!(report["passes"].as_array().is_some_and(|p| !p.is_empty()), "{recipe}");
        let ratio = perplexity(&artifact) / f32;
        assert!(ratio < most && ratio > 0.99, "{recipe}: {ratio} times the perplexity of f32");
        let inspected = qcc("inspect", &artifact, &[]);
        let measured = inspected["bits_per_weight"].as_f64().expect("bits");
        assert!(bits.contains(&measured), "{recipe}: {measured} bits a weight");
        let layers = inspected["layers"].as_array().expect("layers");
        let projection = layers.iter().find(|l| l["name"].as_str().is_some_and(|n| n.ends_with("in_proj")));
        let projection = projection.expect("a projection");
        assert_eq!(projection["weight_format"], weight, "{recipe}");
        assert_eq!(projection["activation_format"], activation, "{recipe}");
    }
}

#[test]
fn bits_of_weights_are_those_that_are_stored() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = suite("data/lighthouse.txt").display().to_string();
    let measured = ["--activations", "int8", "--calibration", &text, "--samples", "2"];
    for (weights, flags, bits, warned) in [
        ("int3", &[][..], 3.0..3.2, false),
        ("int7:tensor", &["--activations", "int5:token"], 7.0..7.01, false),
        ("int2:block=32", &["--activations", "int8:token"], 2.5..2.6, false),
        ("int6:block=32:scale=f32", &[], 7.0..7.1, false),
        ("split2", &[], 4.0..4.01, false),
        ("split4:channel", &measured, 8.5..9.5, true),
        // No integer kernel takes the two.
        ("int4:block=32", &measured, 4.5..4.6, true),
        ("mxfp4", &[], 4.25..4.26, false),
        ("fp8e4m3", &["--activations", "fp8e4m3:token"], 8.1..8.2, false),
    ] {
        let (artifact, report) = compile(folder.path(), "m.qcc", &[&["--weights", weights], flags].concat());
        let inspected = qcc("inspect", &artifact, &[]);
        assert_eq!(report["bits_per_weight"], inspected["bits_per_weight"], "{weights}");
        let stored = inspected["bits_per_weight"].as_f64().expect("bits");
        assert!(bits.contains(&stored), "{weights}: {stored} bits a weight");
        let in_floats = report["warnings"].as_array().expect("warnings").iter();
        let in_floats = in_floats.filter(|w| w["message"].as_str().is_some_and(|m| m.contains("run in f32")));
        assert_eq!(in_floats.count(), usize::from(warned), "{weights}: {report}");
    }
}

#[test]
fn a_head_of_any_kernel_format_compiles() {
    let folder = tempfile::tempdir().expect("a folder");
    let f32 = perplexity(&mamba());
    for (head, recipe) in [("int8", "w8a8-dynamic"), ("int4:block=32", "w4a8"), ("int8", "w4a16")] {
        let (artifact, _) = compile(folder.path(), "head", &["--recipe", recipe, "--head", head]);
        let ratio = perplexity(&artifact) / f32;
        assert!(ratio < 1.2, "{recipe} with a head of {head}: {ratio} times the perplexity of f32");
    }
}

#[test]
fn cached_weights_give_the_same_bytes() {
    let folder = tempfile::tempdir().expect("a folder");
    let cache = folder.path().join("cache");
    let cached = |name: &str, cache: &Path| {
        let cache = cache.display().to_string();
        compile(folder.path(), name, &["--recipe", "w4a16", "--cache-dir", &cache]).0
    };
    let first = cached("first.qcc", &cache);
    let stored = std::fs::read_dir(cache.join("weights")).expect("a cache").count();
    assert!(stored > 0);
    let second = cached("second.qcc", &cache);
    assert_eq!(std::fs::read_dir(cache.join("weights")).expect("a cache").count(), stored);
    let other = cached("third.qcc", &folder.path().join("elsewhere"));
    for file in ["manifest.json", "model.so", "module.mlirbc", "parameters.safetensors"] {
        let read = |artifact: &Path| std::fs::read(artifact.join(file)).expect("a file");
        assert!(read(&first) == read(&second) && read(&first) == read(&other), "{file}");
    }
}

#[test]
fn one_seed_gives_one_text() {
    let folder = tempfile::tempdir().expect("a folder");
    let (artifact, _) = compile(folder.path(), "m.qcc", &["--recipe", "w8a8-dynamic"]);
    let text = |flags: &[&str]| {
        let report =
            qcc("run", &artifact, &[flags, &["--prompt", "The ship", "--max-tokens", "24"]].concat());
        assert_eq!(report["tokens"].as_array().map(Vec::len), Some(24));
        assert!(report["prompt_tokens"].as_array().is_some_and(|t| !t.is_empty()));
        report["text"].as_str().expect("text").to_string()
    };
    assert_eq!(text(&[]), text(&["--threads", "1"]));
    let sampled = ["--temperature", "1.5", "--seed", "7"];
    assert_eq!(text(&sampled), text(&sampled));
    assert_ne!(text(&sampled), text(&["--temperature", "1.5", "--seed", "8"]));
}

#[test]
fn a_model_is_compared_with_its_compiled_form() {
    let folder = tempfile::tempdir().expect("a folder");
    let (artifact, _) = compile(folder.path(), "m.qcc", &["--recipe", "w8a8-dynamic"]);
    let model = mamba().display().to_string();
    let report = qcc("eval", &artifact, &["--compare", &model]);
    let number = |key: &str| report[key].as_f64().unwrap_or_else(|| panic!("{key} in {report}"));
    assert!(number("cosine") > 0.99 && number("cosine") <= 1.0 + 1e-9);
    assert!(number("sqnr_db") > 20.0 && number("max_abs_error") > 0.0);
    assert!(number("top1_agreement") > 0.9);
}

#[test]
fn bench_reports_what_the_contract_names() {
    let report = qcc(
        "bench",
        &mamba(),
        &["--prompt-len", "16", "--gen-len", "4", "--repeat", "1", "--threads", "1", "--kernels"],
    );
    for key in ["prefill_tokens_per_s", "decode_tokens_per_s", "peak_rss_bytes", "peak_anonymous_bytes"] {
        assert!(report[key].as_f64().is_some_and(|n| n > 0.0), "{key} in {report}");
    }
    assert_eq!(report["threads"], 1);
    assert!(report["target"].is_string() && report.get("kv_bytes_per_token").is_some());
}

#[test]
fn a_trace_shows_every_run() {
    let folder = tempfile::tempdir().expect("a folder");
    let (artifact, _) = compile(folder.path(), "m.qcc", &[]);
    let trace = folder.path().join("trace.json");
    let flags = ["--prompt", "The ship", "--max-tokens", "4", "--trace", &trace.display().to_string()];
    qcc("run", &artifact, &flags);
    let text = std::fs::read_to_string(&trace).expect("a trace");
    let events: Value = serde_json::from_str(&text).expect("JSON");
    let named = |name: &str| events.as_array().into_iter().flatten().filter(|e| e["name"] == name).count();
    assert!(named("open") >= 1 && named("run") >= 4, "{text}");
}
