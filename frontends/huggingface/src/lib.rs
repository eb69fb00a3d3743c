//! qcc-huggingface
