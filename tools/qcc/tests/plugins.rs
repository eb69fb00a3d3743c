//! Plugins as a user meets them: builds `test/plugins/example`, loads it into the built `qcc`, and sees what is no plugin refused.

mod plugins {
    pub mod build;
}

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use plugins::build::example;
use qcc_passes::plugin::BUILD_ID;

/// Reads `(x + pads) + pads`, negated twice, minus what was negated.
const MODULE: &str = r#"
"func.func"() <{arg_attrs = [{qcc.dims = ["B", "4"]}], function_type = (tensor<?x4xf32>) -> tensor<?x9xf32>, sym_name = "main"}> ({
^bb0(%0: tensor<?x4xf32>):
  %1 = "qcc.pad"(%0) {mode = "constant", pads = array<i64: 0, 1, 0, 1>, value = 0.5 : f64} : (tensor<?x4xf32>) -> tensor<?x6xf32>
  %2 = "qcc.pad"(%1) {mode = "constant", pads = array<i64: 0, 0, 0, 3>, value = 0.5 : f64} : (tensor<?x6xf32>) -> tensor<?x9xf32>
  %3 = "qcc.exp"(%2) : (tensor<?x9xf32>) -> tensor<?x9xf32>
  %4 = "qcc.neg"(%2) : (tensor<?x9xf32>) -> tensor<?x9xf32>
  %5 = "qcc.sub"(%3, %4) : (tensor<?x9xf32>, tensor<?x9xf32>) -> tensor<?x9xf32>
  "func.return"(%5) : (tensor<?x9xf32>) -> ()
}) : () -> ()
"#;

fn qcc(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_qcc")).args(args).output().expect("qcc starts")
}

/// What a command line that succeeds prints: results and messages.
fn succeeds(args: &[&str]) -> (String, String) {
    let output = qcc(args);
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "qcc {args:?}: {err}");
    (out, err)
}

/// The one line that `qcc passes` says of a file that is no plugin for it.
fn refused(file: &Path) -> String {
    let output = qcc(&["passes", "--load-pass-plugin", path(file)]);
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!((output.status.code(), out.as_str()), (Some(1), ""), "{}: {err}", file.display());
    assert_eq!(err.lines().count(), 1, "{err}");
    assert!(err.starts_with(&format!("error: plugin `{}`: ", file.display())), "{err}");
    err
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn path(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

fn written(folder: &tempfile::TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let file = folder.path().join(name);
    std::fs::write(&file, bytes).expect("written");
    file
}

/// A copy of the example with `from` replaced by `to` wherever it occurs.
fn patched(folder: &tempfile::TempDir, from: &[u8], to: &[u8]) -> PathBuf {
    let mut bytes = std::fs::read(example()).expect("read");
    let places: Vec<usize> =
        (0..bytes.len() - from.len()).filter(|at| bytes[*at..].starts_with(from)).collect();
    assert!(!places.is_empty(), "the plugin has no `{}`", text(from));
    for at in places {
        bytes[at..at + to.len()].copy_from_slice(to);
    }
    written(folder, "patched.so", &bytes)
}

#[test]
fn passes_of_a_plugin_are_listed() {
    let (out, _) = succeeds(&["passes", "--load-pass-plugin", path(example())]);
    for name in ["canonicalize", "merge-pads", "simplify-negations"] {
        assert!(out.lines().any(|line| line.starts_with(&format!("{name} "))), "{out}");
    }
    assert!(!succeeds(&["passes"]).0.contains("merge-pads"));
}

#[test]
fn passes_of_a_plugin_run_among_others() {
    let folder = tempfile::tempdir().expect("a folder");
    let module = written(&folder, "module.mlir", MODULE.as_bytes());
    let plugin = ["--load-pass-plugin", path(example())];
    let pipeline = "canonicalize,merge-pads,simplify-negations,canonicalize";
    let run = |pipeline: &str| {
        succeeds(
            &[&["-v", "opt", path(&module), "--verify-each", "--pass-pipeline", pipeline], &plugin[..]]
                .concat(),
        )
    };
    let (out, err) = run(pipeline);
    assert_eq!(out.matches("qcc.pad").count(), 1, "{out}");
    assert!(out.contains("pads = array<i64: 0, 1, 0, 4>"), "{out}");
    assert!(out.contains("qcc.add") && !out.contains("qcc.neg") && !out.contains("qcc.sub"), "{out}");
    // The log of a plugin goes where that of qcc goes.
    assert!(err.contains("simplify-negations applied={\"subtracted-negation\": 1}"), "{err}");
    let (_, err) = run("canonicalize,merge-pads,merge-pads");
    assert!(err.contains("merge-pads: nothing matched"), "{err}");
}

#[test]
fn a_model_is_compiled_with_passes_of_a_plugin() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("small.qcc");
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../test/frontends/onnx/small.onnx");
    let base = ["compile", path(&model), "-o", path(&out), "--json", "--load-pass-plugin", path(example())];
    let pipeline = "canonicalize,simplify-negations,merge-pads,fold-batch-norm,canonicalize";
    let (report, _) = succeeds(&[&base[..], &["--verify-each", "--pass-pipeline", pipeline]].concat());
    let report: serde_json::Value = serde_json::from_str(&report).expect("one JSON object");
    let passes = report["passes"].as_array().expect("passes").iter();
    let passes: Vec<_> = passes.filter_map(|p| p["name"].as_str()).collect();
    assert_eq!(passes.join(","), pipeline);
    // A recipe runs none of them, which is no silent matter.
    let output = qcc(&[&base[..], &["--recipe", "f32", "--strict"]].concat());
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("no pass of a plugin"), "{}", text(&output.stderr));
}

#[test]
fn a_plugin_of_another_build_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let other = BUILD_ID.replace("qcc ", "qcx ");
    let error = refused(&patched(&folder, BUILD_ID.as_bytes(), other.as_bytes()));
    assert!(
        error.contains(&format!("`example` was built against {other}, and this is {BUILD_ID}; rebuild it")),
        "{error}"
    );
    let error = refused(&patched(&folder, b"qccpass\n\x01", b"qccpass\n\x02"));
    assert!(
        error.contains("it has version 2 of the plugin interface and this qcc has 1; rebuild it"),
        "{error}"
    );
}

#[test]
fn what_is_no_plugin_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    assert!(refused(&folder.path().join("missing.so")).contains("cannot read it: No such file"));
    assert!(refused(folder.path()).contains("it is not a regular file"));
    let garbage = refused(&written(&folder, "garbage.so", b"\x7fELF and then nothing that makes sense"));
    assert!(garbage.contains("it does not load as a shared library"), "{garbage}");
    let unnamed = refused(&patched(&folder, b"qcc_pass_plugin\0", b"qcc_pass_plugim\0"));
    assert!(unnamed.contains("it has no entry point `qcc_pass_plugin`"), "{unnamed}");
}

#[test]
fn a_name_has_one_meaning() {
    let plugin = ["--load-pass-plugin", path(example())];
    let output = qcc(&[&["passes"], &plugin[..], &plugin[..]].concat());
    assert_eq!(output.status.code(), Some(1));
    let expected = "pass `merge-pads`: a pass of this name is registered already\n";
    assert!(text(&output.stderr).ends_with(expected), "{}", text(&output.stderr));
}
