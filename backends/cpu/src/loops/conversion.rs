//! Numeric conversion (`cast`) of sixteen lanes.

use qcc_ir::ElementType;

use super::storage::{I64X16, Storage};
use crate::kernels::emit::{Emitter, Value};

/// Conversion to the numbers of a type, held in lanes, as steps that follow in the same kernel must see them: floats truncate and
/// saturate, integers wrap, anything but 0 is true.
pub(super) fn cast(e: &mut Emitter, x: Value, to: ElementType) -> Value {
    let integer = x.ty() == I64X16;
    let storage = match to {
        ElementType::Bool => return nonzero(e, x, integer),
        ElementType::F16 => Storage::F16,
        ElementType::BF16 => Storage::BF16,
        ElementType::I8 => Storage::I8,
        ElementType::U8 => Storage::U8,
        ElementType::I32 => Storage::I32,
        ElementType::I64 => Storage::I64,
        _ => Storage::F32,
    };
    let x = match (integer, storage.is_float()) {
        (true, true) => e.to_float(x),
        (false, false) => {
            let x = e.intrinsic("llvm.fptosi.sat.v16i64.v16f32", &[x], I64X16);
            let (low, high) = match storage {
                Storage::I8 => (i64::from(i8::MIN), i64::from(i8::MAX)),
                Storage::U8 => (0, i64::from(u8::MAX)),
                Storage::I32 => (i64::from(i32::MIN), i64::from(i32::MAX)),
                _ => return x,
            };
            let (low, high) = (e.int_of(I64X16, low), e.int_of(I64X16, high));
            let x = e.max_int(x, low);
            e.min_int(x, high)
        }
        _ => x,
    };
    let stored = storage.narrow(e, x);
    storage.widen(e, stored)
}

/// 1 where a number is not 0 (NaN is not), else 0.
fn nonzero(e: &mut Emitter, x: Value, integer: bool) -> Value {
    let (zero, one) = (e.int_of(I64X16, 0), e.int_of(I64X16, 1));
    let some = if integer {
        e.compare("ne", x, zero)
    } else {
        let zero = e.floats(0.0);
        e.compare_float("une", x, zero)
    };
    e.select(some, one, zero)
}
