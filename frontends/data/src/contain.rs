//! Calls into libraries that may panic on data nobody wrote them for.
//!
//! `tokenizers` 0.23 unwraps while it reads some normalizers (a SentencePiece map that is not base64, say), and its
//! and `jpeg-decoder`'s inner loops index by numbers from the file. One unusable file must not end a run with a
//! backtrace, so a panic in them becomes an error like any other.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    /// Whether this thread is inside [`contain`], so that a panic is about to become an error.
    static CONTAINED: Cell<bool> = const { Cell::new(false) };
}

/// Runs `call`; a panic in it is returned as its message and not printed.
///
/// `call` must not leave values broken that outlive it when it panics: callers pass only calls that read a library's
/// object, or make one that is dropped on failure.
pub fn contain<T>(call: impl FnOnce() -> T) -> Result<T, String> {
    static QUIET: Once = Once::new();
    // The hook is the process's: everybody else's panics go on to the one that was there before.
    QUIET.call_once(|| {
        let printing = take_hook();
        set_hook(Box::new(move |panic| {
            if !CONTAINED.get() {
                printing(panic);
            }
        }));
    });
    let outer = CONTAINED.replace(true);
    let outcome = catch_unwind(AssertUnwindSafe(call));
    CONTAINED.set(outer);
    outcome.map_err(|panic| match (panic.downcast_ref::<String>(), panic.downcast_ref::<&str>()) {
        (Some(message), _) => message.clone(),
        (None, Some(message)) => message.to_string(),
        (None, None) => "the library failed".to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_its_message() {
        assert_eq!(contain(|| 3), Ok(3));
        assert_eq!(
            contain(|| -> u8 { panic!("entry {} is damaged", 7) }),
            Err("entry 7 is damaged".to_string())
        );
        assert_eq!(contain(|| -> u8 { panic!("damaged") }), Err("damaged".to_string()));
        assert!(!CONTAINED.get());
    }
}
