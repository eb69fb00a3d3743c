//! Transposed convolutions as convolutions whose channels are the sub-pixels of the result (Shi et al. 2016, ESPCN).
//!
//! With stride s, result `s·q + r` sums inputs `q − j` times taps `s·j + r`: for each phase r a convolution with every s-th tap, reversed.
//! The phases are the channels of one convolution; moving them into the image gives the result. No zeros are inserted into images, so
//! no product is wasted; taps are padded to whole strides. Stride 1 is the plain flipped convolution.

use qcc_ir::{Dim, Op, ValueId, ops::ImageLayout};

use super::site::{Failure, Rewritten, Site, one, product};

/// Taps of an axis after padding, at most: a kernel of mostly zeros comes from a stride or dilation that no model has.
const MOST_TAPS: i64 = 4096;

/// One spatial axis.
struct Axis {
    stride: i64,
    /// Zeros between the taps of the weight are to be made explicit, so many a tap.
    spread: i64,
    /// Taps of the weight, then with spread and padding: `stride · phase_taps`.
    kernel: i64,
    /// Taps of one phase.
    phase_taps: i64,
    /// Distance between the taps of the convolution.
    dilation: i64,
    /// Padding of the convolution.
    begin: i64,
    end: i64,
    /// Size of the convolution's result.
    length: i64,
    /// Where the result starts among the sub-pixels, and its size.
    start: i64,
    out: i64,
}

impl Axis {
    /// `None` when a size overflows.
    fn new(stride: i64, dilation: i64, kernel: i64, input: i64, out: i64, pad: i64) -> Option<Axis> {
        // A strided convolution meets every s-th tap only, so a dilated weight is spread out first.
        let spread = if stride > 1 { dilation } else { 1 };
        let spread_kernel = (kernel - 1).checked_mul(spread)?.checked_add(1)?;
        let phase_taps = ceil_div(spread_kernel, stride);
        let dilation = if stride > 1 { 1 } else { dilation };
        let reach = (phase_taps - 1).checked_mul(dilation)?;
        // Without padding the first result is phase 0 of q = 0, which reads `reach` before the image.
        let begin = (reach - pad / stride).max(0);
        let first = reach - begin;
        let end = (ceil_div(pad.checked_add(out)?, stride) - input).max(0);
        let length = input.checked_add(begin)?.checked_add(end)? - reach;
        let start = pad - stride.checked_mul(first)?;
        Some(Axis { stride, spread, kernel, phase_taps, dilation, begin, end, length, start, out })
    }
}

fn ceil_div(a: i64, b: i64) -> i64 {
    a / b + i64::from(a % b != 0)
}

/// Rewrites `conv_transpose`. The convolution is built channels last: `channels-last` dissolves the transposes around it.
pub(super) fn conv_transpose(site: &mut Site<'_>) -> Rewritten {
    let Op::ConvTranspose { strides, pads, dilations, groups, .. } = site.node.op.clone() else {
        return Ok(None);
    };
    let (x, weight, bias) = (site.operand(0), site.operand(1), site.optional(2));
    let constant = |dims: &[Dim]| dims.iter().map(Dim::constant).collect::<Option<Vec<_>>>();
    let (Some(kernel), Some(input), Some(out)) = (
        constant(&site.ty(weight).dims[2..]),
        constant(&site.ty(x).dims[2..]),
        constant(&site.result_ty().dims[2..]),
    ) else {
        return Ok(None);
    };
    let axes: Vec<Axis> = (0..kernel.len())
        .map(|i| Axis::new(strides[i], dilations[i], kernel[i], input[i], out[i], pads[i]))
        .collect::<Option<_>>()
        .ok_or(Failure::TooLarge)?;
    if axes.iter().any(|a| a.stride > 1 && a.phase_taps.saturating_mul(a.stride) > MOST_TAPS) {
        return Ok(None);
    }
    let phases: Vec<Dim> = axes.iter().map(|a| Dim::Const(a.stride)).collect();
    let weight = phase_weights(site, weight, groups, &axes)?;
    let bias = match bias {
        None => None,
        Some(bias) => {
            let outs = site.dims(bias);
            let of_group = outs[0].checked_div(&Dim::Const(groups)).ok_or(Failure::TooLarge)?;
            let shape = vec![Dim::Const(groups), Dim::Const(1), of_group.clone()];
            let bias = site.reshape(bias, shape)?;
            let repeated = vec![Dim::Const(groups), product(&phases)?, of_group];
            let flat = product(&repeated)?;
            let bias = site.add(Op::Broadcast { shape: repeated }, &[bias])?;
            Some(site.reshape(bias, vec![flat])?)
        }
    };
    let x = site.channels_last(x)?;
    let op = Op::Conv {
        strides: vec![1; axes.len()],
        pads: axes.iter().map(|a| a.begin).chain(axes.iter().map(|a| a.end)).collect(),
        dilations: axes.iter().map(|a| a.dilation).collect(),
        groups,
        layout: ImageLayout::ChannelsLast,
    };
    let y = site.add_heir(op, [Some(x), Some(weight), bias])?[0];
    let y = into_image(site, y, groups, &axes)?;
    one(site.channels_first(y)?)
}

/// `[in, out / groups, kernel…]` as `[groups · phases · out / groups, in / groups, phase taps…]`, taps reversed.
fn phase_weights(
    site: &mut Site<'_>,
    weight: ValueId,
    groups: i64,
    axes: &[Axis],
) -> Result<ValueId, Failure> {
    let n = axes.len();
    let mut w = weight;
    for (i, axis) in axes.iter().enumerate().filter(|(_, a)| a.spread > 1) {
        let mut dims = site.dims(w);
        dims.insert(3 + i, Dim::Const(1));
        w = site.reshape(w, dims)?;
        w = site.zeros_after(w, 3 + i, axis.spread - 1)?;
        let mut dims = site.dims(w);
        let spread = dims.remove(3 + i);
        dims[2 + i] = dims[2 + i].checked_mul(&spread).ok_or(Failure::TooLarge)?;
        w = site.reshape(w, dims)?;
        w = site.slice(w, 2 + i, 0, (axis.kernel - 1) * axis.spread + 1)?;
    }
    for (i, axis) in axes.iter().enumerate() {
        let taps = site.ty(w).dims[2 + i].constant().ok_or(Failure::TooLarge)?;
        w = site.zeros_after(w, 2 + i, axis.phase_taps * axis.stride - taps)?;
    }
    let dims = site.dims(w);
    let inputs = dims[0].checked_div(&Dim::Const(groups)).ok_or(Failure::TooLarge)?;
    let outs = dims[1].clone();
    let mut split = vec![Dim::Const(groups), inputs.clone(), outs.clone()];
    split.extend(axes.iter().flat_map(|a| [a.phase_taps, a.stride]).map(Dim::Const));
    w = site.reshape(w, split)?;
    let taps = (0..n as i64).map(|i| 3 + 2 * i);
    let permutation: Vec<i64> =
        [0].into_iter().chain(taps.clone().map(|t| t + 1)).chain([2, 1]).chain(taps).collect();
    w = site.transpose(w, permutation)?;
    let channels = product(&site.ty(w).dims[..n + 2])?;
    let mut shape = vec![channels, inputs];
    shape.extend(axes.iter().map(|a| Dim::Const(a.phase_taps)));
    w = site.reshape(w, shape)?;
    for (i, axis) in axes.iter().enumerate().filter(|(_, a)| a.phase_taps > 1) {
        let reversed: Vec<i64> = (0..axis.phase_taps).rev().collect();
        w = site.pick(w, 2 + i, &reversed)?;
    }
    Ok(w)
}

/// `[batch, lengths…, groups · phases · outs]` as `[batch, sizes…, groups · outs]`.
fn into_image(site: &mut Site<'_>, y: ValueId, groups: i64, axes: &[Axis]) -> Result<ValueId, Failure> {
    let n = axes.len() as i64;
    let dims = site.dims(y);
    let phases: Vec<Dim> = axes.iter().map(|a| Dim::Const(a.stride)).collect();
    let all = product(&phases)?.checked_mul(&Dim::Const(groups)).ok_or(Failure::TooLarge)?;
    let outs = dims[dims.len() - 1].checked_div(&all).ok_or(Failure::TooLarge)?;
    let mut y = y;
    if axes.iter().any(|a| a.stride > 1) {
        let mut split = dims[..dims.len() - 1].to_vec();
        split.push(Dim::Const(groups));
        split.extend(phases);
        split.push(outs.clone());
        y = site.reshape(y, split)?;
        let inner = [n + 1, 2 * n + 2];
        let permutation = [0].into_iter().chain((1..=n).flat_map(|i| [i, n + 1 + i])).chain(inner).collect();
        y = site.transpose(y, permutation)?;
        let mut joined = vec![dims[0].clone()];
        for axis in axes {
            joined.push(Dim::Const(axis.length.checked_mul(axis.stride).ok_or(Failure::TooLarge)?));
        }
        joined.push(outs.checked_mul(&Dim::Const(groups)).ok_or(Failure::TooLarge)?);
        y = site.reshape(y, joined)?;
    }
    for (i, axis) in axes.iter().enumerate() {
        y = site.slice(y, 1 + i, axis.start, axis.start + axis.out)?;
    }
    Ok(y)
}
