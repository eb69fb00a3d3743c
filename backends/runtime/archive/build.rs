//! Builds `qcc-runtime-capi` as an optimised static library for this target, and for others that artifacts are made for, whatever profile the
//! compiler itself is built with.
//!
//! Cargo cannot hand a static library of one crate to another (artifact dependencies are not stable), so this runs it once more, in a
//! target directory of its own: the outer one is locked while this runs.

use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    let variable =
        |name: &str| std::env::var_os(name).expect("invariant: cargo sets the variables of build scripts");
    let here = PathBuf::from(variable("CARGO_MANIFEST_DIR"));
    let runtime = here.parent().expect("invariant: this crate lies in the runtime's folder");
    let workspace = runtime.ancestors().nth(2).expect("invariant: the runtime's folder lies in `backends`");
    let out = PathBuf::from(variable("OUT_DIR"));
    let target = variable("TARGET").into_string().expect("invariant: targets are named in ASCII");
    for path in [
        runtime.join("src"),
        runtime.join("Cargo.toml"),
        runtime.join("capi/src"),
        runtime.join("capi/Cargo.toml"),
        workspace.join("Cargo.toml"),
        workspace.join("Cargo.lock"),
    ] {
        println!("cargo::rerun-if-changed={}", path.display());
    }
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-env=QCC_RUNTIME_TARGET={target}");
    build(&variable("CARGO"), workspace, &out, &target).unwrap_or_else(|e| fail(&e));
    std::fs::rename(out.join(library(&target)), out.join("libqcc_runtime.a"))
        .unwrap_or_else(|e| fail(&e.to_string()));
    // Where the standard library for them is not installed, artifacts for other machines are refused.
    let mut table = String::from("&[");
    for other in OTHERS.into_iter().filter(|other| *other != target && has_standard_library(other)) {
        build(&variable("CARGO"), workspace, &out, other).unwrap_or_else(|e| fail(&e));
        table += &format!(
            "({other:?}, include_bytes!(concat!(env!(\"OUT_DIR\"), {:?}))),",
            format!("/{}", library(other))
        );
    }
    std::fs::write(out.join("others.rs"), table + "]").unwrap_or_else(|e| fail(&e.to_string()));
}

/// Machines that artifacts can be made for elsewhere.
const OTHERS: [&str; 2] = ["aarch64-unknown-linux-gnu", "x86_64-unknown-linux-gnu"];

fn library(target: &str) -> String {
    format!("libqcc_runtime-{target}.a")
}

fn has_standard_library(target: &str) -> bool {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let found = Command::new(rustc).args(["--print", "target-libdir", "--target", target]).output();
    let folder = found.ok().filter(|o| o.status.success()).and_then(|o| String::from_utf8(o.stdout).ok());
    folder.is_some_and(|folder| Path::new(folder.trim()).is_dir())
}

/// Builds the library for a target.
fn build(cargo: &std::ffi::OsStr, workspace: &Path, out: &Path, target: &str) -> Result<(), String> {
    let mut cargo = Command::new(cargo);
    // Wrappers and flags of the outer build (clippy, coverage) are not for code that is shipped.
    for name in ["RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER", "RUSTFLAGS", "CARGO_BUILD_TARGET"] {
        cargo.env_remove(name);
    }
    let status = cargo
        .current_dir(workspace)
        .args([
            "rustc",
            "--quiet",
            "--release",
            "--lib",
            "--crate-type",
            "staticlib",
            "--package",
            "qcc-runtime-capi",
        ])
        .args(["--target", target])
        .arg("--target-dir")
        .arg(out.join("target"))
        // One object, so that the linker takes and drops code by function; no paths of this machine in it.
        .env("CARGO_PROFILE_RELEASE_LTO", "fat")
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1")
        .env("CARGO_PROFILE_RELEASE_DEBUG", "false")
        .env("CARGO_ENCODED_RUSTFLAGS", path_prefixes(workspace).join("\x1f"))
        // For other machines no C compiler is needed: hashes are computed in Rust.
        .envs((std::env::var("TARGET").as_deref() != Ok(target)).then_some(("CARGO_FEATURE_PURE", "1")))
        .status();
    match status {
        Ok(status) if status.success() => {}
        Ok(status) => {
            return Err(format!(
                "building the runtime library for {target} failed ({status}); its messages are above"
            ));
        }
        Err(e) => return Err(format!("cannot run cargo to build the runtime library: {e}")),
    }
    let built = out.join("target").join(target).join("release/libqcc_runtime_capi.a");
    std::fs::copy(&built, out.join(library(target))).map_err(|e| format!("{}: {e}", built.display()))?;
    Ok(())
}

/// Flags that replace this machine's folders in messages of panics.
fn path_prefixes(workspace: &Path) -> Vec<String> {
    let home =
        std::env::var("CARGO_HOME").or_else(|_| std::env::var("HOME").map(|home| format!("{home}/.cargo")));
    let mut flags = vec![format!("--remap-path-prefix={}=qcc", workspace.display())];
    flags.extend(home.map(|home| format!("--remap-path-prefix={home}=cargo")));
    flags
}

fn fail(message: &str) -> ! {
    println!("cargo::error={message}");
    std::process::exit(1)
}
