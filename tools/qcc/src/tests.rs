//! Command lines: exit codes, messages, and what goes to which stream.

use std::ffi::OsString;

use super::*;

/// Exit code, stdout and stderr of a command line.
fn qcc(args: &[&str]) -> (u8, String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let args = std::iter::once("qcc").chain(args.iter().copied()).map(OsString::from);
    let mut streams = Streams { stdin: &mut std::io::empty(), stdout: &mut out, stderr: &mut err };
    let code = run(args, &mut streams);
    (code, String::from_utf8(out).expect("text"), String::from_utf8(err).expect("text"))
}

#[test]
fn help_and_version_succeed_on_stdout() {
    for args in [&["--help"][..], &["compile", "--help"], &["--version"]] {
        let (code, out, err) = qcc(args);
        assert_eq!((code, err.as_str()), (0, ""), "{args:?}");
        assert!(out.contains("qcc"), "{args:?}");
    }
}

#[test]
fn wrong_usage_is_2() {
    for (args, expected) in [
        (&["compil"][..], "compile"),
        (&["compile", "m"], "--output"),
        (&["compile", "m", "-o", "x", "--weigths", "int8"], "--weights"),
        (&["run", "m"], "--prompt"),
        (&["run", "m", "--prompt", "a", "--image", "b"], "cannot be used with"),
        (&["run", "m", "--input", "data"], "NAME=FILE.npy"),
        (&["run", "m", "--prompt", "a", "--temperature", "-1"], "temperature"),
        (&["eval", "m"], "--perplexity"),
        (&["eval", "m", "--top1", "d"], "--labels"),
        (&["eval", "m", "--perplexity", "t", "--limit", "0"], "--limit"),
        (&["bench", "m", "--repeat", "0"], "at least 1"),
    ] {
        let (code, out, err) = qcc(args);
        assert_eq!((code, out.as_str()), (2, ""), "{args:?}: {err}");
        assert!(err.contains(expected), "{args:?}: {err}");
    }
}

#[test]
fn an_error_in_the_input_is_1() {
    for (args, expected) in [
        (&["inspect", "/nonexistent/model"][..], "/nonexistent/model: cannot read it"),
        (&["compile", "/nonexistent/m", "-o", "x.qcc", "--recipe", "w8a9"], "did you mean `w8a8`?"),
        (&["compile", "/nonexistent/m", "-o", "x.qcc", "--recipe", "w8a8"], "--calibration"),
        (&["compile", "/nonexistent/m", "-o", "x.qcc", "--target", "x86-64-v5"], "did you mean `x86-64-v"),
        (&["compile", "/nonexistent/m", "-o", "x.qcc", "--target", "nvptx:sm_90"], "not supported yet"),
        (
            &["compile", "/nonexistent/m", "-o", "x.qcc", "--target-loss", "1"],
            "`--target-loss` without a format of weights",
        ),
        (&["compile", "/nonexistent/m", "-o", "x.qcc", "--pass-pipeline", "canonicalise"], "did you mean"),
        (&["compile", "/nonexistent/m", "-o", "/nonexistent/x.qcc"], "no such folder"),
        (&["bench", "/nonexistent/m", "--calibrate-target", "t"], "/nonexistent/m: cannot read it"),
    ] {
        let (code, out, err) = qcc(args);
        assert_eq!((code, out.as_str()), (1, ""), "{args:?}: {err}");
        assert!(err.starts_with("error: ") && err.contains(expected), "{args:?}: {err}");
    }
}

#[test]
fn what_this_build_knows_is_listed() {
    let (code, out, _) = qcc(&["targets"]);
    assert_eq!(code, 0);
    assert!(out.lines().any(|line| line.starts_with("host ")), "{out}");
}

#[test]
fn a_folder_that_is_no_model_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().display().to_string();
    let (code, _, err) = qcc(&["bench", &path]);
    assert_eq!(code, 1);
    assert!(err.contains("neither a manifest.json"), "{err}");
    std::fs::write(folder.path().join("manifest.json"), "{").expect("written");
    let (code, _, err) = qcc(&["bench", &path]);
    assert_eq!(code, 1);
    assert!(err.contains("manifest.json"), "{err}");
}

#[test]
fn ir_text_is_inspected() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("linear.mlir");
    std::fs::write(&path, LINEAR).expect("written");
    let (code, out, err) = qcc(&["inspect", "--json", &path.display().to_string()]);
    assert_eq!(code, 0, "{err}");
    let object: serde_json::Value = serde_json::from_str(&out).expect("one JSON object");
    assert_eq!((object["parameters"].as_u64(), object["f32_bytes"].as_u64()), (Some(32), Some(128)));
    assert_eq!(object["layers"][0]["op"], "linear");
    std::fs::write(&path, "nonsense").expect("written");
    assert_eq!(qcc(&["inspect", &path.display().to_string()]).0, 1);
}

const LINEAR: &str = r#"
"builtin.module"() ({
  "func.func"() <{function_type = (tensor<2x8xf32>) -> tensor<2x4xf32>, sym_name = "main"}> ({
  ^bb0(%arg0: tensor<2x8xf32>):
    %0 = "qcc.parameter"() {name = "w"} : () -> tensor<4x8xf32>
    %1 = "qcc.linear"(%arg0, %0) : (tensor<2x8xf32>, tensor<4x8xf32>) -> tensor<2x4xf32>
    "func.return"(%1) : (tensor<2x4xf32>) -> ()
  }) : () -> ()
}) : () -> ()
"#;
