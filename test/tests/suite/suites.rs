//! The test files: every file of `test/` with `RUN:` lines.

use std::path::{Path, PathBuf};

use qcc_test::bless::{MARK, bless};
use qcc_test::execute;
use qcc_test::script::{Line, Places, parse};

/// A test file.
pub struct TestFile {
    /// Suite and file: `ir/linear.mlir`.
    pub name: String,
    path: PathBuf,
    temporary: PathBuf,
}

/// The folder of the suites.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files with `RUN:` lines, sorted.
pub fn files() -> Vec<TestFile> {
    let mut paths = Vec::new();
    for folder in subfolders(root()) {
        if !["src", "tests"].map(|name| root().join(name)).contains(&folder) {
            collect(&folder, &mut paths);
        }
    }
    let with_script = |path: PathBuf| {
        let name = path.strip_prefix(root()).unwrap_or(&path).display().to_string();
        let temporary = Path::new(env!("CARGO_TARGET_TMPDIR")).join("suite").join(format!("{name}.tmp"));
        let file = TestFile { name, path, temporary };
        file.text().is_ok_and(|text| text.contains("RUN:")).then_some(file)
    };
    paths.into_iter().filter_map(with_script).collect()
}

fn subfolders(folder: &Path) -> Vec<PathBuf> {
    let mut entries: Vec<PathBuf> =
        std::fs::read_dir(folder).into_iter().flatten().filter_map(|e| Some(e.ok()?.path())).collect();
    entries.sort();
    entries.retain(|path| path.is_dir());
    entries
}

fn collect(folder: &Path, into: &mut Vec<PathBuf>) {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder).into_iter().flatten().filter_map(|e| Some(e.ok()?.path())).collect();
    files.sort();
    let is_test = |path: &&PathBuf| path.extension().is_some_and(|e| e == "mlir" || e == "test");
    into.extend(files.iter().filter(|p| p.is_file()).filter(is_test).cloned());
    for folder in subfolders(folder) {
        collect(&folder, into);
    }
}

impl TestFile {
    /// Its text.
    pub fn text(&self) -> Result<String, String> {
        std::fs::read_to_string(&self.path).map_err(|e| format!("cannot read `{}`: {e}", self.path.display()))
    }

    /// Its `RUN:` lines.
    pub fn script(&self) -> Result<Vec<Line>, String> {
        let folder = self.temporary.parent().unwrap_or(root());
        std::fs::create_dir_all(folder).map_err(|e| format!("cannot make `{}`: {e}", folder.display()))?;
        parse(&self.text()?, Places { file: &self.path, temporary: &self.temporary })
    }

    /// Runs the test; with `UPDATE=1` writes its expectations first, if they are generated ones.
    pub fn run(&self) -> Result<(), String> {
        let script = self.script()?;
        let text = self.text()?;
        if std::env::var_os("UPDATE").is_some_and(|v| v == "1") && text.lines().any(|l| l == MARK) {
            let blessed = bless(&text, &script, &self.path.display().to_string())?;
            if blessed != text {
                std::fs::write(&self.path, blessed)
                    .map_err(|e| format!("cannot write `{}`: {e}", self.path.display()))?;
            }
        }
        execute::run(&script)
    }
}
