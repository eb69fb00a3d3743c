//! Every module of `test/` survives printing and parsing, and MLIR's own tools agree byte for byte.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use qcc_ir::{Module, irdl, parse, print, verify};

fn suite() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../test")
}

/// All `.mlir` files below `folder`.
fn mlir_files(folder: &Path, into: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> =
        std::fs::read_dir(folder).expect("test folder").map(|e| e.expect("entry").path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            mlir_files(&path, into);
        } else if path.extension().is_some_and(|e| e == "mlir") {
            into.push(path);
        }
    }
}

/// The modules of the suite that parse (files of error tests do not, on purpose).
fn modules() -> Vec<(String, Module)> {
    let mut files = Vec::new();
    mlir_files(&suite(), &mut files);
    let mut modules = Vec::new();
    for path in files {
        let text = std::fs::read_to_string(&path).expect("readable test");
        let name = path.display().to_string();
        match parse::parse_module(&name, &text) {
            Ok(module) => modules.push((name, module)),
            Err(errors) => {
                let meant = ["expected-error", "// -----", "RUN: not"].iter().any(|m| text.contains(m));
                assert!(meant, "{name} must parse: {}", errors[0].render(&text, 1));
            }
        }
    }
    assert!(modules.len() >= 5, "the suite has modules");
    modules
}

#[test]
fn parsing_what_was_printed_gives_the_same_text() {
    for (name, module) in modules() {
        verify::verify(&module, verify::Options::default()).unwrap_or_else(|e| panic!("{name}: {}", e[0]));
        let text = print::print_module(&module, print::Options { locations: true });
        let again = parse::parse_module(&name, &text).unwrap_or_else(|e| panic!("{}", e[0].render(&text, 1)));
        assert_eq!(print::print_module(&again, print::Options { locations: true }), text, "{name}");
        for (before, after) in module.functions.iter().zip(&again.functions) {
            let types = |f: &qcc_ir::Function| -> Vec<_> {
                f.order()
                    .iter()
                    .flat_map(|op| f.node(*op).results.iter().map(|v| f.ty(*v).clone()).collect::<Vec<_>>())
                    .collect()
            };
            assert_eq!(types(before), types(after), "{name}: symbolic sizes come back");
        }
    }
}

fn mlir_opt(arguments: &[&str], input: &str) -> Result<String, String> {
    let mut child = Command::new("mlir-opt-22")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("mlir-opt-22 was found before");
    let mut stdin = child.stdin.take().expect("piped");
    let input = input.to_string();
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().expect("mlir-opt-22 ran");
    writer.join().expect("writer thread").expect("mlir-opt-22 read its input");
    if output.status.success() {
        Ok(String::from_utf8(output.stdout).expect("text"))
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

#[test]
fn mlir_opt_prints_every_module_back_byte_for_byte() {
    if Command::new("mlir-opt-22").arg("--version").output().is_err() {
        eprintln!("skipped: mlir-opt-22 is not installed");
        return;
    }
    let irdl_path = std::env::temp_dir().join(format!("qcc-{}.irdl.mlir", std::process::id()));
    std::fs::write(&irdl_path, irdl::irdl_file()).expect("temporary file");
    let irdl_flag = format!("--irdl-file={}", irdl_path.display());
    let mut all = modules();
    all.push(("numbers".into(), numbers()));
    for (name, module) in all {
        for locations in [false, true] {
            let text = print::print_module(&module, print::Options { locations });
            let mut flags = vec![irdl_flag.as_str(), "--mlir-print-op-generic"];
            if locations {
                flags.push("--mlir-print-debuginfo");
            }
            let back = mlir_opt(&flags, &text).unwrap_or_else(|e| panic!("{name}: {e}\n{text}"));
            assert_eq!(back.trim_end(), text.trim_end(), "{name}");
        }
    }
    std::fs::remove_file(&irdl_path).expect("temporary file");
}

/// Many constants of all magnitudes: the text of numbers is the part of MLIR that is easiest to get wrong.
fn numbers() -> Module {
    use qcc_ir::{Attribute, Dense, ElementType, Float, Function, TensorType};
    let mut function = Function::new("numbers");
    let x = function.add_argument("x", TensorType::scalar(ElementType::F32));
    let mut state = 1u64;
    let mut random = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        state
    };
    for i in 0..60 {
        let narrow: Vec<f32> = (0..100)
            .map(|_| match i % 3 {
                0 => f32::from_bits((random() >> 32) as u32),
                1 => (random() >> 40) as f32 / 1000.0,
                _ => (random() >> 44) as f32 / (1 << 20) as f32 - 0.5,
            })
            .collect();
        function.add_constant(Dense::f32(&[10, 10], &narrow), "");
        let wide: Vec<Attribute> = (0..40)
            .map(|_| match i % 3 {
                0 => f64::from_bits(random()),
                1 => (random() >> 20) as f64 / 1e4,
                _ => f64::from((random() >> 44) as f32 / (1 << 20) as f32),
            })
            .map(|v| Attribute::Float(Float(v)))
            .collect();
        function.add_one(qcc_ir::Op::Relu {}, [x], "").expect("well typed");
        let op = *function.order().last().expect("an operation");
        function.node_mut(op).annotations.insert("numbers".into(), Attribute::Array(wide.clone()));
        function.node_mut(op).annotations.insert("number".into(), wide[0].clone());
    }
    Module { functions: vec![function] }
}
