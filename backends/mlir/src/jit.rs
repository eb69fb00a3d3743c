//! Code in process: the very objects that an artifact ships, linked into a shared library in a temporary folder and loaded.

use libloading::Library;

use crate::{CodegenOptions, LinkInputs, MlirError, Target, compile_object, link_shared};

/// Loaded machine code. Symbols stay valid while it lives.
pub struct Jit {
    library: Library,
}

impl Jit {
    /// Compiles a kernel module and loads it.
    ///
    /// # Errors
    /// When it does not compile or load.
    pub fn load(text: &str, target: &Target) -> Result<Jit, MlirError> {
        Jit::load_objects(&[compile_object(text, target, &CodegenOptions::default())?])
    }

    /// Loads object code.
    ///
    /// # Errors
    /// When it does not link or load.
    pub fn load_objects(objects: &[impl AsRef<[u8]>]) -> Result<Jit, MlirError> {
        let fail =
            |e: &dyn std::fmt::Display| MlirError::Link { path: "kernels".into(), message: e.to_string() };
        let folder = tempfile::tempdir().map_err(|e| fail(&e))?;
        let mut paths = Vec::new();
        for (i, object) in objects.iter().enumerate() {
            let path = folder.path().join(format!("{i}.o"));
            std::fs::write(&path, object.as_ref()).map_err(|e| fail(&e))?;
            paths.push(path);
        }
        let out = folder.path().join("kernels.so");
        link_shared(&LinkInputs { objects: paths, ..LinkInputs::default() }, &out)?;
        // SAFETY: the library holds nothing but kernels of this process's own making: no initialisers run.
        let library = unsafe { Library::new(&out) }.map_err(|e| fail(&e))?;
        Ok(Jit { library })
    }

    /// The address of a symbol.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn address(&self, symbol: &str) -> Result<usize, MlirError> {
        // SAFETY: the symbol is only taken as an address here; who calls it states its type.
        let found = unsafe { self.library.get::<unsafe extern "C" fn()>(symbol.as_bytes()) };
        let found = found.map_err(|_| MlirError::Symbol(symbol.into()))?;
        Ok(*found as usize)
    }
}
