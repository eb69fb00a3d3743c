//! qcc-cpu
