//! Number formats: the one implementation of encoding and decoding, bit-exact for every user (weights, activations, kernels and their tests).
//!
//! [`Code`] turns one scaled number into a code and back, [`scale`] finds scales, [`tensor`] does both to a tensor. What levels codes stand for
//! is [`qcc_ir::levels`]' business. Scales and scaled numbers are the real arithmetic of the caller ([`Real`](crate::real::Real)): in f32
//! `x · (1 / scale)` with one division, rounded once. Which level is nearest is decided exactly. `value = level · scale`.

pub mod clusters;
pub mod code;
pub mod scale;
pub mod tensor;

mod calibrated;
mod groups;
mod split;

use qcc_ir::{Granularity, ScaleType};

pub use code::{Code, IntegerFormat};
pub use groups::Groups;
pub use tensor::{
    Grid, Parameters, Quantized, Rules, Scales, dequantize, quantize, quantize_dynamic, rounded,
};

/// Why numbers cannot be encoded or decoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// The format has no implementation of this kind.
    #[error("format {0} cannot be computed here")]
    Unimplemented(String),
    /// The scale type is none of this operation.
    #[error("scales of type {0} cannot be computed here")]
    ScaleType(ScaleType),
    /// Scales are shared along an axis that does not exist.
    #[error("scales along axis {axis} do not fit a tensor of rank {rank}")]
    Axis {
        /// The axis.
        axis: u8,
        /// Rank of the tensor.
        rank: usize,
    },
    /// Element counts disagree.
    #[error("{got} {what} for a tensor that needs {expected}")]
    Count {
        /// What is counted.
        what: &'static str,
        /// How many there are.
        got: usize,
        /// How many there should be.
        expected: usize,
    },
    /// A zero point is not a code.
    #[error("zero point {zero_point} is outside the codes {lowest}..={highest}")]
    ZeroPoint {
        /// The zero point.
        zero_point: i32,
        /// Lowest code.
        lowest: i32,
        /// Highest code.
        highest: i32,
    },
    /// A code is not one of the format's.
    #[error("code {code} is outside the codes {lowest}..={highest}")]
    Code {
        /// The code.
        code: i32,
        /// Lowest code.
        lowest: i32,
        /// Highest code.
        highest: i32,
    },
    /// Something that comes with the codes is absent.
    #[error("the {0} of the codes is missing")]
    Missing(&'static str),
}

/// Which scale each element of a tensor uses, in row-major order; and how many scales there are.
///
/// # Errors
/// When the granularity names an axis the tensor does not have.
pub fn scale_indices(dims: &[usize], granularity: Granularity) -> Result<(Vec<usize>, usize), FormatError> {
    let groups = Groups::new(dims, granularity)?;
    let mut indices = Vec::with_capacity(groups.elements());
    groups.runs().for_each(|(group, run)| indices.extend(run.map(|_| group)));
    Ok((indices, groups.count()))
}

pub(crate) fn check_count(what: &'static str, got: usize, expected: usize) -> Result<(), FormatError> {
    if got == expected { Ok(()) } else { Err(FormatError::Count { what, got, expected }) }
}
