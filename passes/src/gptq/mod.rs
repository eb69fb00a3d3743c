//! GPTQ (arXiv 2210.17323): the codes of a linear layer's weight, found column by column so that each rounding error is made up for by the columns that
//! are still to be rounded: least `Σ (w − ŵ) H (w − ŵ)ᵀ` with `H = 2 · mean(xᵀx)` of the inputs `x` that the layer sees.
//!
//! Scales, zero points and codebooks are those of rounding to nearest, found in the weight as it is ("static groups"), so that blocks and the
//! order of columns do not meet. Errors are carried within blocks of columns at once and beyond them block by block, which changes no code but
//! for the order of sums.

mod gram;
mod solve;
#[cfg(test)]
mod tests;

pub(crate) use gram::{Gram, gram};
pub(crate) use solve::solve;

/// How to round.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Share of the mean of the diagonal of H that is added to it; ten times as much as often as it takes.
    pub damping: f64,
    /// Columns that are rounded before their errors are carried further.
    pub block: usize,
    /// Whether columns with large inputs come first.
    pub activation_order: bool,
    /// Whether each layer sees what the layers before it make of the samples once they are rounded. Otherwise all see what the unrounded model
    /// makes of them, which takes one run instead of one a layer.
    pub sequential: bool,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { damping: 0.01, block: 128, activation_order: true, sequential: true }
    }
}
