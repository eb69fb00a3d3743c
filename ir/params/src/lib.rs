//! qcc-params
