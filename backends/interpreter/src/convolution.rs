//! Convolutions, as matrix products on patches (im2col): a patch is a row of all inputs one output position reads, in weight order,
//! zero where the window leaves the input.

use std::ops::{AddAssign, Mul};

use qcc_ir::ops::ImageLayout;
use qcc_params::Tensor;

use crate::contraction::product;
use crate::evaluate::{Call, Result};
use crate::window::{Image, Tap, Windows};

/// Positions whose patches are built together: bounds memory without growing the cost of a product.
const POSITIONS: usize = 128;

/// A convolution's geometry: [`Geometry::sums`] is the same for floats and codes.
pub(crate) struct Geometry {
    pub x: Image,
    pub y: Image,
    windows: Windows,
    groups: usize,
    taps: usize,
}

impl Geometry {
    pub fn new(
        x: &[usize],
        weight: &[usize],
        y: &[usize],
        [strides, pads, dilations]: [&[i64]; 3],
        groups: i64,
        layout: ImageLayout,
    ) -> Result<Geometry> {
        let (x, input) = Image::new(x, layout);
        let (y, output) = Image::new(y, layout);
        let kernel = &weight[2..];
        Ok(Geometry {
            windows: Windows::new(input, output, kernel, strides, pads, dilations)?,
            groups: usize::try_from(groups).map_err(|_| "negative groups")?,
            taps: kernel.iter().product(),
            x,
            y,
        })
    }

    /// `Σ x · weight` for every output element, in the layout of y; padding contributes zero.
    pub fn sums<T>(&self, x: &[T], weight: &[T]) -> Vec<T>
    where
        T: Copy + Default + AddAssign + Mul<Output = T>,
    {
        let outs = self.y.channels / self.groups;
        let inner = self.inner();
        let mut y = vec![T::default(); self.y.batch * self.y.len()];
        let mut block = vec![T::default(); POSITIONS * outs];
        self.for_each_patches(x, |batch, group, start, patches| {
            let count = patches.len() / inner.max(1);
            let weight = &weight[group * outs * inner..(group + 1) * outs * inner];
            let block = &mut block[..count * outs];
            product(patches, weight, inner, block);
            let target = batch * self.y.len() + group * outs * self.y.channel_stride;
            for (i, row) in block.chunks_exact(outs).enumerate() {
                let at = target + (start + i) * self.y.position_stride;
                for (o, value) in row.iter().enumerate() {
                    y[at + o * self.y.channel_stride] = *value;
                }
            }
        });
        y
    }

    /// Elements of a patch.
    fn inner(&self) -> usize {
        self.x.channels / self.groups * self.taps
    }

    /// Calls `visit` with a batch, a group, the first of some output positions, and the patches that those read.
    fn for_each_patches<T: Copy + Default>(&self, x: &[T], mut visit: impl FnMut(usize, usize, usize, &[T])) {
        let channels = self.x.channels / self.groups;
        let inner = self.inner();
        let mut windows: Vec<Vec<Tap>> = vec![Vec::new(); POSITIONS];
        let mut patches = vec![T::default(); POSITIONS * inner];
        for start in (0..self.y.positions).step_by(POSITIONS) {
            let count = POSITIONS.min(self.y.positions - start);
            for (i, taps) in windows[..count].iter_mut().enumerate() {
                self.windows.taps(start + i, taps);
            }
            for (batch, group) in (0..self.y.batch).flat_map(|b| (0..self.groups).map(move |g| (b, g))) {
                let origin = batch * self.x.len() + group * channels * self.x.channel_stride;
                patches.fill(T::default());
                for (patch, taps) in patches.chunks_exact_mut(inner.max(1)).zip(&windows[..count]) {
                    for (c, row) in patch.chunks_exact_mut(self.taps).enumerate() {
                        let channel = &x[origin + c * self.x.channel_stride..];
                        for t in taps {
                            row[t.tap] = channel[t.source * self.x.position_stride];
                        }
                    }
                }
                visit(batch, group, start, &patches[..count * inner]);
            }
        }
    }

    /// Calls `visit` with the elements of each output channel's positions: index into y and the channel.
    pub fn for_each_output(&self, mut visit: impl FnMut(usize, usize)) {
        for batch in 0..self.y.batch {
            for channel in 0..self.y.channels {
                let start = batch * self.y.len() + channel * self.y.channel_stride;
                for position in 0..self.y.positions {
                    visit(start + position * self.y.position_stride, channel);
                }
            }
        }
    }
}

/// The patches of an image that a convolution multiplies its weight with: calls `visit` with the index of a group and rows of
/// `in / groups · taps` inputs, in the order of a weight `[out, in / groups, kernel…]`.
///
/// # Errors
/// When sizes do not fit each other.
pub fn patches(
    x: &[f32],
    dims: &[usize],
    weight: &[usize],
    [strides, pads, dilations]: [&[i64]; 3],
    groups: usize,
    layout: ImageLayout,
    mut visit: impl FnMut(usize, &[f32]),
) -> Result<()> {
    let misfit = "sizes of image, weight and window do not fit";
    let kernel = weight.get(2..).ok_or(misfit)?;
    let axes = kernel.len();
    if dims.len() != axes + 2 || [strides.len(), dilations.len(), pads.len()] != [axes, axes, 2 * axes] {
        return Err(misfit.into());
    }
    let first = if layout == ImageLayout::ChannelsLast { 1 } else { 2 };
    let mut y = dims.to_vec();
    y[if layout == ImageLayout::ChannelsLast { axes + 1 } else { 1 }] = weight[0];
    for axis in 0..axes {
        let n = i64::try_from(dims[first + axis]).map_err(|_| misfit)?;
        let reach = dilations[axis] * (i64::try_from(kernel[axis]).map_err(|_| misfit)? - 1);
        let room = n + pads[axis] + pads[axes + axis] - reach - 1;
        if room < 0 || strides[axis] < 1 {
            return Err(misfit.into());
        }
        y[first + axis] = usize::try_from(room / strides[axis] + 1).map_err(|_| misfit)?;
    }
    let groups = i64::try_from(groups).map_err(|_| misfit)?;
    let geometry = Geometry::new(dims, weight, &y, [strides, pads, dilations], groups, layout)?;
    if x.len() != geometry.x.batch * geometry.x.len() || geometry.groups == 0 {
        return Err(misfit.into());
    }
    geometry.for_each_patches(x, |_, group, _, patches| visit(group, patches));
    Ok(())
}

/// `conv`, both layouts.
pub(crate) fn conv(
    call: &Call<'_>,
    strides: &[i64],
    pads: &[i64],
    dilations: &[i64],
    groups: i64,
    layout: ImageLayout,
) -> Result<Tensor> {
    let (x, weight) = (call.at(0)?, call.at(1)?);
    let geometry =
        Geometry::new(&x.dims, &weight.dims, call.dims(0), [strides, pads, dilations], groups, layout)?;
    let mut y = geometry.sums(&call.reals(0)?, &call.reals(1)?);
    if let Some(bias) = call.optional_reals(2) {
        geometry.for_each_output(|i, channel| y[i] += bias[channel]);
    }
    call.real(0, y)
}

/// `conv_transpose`: every input position adds its weighted kernel to the outputs that a convolution with the same window would read it
/// from.
pub(crate) fn conv_transpose(
    call: &Call<'_>,
    strides: &[i64],
    pads: &[i64],
    dilations: &[i64],
    groups: i64,
) -> Result<Tensor> {
    let weight_dims = &call.at(1)?.dims;
    let (x, weight) = (call.reals(0)?, call.reals(1)?);
    let (from, input) = Image::new(&call.at(0)?.dims, ImageLayout::ChannelsFirst);
    let (to, output) = Image::new(call.dims(0), ImageLayout::ChannelsFirst);
    let kernel = &weight_dims[2..];
    let taps: usize = kernel.iter().product();
    let outs = weight_dims[1];
    let groups = usize::try_from(groups).map_err(|_| "negative groups")?;
    let per_group = from.channels / groups;
    // The windows of the adjoint convolution: it reads y and yields x.
    let windows = Windows::new(output, input, kernel, strides, pads, dilations)?;
    let mut y = vec![0.0; call.count(0)];
    if let Some(bias) = call.optional_reals(2) {
        for (i, channel) in y.chunks_exact_mut(to.positions.max(1)).enumerate() {
            channel.fill(bias[i % to.channels]);
        }
    }
    let mut window = Vec::new();
    for position in 0..from.positions {
        windows.taps(position, &mut window);
        for (batch, channel) in (0..from.batch).flat_map(|b| (0..from.channels).map(move |c| (b, c))) {
            let value = x[batch * from.len() + channel * from.positions + position];
            let first = channel / per_group * outs;
            for (o, kernel) in weight[channel * outs * taps..].chunks_exact(taps).take(outs).enumerate() {
                let y = &mut y[batch * to.len() + (first + o) * to.positions..];
                for t in &window {
                    y[t.source] += value * kernel[t.tap];
                }
            }
        }
    }
    call.real(0, y)
}
