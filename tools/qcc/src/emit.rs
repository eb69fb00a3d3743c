//! `--emit`: intermediate forms of a compilation, beside the artifact. They are made before the artifact is written and put in place after
//! it, so that a failure leaves neither.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use qcc_cpu::compile::{Compiled, compile};
use qcc_interpreter::{Interpreter, Precision};
use qcc_ir::Module;
use qcc_mlir::{CodegenOptions, Target, emit_assembly, emit_llvm_ir};
use qcc_params::Parameters;
use qcc_passes::Progress;

use crate::Failure;
use crate::cli::Emit;

/// Forms that are made but not written yet: relative to the artifact's folder.
pub struct Emitted {
    files: Vec<(PathBuf, Vec<u8>)>,
    library: Option<PathBuf>,
}

/// Whether the forms can be written beside the artifact `out`.
///
/// # Errors
/// When a directory is, or will be, where a form is to be written.
pub fn check(forms: &[Emit], out: &Path) -> Result<(), Failure> {
    for form in forms {
        let extension = match form {
            Emit::Mlir => "mlir",
            Emit::LlvmIr => "ll",
            Emit::Asm => "s",
            Emit::So => "so",
            Emit::Obj | Emit::Ptx => continue,
        };
        let path = out.with_extension(extension);
        if path == out || path.is_dir() {
            return Err(Failure::file(
                &path,
                "`--emit` writes a file there, which is a directory; choose another `-o`",
            ));
        }
    }
    Ok(())
}

/// Makes forms of a module for a target; `out` is the artifact.
///
/// # Errors
/// When the module does not compile, or a form is to come.
pub fn make(
    forms: &[Emit],
    module: &Module,
    parameters: &Parameters,
    target: &Target,
    out: &Path,
    progress: &dyn Progress,
) -> Result<Emitted, Failure> {
    let mut emitted = Emitted { files: Vec::new(), library: None };
    let mut forms = forms.to_vec();
    forms.sort();
    forms.dedup();
    let mut compiled: Option<Compiled> = None;
    for form in forms {
        match form {
            Emit::Mlir => {
                let text = qcc_ir::print::print_module(module, qcc_ir::print::Options::default());
                emitted.files.push((out.with_extension("mlir"), text.into_bytes()));
            }
            Emit::So => emitted.library = Some(out.with_extension("so")),
            Emit::Ptx => return Err(Failure::not_yet("`--emit ptx`")),
            Emit::LlvmIr | Emit::Asm | Emit::Obj => {
                let compiled = match &mut compiled {
                    Some(done) => done,
                    none => none.insert(compile(
                        module,
                        parameters,
                        &Interpreter::new(Precision::F32),
                        target,
                        progress,
                        None,
                    )?),
                };
                emitted.kernels(form, compiled, target, out)?;
            }
        }
    }
    Ok(emitted)
}

impl Emitted {
    /// A form of all kernels: one text after the other, or one object file each in a folder.
    fn kernels(
        &mut self,
        form: Emit,
        compiled: &Compiled,
        target: &Target,
        out: &Path,
    ) -> Result<(), Failure> {
        let (extension, comment) = match form {
            Emit::LlvmIr => ("ll", ";"),
            Emit::Asm if target.is_aarch64() => ("s", "//"),
            Emit::Asm => ("s", "#"),
            _ => {
                let folder = out.with_extension("obj");
                let object =
                    |k: &qcc_cpu::compile::Kernel| (folder.join(format!("{}.o", k.name)), k.object.clone());
                self.files.extend(compiled.kernels.iter().map(object));
                return Ok(());
            }
        };
        let mut all = String::new();
        for kernel in &compiled.kernels {
            let options = CodegenOptions::default();
            let text = match form {
                Emit::LlvmIr => emit_llvm_ir(&kernel.text, target, &options)?,
                _ => emit_assembly(&kernel.text, target, &options)?,
            };
            all.push_str(&format!("{comment} ---- {} ----\n{}\n", kernel.name, text.trim_end()));
        }
        self.files.push((out.with_extension(extension), all.into_bytes()));
        Ok(())
    }

    /// Writes the forms; the artifact is in place. Each file appears whole or not at all.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write(self, out: &Path) -> Result<(), Failure> {
        for (path, bytes) in &self.files {
            put(path, bytes)?;
        }
        if let Some(path) = self.library {
            let from = out.join(qcc_cpu::artifact::LIBRARY_FILE);
            let bytes =
                std::fs::read(&from).map_err(|e| Failure::file(&from, format!("cannot read it: {e}")))?;
            put(&path, &bytes)?;
        }
        Ok(())
    }
}

/// Writes a file beside and renames it.
///
/// # Errors
/// When it cannot be written.
pub fn put(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let cannot = |e: std::io::Error| Failure::file(path, format!("cannot write it: {e}"));
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(cannot)?;
    // Readable for whom the user's mask lets, as any file; temporary files are for their owner alone.
    let readable = std::fs::Permissions::from_mode(0o666);
    let mut beside = tempfile::Builder::new().permissions(readable).tempfile_in(folder).map_err(cannot)?;
    std::io::Write::write_all(&mut beside, bytes).map_err(cannot)?;
    beside.persist(path).map_err(|e| cannot(e.error))?;
    Ok(())
}
