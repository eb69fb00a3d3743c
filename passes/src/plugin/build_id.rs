//! The build id: a text that differs wherever a plugin and this program might lay out the types they share in different ways.
//!
//! It has qcc's version, a hash of the sources of all crates whose types are shared, compiler and target (all from `build.rs`), the conditions
//! that profiles set, and a hash of the sizes of the shared types. The latter covers what features of dependencies do, which cargo unites over
//! all that is built together. Dependencies whose types are shared have exact versions in the workspace's `Cargo.toml`.

use std::mem::{align_of, size_of};

use smallvec::SmallVec;

use super::declaration::Declaration;
use crate::context::{Context, Warning};
use crate::pass::{Options, Outcome, PassError, Preservation};
use crate::registry::{Registered, Registry, RuleText};

/// Which build this is, in words: what a plugin must have, too.
pub const BUILD_ID: &str = TEXT.as_str();

const TEXT: Text = {
    let text = Text { bytes: [0; Text::CAPACITY], len: 0 };
    let text = text.and(env!("QCC_BUILD")).and(", layouts ").and_hex(LAYOUTS);
    let text = if cfg!(debug_assertions) { text.and(", debug assertions") } else { text };
    if cfg!(panic = "unwind") { text } else { text.and(", panic=abort") }
};

macro_rules! layouts {
    ($($shared:ty),* $(,)?) => {{
        let hash = FNV_BASIS;
        $(let hash = hashed(hashed(hash, size_of::<$shared>()), align_of::<$shared>());)*
        hash
    }};
}

/// A hash of the sizes of the types that plugins and this program share.
const LAYOUTS: u64 = layouts![
    Declaration,
    Registry,
    Registered,
    RuleText,
    Options,
    Outcome,
    PassError,
    Preservation,
    Warning,
    Context<'static>,
    crate::calibrate::Statistics,
    qcc_ir::Module,
    qcc_ir::Function,
    qcc_ir::Node,
    qcc_ir::Value,
    qcc_ir::Op,
    qcc_ir::TensorType,
    qcc_ir::ElementType,
    qcc_ir::Dim,
    qcc_ir::Attribute,
    qcc_ir::Dense,
    qcc_ir::InferError,
    qcc_params::Parameters,
    qcc_params::Source,
    qcc_params::Tensor,
    qcc_params::Data,
    qcc_params::WeightCache,
    qcc_params::ParameterError,
    SmallVec<[u8; 1]>,
    tracing_core::Dispatch,
];

const FNV_BASIS: u64 = 0xCBF2_9CE4_8422_2325;

/// FNV-1a, a word at a time.
const fn hashed(hash: u64, word: usize) -> u64 {
    (hash ^ word as u64).wrapping_mul(0x0000_0100_0000_01B3)
}

/// A text made at compile time.
struct Text {
    bytes: [u8; Text::CAPACITY],
    len: usize,
}

impl Text {
    const CAPACITY: usize = Declaration::BUILD_ID_BYTES;

    const fn and(mut self, more: &str) -> Text {
        let more = more.as_bytes();
        let mut at = 0;
        while at < more.len() {
            self.bytes[self.len] = more[at];
            self.len += 1;
            at += 1;
        }
        self
    }

    const fn and_hex(mut self, number: u64) -> Text {
        let mut shift = u64::BITS;
        while shift > 0 {
            shift -= 4;
            self.bytes[self.len] = b"0123456789abcdef"[(number >> shift) as usize % 16];
            self.len += 1;
        }
        self
    }

    const fn as_str(&self) -> &str {
        match std::str::from_utf8(self.bytes.split_at(self.len).0) {
            Ok(text) => text,
            Err(_) => panic!("invariant: texts were put together"),
        }
    }
}
