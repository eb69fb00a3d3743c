//! Builds the example plugin once a process: from a copy of its sources outside the workspace, with the workspace's Cargo.lock, profile and
//! target folder, so that what the workspace depends on is not compiled again.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use toml::{Table, Value};

/// The shared library of `test/plugins/example`.
pub fn example() -> &'static Path {
    static LIBRARY: LazyLock<PathBuf> = LazyLock::new(build);
    &LIBRARY
}

fn build() -> PathBuf {
    let workspace =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the workspace");
    let (source, copy) = (
        workspace.join("test/plugins/example"),
        Path::new(env!("CARGO_TARGET_TMPDIR")).join("plugin-example"),
    );
    std::fs::create_dir_all(copy.join("src")).expect("a folder");
    for entry in std::fs::read_dir(source.join("src")).expect("the sources").flatten() {
        place(&copy.join("src").join(entry.file_name()), &read(&entry.path()));
    }
    place(&copy.join("Cargo.toml"), &manifest(&source, &workspace));
    // Cargo adds the plugin to it and removes what the plugin does not need.
    std::fs::copy(workspace.join("Cargo.lock"), copy.join("Cargo.lock")).expect("copied");

    let target =
        Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("invariant: it is inside the target folder");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--offline", "--quiet", "--target-dir"]).arg(target).current_dir(&copy);
    let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
    if profile == "release" {
        cargo.arg("--release");
    }
    let output = cargo.output().expect("cargo starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let name = format!("{}qcc_plugin_example{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
    target.join(profile).join(name)
}

/// The example's manifest, its paths made absolute, with the profiles of the workspace: then the crates that are not qcc's are those of the
/// workspace. qcc's own are others, and are compiled fast rather than well.
fn manifest(example: &Path, workspace: &Path) -> String {
    let mut manifest: Table = read(&example.join("Cargo.toml")).parse().expect("TOML");
    let workspace: Table = read(&workspace.join("Cargo.toml")).parse().expect("TOML");
    let mut profiles = workspace["profile"].as_table().expect("profiles").clone();
    let dependencies = manifest["dependencies"].as_table_mut().expect("dependencies");
    for dependency in dependencies.iter_mut().map(|(_, value)| value).filter_map(Value::as_table_mut) {
        let path = example.join(dependency["path"].as_str().expect("a path"));
        dependency["path"] = path.to_str().expect("UTF-8").into();
    }
    for profile in profiles.iter_mut().map(|(_, value)| value).filter_map(Value::as_table_mut) {
        let packages = profile.entry("package").or_insert_with(|| Table::new().into());
        for name in ["qcc-ir", "qcc-params", "qcc-interpreter", "qcc-passes"] {
            let fast: Table =
                [("opt-level".into(), 0.into()), ("debug".into(), false.into())].into_iter().collect();
            packages.as_table_mut().expect("packages").insert(name.into(), fast.into());
        }
    }
    manifest.insert("profile".into(), profiles.into());
    manifest.to_string()
}

fn read(file: &Path) -> String {
    std::fs::read_to_string(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()))
}

/// Writes a file unless it has that text already: cargo goes by the time of the last change.
fn place(file: &Path, text: &str) {
    if std::fs::read_to_string(file).ok().as_deref() != Some(text) {
        std::fs::write(file, text).expect("written");
    }
}
