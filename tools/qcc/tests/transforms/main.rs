//! Transforms on the command line: rules and costs from files, and what they do to a whole model.

mod small;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use qcc::Streams;
use serde_json::Value;

fn suite(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../test").join(path)
}

/// `qcc compile`, calibrated on two windows: what it prints as JSON, or its messages.
fn compile(model: &Path, out: &Path, flags: &[&str]) -> Result<Value, String> {
    let text = suite("data/lighthouse.txt");
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let mut args: Vec<OsString> = vec!["qcc".into(), "compile".into(), model.into(), "-o".into(), out.into()];
    args.extend(["--json", "--samples", "2", "--seq-len", "64", "--calibration"].map(Into::into));
    args.push(text.into());
    args.extend(flags.iter().map(Into::into));
    let mut streams = Streams { stdin: &mut std::io::empty(), stdout: &mut stdout, stderr: &mut stderr };
    match qcc::run(args, &mut streams) {
        0 => Ok(serde_json::from_slice(&stdout).expect("one JSON object")),
        _ => Err(String::from_utf8_lossy(&stderr).into_owned()),
    }
}

/// What a pass found.
fn told<'a>(report: &'a Value, pass: &str) -> &'a Value {
    let told = report["transforms"].as_array().expect("explanations");
    told.iter().find(|t| t["pass"] == pass).unwrap_or_else(|| panic!("{pass}: {told:?}"))
}

/// Why a layer could not be transformed.
fn obstacle<'a>(report: &'a Value, layer: &str) -> &'a str {
    let refused = told(report, "permute")["refused"].as_array().expect("refusals");
    let refusal = refused.iter().find(|r| r["name"] == layer).expect("it is refused");
    refusal["reason"].as_str().expect("a reason")
}

const PERMUTE: &str = "canonicalize,permute{weights=int4:block=8},canonicalize";
const OUT: &str = "backbone.layers.0.mixer.out_proj";

#[test]
fn a_rule_of_the_users_carries_a_transform_further() {
    let folder = small::mamba("sigmoid");
    let out = folder.path().join("m.qcc");
    let without = compile(folder.path(), &out, &["--pass-pipeline", PERMUTE]).expect("it compiles");
    let reason = obstacle(&without, OUT);
    assert!(reason.contains("qcc.sigmoid"), "{reason}");

    let rules = folder.path().join("sigmoid.rules");
    let rule = "rule permute-sigmoid\n  (permute (sigmoid ?x) ?p) => (sigmoid (permute ?x ?p))\n  if (activations ?x)\n";
    std::fs::write(&rules, rule).expect("written");
    let flags = ["--pass-pipeline", PERMUTE, "--verify-each", "--rules", &rules.display().to_string()];
    let with = compile(folder.path(), &out, &flags).expect("it compiles");
    let reason = obstacle(&with, OUT);
    assert!(reason.contains("qcc.slice") && !reason.contains("qcc.sigmoid"), "{reason}");
}

#[test]
fn a_wrong_rule_is_refused_by_name() {
    let folder = small::mamba("silu");
    let rules = folder.path().join("wrong.rules");
    std::fs::write(&rules, "rule relu-is-odd\n  (relu (neg ?x)) => (neg (relu ?x))\n").expect("written");
    let out = folder.path().join("m.qcc");
    let error =
        compile(folder.path(), &out, &["--rules", &rules.display().to_string()]).expect_err("refused");
    assert!(error.contains("relu-is-odd") && error.contains("wrong.rules"), "{error}");
    assert!(!out.exists());
}

#[test]
fn options_that_a_transform_does_not_have_are_named() {
    let folder = small::mamba("silu");
    let out = folder.path().join("m.qcc");
    for (transforms, expected) in [
        ("smooth{alfa=1}", "unknown option `alfa`"),
        ("smooth{basis=hadamard}", "unknown option `basis`"),
        ("rotate-residual{basis=hadamar}", "use hadamard, random-hadamard"),
        ("rotate-residual{seed=-1}", "use a whole number from 0"),
        ("smooth{weights=int4:channel}", "it is the format of `--weights` or the recipe"),
        ("auto,smooth", "`auto` stands alone"),
        ("smooth,none", "`none` stands alone"),
    ] {
        let error = compile(folder.path(), &out, &["--recipe", "w8a8", "--transforms", transforms]);
        let error = error.expect_err("refused");
        assert!(error.contains(expected), "{transforms}: {error}");
        assert!(!out.exists());
    }
}

#[test]
fn an_unknown_key_of_a_target_description_is_named() {
    let folder = small::mamba("silu");
    let costs = folder.path().join("costs.toml");
    std::fs::write(&costs, "memory-bytes = 2e10\ncache-size = 1\n").expect("written");
    let flags = ["--target-description", &costs.display().to_string()];
    let error = compile(folder.path(), &folder.path().join("m.qcc"), &flags).expect_err("refused");
    assert!(error.contains("cache-size") && error.contains("costs.toml"), "{error}");
}

#[test]
fn the_manifest_names_the_target_description() {
    let folder = small::mamba("silu");
    let costs = folder.path().join("costs.toml");
    let text = "memory-bytes = 2e10\n";
    std::fs::write(&costs, text).expect("written");
    let flags = ["--target-description", &costs.display().to_string()];
    let hash = blake3::hash(text.as_bytes()).to_hex().to_string();
    for (name, flags, expected) in [("a.qcc", &flags[..], hash.as_str()), ("b.qcc", &[], "builtin")] {
        let out = folder.path().join(name);
        compile(folder.path(), &out, flags).expect("it compiles");
        let manifest = std::fs::read(out.join("manifest.json")).expect("a manifest");
        let manifest: Value = serde_json::from_slice(&manifest).expect("JSON");
        assert_eq!(manifest["target_description"], expected);
    }
}

#[test]
fn transforms_of_mamba_keep_it_and_do_not_depend_on_threads() {
    let folder = tempfile::tempdir().expect("a folder");
    let compiled = |name: &str, threads: &str| {
        let out = folder.path().join(name);
        let flags = ["--recipe", "mamba-w8a8", "--threads", threads];
        (compile(&suite("models/mamba-tiny"), &out, &flags).expect("it compiles"), out)
    };
    let (report, one) = compiled("one.qcc", "1");
    let transform = told(&report, "transform");
    for whole in [transform, &report] {
        let difference = whole["max_relative_error"].as_f64().expect("it was compared");
        assert!(difference > 0.0 && difference < 1e-4, "{difference:e}");
    }
    let saturation = &transform["saturations"][0];
    assert!(saturation["nodes"].as_u64() < saturation["node_limit"].as_u64(), "{saturation}");
    assert!(saturation["applied"].as_object().is_some_and(|rules| !rules.is_empty()), "{saturation}");
    let trade_offs = report["pareto"].as_array().expect("trade-offs");
    let chosen: Vec<&Value> = trade_offs.iter().filter(|t| t["chosen"] == true).collect();
    let [chosen] = chosen.as_slice() else { panic!("{chosen:?}") };
    assert_eq!(chosen["online_transforms"], report["online_transforms"]);
    assert!(report["online_transforms"].as_u64() > Some(0));
    // Measured on held-out text, as divergence from the float model.
    let loss = |t: &Value| t["measured_loss"].as_f64().expect("it was measured");
    let untouched = trade_offs.iter().find(|t| t["layers"] == 0).expect("the model as it is is among them");
    assert!(
        loss(chosen) < 0.5 * loss(untouched),
        "{} with transforms, {} without",
        loss(chosen),
        loss(untouched)
    );

    let (other, two) = compiled("two.qcc", "2");
    assert_eq!(told(&other, "transform")["layers"], transform["layers"]);
    for file in ["manifest.json", "model.so", "module.mlirbc", "parameters.safetensors"] {
        let read = |artifact: &Path| std::fs::read(artifact.join(file)).expect("a file");
        assert!(read(&one) == read(&two), "{file}");
    }
}

#[test]
fn every_transform_knows_split_formats() {
    let folder = small::mamba("silu");
    let out = folder.path().join("m.qcc");
    for weights in ["split2", "split4", "split8"] {
        for transforms in ["smooth", "rotate-residual", "auto"] {
            let flags = ["--weights", weights, "--head", weights, "--transforms", transforms];
            compile(folder.path(), &out, &flags).unwrap_or_else(|e| panic!("{weights} {transforms}: {e}"));
        }
    }
}

#[test]
fn options_that_nothing_uses_are_warnings() {
    let folder = small::mamba("silu");
    let out = folder.path().join("m.qcc");
    let rules = folder.path().join("own.rules");
    std::fs::write(&rules, "rule twice (neg (neg ?x)) => ?x\n").expect("written");
    let costs = folder.path().join("costs.toml");
    std::fs::write(&costs, "decoded-elements = 1e3\n").expect("written");
    let (rules, costs) = (rules.display().to_string(), costs.display().to_string());
    for (flags, expected) in [
        (["--recipe", "w8a8", "--rules", &rules], "no pass uses `--rules`"),
        (["--weights", "nf4", "--target-description", &costs], "will be slower than in f32"),
        (["--recipe", "w8a8", "--pareto", "--explain"], "only `--transforms auto` chooses among plans"),
        (["--recipe", "f32", "--transforms", "auto"], "no weight is rounded; say `--weights` too"),
    ] {
        let report = compile(folder.path(), &out, &flags).expect("it compiles");
        let warnings = report["warnings"].to_string();
        assert!(warnings.contains(expected), "{flags:?}: {warnings}");
    }
}

#[test]
fn rules_that_no_transform_could_use_are_refused() {
    let folder = small::mamba("silu");
    let rules = folder.path().join("own.rules");
    for (text, expected) in [
        ("; nothing\n", "it has no `rule NAME LEFT => RIGHT`"),
        ("rule scale-relu (neg (neg ?x)) => ?x\n", "there is a rule `scale-relu` already"),
        (
            "introduce mine (linear ?x ?w ?b) => (linear (scale ?x ?s) (scale ?w ?s) ?b) if (weights ?w)\n",
            "`mine` introduces something",
        ),
    ] {
        std::fs::write(&rules, text).expect("written");
        let flags = ["--recipe", "w8a8", "--transforms", "smooth", "--rules", &rules.display().to_string()];
        let error = compile(folder.path(), &folder.path().join("m.qcc"), &flags).expect_err("refused");
        assert!(error.contains("own.rules") && error.contains(expected), "{error}");
    }
}
