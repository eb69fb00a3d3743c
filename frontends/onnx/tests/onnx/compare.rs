//! When a tensor is what it should be.

use qcc_ir::ElementType;
use qcc_params::Tensor;

/// Compares sizes, type and elements: integers exactly, floats to a relative 1e-4 (narrow ones to their own precision).
pub fn same(got: &Tensor, expected: &Tensor) -> Result<(), String> {
    if (got.element, &got.dims) != (expected.element, &expected.dims) {
        return Err(format!("got {:?}, expected {:?}", got.ty(), expected.ty()));
    }
    let (relative, absolute) = match expected.element {
        ElementType::F16 => (2e-3, 1e-3),
        ElementType::BF16 => (1e-2, 1e-3),
        element if element.is_float() => (1e-4, 1e-5),
        _ => (0.0, 0.0),
    };
    for (i, (x, y)) in got.to_f64_vec().into_iter().zip(expected.to_f64_vec()).enumerate() {
        let equal = x == y || (x.is_nan() && y.is_nan()) || (x - y).abs() <= absolute + relative * y.abs();
        if !equal {
            return Err(format!("element {i} is {x}, expected {y}"));
        }
    }
    Ok(())
}
