//! Pools over windows and over whole images.

use qcc_ir::Op;
use qcc_ir::ops::ImageLayout;

use super::window::{Window, window};
use crate::call::{Call, Outputs, Result};

/// The kernel and window of a pool.
fn pool_window(call: &Call<'_>) -> Result<(Vec<i64>, Window, bool)> {
    let kernel = call.attributes.ints("kernel_shape")?.ok_or("its attribute `kernel_shape` is missing")?;
    let ceil = call.attributes.flag("ceil_mode", false)?;
    let dims = call.dims(call.x(0)?);
    let window = window(call, dims.get(2..).unwrap_or_default(), &kernel)?;
    Ok((kernel, window, ceil))
}

/// `MaxPool`; the output of indices is absent.
pub(super) fn max(call: &mut Call<'_>) -> Outputs {
    let x = call.x(0)?;
    let (kernel, w, ceil) = pool_window(call)?;
    // The order of indices, which are not computed.
    call.attributes.ignore(&["storage_order"]);
    let layout = ImageLayout::ChannelsFirst;
    let op = Op::MaxPool { kernel, strides: w.strides, pads: w.pads, dilations: w.dilations, ceil, layout };
    call.done(op, [x])
}

/// `AveragePool`.
pub(super) fn average(call: &mut Call<'_>) -> Outputs {
    let x = call.x(0)?;
    let (kernel, w, ceil) = pool_window(call)?;
    let count_pads = call.attributes.flag("count_include_pad", false)?;
    let (strides, pads, dilations) = (w.strides, w.pads, w.dilations);
    let layout = ImageLayout::ChannelsFirst;
    call.done(Op::AvgPool { kernel, strides, pads, dilations, ceil, count_pads, layout }, [x])
}

/// `GlobalAveragePool`.
pub(super) fn global_average(call: &mut Call<'_>) -> Outputs {
    let axes = spatial(call)?;
    let x = call.x(0)?;
    call.done(Op::ReduceMean { axes, keep_dims: true }, [x])
}

/// `GlobalMaxPool`.
pub(super) fn global_max(call: &mut Call<'_>) -> Outputs {
    let axes = spatial(call)?;
    let x = call.x(0)?;
    call.done(Op::ReduceMax { axes, keep_dims: true }, [x])
}

fn spatial(call: &Call<'_>) -> Result<Vec<i64>> {
    let rank = call.rank(call.x(0)?);
    if rank < 3 {
        Err(format!("an input of rank {rank} has no spatial axes"))
    } else {
        Ok((2..rank as i64).collect())
    }
}
