//! Errors at the border to C: a result becomes a return value, its message is kept for `qcc_last_error`, and a panic becomes an error.

use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    static LAST: RefCell<CString> = RefCell::new(CString::default());
}

/// Runs the body of a C function; `failure` is what the function returns when it fails.
pub(crate) fn guarded<T>(failure: T, body: impl FnOnce() -> Result<T, String>) -> T {
    let message = match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(value)) => return value,
        Ok(Err(message)) => message,
        Err(_) => "internal error in the model's runtime: please report it".to_string(),
    };
    let message = CString::new(message.replace('\0', "\u{fffd}")).unwrap_or_default();
    LAST.with(|last| last.replace(message));
    failure
}

/// See the header.
#[unsafe(no_mangle)]
pub extern "C" fn qcc_last_error() -> *const c_char {
    LAST.with(|last| last.borrow().as_ptr())
}

/// # Safety
/// `pointer` is null or points to a `T` that lives as long as the reference.
pub(crate) unsafe fn reference<'a, T>(pointer: *const T, name: &str) -> Result<&'a T, String> {
    // SAFETY: as the caller promises.
    unsafe { pointer.as_ref() }.ok_or_else(|| format!("{name} is NULL"))
}

/// # Safety
/// `pointer` is null or a C string that lives as long as the reference.
pub(crate) unsafe fn text<'a>(pointer: *const c_char, name: &str) -> Result<&'a str, String> {
    if pointer.is_null() {
        return Err(format!("{name} is NULL"));
    }
    // SAFETY: as the caller promises.
    unsafe { CStr::from_ptr(pointer) }.to_str().map_err(|_| format!("{name} is not UTF-8"))
}
