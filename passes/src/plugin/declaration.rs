//! What a plugin exports, and the macro that exports it.

use super::build_id::BUILD_ID;
use super::guard::{Logging, logging};
use crate::registry::Registry;

/// What a plugin exports as `qcc_pass_plugin`. The first two fields never change, the others only with the version; all but the last are plain
/// bytes, so that any qcc can read them.
#[repr(C)]
pub struct Declaration {
    pub(super) magic: [u8; 8],
    pub(super) interface: u32,
    pub(super) name: [u8; Declaration::NAME_BYTES],
    pub(super) build_id: [u8; Declaration::BUILD_ID_BYTES],
    register: Register,
}

/// Adds what a plugin has to the registry. Not to be called unless the build ids agree.
type Register = fn(&mut Registry, Logging) -> Result<(), String>;

impl Declaration {
    pub(super) const SYMBOL: &'static [u8] = b"qcc_pass_plugin\0";
    pub(super) const MAGIC: [u8; 8] = *b"qccpass\n";
    pub(super) const INTERFACE: u32 = 1;
    pub(super) const NAME_BYTES: usize = 64;
    pub(super) const BUILD_ID_BYTES: usize = 256;

    /// The declaration of a plugin of this build. Made by [`declare_plugin`](crate::declare_plugin) alone.
    #[doc(hidden)]
    pub const fn new(name: &str, register: Register) -> Declaration {
        Declaration {
            magic: Declaration::MAGIC,
            interface: Declaration::INTERFACE,
            name: padded(name),
            build_id: padded(BUILD_ID),
            register,
        }
    }

    pub(super) fn register(&self, registry: &mut Registry) -> Result<(), String> {
        (self.register)(registry, logging)
    }
}

/// A text in a fixed number of bytes, zeros behind it.
const fn padded<const N: usize>(text: &str) -> [u8; N] {
    assert!(text.len() <= N, "the name of a plugin has at most 64 bytes");
    let mut bytes = [0; N];
    let (head, _) = bytes.split_at_mut(text.len());
    head.copy_from_slice(text.as_bytes());
    bytes
}

/// The text in bytes that another program may have written.
pub(super) fn text(padded: &[u8]) -> String {
    let end = padded.iter().position(|b| *b == 0).unwrap_or(padded.len());
    String::from_utf8_lossy(&padded[..end]).into_owned()
}

/// Makes the crate, a `cdylib`, a plugin: `name` is for messages, `register` a function or closure that adds passes and rules to the registry.
///
/// ```
/// use qcc_passes::{Registry, PassError};
///
/// qcc_passes::declare_plugin! {
///     name: "signs",
///     register: |registry| {
///         registry.register_rules("negations", "undoes double negations", "rule r (neg (neg ?x)) => ?x")
///     },
/// }
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! declare_plugin {
    (name: $name:expr, register: $register:expr $(,)?) => {
        const _: () = {
            #[allow(unsafe_code, reason = "the name is one that only plugins export")]
            #[unsafe(export_name = "qcc_pass_plugin")]
            static DECLARATION: $crate::plugin::Declaration =
                $crate::plugin::Declaration::new($name, |registry, logging| {
                    $crate::plugin::register(registry, logging, $register)
                });
        };
    };
}
