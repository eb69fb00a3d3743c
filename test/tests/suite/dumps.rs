//! Every dump of every test file, after each pass, passes through stock MLIR unchanged: `mlir-opt-22` with the dialect's IRDL file parses,
//! verifies and prints it back byte for byte. One process checks them all.

use qcc_test::execute;

use crate::suites::files;

const TOOL: &str = "mlir-opt-22";

pub fn check() -> Result<(), String> {
    if std::process::Command::new(TOOL).arg("--version").output().is_err() {
        eprintln!("skipped: {TOOL} not found");
        return Ok(());
    }
    let irdl = words(&["qcc", "opt", "--emit-irdl"]);
    let dialect = execute::qcc(&irdl, &[], false);
    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("qcc.irdl.mlir");
    std::fs::write(&path, dialect.stdout).map_err(|e| format!("cannot write `{}`: {e}", path.display()))?;
    let irdl_flag = format!("--irdl-file={}", path.display());
    for locations in [false, true] {
        let dumps = dumps(locations)?;
        if dumps.len() < 10 {
            return Err(format!("only {} dumps were made", dumps.len()));
        }
        let mut flags = vec![TOOL, &irdl_flag, "--split-input-file", "--mlir-print-op-generic"];
        if locations {
            flags.push("--mlir-print-debuginfo");
        }
        let back = stock(&flags, &dumps.join("// -----\n"))?;
        let parts: Vec<&str> = back.split("// -----\n").collect();
        let differing = dumps.iter().zip(&parts).find(|(dump, part)| dump.trim_end() != part.trim_end());
        if let Some((dump, part)) = differing {
            return Err(format!("{TOOL} prints a dump differently\n--- qcc\n{dump}\n--- {TOOL}\n{part}"));
        }
        if parts.len() != dumps.len() {
            return Err(format!("{TOOL} gave {} modules of {}", parts.len(), dumps.len()));
        }
    }
    Ok(())
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(ToString::to_string).collect()
}

/// Results of all `qcc opt` commands that succeed, and the IR after each of their passes.
fn dumps(locations: bool) -> Result<Vec<String>, String> {
    let mut dumps = Vec::new();
    for file in files() {
        let script = file.script()?;
        let commands = script.iter().flat_map(|line| line.pipes.iter().flatten());
        for command in commands.filter(|c| c.words.starts_with(&words(&["qcc", "opt"]))) {
            let mut words = command.words.clone();
            let (dumps_flag, locations_flag) = ("--mlir-print-ir-after-all", "--mlir-print-debuginfo");
            // Remarks would follow the last dump.
            words.retain(|w| w != dumps_flag && w != locations_flag && w != "--explain");
            words.push(dumps_flag.into());
            words.extend(locations.then(|| locations_flag.to_string()));
            let output = execute::qcc(&words, &[], false);
            if output.code != 0 {
                return Err(format!("{}: `{}` fails", file.name, words.join(" ")));
            }
            let modules = [output.stdout, output.stderr].map(|b| String::from_utf8_lossy(&b).into_owned());
            // The table of times, where asked for, follows the last dump.
            let parts = modules.iter().flat_map(|text| text.split("===-").next());
            for part in parts.flat_map(|text| text.split("// -----")) {
                // Headers of dumps stand before the module or its table of locations.
                let is_module =
                    |line: &&str| line.starts_with("#loc") || line.starts_with("\"builtin.module\"");
                let lines: Vec<&str> = part.lines().skip_while(|line| !is_module(line)).collect();
                if !lines.is_empty() {
                    dumps.push(format!("{}\n", lines.join("\n").trim_end()));
                }
            }
        }
    }
    Ok(dumps)
}

fn stock(flags: &[&str], input: &str) -> Result<String, String> {
    let command = qcc_test::script::Command { words: words(flags), ..Default::default() };
    let feed = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("dumps.mlir");
    std::fs::write(&feed, input).map_err(|e| format!("cannot write `{}`: {e}", feed.display()))?;
    let command = qcc_test::script::Command { input: Some(feed.display().to_string()), ..command };
    let output = execute::run_pipe(&vec![command])?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match output.code {
        0 => Ok(text(&output.stdout)),
        code => Err(format!("{TOOL} ended with {code}: {}", text(&output.stderr))),
    }
}
