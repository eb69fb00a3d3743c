//! Operators that are refused, and why.

/// Operators of models that were quantized before.
const QUANTIZED: &[&str] = &[
    "ConvInteger",
    "DequantizeLinear",
    "DynamicQuantizeLinear",
    "MatMulInteger",
    "QLinearConv",
    "QLinearMatMul",
    "QuantizeLinear",
];

/// Why an operator that is not in the table cannot be imported.
pub(super) fn reason(op_type: &str) -> String {
    let plain = op_type.rsplit('.').next().unwrap_or(op_type);
    if QUANTIZED.contains(&op_type) || plain.starts_with("QLinear") {
        return format!(
            "`{op_type}` means that the model is quantized already; pass the float model it was made from"
        );
    }
    format!("the operator `{op_type}` is not supported")
}
