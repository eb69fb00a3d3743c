//! Stock MLIR prints our text back byte for byte: one process for all modules.

use std::io::Write;
use std::process::{Command, Stdio};

use qcc_ir::{irdl, print};

use crate::{numbers, quantized_types, suite};

const TOOL: &str = "mlir-opt-22";
const SEPARATOR: &str = "// -----\n";

#[test]
fn mlir_opt_prints_every_module_back_byte_for_byte() {
    if Command::new(TOOL).arg("--version").output().is_err() {
        eprintln!("skipped: {TOOL} not found");
        return;
    }
    let irdl_path = std::env::temp_dir().join(format!("qcc-{}.irdl.mlir", std::process::id()));
    std::fs::write(&irdl_path, irdl::irdl_file()).expect("temporary file");
    let irdl_flag = format!("--irdl-file={}", irdl_path.display());
    let mut modules = suite::modules();
    modules.push(("nothing".into(), qcc_ir::Module::default()));
    modules.push(("numbers".into(), numbers::numbers()));
    modules.push(("quantized types".into(), quantized_types::module()));
    for locations in [false, true] {
        let texts: Vec<String> =
            modules.iter().map(|(_, m)| print::print_module(m, print::Options { locations })).collect();
        let mut flags = vec![irdl_flag.as_str(), "--split-input-file", "--mlir-print-op-generic"];
        if locations {
            flags.push("--mlir-print-debuginfo");
        }
        let back = mlir_opt(&flags, texts.join(SEPARATOR)).unwrap_or_else(|e| panic!("{e}"));
        let parts: Vec<&str> = back.split(SEPARATOR).collect();
        assert_eq!(parts.len(), texts.len(), "one module for each");
        for ((name, _), (text, part)) in modules.iter().zip(texts.iter().zip(parts)) {
            assert!(part.trim_end() == text.trim_end(), "{name}:\n{text}\n{TOOL}:\n{part}");
        }
    }
    std::fs::remove_file(&irdl_path).expect("temporary file");
}

fn mlir_opt(arguments: &[&str], input: String) -> Result<String, String> {
    let mut child = Command::new(TOOL)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it was found before");
    let mut stdin = child.stdin.take().expect("piped");
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().expect("it ran");
    writer.join().expect("writer thread").expect("it read its input");
    if output.status.success() {
        Ok(String::from_utf8(output.stdout).expect("text"))
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}
