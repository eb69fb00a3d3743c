//! Says which build this is, for the handshake with plugins (`src/plugin`): version, sources, compiler and target. A plugin runs this script
//! for its own copy of the crate, so both have the same text exactly when both were made of the same sources by the same compiler.

use std::collections::hash_map::DefaultHasher;
use std::ffi::OsStr;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// The crates whose types plugins share, this one last, and the file that fixes the versions of what they depend on.
const SOURCES: [&str; 10] = [
    "../Cargo.toml",
    "../ir/Cargo.toml",
    "../ir/src",
    "../ir/params/Cargo.toml",
    "../ir/params/src",
    "../backends/interpreter/Cargo.toml",
    "../backends/interpreter/src",
    "Cargo.toml",
    "build.rs",
    "src",
];

fn main() {
    let mut hasher = DefaultHasher::new();
    for source in SOURCES {
        println!("cargo::rerun-if-changed={source}");
        let mut files = Vec::new();
        list(Path::new(source), &mut files);
        files.sort();
        for file in files {
            // Not the path as such: how folders are separated differs between systems.
            file.iter().for_each(|part| part.hash(&mut hasher));
            fs::read(&file).unwrap_or_default().hash(&mut hasher);
        }
    }
    let compiler = compiler();
    compiler.hash(&mut hasher);
    unusual_flags().hash(&mut hasher);
    let (version, target) = (variable("CARGO_PKG_VERSION"), variable("TARGET"));
    let release = compiler.lines().next().unwrap_or("an unknown compiler");
    let sources = hasher.finish();
    println!("cargo::rustc-env=QCC_BUILD=qcc {version} {sources:016x}, {release}, {target}");
}

/// The files at or below `path`, of a kind that is compiled in.
fn list(path: &Path, files: &mut Vec<PathBuf>) {
    if let Ok(entries) = fs::read_dir(path) {
        entries.flatten().for_each(|entry| list(&entry.path(), files));
    } else if path
        .extension()
        .is_some_and(|e| [OsStr::new("rs"), OsStr::new("toml"), OsStr::new("rules")].contains(&e))
    {
        files.push(path.to_path_buf());
    }
}

/// What `rustc -vV` says.
fn compiler() -> String {
    let output = Command::new(variable("RUSTC")).arg("-vV").output();
    output.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default()
}

/// The flags that may lay out types in another way: unstable ones, and conditions that libraries test. Lints and the like do not count.
fn unusual_flags() -> Vec<String> {
    let flags = variable("CARGO_ENCODED_RUSTFLAGS");
    let mut unusual = Vec::new();
    let mut flags = flags.split('\x1f');
    while let Some(flag) = flags.next() {
        if flag == "-Z" || flag == "--cfg" {
            unusual.extend([flag.to_string(), flags.next().unwrap_or_default().to_string()]);
        } else if flag.starts_with("-Z") || flag.starts_with("--cfg=") {
            unusual.push(flag.to_string());
        }
    }
    unusual
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_default()
}
