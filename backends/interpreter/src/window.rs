//! Windows that slide over spatial axes: which input positions an output position reads. Convolutions and pools of any number of spatial
//! axes, in both image layouts, float and quantized, go through this one description.

use qcc_ir::ops::ImageLayout;

/// An image-like tensor: how to reach channel c of spatial position p of an image.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Image {
    pub batch: usize,
    pub channels: usize,
    /// Number of spatial positions.
    pub positions: usize,
    /// Distance between channels.
    pub channel_stride: usize,
    /// Distance between neighbouring positions of the flattened spatial axes.
    pub position_stride: usize,
}

impl Image {
    /// Describes a tensor of rank 3 or more; also its spatial sizes.
    pub fn new(dims: &[usize], layout: ImageLayout) -> (Image, &[usize]) {
        let (channels, spatial) = match layout {
            ImageLayout::ChannelsFirst => (dims[1], &dims[2..]),
            ImageLayout::ChannelsLast => (dims[dims.len() - 1], &dims[1..dims.len() - 1]),
        };
        let positions = spatial.iter().product();
        let (channel_stride, position_stride) = match layout {
            ImageLayout::ChannelsFirst => (positions, 1),
            ImageLayout::ChannelsLast => (1, channels),
        };
        (Image { batch: dims[0], channels, positions, channel_stride, position_stride }, spatial)
    }

    /// Elements of one image.
    pub fn len(&self) -> usize {
        self.channels * self.positions
    }
}

/// What one output index reads along one axis: `count` taps from tap `first` on, at inputs `source`, `source + dilation`, …
#[derive(Clone, Copy, Debug)]
struct Reach {
    first: usize,
    count: usize,
    source: usize,
    /// Taps inside the padded input, for pools that count padding.
    padded: usize,
}

#[derive(Clone, Debug)]
struct Axis {
    reaches: Vec<Reach>,
    kernel: usize,
    size: usize,
    dilation: usize,
}

/// A tap inside the input: its index in the kernel and the flattened input position it reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tap {
    pub tap: usize,
    pub source: usize,
}

/// All windows of an operation.
#[derive(Clone, Debug)]
pub(crate) struct Windows {
    axes: Vec<Axis>,
}

impl Windows {
    /// Windows over an input of sizes `input` for an output of sizes `output`. `pads` = begins then ends; lengths are checked by the type
    /// rule.
    pub fn new(
        input: &[usize],
        output: &[usize],
        kernel: &[usize],
        strides: &[i64],
        pads: &[i64],
        dilations: &[i64],
    ) -> Result<Windows, String> {
        let n = input.len();
        let axes = (0..n)
            .map(|i| axis(input[i], output[i], kernel[i], strides[i], pads[i], pads[n + i], dilations[i]))
            .collect::<Option<_>>()
            .ok_or("a window position overflows")?;
        Ok(Windows { axes })
    }

    /// Number of output positions.
    pub fn positions(&self) -> usize {
        self.axes.iter().map(|a| a.reaches.len()).product()
    }

    /// The taps of an output position that lie inside the input, in kernel order, into `taps`; returns how many taps lie inside the
    /// padded input.
    pub fn taps(&self, position: usize, taps: &mut Vec<Tap>) -> usize {
        taps.clear();
        taps.push(Tap { tap: 0, source: 0 });
        let mut rest = position;
        let mut divisor: usize = self.positions();
        let mut padded = 1;
        for axis in &self.axes {
            divisor /= axis.reaches.len();
            let reach = axis.reaches[rest / divisor];
            rest %= divisor;
            padded *= reach.padded;
            let old = taps.len();
            for i in 0..old {
                let outer = taps[i];
                for k in 0..reach.count {
                    taps.push(Tap {
                        tap: outer.tap * axis.kernel + reach.first + k,
                        source: outer.source * axis.size + reach.source + k * axis.dilation,
                    });
                }
            }
            taps.drain(..old);
        }
        padded
    }
}

fn axis(
    size: usize,
    output: usize,
    kernel: usize,
    stride: i64,
    begin: i64,
    end: i64,
    dilation: i64,
) -> Option<Axis> {
    let (size_i, kernel_i) = (i64::try_from(size).ok()?, i64::try_from(kernel).ok()?);
    // How many taps of a window at `start` lie before `limit`.
    let before = |start: i64, limit: i64| -> Option<i64> {
        let room = limit.checked_sub(start)?;
        Some(if room <= 0 { 0 } else { ((room - 1) / dilation + 1).min(kernel_i) })
    };
    let reaches = (0..output)
        .map(|o| {
            let start = i64::try_from(o).ok()?.checked_mul(stride)?.checked_sub(begin)?;
            let first = before(start, 0)?;
            let count = before(start, size_i)? - first;
            Some(Reach {
                first: usize::try_from(first).ok()?,
                count: usize::try_from(count).ok()?,
                source: if count > 0 { usize::try_from(start + first * dilation).ok()? } else { 0 },
                padded: usize::try_from(before(start, size_i.checked_add(end)?)?).ok()?,
            })
        })
        .collect::<Option<_>>()?;
    Some(Axis { reaches, kernel, size, dilation: usize::try_from(dilation).ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taps(windows: &Windows, position: usize) -> (Vec<(usize, usize)>, usize) {
        let mut taps = Vec::new();
        let padded = windows.taps(position, &mut taps);
        (taps.into_iter().map(|t| (t.tap, t.source)).collect(), padded)
    }

    #[test]
    fn windows_skip_padding_and_keep_tap_numbers() {
        let windows = Windows::new(&[4], &[3], &[3], &[2], &[1, 1], &[1]).expect("fits");
        assert_eq!(taps(&windows, 0), (vec![(1, 0), (2, 1)], 3));
        assert_eq!(taps(&windows, 1), (vec![(0, 1), (1, 2), (2, 3)], 3));
        // The last window starts at 3 and ends one beyond the padding.
        assert_eq!(taps(&windows, 2), (vec![(0, 3)], 2));
    }

    #[test]
    fn two_axes_combine_in_kernel_order() {
        let windows = Windows::new(&[3, 3], &[1, 1], &[2, 2], &[1, 1], &[0; 4], &[2, 2]).expect("fits");
        assert_eq!(taps(&windows, 0), (vec![(0, 0), (1, 2), (2, 6), (3, 8)], 4));
    }
}
