//! qcc-onnx
