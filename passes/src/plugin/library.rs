//! Opens the shared library of a plugin and shakes hands with it. The only unsafe code of this crate.
#![allow(unsafe_code)]

use std::path::Path;

use libloading::{Error, Library};

use super::declaration::text;
use super::{BUILD_ID, Declaration, Problem};

/// The declaration of the plugin in `file`, after the handshake. The library is never unloaded.
pub(super) fn declaration(file: &Path) -> Result<&'static Declaration, Problem> {
    let unreadable = |e: std::io::Error| Problem::Unreadable(e.to_string());
    // Not the path as given: the loader looks for a bare name in the system's folders.
    let path = file.canonicalize().map_err(unreadable)?;
    if !path.metadata().map_err(unreadable)?.is_file() {
        return Err(Problem::Unreadable("it is not a regular file".into()));
    }
    // SAFETY: this runs the initialisers of the library. The user asks for its code to be run; of a plugin in Rust, they are those of the
    // standard library.
    let library = unsafe { Library::new(&path) }.map_err(|e| Problem::NotLoadable(reason(&e)))?;
    let library: &'static Library = Box::leak(Box::new(library));
    // SAFETY: a symbol's address is not read yet, and any symbol has one.
    let address = unsafe { library.get::<*const Declaration>(Declaration::SYMBOL) };
    let declaration: *const Declaration = *address.map_err(|_| Problem::NoEntryPoint)?;
    // SAFETY: who exports this name exports a declaration. Its first two fields are the same in all versions; until they are checked nothing
    // else is read, and until the build id is, nothing but bytes. `Declaration` is `repr(C)` and the library stays loaded.
    unsafe {
        if (&raw const (*declaration).magic).read() != Declaration::MAGIC {
            return Err(Problem::NoEntryPoint);
        }
        let theirs = (&raw const (*declaration).interface).read();
        if theirs != Declaration::INTERFACE {
            return Err(Problem::OtherInterface { theirs, ours: Declaration::INTERFACE });
        }
        let build = text(&(&raw const (*declaration).build_id).read());
        if build != BUILD_ID {
            let name = text(&(&raw const (*declaration).name).read());
            return Err(Problem::OtherBuild { name, theirs: build, ours: BUILD_ID.into() });
        }
        Ok(&*declaration)
    }
}

/// What the loader says; the error itself says only that opening failed.
fn reason(error: &Error) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string)
}
