//! qcc-passes
