//! qcc-mlir
