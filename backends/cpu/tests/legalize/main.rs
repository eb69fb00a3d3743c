//! Every rewrite of `legalize` proves itself in f64, and lowering accepts what it leaves.

mod convolution;
mod fixture;
mod movement;
mod numbers;
mod rows;
