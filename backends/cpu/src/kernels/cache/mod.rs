//! Keys and values as attention reads them, and the kernels that put new tokens there.
//!
//! Each head of each sequence has `capacity` tokens of memory, a multiple of [`TILE`], in blocks. Keys lie in panels of sixteen tokens, feature
//! by feature, so that one register holds a feature of sixteen keys; values lie token by token. Codes lie in either order at exactly their
//! bits, behind their scales, as weights do (see [`coded`](super::coded)).

mod append;
mod blocks;
mod codes;

pub use append::{APPEND, AppendSpec, append};
pub use blocks::{BLOCKS, BlockSpec, BlockStep, block_step};
pub use codes::{APPEND_CODES, AppendCodes, HALVES, append_codes, halves};

use super::coded::{Coded, Sharing};
use super::emit::{Emitter, F32X16, Scalar, Type, Value};

/// Tokens that attention looks at together; capacities are whole tiles.
pub const TILE: u32 = 64;

/// Keys of a panel, and tokens that have their scales together.
pub const PANEL: u32 = 16;

/// How the tokens of a head lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Layout {
    /// f32 `[capacity / 16][features][16]`.
    Panels,
    /// f32 `[capacity][features]`.
    Rows,
    /// As panels, each of scales `[groups][16]` and codes `[features][16]`.
    CodedPanels(Coded),
    /// Sixteen tokens: their scales `[16]`, and codes `[16][features]`, in whole registers of features; f16 and bf16 token by token.
    CodedRows(Coded),
    /// So many tokens that share scales, one a feature: scales `[features]`, and codes `[tokens][features]`, in whole registers of features.
    Blocks(Coded, u32),
}

impl Layout {
    /// Tokens of a block.
    pub fn tokens(self) -> u32 {
        match self {
            Layout::Rows => 1,
            Layout::Blocks(_, tokens) => tokens,
            Layout::CodedRows(coded) if scale_bytes(coded) == 0 => 1,
            _ => PANEL,
        }
    }

    /// Bytes of a block.
    pub fn bytes(self, features: u32) -> u64 {
        let f32s = 4 * u64::from(features);
        let wide = u64::from(features.next_multiple_of(16));
        match self {
            Layout::Panels => f32s * u64::from(PANEL),
            Layout::Rows => f32s,
            Layout::CodedPanels(coded) => coded.panel_bytes(u64::from(PANEL), u64::from(features)),
            Layout::CodedRows(coded) => {
                u64::from(self.tokens()) * (scale_bytes(coded) + wide / 8 * u64::from(coded.bits))
            }
            Layout::Blocks(coded, tokens) => coded.panel_bytes(wide, u64::from(tokens)),
        }
    }

    /// Features from one token to the next where values are f32 rows.
    pub(super) fn width(self, features: u32) -> i64 {
        i64::from(if self == Layout::Rows { features } else { features.next_multiple_of(16) })
    }

    /// The form of codes.
    pub fn coded(self) -> Option<Coded> {
        match self {
            Layout::Panels | Layout::Rows => None,
            Layout::CodedPanels(coded) | Layout::CodedRows(coded) | Layout::Blocks(coded, _) => Some(coded),
        }
    }
}

/// Bytes of a scale; 0 where there are none.
pub(super) fn scale_bytes(coded: Coded) -> u64 {
    if coded.sharing == Sharing::Tensor { 0 } else { u64::from(coded.scale.bits()) / 8 }
}

/// Bytes of a code in the buffers that quantizers write.
fn staged_bytes(coded: Coded) -> i64 {
    if coded.bits > 8 { 2 } else { 1 }
}

/// A number of so many bytes.
fn number(bytes: i64) -> Type {
    Type::One(match bytes {
        1 => Scalar::I8,
        2 => Scalar::I16,
        _ => Scalar::I32,
    })
}

/// A capacity in whole tiles.
pub(super) fn capacity(e: &mut Emitter, read: impl FnOnce(&mut Emitter) -> Value) -> Value {
    let tokens = read(e);
    let tiles = e.ceil_div(tokens, i64::from(TILE));
    e.times(tiles, i64::from(TILE))
}

/// One feature of sixteen keys.
pub(super) fn keys(e: &mut Emitter, panel: Value, feature: Value) -> Value {
    let p = e.element(panel, feature, 4 * i64::from(PANEL));
    e.load(p, F32X16)
}

/// Where the blocks of a row begin that hold the token `at`, which is the first of a block.
pub(super) fn block_at(e: &mut Emitter, layout: Layout, features: u32, cache: Value, tokens: Value) -> Value {
    let per = e.int(i64::from(layout.tokens()));
    let blocks = e.div(tokens, per);
    e.element(cache, blocks, layout.bytes(features) as i64)
}
