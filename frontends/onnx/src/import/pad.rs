//! Padding, and cropping where pads are negative.

use qcc_ir::ops::PadMode;
use qcc_ir::{Float, Op, ValueId};

use crate::call::{Call, Outputs, Result};

/// `Pad`: pads and value are attributes before opset 11; from opset 18 pads may be given for some axes only.
pub(super) fn pad(call: &mut Call<'_>) -> Outputs {
    let x = call.x(0)?;
    let rank = call.rank(x);
    let mode = match call.attributes.string("mode")?.unwrap_or("constant") {
        "constant" => PadMode::Constant,
        "reflect" => PadMode::Reflect,
        "edge" => PadMode::Edge,
        other => return Err(format!("its mode `{other}` is not supported; constant, reflect and edge are")),
    };
    let given = call.attribute_or_input("pads", 1)?.ok_or("its pads are missing")?;
    let value = if call.opset < 11 {
        call.attributes.float("value")?.unwrap_or(0.0)
    } else {
        match call.maybe(2)? {
            None => 0.0,
            Some(value) => call.scalar(value).ok_or("its value must be one constant number")?,
        }
    };
    let axes = call.ints(3, "axes")?.unwrap_or_else(|| (0..rank as i64).collect());
    if given.len() != 2 * axes.len() {
        return Err(format!("it has {} pads for {} axes, expected two an axis", given.len(), axes.len()));
    }
    let mut pads = vec![0; 2 * rank];
    for (i, axis) in axes.iter().enumerate() {
        let axis = call.axis(*axis, rank)?;
        (pads[axis], pads[rank + axis]) = (given[i], given[axes.len() + i]);
    }
    let y = crop(call, x, &mut pads)?;
    if pads.iter().all(|p| *p == 0) {
        return Ok(vec![y.into()]);
    }
    call.done(Op::Pad { pads, mode, value: Float(value) }, [y])
}

/// Takes away what negative pads say, and makes them 0.
fn crop(call: &mut Call<'_>, x: ValueId, pads: &mut [i64]) -> Result<ValueId> {
    let dims = call.dims(x);
    let (mut axes, mut starts, mut ends) = (Vec::new(), Vec::new(), Vec::new());
    for (axis, dim) in dims.iter().enumerate() {
        let (begin, end) = (pads[axis].min(0), pads[dims.len() + axis].min(0));
        if (begin, end) == (0, 0) {
            continue;
        }
        let size = dim
            .constant()
            .ok_or_else(|| format!("axis {axis} has the symbolic size {dim}, which cannot be cropped"))?;
        let range = begin.checked_neg().zip(size.checked_add(end)).filter(|(start, end)| start <= end);
        let (start, stop) =
            range.ok_or_else(|| format!("its pads take more than axis {axis} of size {size} has"))?;
        axes.push(axis as i64);
        starts.push(start);
        ends.push(stop);
        pads[axis] = pads[axis].max(0);
        pads[dims.len() + axis] = pads[dims.len() + axis].max(0);
    }
    if axes.is_empty() {
        return Ok(x);
    }
    let steps = vec![1; axes.len()];
    call.emit(Op::Slice { axes, starts, ends, steps }, [x])
}
