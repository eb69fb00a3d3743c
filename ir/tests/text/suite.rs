//! The modules of `test/`, and that they survive printing and parsing.

use std::path::{Path, PathBuf};

use qcc_ir::{Function, Module, TensorType, parse, print, verify};

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

/// The modules of all files, those between `// -----` lines each on their own. Text with expected errors has none.
pub fn modules() -> Vec<(String, Module)> {
    let mut files = Vec::new();
    mlir_files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../test"), &mut files);
    let mut modules = Vec::new();
    for path in files {
        let file = std::fs::read_to_string(&path).expect("readable test");
        for (index, text) in file.split("\n// -----\n").enumerate() {
            let name = format!("{} ({index})", path.display());
            let meant = text.contains("expected-error") || file.starts_with("// RUN: not");
            match parse::parse_module(&name, text) {
                Ok(module) if !meant => modules.push((name, module)),
                Err(errors) if !meant => panic!("{name} must parse: {}", errors[0].render(text, 1)),
                _ => {}
            }
        }
    }
    assert!(modules.len() >= 10, "the suite has modules");
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
            assert_eq!(types(before), types(after), "{name}: symbolic sizes come back");
        }
    }
}

/// Types of all results, in order.
pub fn types(function: &Function) -> Vec<&TensorType> {
    let results = function.order().iter().flat_map(|op| &function.node(*op).results);
    results.map(|v| function.ty(*v)).collect()
}
