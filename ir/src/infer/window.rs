//! Convolutions and pools: operations that slide a window over spatial axes. Spatial sizes must be constants.

use super::{Result, Types, expect_dims, one, overflow, plain, tensor};
use crate::dim::Dim;
use crate::ops::ImageLayout;
use crate::types::TensorType;

/// Attributes all windows share; `pads` = begins then ends.
pub(super) struct Window<'a> {
    pub strides: &'a [i64],
    pub pads: &'a [i64],
    pub dilations: &'a [i64],
}

impl Window<'_> {
    fn check(&self, spatial: usize) -> Result<()> {
        let lengths = [self.strides.len(), self.dilations.len(), self.pads.len()];
        if spatial == 0 || lengths != [spatial, spatial, 2 * spatial] {
            return Err(format!(
                "strides, dilations and pads of lengths {lengths:?} do not fit {spatial} spatial axes"
            ));
        }
        if self.strides.iter().chain(self.dilations).any(|&v| v < 1) || self.pads.iter().any(|&v| v < 0) {
            return Err("strides and dilations must be positive and pads not negative".into());
        }
        Ok(())
    }

    /// Padded size minus window extent, i.e. how far the window's start can go.
    fn room(&self, i: usize, size: i64, kernel: i64) -> Option<i64> {
        let padded = size.checked_add(self.pads[i])?.checked_add(self.pads[self.strides.len() + i])?;
        padded.checked_sub(self.dilations[i].checked_mul(kernel.checked_sub(1)?)?.checked_add(1)?)
    }
}

/// Batch, channels and spatial sizes of an image-like tensor.
fn image(x: &TensorType, layout: ImageLayout) -> Result<(&Dim, &Dim, Vec<i64>)> {
    if x.rank() < 3 {
        return Err(format!("`x` {x} must have a batch, a channel and a spatial axis"));
    }
    let (channel, spatial) = match layout {
        ImageLayout::ChannelsFirst => (1, 2..x.rank()),
        ImageLayout::ChannelsLast => (x.rank() - 1, 1..x.rank() - 1),
    };
    let sizes = x.dims[spatial]
        .iter()
        .map(|d| d.constant().ok_or_else(|| format!("spatial size {d} of {:?} must be a constant", x.dims)))
        .collect::<Result<_>>()?;
    Ok((&x.dims[0], &x.dims[channel], sizes))
}

fn image_type(
    x: &TensorType,
    batch: &Dim,
    channels: Dim,
    spatial: Vec<Dim>,
    layout: ImageLayout,
) -> TensorType {
    let mut dims = vec![batch.clone()];
    match layout {
        ImageLayout::ChannelsFirst => {
            dims.push(channels);
            dims.extend(spatial);
        }
        ImageLayout::ChannelsLast => {
            dims.extend(spatial);
            dims.push(channels);
        }
    }
    tensor(dims, x.element)
}

fn kernel_of(weight: &TensorType, spatial: usize) -> Result<(i64, i64, Vec<i64>)> {
    let dims = weight.constant_dims().ok_or_else(|| format!("weight {weight} must have constant sizes"))?;
    if dims.len() != spatial + 2 || dims.iter().any(|&d| d < 1) {
        return Err(format!("weight {weight} does not fit {spatial} spatial axes"));
    }
    Ok((dims[0], dims[1], dims[2..].to_vec()))
}

/// Result type of a convolution, for float and quantized operands alike.
pub(super) fn conv_type(
    x: &TensorType,
    weight: &TensorType,
    bias: Option<&TensorType>,
    window: &Window<'_>,
    groups: i64,
    layout: ImageLayout,
) -> Result<TensorType> {
    let (batch, channels, sizes) = image(x, layout)?;
    window.check(sizes.len())?;
    let (out, per_group, kernel) = kernel_of(weight, sizes.len())?;
    if groups < 1 || out % groups != 0 {
        return Err(format!("{out} output channels do not split into {groups} groups"));
    }
    if channels.constant() != per_group.checked_mul(groups) {
        return Err(format!("`x` has {channels} channels, {groups} groups of {per_group} are needed"));
    }
    if let Some(bias) = bias {
        expect_dims("bias", bias, &[Dim::Const(out)])?;
    }
    let spatial = (0..sizes.len())
        .map(|i| match window.room(i, sizes[i], kernel[i]) {
            Some(room) if room >= 0 => Ok(Dim::Const(room / window.strides[i] + 1)),
            Some(_) => Err(format!("the kernel {kernel:?} is larger than the padded input {sizes:?}")),
            None => Err(overflow()),
        })
        .collect::<Result<_>>()?;
    Ok(image_type(x, batch, Dim::Const(out), spatial, layout))
}

pub(super) fn conv(
    x: &TensorType,
    weight: &TensorType,
    bias: Option<&TensorType>,
    window: &Window<'_>,
    groups: i64,
    layout: ImageLayout,
) -> Result<Types> {
    plain(x)?;
    plain(weight)?;
    one(conv_type(x, weight, bias, window, groups, layout)?)
}

pub(super) fn conv_transpose(
    x: &TensorType,
    weight: &TensorType,
    bias: Option<&TensorType>,
    window: &Window<'_>,
    output_padding: &[i64],
    groups: i64,
) -> Result<Types> {
    plain(x)?;
    plain(weight)?;
    let (batch, channels, sizes) = image(x, ImageLayout::ChannelsFirst)?;
    window.check(sizes.len())?;
    if output_padding.len() != sizes.len() || output_padding.iter().any(|&p| p < 0) {
        return Err("`output_padding` needs one entry, not negative, for each spatial axis".into());
    }
    let (inner, per_group, kernel) = kernel_of(weight, sizes.len())?;
    if groups < 1 || inner % groups != 0 || channels.constant() != Some(inner) {
        return Err(format!("`x` has {channels} channels, the weight takes {inner} in {groups} groups"));
    }
    let out = per_group.checked_mul(groups).ok_or_else(overflow)?;
    if let Some(bias) = bias {
        expect_dims("bias", bias, &[Dim::Const(out)])?;
    }
    let n = sizes.len();
    let size = |i: usize| -> Option<i64> {
        let reach =
            window.dilations[i].checked_mul(kernel[i] - 1)?.checked_add(1)?.checked_add(output_padding[i])?;
        let full = window.strides[i].checked_mul(sizes[i].checked_sub(1)?)?.checked_add(reach)?;
        full.checked_sub(window.pads[i])?.checked_sub(window.pads[n + i])
    };
    let spatial = (0..n)
        .map(|i| match size(i) {
            Some(s) if s >= 1 => Ok(Dim::Const(s)),
            Some(s) => Err(format!("output size {s} is not positive")),
            None => Err(overflow()),
        })
        .collect::<Result<_>>()?;
    one(image_type(x, batch, Dim::Const(out), spatial, ImageLayout::ChannelsFirst))
}

pub(super) fn pool(
    x: &TensorType,
    kernel: &[i64],
    window: &Window<'_>,
    ceil: bool,
    layout: ImageLayout,
) -> Result<Types> {
    let (batch, channels, sizes) = image(x, layout)?;
    window.check(sizes.len())?;
    if kernel.len() != sizes.len() || kernel.iter().any(|&k| k < 1) {
        return Err(format!("kernel {kernel:?} does not fit {} spatial axes", sizes.len()));
    }
    let size = |i: usize| -> Option<i64> {
        let room = window.room(i, sizes[i], kernel[i])?;
        if room < 0 {
            return Some(0);
        }
        let stride = window.strides[i];
        let mut n = room / stride + 1;
        // A window that would start in the end padding does not count (as in ONNX Runtime and PyTorch).
        if ceil && room % stride != 0 && n.checked_mul(stride)? < sizes[i].checked_add(window.pads[i])? {
            n += 1;
        }
        Some(n)
    };
    let spatial = (0..sizes.len())
        .map(|i| match size(i) {
            Some(n) if n >= 1 => Ok(Dim::Const(n)),
            Some(_) => Err(format!("the window {kernel:?} is larger than the padded input {sizes:?}")),
            None => Err(overflow()),
        })
        .collect::<Result<_>>()?;
    one(image_type(x, batch, channels.clone(), spatial, layout))
}
