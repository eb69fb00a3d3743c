//! qcc-data
