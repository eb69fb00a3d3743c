//! Decompositions: a layer as a sum of layers that are easier to quantize than it. Each is exact; what is rounded afterwards is less far off.
//!
//! | pass | `op(x, w)` becomes | source |
//! | --- | --- | --- |
//! | `split` | `op(x, w₀) + op(x, w₁) + op(x, w₂)`, one for each cluster of the weight's values | SplitQuant, arXiv 2501.12428 |
//! | `low-rank` | `x · (u · v)ᵀ + x · (w − u · v)ᵀ`, the first in floats | SVDQuant, arXiv 2411.05007 |
//! | `outlier-columns` | the features with the largest activations, in floats, and the others | LLM.int8(), arXiv 2208.07339 |
//!
//! The branches are operations like others, marked with a [`Branch`] (`qcc.branch` in IR text): what is a branch is not decomposed again, and
//! `quantize` leaves those alone that keep floats. A transform that rewrites a branch makes a layer like any other of it, so transforms
//! come before decompositions.

mod branch;
mod low_rank;
mod outlier_columns;
mod split;

#[cfg(test)]
mod tests;

pub use branch::Branch;

use crate::pass::PassInfo;

/// The registry entries.
pub const INFOS: [PassInfo; 3] = [split::INFO, low_rank::INFO, outlier_columns::INFO];

/// Why a layer stays as it is.
enum Failed {
    /// It cannot be.
    Unfit(&'static str),
    /// Something is wrong.
    Broken(String),
}

impl From<String> for Failed {
    fn from(why: String) -> Failed {
        Failed::Broken(why)
    }
}
