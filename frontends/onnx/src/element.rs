//! Element types by their number in ONNX (`TensorProto.DataType`).

use qcc_ir::ElementType;

/// The element type of a number.
///
/// # Errors
/// When the IR has no such type.
pub(crate) fn element_type(number: i32) -> Result<ElementType, String> {
    Ok(match number {
        1 => ElementType::F32,
        2 => ElementType::U8,
        3 => ElementType::I8,
        6 => ElementType::I32,
        7 => ElementType::I64,
        9 => ElementType::Bool,
        10 => ElementType::F16,
        11 => ElementType::F64,
        16 => ElementType::BF16,
        _ => {
            return Err(format!(
                "elements of type {} are not supported; float, float16, bfloat16, double, int8, uint8, int32, int64 and bool are",
                name(number)
            ));
        }
    })
}

/// What ONNX calls a type.
fn name(number: i32) -> String {
    const NAMES: [&str; 26] = [
        "undefined",
        "float",
        "uint8",
        "int8",
        "uint16",
        "int16",
        "int32",
        "int64",
        "string",
        "bool",
        "float16",
        "double",
        "uint32",
        "uint64",
        "complex64",
        "complex128",
        "bfloat16",
        "float8e4m3fn",
        "float8e4m3fnuz",
        "float8e5m2",
        "float8e5m2fnuz",
        "uint4",
        "int4",
        "float4e2m1",
        "float8e8m0",
        "uint2",
    ];
    let known = usize::try_from(number).ok().and_then(|i| NAMES.get(i));
    known.map_or_else(|| format!("number {number}"), ToString::to_string)
}
