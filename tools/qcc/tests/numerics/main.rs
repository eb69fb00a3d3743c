//! Whole models, compiled and interpreted, against each other and against other people's software.

mod mamba;
mod memory;
mod transformers;
