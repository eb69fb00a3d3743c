//! Transforms that keep the function and make it easier to quantize, found from dataflow: `rotate-residual`, `rotate-heads`,
//! `rotate-online`, `smooth`, `shift`, `permute`, each where it is legal, and `transform`, which chooses among all of them by cost.
//!
//! | step | file |
//! | --- | --- |
//! | layers that share an input | [`site`] |
//! | what their inputs look like | [`observe`] |
//! | what could be done, with the error each would have | [`propose`] |
//! | e-graphs of the blocks, frames of the residual stream | [`search`] |
//! | which plan is taken | [`choice`], after [trials](trial) on held-out samples |
//! | what is told of it | [`explanation`] |
//!
//! Legality is not decided here: a candidate introduces a transform at a layer's input, and the [rules](crate::equivalence) carry it towards
//! the weights as far as they can. What stays on an activation is work at run time, and costs.

mod choice;
mod error;
pub mod explanation;
mod kind;
pub(crate) mod matrix;
pub(crate) mod observe;
mod part;
mod passes;
mod pieces;
mod propose;
mod search;
pub(crate) mod site;
mod target;
#[cfg(test)]
mod tests;
mod trial;

pub use explanation::Explanation;
pub(crate) use passes::tell;
pub use passes::{INFOS, TRANSFORM};
pub use target::Target;
pub use trial::difference;
