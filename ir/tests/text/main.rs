//! The text form: what is printed parses to the same again, and stock MLIR agrees byte for byte.

mod numbers;
mod quantized_types;
mod stock;
mod suite;
