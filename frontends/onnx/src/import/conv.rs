//! Convolutions and transposed convolutions.

use qcc_ir::ops::ImageLayout;
use qcc_ir::{Op, ValueId};

use super::window::{AutoPad, per_axis, window};
use crate::call::{Call, Outputs, Result};

/// Sizes of the kernel, which the weight says; the attribute can only repeat it.
fn kernel(call: &Call<'_>, weight: ValueId) -> Result<Vec<i64>> {
    let dims = call.ty(weight).constant_dims();
    let dims = dims
        .filter(|d| d.len() >= 3)
        .ok_or_else(|| format!("its weight is {}, no kernel", call.ty(weight)))?;
    let kernel = dims[2..].to_vec();
    match call.attributes.ints("kernel_shape")? {
        Some(shape) if shape != kernel => {
            Err(format!("its attribute `kernel_shape` is {shape:?}, its weight has {kernel:?}"))
        }
        _ => Ok(kernel),
    }
}

/// `Conv`.
pub(super) fn conv(call: &mut Call<'_>) -> Outputs {
    let (x, weight, bias) = (call.x(0)?, call.x(1)?, call.maybe(2)?);
    let kernel = kernel(call, weight)?;
    let groups = call.attributes.int("group")?.unwrap_or(1);
    let dims = call.dims(x);
    let w = window(call, dims.get(2..).unwrap_or_default(), &kernel)?;
    let layout = ImageLayout::ChannelsFirst;
    let op = Op::Conv { strides: w.strides, pads: w.pads, dilations: w.dilations, groups, layout };
    Ok(vec![call.emit_with(op, &[Some(x), Some(weight), bias])?.into()])
}

/// `ConvTranspose`: pads may follow from the wanted output size.
pub(super) fn conv_transpose(call: &mut Call<'_>) -> Outputs {
    let (x, weight, bias) = (call.x(0)?, call.x(1)?, call.maybe(2)?);
    let kernel = kernel(call, weight)?;
    let axes = kernel.len();
    let groups = call.attributes.int("group")?.unwrap_or(1);
    let strides = per_axis(call, "strides", axes, 1)?;
    let dilations = per_axis(call, "dilations", axes, 1)?;
    let mut output_padding = per_axis(call, "output_padding", axes, 0)?;
    let mut pads = per_axis(call, "pads", 2 * axes, 0)?;
    let auto = AutoPad::of(call)?;
    let shape = call.attributes.ints("output_shape")?;
    let dims = call.dims(x);
    if dims.len() != axes + 2 {
        return Err(format!("a kernel of {axes} axes does not fit an input of sizes {dims:?}"));
    }
    if auto == AutoPad::Valid {
        pads = vec![0; 2 * axes];
    }
    let same = matches!(auto, AutoPad::SameUpper | AutoPad::SameLower);
    if shape.is_some() || same {
        for i in 0..axes {
            let size = dims[i + 2].constant();
            let wanted = match &shape {
                // Some exporters give batch and channels too.
                Some(shape) => shape.len().checked_sub(axes).and_then(|skip| shape.get(skip + i)).copied(),
                None => size.and_then(|n| n.checked_mul(strides[i])),
            };
            let total = size.zip(wanted).and_then(|(size, wanted)| {
                let extent = dilations[i].checked_mul(kernel[i].checked_sub(1)?)?.checked_add(1)?;
                let reach = strides[i].checked_mul(size.checked_sub(1)?)?.checked_add(extent)?;
                reach.checked_add(output_padding[i])?.checked_sub(wanted)
            });
            let total = total
                .ok_or_else(|| format!("the pads of spatial axis {i} do not follow from constant sizes"))?;
            if total < 0 {
                output_padding[i] =
                    output_padding[i].checked_sub(total).ok_or("an output size is too large")?;
            }
            // Without `SAME_UPPER` the odd pad goes to the begin.
            let rule = if auto == AutoPad::SameUpper { auto } else { AutoPad::SameLower };
            (pads[i], pads[axes + i]) = rule.split(total.max(0));
        }
    }
    let op = Op::ConvTranspose { strides, pads, dilations, output_padding, groups };
    Ok(vec![call.emit_with(op, &[Some(x), Some(weight), bias])?.into()])
}
