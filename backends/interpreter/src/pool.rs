//! Pools. Windows that reach beyond the input see only what is inside; a mean that counts padding divides by the taps inside the padded
//! input, so that the overhang of `ceil` never counts (as in PyTorch and in ONNX Runtime from opset 19 on).

use qcc_ir::ElementType;
use qcc_ir::ops::ImageLayout;
use qcc_params::{Data, Tensor};

use crate::elementwise::larger;
use crate::evaluate::{Call, Result};
use crate::formats::IntegerFormat;
use crate::precision::integers;
use crate::window::{Image, Tap, Windows};

/// Calls `reduce` with the elements of each window: the input's elements of its channel as seen from a start offset, the taps, the
/// position stride, and the taps inside the padded input.
fn pool<T: Copy>(
    call: &Call<'_>,
    values: &[T],
    kernel: &[i64],
    [strides, pads, dilations]: [&[i64]; 3],
    layout: ImageLayout,
    empty: T,
    mut reduce: impl FnMut(&mut dyn Iterator<Item = T>, usize) -> Result<T>,
) -> Result<Vec<T>> {
    let (x, input) = Image::new(&call.at(0)?.dims, layout);
    let (y, output) = Image::new(call.dims(0), layout);
    let kernel: Vec<usize> = kernel
        .iter()
        .map(|k| usize::try_from(*k))
        .collect::<std::result::Result<_, _>>()
        .map_err(|e| e.to_string())?;
    let windows = Windows::new(input, output, &kernel, strides, pads, dilations)?;
    let mut result = vec![empty; call.count(0)];
    let mut taps: Vec<Tap> = Vec::new();
    for position in 0..windows.positions() {
        let padded = windows.taps(position, &mut taps);
        for (batch, channel) in (0..x.batch).flat_map(|b| (0..x.channels).map(move |c| (b, c))) {
            let plane = &values[batch * x.len() + channel * x.channel_stride..];
            let mut window = taps.iter().map(|t| plane[t.source * x.position_stride]);
            let at = batch * y.len() + channel * y.channel_stride + position * y.position_stride;
            result[at] = reduce(&mut window, padded)?;
        }
    }
    Ok(result)
}

/// `max_pool`; on integer codes the maximum of the codes, since the scale is positive.
pub(crate) fn max(
    call: &Call<'_>,
    kernel: &[i64],
    strides: &[i64],
    pads: &[i64],
    dilations: &[i64],
    layout: ImageLayout,
) -> Result<Tensor> {
    let x = call.at(0)?;
    let window = [strides, pads, dilations];
    if x.element.is_float() {
        let y = pool(call, &call.reals(0)?, kernel, window, layout, 0.0, |window, _| {
            Ok(window.fold(f64::NEG_INFINITY, larger))
        })?;
        return call.real(0, y);
    }
    if let Some(q) = x.element.quantized() {
        IntegerFormat::new(q.storage, false).map_err(|e| e.to_string())?;
    }
    let y = pool(call, &integers(x), kernel, window, layout, 0, |window, _| {
        window.max().ok_or_else(|| "a window lies wholly in the padding, where integers have no −∞".into())
    })?;
    codes_like(call, &x.data, y)
}

/// An integer result, or codes held as those of `like`.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the values were read from this type"
)]
fn codes_like(call: &Call<'_>, like: &Data, values: Vec<i64>) -> Result<Tensor> {
    match (call.element(0), like) {
        (ElementType::Quant(_), Data::I8(_)) => {
            call.data(0, Data::I8(values.into_iter().map(|v| v as i8).collect()))
        }
        (ElementType::Quant(_), _) => call.data(0, Data::U8(values.into_iter().map(|v| v as u8).collect())),
        _ => call.integer(0, values),
    }
}

/// `avg_pool`; `window` is strides, pads, dilations.
#[allow(clippy::cast_precision_loss, reason = "window sizes are small")]
pub(crate) fn mean(
    call: &Call<'_>,
    kernel: &[i64],
    window: [&[i64]; 3],
    count_pads: bool,
    layout: ImageLayout,
) -> Result<Tensor> {
    if !call.at(0)?.element.is_float() {
        return Err("means of integers or codes are not defined; cast or dequantize first".into());
    }
    let y = pool(call, &call.reals(0)?, kernel, window, layout, 0.0, |window, padded| {
        let (sum, inside) = window.fold((0.0, 0usize), |(sum, n), v| (sum + v, n + 1));
        Ok(sum / (if count_pads { padded } else { inside }) as f64)
    })?;
    call.real(0, y)
}
