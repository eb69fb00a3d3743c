//! FileCheck's answers are LLVM's: `filecheck/answers.txt` holds cases with the answers that LLVM's tool gave, and where that is installed
//! it is asked again.

use std::io::Write;
use std::process::{Command, Stdio};

use qcc_test::filecheck::{Options, check as file_check};

const CASES: &str = include_str!("../../filecheck/answers.txt");

struct Case<'a> {
    name: &'a str,
    flags: Vec<&'a str>,
    accepted: bool,
    directives: String,
    input: String,
}

pub fn check() -> Result<(), String> {
    let llvm = Command::new("FileCheck-22").arg("--version").output().is_ok();
    if !llvm {
        eprintln!("skipped: FileCheck-22 not found, its recorded answers are used");
    }
    let cases = CASES.split("\n=== ").skip(1).map(parse).collect::<Result<Vec<_>, _>>()?;
    for case in &cases {
        if llvm && ask_llvm(case)? != case.accepted {
            return Err(format!("case `{}`: the recorded answer is not LLVM's", case.name));
        }
        let mut options = Options::default();
        for flag in &case.flags {
            match flag.split_once('=') {
                Some((_, names)) => options.prefixes = names.split(',').map(Into::into).collect(),
                None => options.allow_empty = true,
            }
        }
        let outcome = file_check(&case.directives, &case.input, &options);
        if outcome.is_ok() != case.accepted {
            return Err(format!("case `{}`: {outcome:?}", case.name));
        }
    }
    Ok(())
}

/// `name accept|reject flags`, directives, `---`, input.
fn parse(text: &str) -> Result<Case<'_>, String> {
    let bad = || format!("bad case: {text}");
    let (head, body) = text.split_once('\n').ok_or_else(bad)?;
    let mut words = head.split_whitespace();
    let (name, answer) = (words.next().ok_or_else(bad)?, words.next().ok_or_else(bad)?);
    let (directives, input) = body.split_once("---\n").ok_or_else(bad)?;
    let unescape = |text: &str| text.replace("\\r", "\r").replace("\\t", "\t");
    let input = unescape(input.strip_suffix("\n").unwrap_or(input));
    Ok(Case {
        name,
        flags: words.collect(),
        accepted: answer == "accept",
        directives: directives.to_string(),
        input: if input.is_empty() { input } else { format!("{input}\n") },
    })
}

fn ask_llvm(case: &Case<'_>) -> Result<bool, String> {
    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("directives.txt");
    std::fs::write(&path, &case.directives).map_err(|e| e.to_string())?;
    let mut child = Command::new("FileCheck-22")
        .arg(&path)
        .args(&case.flags)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|e| e.to_string())?;
    // LLVM's tool may refuse its directives before it reads.
    let _ = child.stdin.take().map(|mut stdin| stdin.write_all(case.input.as_bytes()));
    Ok(child.wait().map_err(|e| e.to_string())?.success())
}
