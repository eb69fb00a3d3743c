//! qcc-interpreter
