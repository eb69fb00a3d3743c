//! Rows brought beside each other in scratch: copied from a matrix, or gathered from an NHWC image as the patches of output pixels.
//!
//! Always holds: rows are written in ascending order, whole 64-byte pieces at a time; a piece may run over the end of its row
//! into space that belongs to the row (its stride leaves 64 bytes).

use super::emit::{Emitter, I8X64, Kernel, Scalar, Value};

/// Bytes from one gathered row of `bytes` bytes to the next: never a multiple of 2048, so that rows spread over the cache sets.
pub fn row_stride(bytes: u64) -> u64 {
    let stride = bytes.div_ceil(64) * 64 + 64;
    if stride.is_multiple_of(2048) { stride + 64 } else { stride }
}

pub(super) fn row_stride_value(e: &mut Emitter, bytes: Value) -> Value {
    let up = e.plus(bytes, 127);
    let mask = e.int(!63);
    let stride = e.and(up, mask);
    let low = e.int(2047);
    let low = e.and(stride, low);
    let zero = e.int(0);
    let crowded = e.compare("eq", low, zero);
    let more = e.plus(stride, 64);
    e.select(crowded, more, stride)
}

/// Copies `count` rows of `bytes` bytes; `from` and `to` are address and stride.
pub(super) fn copy_rows(
    e: &mut Emitter,
    from: (Value, Value),
    count: Value,
    bytes: Value,
    to: (Value, Value),
) {
    let zero = e.int(0);
    e.each(zero, count, |e, row| {
        let s = e.mul(row, from.1);
        let s = e.at(from.0, s);
        let d = e.mul(row, to.1);
        let d = e.at(to.0, d);
        e.copy_pieces(d, s, bytes);
    });
}

/// Where the values of an output pixel's patch stand in an image. Sizes in pixels unless they say bytes.
pub(super) struct Geometry {
    pub(super) height: Value,
    pub(super) width: Value,
    channel_bytes: Value,
    pub(super) pixel_bytes: Value,
    pub(super) out_height: Value,
    out_width: Value,
    pub(super) kernel_height: Value,
    pub(super) kernel_width: Value,
    pub(super) stride_h: Value,
    pub(super) stride_w: Value,
    pub(super) dilation_h: Value,
    dilation_w: Value,
    pub(super) pad_top: Value,
    pad_left: Value,
    pad_byte: Value,
}

impl Geometry {
    /// `channel_bytes`: of one pixel of this group; `pixel_bytes`: from one pixel to the next (all groups);
    /// `pad_byte`: the byte outside the image (the zero point, 0 for f32).
    pub const ARGS: [&'static str; 15] = [
        "height",
        "width",
        "channel_bytes",
        "pixel_bytes",
        "out_height",
        "out_width",
        "kernel_height",
        "kernel_width",
        "stride_h",
        "stride_w",
        "dilation_h",
        "dilation_w",
        "pad_top",
        "pad_left",
        "pad_byte",
    ];

    pub fn read(e: &mut Emitter, k: &Kernel, args: &[&str]) -> Self {
        let mut n = |slot: &str| k.size(e, args, slot);
        Geometry {
            height: n("height"),
            width: n("width"),
            channel_bytes: n("channel_bytes"),
            pixel_bytes: n("pixel_bytes"),
            out_height: n("out_height"),
            out_width: n("out_width"),
            kernel_height: n("kernel_height"),
            kernel_width: n("kernel_width"),
            stride_h: n("stride_h"),
            stride_w: n("stride_w"),
            dilation_h: n("dilation_h"),
            dilation_w: n("dilation_w"),
            pad_top: n("pad_top"),
            pad_left: n("pad_left"),
            pad_byte: n("pad_byte"),
        }
    }
}

/// `0 <= x < size`, as one unsigned comparison.
fn inside(e: &mut Emitter, x: Value, size: Value) -> Value {
    e.compare("ult", x, size)
}

/// Gathers the patches of output pixels `first .. first + count` (counted over batch, height, width).
pub(super) fn gather(
    e: &mut Emitter,
    g: &Geometry,
    image: Value,
    first: Value,
    count: Value,
    to: Value,
    stride: Value,
) {
    let pad = e.truncate(g.pad_byte, Scalar::I8);
    let pad = e.splat(pad, 64);
    debug_assert_eq!(pad.ty(), I8X64);
    let (zero, one) = (e.int(0), e.int(1));
    let run = e.mul(g.kernel_width, g.channel_bytes);
    let row_bytes = e.mul(g.width, g.pixel_bytes);
    let dense_w = e.compare("eq", g.dilation_w, one);
    let dense_c = e.compare("eq", g.channel_bytes, g.pixel_bytes);
    let dense = e.and(dense_w, dense_c);
    let last_column = e.sub(g.kernel_width, one);
    let last_column = e.mul(last_column, g.dilation_w);
    e.each(zero, count, |e, row| {
        let pixel = e.add(first, row);
        let (column, line) = (e.rem(pixel, g.out_width), e.div(pixel, g.out_width));
        let (line, batch) = (e.rem(line, g.out_height), e.div(line, g.out_height));
        let top = e.mul(line, g.stride_h);
        let top = e.sub(top, g.pad_top);
        let left = e.mul(column, g.stride_w);
        let left = e.sub(left, g.pad_left);
        let right = e.add(left, last_column);
        let left_in = inside(e, left, g.width);
        let right_in = inside(e, right, g.width);
        let across = e.and(left_in, right_in);
        let whole = e.and(dense, across);
        let out = e.mul(row, stride);
        let out = e.at(to, out);
        let batch_line = e.mul(batch, g.height);
        e.each(zero, g.kernel_height, |e, i| {
            let y = e.mul(i, g.dilation_h);
            let y = e.add(top, y);
            let y_in = inside(e, y, g.height);
            let d = e.mul(i, run);
            let d = e.at(out, d);
            e.branch(
                y_in,
                |e| {
                    let y = e.add(batch_line, y);
                    let source = e.mul(y, row_bytes);
                    let source = e.at(image, source);
                    e.branch(
                        whole,
                        |e| {
                            let x = e.mul(left, g.pixel_bytes);
                            let s = e.at(source, x);
                            e.copy_pieces(d, s, run);
                        },
                        |e| {
                            e.each(zero, g.kernel_width, |e, j| {
                                let x = e.mul(j, g.dilation_w);
                                let x = e.add(left, x);
                                let d_x = e.mul(j, g.channel_bytes);
                                let d = e.at(d, d_x);
                                let x_in = inside(e, x, g.width);
                                e.branch(
                                    x_in,
                                    |e| {
                                        let x = e.mul(x, g.pixel_bytes);
                                        let s = e.at(source, x);
                                        e.copy_pieces(d, s, g.channel_bytes);
                                    },
                                    |e| e.fill_pieces(d, g.channel_bytes, pad),
                                );
                            });
                        },
                    );
                },
                |e| e.fill_pieces(d, run, pad),
            );
        });
    });
}

/// Copies lines `first .. first + count` of an image, each between its pads: so many bytes as the windows of a line of outputs span.
/// Lines outside the image are pads.
pub(super) fn copy_lines(
    e: &mut Emitter,
    g: &Geometry,
    image: Value,
    (first, count): (Value, Value),
    (to, stride): (Value, Value),
    span: Value,
) {
    let pad = e.truncate(g.pad_byte, Scalar::I8);
    let pad = e.splat(pad, 64);
    let zero = e.int(0);
    let row_bytes = e.mul(g.width, g.pixel_bytes);
    let left = e.mul(g.pad_left, g.pixel_bytes);
    let room = e.sub(span, left);
    let inner = e.min_int(row_bytes, room);
    let right = e.sub(room, inner);
    e.each(zero, count, |e, line| {
        let y = e.add(first, line);
        let inside = inside(e, y, g.height);
        let down = e.mul(line, stride);
        let to = e.at(to, down);
        e.branch(
            inside,
            |e| {
                e.fill_pieces(to, left, pad);
                let from = e.mul(y, row_bytes);
                let from = e.at(image, from);
                let to = e.at(to, left);
                e.copy_pieces(to, from, inner);
                let to = e.at(to, inner);
                e.fill_pieces(to, right, pad);
            },
            |e| e.fill_pieces(to, span, pad),
        );
    });
}
