//! qcc-runtime
