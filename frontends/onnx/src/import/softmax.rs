//! Softmax and its logarithm. Before opset 13 the axis says where the tensor is cut in two: all axes from it on are one distribution.

use qcc_ir::{Dim, Op};

use crate::call::{Call, Outputs};

/// `Softmax`.
pub(super) fn softmax(call: &mut Call<'_>) -> Outputs {
    along(call, |axis| Op::Softmax { axis })
}

/// `LogSoftmax`.
pub(super) fn log_softmax(call: &mut Call<'_>) -> Outputs {
    along(call, |axis| Op::LogSoftmax { axis })
}

fn along(call: &mut Call<'_>, op: fn(i64) -> Op) -> Outputs {
    let x = call.x(0)?;
    let dims = call.dims(x);
    let given = call.attributes.int("axis")?;
    if call.opset >= 13 {
        let axis = call.axis(given.unwrap_or(-1), dims.len())?;
        return call.done(op(axis as i64), [x]);
    }
    let axis = call.axis(given.unwrap_or(1), dims.len())?;
    if dims[axis + 1..].iter().all(|d| *d == Dim::Const(1)) {
        return call.done(op(axis as i64), [x]);
    }
    let mut shape = dims[..axis].to_vec();
    shape.push(call.product(&dims[axis..])?);
    let flat = call.reshape(x, shape)?;
    let y = call.emit(op(axis as i64), [flat])?;
    Ok(vec![call.reshape(y, dims)?.into()])
}
