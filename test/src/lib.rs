//! qcc-test
