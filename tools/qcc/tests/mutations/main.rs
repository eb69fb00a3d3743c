//! Damaged files of every kind: whatever is done to one, a command ends with success or with an error that says where, soon, in bounded
//! memory, and leaves nothing behind.
//!
//! Each kind runs in a child process, so that an abort, a stack overflow or a hang is seen and named by its seed. `QCC_MUTATIONS=N` sets how
//! many mutations of each kind are tried (2000 unless set).

mod child;
mod damage;
mod samples;

use std::process::Command;

const DEFAULT_COUNT: usize = 2000;

/// Runs the mutations of one kind in a child process.
fn mutations(kind: &str) {
    let count = std::env::var("QCC_MUTATIONS").ok().and_then(|n| n.parse().ok()).unwrap_or(DEFAULT_COUNT);
    let this = std::env::current_exe().expect("a test binary knows its path");
    let output = Command::new(this)
        .args(["child_process", "--exact", "--nocapture"])
        .env(child::KIND, kind)
        .env(child::COUNT, count.to_string())
        .output()
        .expect("the child starts");
    let printed =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let tail: Vec<&str> = printed.lines().rev().take(12).collect();
    let tail: Vec<&str> = tail.into_iter().rev().collect();
    assert!(output.status.success(), "{kind}: {}\n{}", output.status, tail.join("\n"));
    println!("{}", printed.lines().filter(|l| l.starts_with("mutations:")).collect::<String>());
}

/// Not a test of its own: what the others start.
#[test]
fn child_process() {
    if let Ok(kind) = std::env::var(child::KIND) {
        child::run(&kind);
    }
}

#[test]
fn safetensors() {
    mutations("safetensors");
}

#[test]
fn config() {
    mutations("config");
}

#[test]
fn tokenizer() {
    mutations("tokenizer");
}

#[test]
fn onnx() {
    mutations("onnx");
}

#[test]
fn ir_text() {
    mutations("mlir");
}

#[test]
fn artifact() {
    mutations("artifact");
}
