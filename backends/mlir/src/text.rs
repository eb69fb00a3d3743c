//! MLIR text and bytecode: checking dumps against their dialect, and converting between the two forms.

use std::ffi::c_void;

use melior::ir::Module;
use melior::ir::operation::{OperationLike, OperationPrintingFlags};

use crate::MlirError;
use crate::context::{context, parse};

/// Parses and verifies generic assembly, with a dialect defined by IRDL text if given.
///
/// # Errors
/// With MLIR's located messages.
pub fn verify_text(text: &str, irdl: Option<&str>) -> Result<(), MlirError> {
    let (context, messages) = context(false);
    if let Some(irdl) = irdl {
        let dialect = parse(&context, &messages, irdl)?;
        // SAFETY: the module lives during the call, which registers its dialects in its own context.
        let loaded = unsafe { mlir_sys::mlirLoadIRDLDialects(dialect.to_raw()) };
        if loaded.value == 0 {
            return Err(MlirError::Parse(messages.text("the IRDL definitions do not load")));
        }
    }
    parse(&context, &messages, text).map(|_| ())
}

/// MLIR bytecode of generic assembly; dialects need not be known.
///
/// # Errors
/// When the text does not parse.
pub fn to_bytecode(text: &str) -> Result<Vec<u8>, MlirError> {
    extern "C" fn append(chunk: mlir_sys::MlirStringRef, out: *mut c_void) {
        // SAFETY: `out` is the vector below, alive during the call; the chunk is valid for its length.
        unsafe {
            let out = &mut *out.cast::<Vec<u8>>();
            if chunk.length > 0 {
                out.extend_from_slice(std::slice::from_raw_parts(chunk.data.cast(), chunk.length));
            }
        }
    }
    let (context, messages) = context(false);
    let module = parse(&context, &messages, text)?;
    let mut bytes: Vec<u8> = Vec::new();
    // SAFETY: the operation and the vector live during the call.
    unsafe {
        let out = std::ptr::from_mut(&mut bytes).cast();
        mlir_sys::mlirOperationWriteBytecode(module.as_operation().to_raw(), Some(append), out);
    }
    Ok(bytes)
}

/// Generic assembly, with locations, of MLIR bytecode.
///
/// # Errors
/// When the bytes are no valid bytecode.
pub fn from_bytecode(bytes: &[u8]) -> Result<String, MlirError> {
    let (context, messages) = context(false);
    if !bytes.starts_with(b"ML\xefR") {
        return Err(MlirError::Parse("not MLIR bytecode (the magic number is missing)".into()));
    }
    // SAFETY: the string reference is used during the call only; MLIR copies what it keeps.
    let module = unsafe {
        let source = mlir_sys::MlirStringRef { data: bytes.as_ptr().cast(), length: bytes.len() };
        let raw = mlir_sys::mlirModuleCreateParse(context.to_raw(), source);
        if raw.ptr.is_null() {
            return Err(MlirError::Parse(messages.text("the bytecode does not parse")));
        }
        Module::from_raw(raw)
    };
    let flags = OperationPrintingFlags::new().print_generic_operation_form().enable_debug_info(true, false);
    module.as_operation().to_string_with_flags(flags).map_err(|e| MlirError::Parse(e.to_string()))
}
