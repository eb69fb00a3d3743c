//! The road as a user walks it: compile the committed Mamba, inspect it, run it, measure it. Every command through its command line.

use std::ffi::{OsStr, OsString};
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
fn quiet_compilation_prints_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let artifact = folder.path().join("m.qcc");
    for (flag, lines) in [("--verbose", true), ("--quiet", false)] {
        let mut out = Vec::new();
        let mut streams =
            Streams { stdin: &mut std::io::empty(), stdout: &mut out, stderr: &mut std::io::sink() };
        let model = mamba();
        let args: [&OsStr; 6] = [
            "qcc".as_ref(),
            "compile".as_ref(),
            model.as_os_str(),
            "-o".as_ref(),
            artifact.as_os_str(),
            flag.as_ref(),
        ];
        let code = qcc::run(args.map(OsString::from), &mut streams);
        assert_eq!(code, 0);
        assert_eq!(!out.is_empty(), lines, "{}", String::from_utf8_lossy(&out));
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
        // Codebooks take long to find, and are kept; rounding to given levels is not.
        compile(folder.path(), name, &["--weights", "codebook4:block=64", "--cache-dir", &cache]).0
    };
    let first = cached("first.qcc", &cache);
    // Object code of kernels is kept beside them.
    let count =
        || ["weights", "kernels"].map(|of| std::fs::read_dir(cache.join(of)).expect("a cache").count());
    let stored = count();
    assert!(stored.iter().all(|files| *files > 0), "{stored:?}");
    let second = cached("second.qcc", &cache);
    assert_eq!(count(), stored);
    let other = cached("third.qcc", &folder.path().join("elsewhere"));
    for file in ["manifest.json", "model.so", "module.mlirbc", "parameters.safetensors"] {
        let read = |artifact: &Path| std::fs::read(artifact.join(file)).expect("a file");
        assert!(read(&first) == read(&second) && read(&first) == read(&other), "{file}");
    }
}

fn recipe(folder: &Path, text: &str) -> String {
    let file = folder.join("recipe.toml");
    std::fs::write(&file, text).expect("written");
    file.display().to_string()
}

#[test]
fn statistics_are_measured_once_for_recipes_alike() {
    let folder = tempfile::tempdir().expect("a folder");
    let (text, cache) = (suite("data/lighthouse.txt"), folder.path().join("cache"));
    let (text, statistics) = (text.display().to_string(), cache.join("statistics"));
    let flags = ["--calibration", &text, "--seq-len", "64", "--cache-dir", &cache.display().to_string()];
    let compiled = |name: &str, more: &[&str]| compile(folder.path(), name, &[&flags[..], more].concat()).0;
    let count = || std::fs::read_dir(&statistics).expect("a cache").count();
    let first = compiled("a.qcc", &["--recipe", "w8a8", "--samples", "2"]);
    assert_eq!(count(), 1);
    let again = compiled("b.qcc", &["--recipe", "w8a8", "--samples", "2"]);
    compiled(
        "c.qcc",
        &["--weights", "int4:block=32", "--activations", "uint8:tensor:asym", "--samples", "2"],
    );
    assert_eq!(count(), 1);
    let read = |artifact: &Path| std::fs::read(artifact.join("manifest.json")).expect("a file");
    assert!(read(&first) == read(&again));
    // A damaged file counts as none.
    let file =
        std::fs::read_dir(&statistics).expect("a cache").next().expect("a file").expect("a file").path();
    std::fs::write(&file, b"damaged").expect("written");
    assert!(read(&compiled("d.qcc", &["--recipe", "w8a8", "--samples", "2"])) == read(&first));
    compiled("e.qcc", &["--recipe", "w8a8", "--samples", "1"]);
    assert_eq!(count(), 2);
}

#[test]
fn layers_have_formats_of_their_own() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = "[quantize]\nweights = \"int4:block=32\"\n\n[[override]]\nlayers = \"*.out_proj\"\nweights = \"int8:channel\"\nactivations = \"int8:token:dynamic\"\n\n[[override]]\nop = \"linear\"\nshape = \"48x*\"\nweights = \"f32\"\n";
    let (artifact, _) = compile(folder.path(), "m.qcc", &["--recipe", &recipe(folder.path(), text)]);
    let inspected = qcc("inspect", &artifact, &[]);
    for layer in inspected["layers"].as_array().expect("layers") {
        let name = layer["name"].as_str().expect("a name");
        let formats = match name.rsplit('.').next() {
            Some("out_proj") => ["int8:channel", "int8:token:dynamic"],
            Some("in_proj") => ["int4:block=32", "f32"],
            Some("x_proj") => ["f32", "f32"],
            _ => continue,
        };
        assert_eq!([&layer["weight_format"], &layer["activation_format"]], formats, "{name}");
    }
}

#[test]
fn a_loss_that_is_asked_for_is_kept_and_reported() {
    let folder = tempfile::tempdir().expect("a folder");
    let (text, page) =
        (suite("data/lighthouse.txt").display().to_string(), folder.path().join("report.html"));
    let flags = [
        "--weights",
        "int3:block=32",
        "--target-loss",
        "2",
        "--calibration",
        &text,
        "--samples",
        "2",
        "--seq-len",
        "64",
    ];
    let (artifact, report) =
        compile(folder.path(), "m.qcc", &[&flags[..], &["--report", &page.display().to_string()]].concat());
    let formats = &report["formats"];
    let (before, after) = (&formats["loss_percent_before"], &formats["loss_percent"]);
    assert!(
        before.as_f64().is_some_and(|l| l > 2.0) && after.as_f64().is_some_and(|l| l <= 2.0),
        "{formats}"
    );
    let kept = formats["kept"].as_array().expect("kept");
    assert!(!kept.is_empty() && kept[0]["name"] == formats["sensitivities"][0]["name"], "{formats}");
    let inspected = qcc("inspect", &artifact, &[]);
    let layer = |name: &serde_json::Value| {
        let layers = inspected["layers"].as_array().expect("layers");
        layers.iter().find(|l| l["name"] == *name).cloned().expect("the layer")
    };
    for kept in kept {
        assert_eq!(layer(&kept["name"])["weight_format"], kept["weight_format"], "{kept}");
    }
    // What was measured stays with the artifact.
    let db = |name: &serde_json::Value, key: &str| layer(name)[key].as_f64().expect("a ratio");
    let best = &kept[0]["name"];
    assert!(db(best, "weight_sqnr_db") > 30.0 && db(best, "sqnr_db") > 30.0);
    let page = std::fs::read_to_string(page).expect("a page");
    assert!(page.contains(best.as_str().expect("a name")) && page.contains("int8:channel"));
    assert!(!page.contains("http://") || page.contains("http://www.w3.org"));
}

#[test]
fn formats_are_searched_for_within_bits() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = suite("data/lighthouse.txt").display().to_string();
    let recipe = recipe(folder.path(), "[quantize]\nweights = \"int4:block=32\"\nsearch-bits = 4.3\n");
    let flags = ["--recipe", &recipe, "--calibration", &text, "--samples", "1", "--seq-len", "64"];
    let (_, report) = compile(folder.path(), "m.qcc", &flags);
    assert!(report["bits_per_weight"].as_f64().is_some_and(|b| b <= 4.4), "{report}");
    let tried = report["formats"]["tried"].as_array().expect("formats");
    assert!(tried.len() > 100 && tried.iter().all(|t| t["bits"].as_f64().is_some_and(|b| b <= 4.3)));
}

#[test]
fn floats_are_stored_as_narrow_as_asked() {
    let folder = tempfile::tempdir().expect("a folder");
    let (wide, report) = compile(folder.path(), "wide.qcc", &[]);
    let bytes = |report: &Value| report["bytes"].as_u64().expect("bytes");
    let whole = (bytes(&report), perplexity(&wide));
    for (flags, most) in [
        (&["--weights", "bf16", "--head", "bf16"][..], 1.002),
        (&["--weights", "f16", "--head", "f16", "--activations", "bf16"], 1.005),
    ] {
        let (narrow, report) = compile(folder.path(), "narrow.qcc", flags);
        assert_eq!(report["bits_per_weight"].as_f64(), Some(16.0));
        assert!(10 * bytes(&report) < 7 * whole.0, "{} of {}", bytes(&report), whole.0);
        assert!(report["warnings"].as_array().is_some_and(Vec::is_empty), "{report}");
        let perplexity = perplexity(&narrow) / whole.1;
        assert!(perplexity < most && perplexity > 0.99, "{perplexity}");
        let layers = qcc("inspect", &narrow, &["--layers"]);
        let layers = layers["layers"].as_array().expect("layers").clone();
        let linear = layers.iter().find(|l| l["op"] == "linear").expect("a layer");
        assert_eq!(linear["weight_format"], flags[1]);
        assert_eq!(linear["activation_format"], *flags.get(5).unwrap_or(&"f32"));
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
    for key in [
        "prefill_tokens_per_s",
        "decode_tokens_per_s",
        "first_token_seconds",
        "peak_rss_bytes",
        "peak_anonymous_bytes",
    ] {
        assert!(report[key].as_f64().is_some_and(|n| n > 0.0), "{key} in {report}");
    }
    assert_eq!(report["threads"], 1);
    assert!(report["target"].is_string() && report.get("kv_bytes_per_token").is_some());
}

#[test]
fn bench_measures_the_machine_beside_a_model() {
    let report =
        qcc("bench", &mamba(), &["--prompt-len", "16", "--gen-len", "4", "--repeat", "1", "--roofline"]);
    let number = |key: &str| report[key].as_f64().unwrap_or_else(|| panic!("{key} in {report}"));
    assert!(number("read_bandwidth_gb_per_s") > 0.0 && number("decode_percent_of_bandwidth") > 0.0);
    // All weights are read for a token, and no more of the embedding table than its row.
    let stored = qcc("inspect", &mamba(), &[])["f32_bytes"].as_f64().expect("a size");
    let read = number("decode_bytes_per_token");
    assert!(read > 0.3 * stored && read < 1.3 * stored, "{read} of {stored}");
    assert!(number("peak_anonymous_bytes") < 512e6, "without the memory that is measured");
}

/// Images, and each kernel, are compared with what the machine does in the same run.
#[test]
fn bench_compares_each_kernel_with_its_limit() {
    let image = suite("frontends/onnx/bert/bert-23.onnx");
    let flags = ["--repeat", "2", "--threads", "1", "--prompt-len", "16", "--roofline", "--kernels"];
    let report = qcc("bench", &image, &flags);
    for key in ["peak_int8_gop_per_s", "peak_f32_gflop_per_s", "read_bandwidth_gb_per_s", "percent_of_peak"] {
        assert!(report[key].as_f64().is_some_and(|n| n > 0.0), "{key} in {report}");
    }
    let kernels = report["kernels"].as_array().expect("kernels");
    let limited = kernels.iter().filter(|k| k["percent_of_limit"].as_f64().is_some_and(|n| n > 0.0)).count();
    let products =
        kernels.iter().filter(|k| k["kernel"].as_str().is_some_and(|n| n.contains("gemm"))).count();
    assert!(products > 0 && limited >= products, "{limited} of {products}");
}

/// The description that is written is one that compiling takes.
#[test]
fn bench_describes_the_machine_for_costs() {
    let folder = tempfile::tempdir().expect("a folder");
    let description = folder.path().join("machine.toml");
    let described = description.display().to_string();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut streams = Streams { stdin: &mut std::io::empty(), stdout: &mut out, stderr: &mut err };
    let code = qcc::run(["qcc", "bench", "--calibrate-target", &described].map(OsString::from), &mut streams);
    assert_eq!((code, &out[..]), (0, &b""[..]), "{}", String::from_utf8_lossy(&err));
    let text = std::fs::read_to_string(&description).expect("written");
    let target = qcc_passes::transform::Target::parse(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
    assert!(target.int8_operations > 1e8 && target.memory_bytes > 1e8, "{text}");
}

/// Encoders take several arrays of any size.
#[test]
fn bench_makes_up_arrays() {
    let encoder = suite("frontends/onnx/bert/bert-23.onnx");
    let report =
        qcc("bench", &encoder, &["--prompt-len", "32", "--batch", "3", "--repeat", "1", "--threads", "1"]);
    assert!(report["latency_ms"].as_f64().is_some_and(|ms| ms > 0.0), "{report}");
    assert_eq!((&report["prompt_len"], &report["batch"]), (&32.into(), &3.into()));
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
