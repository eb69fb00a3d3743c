//! The window of convolutions and pools: strides, dilations and pads, `auto_pad` resolved.

use crate::call::{Call, Result};

/// How a window slides over the spatial axes; `pads` = begins then ends.
pub(super) struct Window {
    pub strides: Vec<i64>,
    pub pads: Vec<i64>,
    pub dilations: Vec<i64>,
}

/// How pads are found.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum AutoPad {
    /// They are given.
    Given,
    /// There are none.
    Valid,
    /// So that the output has `input / stride` positions, rounded up; the odd pad at the end.
    SameUpper,
    /// As before, the odd pad at the begin.
    SameLower,
}

impl AutoPad {
    /// The attribute `auto_pad`.
    pub fn of(call: &Call<'_>) -> Result<AutoPad> {
        Ok(match call.attributes.string("auto_pad")?.unwrap_or("NOTSET") {
            "NOTSET" | "" => AutoPad::Given,
            "VALID" => AutoPad::Valid,
            "SAME_UPPER" => AutoPad::SameUpper,
            "SAME_LOWER" => AutoPad::SameLower,
            other => return Err(format!("its attribute `auto_pad` is `{other}`, which is not known")),
        })
    }

    /// `total` split into begin and end.
    pub fn split(self, total: i64) -> (i64, i64) {
        let half = total / 2;
        if self == AutoPad::SameLower { (total - half, half) } else { (half, total - half) }
    }
}

/// One entry an axis: the attribute, or `default` everywhere.
pub(super) fn per_axis(call: &Call<'_>, name: &'static str, axes: usize, default: i64) -> Result<Vec<i64>> {
    match call.attributes.ints(name)? {
        None => Ok(vec![default; axes]),
        Some(list) if list.len() == axes => Ok(list),
        Some(list) => Err(format!("its attribute `{name}` has {} entries, expected {axes}", list.len())),
    }
}

/// The window of a convolution or pool with this kernel over `x`'s spatial axes.
pub(super) fn window(call: &Call<'_>, spatial: &[qcc_ir::Dim], kernel: &[i64]) -> Result<Window> {
    let axes = kernel.len();
    if spatial.len() != axes {
        return Err(format!(
            "a kernel of {axes} axes does not fit an input with {} spatial axes",
            spatial.len()
        ));
    }
    let strides = per_axis(call, "strides", axes, 1)?;
    let dilations = per_axis(call, "dilations", axes, 1)?;
    let given = per_axis(call, "pads", 2 * axes, 0)?;
    if strides.iter().any(|s| *s < 1) {
        return Err(format!("its strides {strides:?} must be positive"));
    }
    let auto = AutoPad::of(call)?;
    let pads = match auto {
        AutoPad::Given => given,
        AutoPad::Valid => vec![0; 2 * axes],
        AutoPad::SameUpper | AutoPad::SameLower => {
            let mut pads = vec![0; 2 * axes];
            for i in 0..axes {
                let size = spatial[i].constant().ok_or_else(|| {
                    format!("pads of an axis of size {} follow from it; export the model with fixed spatial sizes", spatial[i])
                })?;
                let total = same_total(size, kernel[i], strides[i], dilations[i]);
                let total = total.ok_or_else(|| format!("the pads of axis {i} are too large"))?;
                (pads[i], pads[axes + i]) = auto.split(total);
            }
            pads
        }
    };
    Ok(Window { strides, pads, dilations })
}

/// Padding for `size / stride` outputs, rounded up.
fn same_total(size: i64, kernel: i64, stride: i64, dilation: i64) -> Option<i64> {
    let outputs = size.checked_add(stride - 1)? / stride;
    let extent = dilation.checked_mul(kernel.checked_sub(1)?)?.checked_add(1)?;
    let needed = outputs.checked_sub(1)?.checked_mul(stride)?.checked_add(extent)?;
    Some(needed.checked_sub(size)?.max(0))
}
