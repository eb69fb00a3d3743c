//! qcc-ir
