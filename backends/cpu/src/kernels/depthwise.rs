//! Depthwise convolution of NHWC images: every channel its own filter, sixteen channels a register.
//!
//! A work item is one output line. Inside it, for each block of channels, the pixels whose window lies inside the line's
//! width go four at a time with unrolled taps; those at the borders go one by one over the taps that exist.
//! Codes enter a sum as `x − zero point`, so taps outside the image add nothing. Weights in other formats are expanded to one of these
//! in scratch, once a call.

use super::TargetCaps;
use super::coded::Coded;
use super::coded::expand::Expand;
use super::emit::{Emitter, F32X16, I8X16, I32X16, I64, Kernel, Scalar, Value};
use super::epilogue::{Activation, Output, Writer};

/// Formats that a depthwise convolution computes with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// f32 image, f32 weights.
    F32,
    /// u8 image codes, s8 weight codes; a multiplier by channel.
    U8S8,
}

/// A depthwise convolution kernel.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DepthwiseSpec {
    /// Formats of the operands.
    pub format: Format,
    /// The form of weights that are expanded to that format first.
    pub coded: Option<Coded>,
    /// Height and width of the window, in taps.
    pub window: [usize; 2],
    /// Vertical and horizontal distance between windows.
    pub stride: [usize; 2],
    /// Vertical and horizontal distance between taps.
    pub dilation: [usize; 2],
    /// Whether a bias by channel is added.
    pub bias: bool,
    /// The fused activation.
    pub activation: Activation,
    /// Whether results then have an upper bound by channel.
    pub bounded: bool,
    /// How results are stored.
    pub output: Output,
}

/// Argument slots. `x` is `[batch][height][width][channels]`, `y` alike with the output's sizes; `weights` by
/// [`pack_channel_blocks`](super::pack::pack_channel_blocks) of `[channels, taps]`, or in panels of sixteen channels; `multipliers`, `bias` and `bounds`: f32 a channel;
/// `zero`: the image's zero point.
pub const ARGS: [&str; 17] = [
    "x",
    "weights",
    "multipliers",
    "bias",
    "zero",
    "y",
    "out_scale",
    "out_zero",
    "batch",
    "height",
    "width",
    "channels",
    "out_height",
    "out_width",
    "pad_top",
    "pad_left",
    "bounds",
];

impl DepthwiseSpec {
    /// Work items: output lines.
    pub fn items(&self, batch: u64, out_height: u64) -> u64 {
        batch * out_height
    }

    /// Bytes of scratch a worker needs: expanded weights.
    pub fn scratch_bytes(&self, channels: u64) -> u64 {
        let taps = (self.window[0] * self.window[1]) as u64;
        let size = self.image_bytes() as u64;
        if self.coded.is_some() { channels.next_multiple_of(16) * taps * size } else { 0 }
    }

    /// Expands panels of codes into scratch, in blocks of sixteen channels as the kernel reads them.
    fn expand(&self, e: &mut Emitter, coded: Coded, panels: Value, channels: Value, to: Value) {
        let taps = (self.window[0] * self.window[1]) as i64;
        let first = e.offset(panels, coded.header_bytes() as i64);
        let (zero, blocks) = (e.int(0), e.ceil_div(channels, 16));
        let depth = e.int(taps);
        e.each(zero, blocks, |e, block| {
            let panel = e.element(first, block, coded.panel_bytes(16, taps as u64) as i64);
            let to = e.element(to, block, 16 * taps * self.image_bytes());
            let expand = Expand { coded, nr: 16, header: panels, panel, depth, sixteen: None };
            match self.format {
                Format::F32 => expand.write_floats(e, to),
                Format::U8S8 => expand.write_codes(e, to),
            }
        });
    }
}

/// The kernel's MLIR text.
pub fn generate(spec: &DepthwiseSpec, name: &str, caps: &TargetCaps) -> String {
    let mut e = Emitter::new(caps);
    e.kernel(name, |e, k| lines(e, spec, &k));
    e.finish()
}

/// Pixels computed together.
const PIXELS: usize = 4;

/// What is known of a block of channels on one line.
struct Block<'a> {
    spec: &'a DepthwiseSpec,
    /// The input line of the first existing tap row, at the block's first channel.
    image: Value,
    weights: Value,
    zero: Value,
    multiplier: Value,
    bias: Value,
    bounds: Option<Value>,
    writer: Writer,
    activation: Activation,
    /// The output line at the block's first channel, and channels left (may be above sixteen).
    out: Value,
    count: Value,
    /// Existing tap rows: first and one past the last.
    taps: (Value, Value),
    width: Value,
    pad_left: Value,
    pixel_bytes: Value,
    line_bytes: Value,
    out_pixel_bytes: Value,
}

fn lines(e: &mut Emitter, spec: &DepthwiseSpec, k: &Kernel) {
    let p = |e: &mut Emitter, slot: &str| k.pointer(e, &ARGS, slot);
    let n = |e: &mut Emitter, slot: &str| k.size(e, &ARGS, slot);
    let (x, weights, multipliers, bias, y) =
        (p(e, "x"), p(e, "weights"), p(e, "multipliers"), p(e, "bias"), p(e, "y"));
    let (out_scale, out_zero) = (p(e, "out_scale"), n(e, "out_zero"));
    let (height, width, channels) = (n(e, "height"), n(e, "width"), n(e, "channels"));
    let (out_height, out_width) = (n(e, "out_height"), n(e, "out_width"));
    let (pad_top, pad_left) = (n(e, "pad_top"), n(e, "pad_left"));
    let bounds = p(e, "bounds");
    let zero_point = n(e, "zero");
    let zero_point = e.truncate(zero_point, Scalar::I32);
    let zero_point = e.splat(zero_point, 16);
    let writer = Writer::new(e, spec.output, out_scale, out_zero);
    // Sums of codes times finite multipliers are numbers.
    let exact = spec.format == Format::U8S8 && !spec.bounded;
    let (writer, activation) =
        if exact { writer.take(e, spec.activation) } else { (writer, spec.activation) };
    let size = spec.image_bytes();
    let weights = match spec.coded {
        None => weights,
        Some(coded) => {
            spec.expand(e, coded, weights, channels, k.scratch);
            k.scratch
        }
    };
    let pixel_bytes = e.times(channels, size);
    let line_bytes = e.mul(width, pixel_bytes);
    let out_pixel_bytes = e.times(channels, spec.output.bytes());
    let out_line_bytes = e.mul(out_width, out_pixel_bytes);
    let [window_h, window_w] = spec.window.map(|v| v as i64);
    let [stride_h, stride_w] = spec.stride.map(|v| v as i64);
    let [dilation_h, dilation_w] = spec.dilation.map(|v| v as i64);
    let (zero, one) = (e.int(0), e.int(1));

    // Output columns whose whole window lies inside the width: low..high.
    let low = e.ceil_div(pad_left, stride_w);
    let low = e.min_int(low, out_width);
    let room = e.add(width, pad_left);
    let room = e.plus(room, -1 - (window_w - 1) * dilation_w);
    let fits = e.compare("sge", room, zero);
    let room = e.max_int(room, zero);
    let stride = e.int(stride_w);
    let high = e.div(room, stride);
    let high = e.add(high, one);
    let high = e.min_int(high, out_width);
    let high = e.select(fits, high, zero);
    let high = e.max_int(high, low);
    let span = e.sub(high, low);
    let four = e.int(PIXELS as i64);
    let rest = e.rem(span, four);
    let together = e.sub(high, rest);

    e.each(k.begin, k.end, |e, item| {
        let (batch, line) = (e.div(item, out_height), e.rem(item, out_height));
        let top = e.times(line, stride_h);
        let top = e.sub(top, pad_top);
        let missing = e.sub(zero, top);
        let missing = e.max_int(missing, zero);
        let first = e.ceil_div(missing, dilation_h);
        let window = e.int(window_h);
        let first = e.min_int(first, window);
        let below = e.sub(height, top);
        let below = e.max_int(below, zero);
        let last = e.ceil_div(below, dilation_h);
        let last = e.min_int(last, window);
        let last = e.max_int(last, first);
        let image_line = e.times(first, dilation_h);
        let image_line = e.add(top, image_line);
        let before = e.mul(batch, height);
        let image_line = e.add(before, image_line);
        let bytes = e.mul(image_line, line_bytes);
        let image_line = e.at(x, bytes);
        let bytes = e.mul(item, out_line_bytes);
        let out_line = e.at(y, bytes);
        let sixteen = e.int(16);
        e.repeat(zero, channels, sixteen, &[], |e, channel, _| {
            let column = |e: &mut Emitter, p: Value| {
                let p = e.element(p, channel, 4);
                e.load(p, F32X16)
            };
            let nothing = e.floats(0.0);
            let b = Block {
                spec,
                image: e.element(image_line, channel, size),
                weights: e.element(weights, channel, window_h * window_w * size),
                zero: zero_point,
                multiplier: if spec.format == Format::U8S8 { column(e, multipliers) } else { nothing },
                bias: if spec.bias { column(e, bias) } else { nothing },
                bounds: spec.bounded.then(|| column(e, bounds)),
                writer,
                activation,
                out: e.element(out_line, channel, spec.output.bytes()),
                count: e.sub(channels, channel),
                taps: (first, last),
                width,
                pad_left,
                pixel_bytes,
                line_bytes,
                out_pixel_bytes,
            };
            e.each(zero, low, |e, at| b.border(e, at));
            e.repeat(low, together, four, &[], |e, at, _| {
                b.inner(e, at, PIXELS);
                Vec::new()
            });
            e.each(together, high, |e, at| b.inner(e, at, 1));
            e.each(high, out_width, |e, at| b.border(e, at));
            Vec::new()
        });
    });
}

impl DepthwiseSpec {
    fn image_bytes(&self) -> i64 {
        if self.format == Format::F32 { 4 } else { 1 }
    }

    fn start(&self, e: &mut Emitter) -> Value {
        if self.format == Format::F32 { e.floats(0.0) } else { e.ints(0) }
    }
}

impl Block<'_> {
    fn weight(&self, e: &mut Emitter, tap: Value) -> Value {
        let p = e.element(self.weights, tap, 16 * self.spec.image_bytes());
        match self.spec.format {
            Format::F32 => e.load(p, F32X16),
            Format::U8S8 => {
                let w = e.load(p, I8X16);
                e.extend(w, Scalar::I32)
            }
        }
    }

    fn pixel(&self, e: &mut Emitter, p: Value) -> Value {
        match self.spec.format {
            Format::F32 => e.load(p, F32X16),
            Format::U8S8 => {
                let x = e.load(p, I8X16);
                let x = e.extend_unsigned(x, Scalar::I32);
                e.sub(x, self.zero)
            }
        }
    }

    fn accumulate(&self, e: &mut Emitter, x: Value, w: Value, sum: Value) -> Value {
        match self.spec.format {
            Format::F32 => e.multiply_add(x, w, sum),
            Format::U8S8 => {
                let p = e.mul(x, w);
                e.add(sum, p)
            }
        }
    }

    /// Input column of the window of output column `at`.
    fn left(&self, e: &mut Emitter, at: Value) -> Value {
        let x = e.times(at, self.spec.stride[1] as i64);
        e.sub(x, self.pad_left)
    }

    /// The tap row's line of the image, for tap row `i`.
    fn line(&self, e: &mut Emitter, i: Value) -> Value {
        let rows = e.sub(i, self.taps.0);
        let rows = e.times(rows, self.spec.dilation[0] as i64);
        let bytes = e.mul(rows, self.line_bytes);
        e.at(self.image, bytes)
    }

    /// `pixels` neighbouring outputs from column `at` on, all taps across existing.
    fn inner(&self, e: &mut Emitter, at: Value, pixels: usize) {
        let (stride, dilation, across) = (self.spec.stride[1], self.spec.dilation[1], self.spec.window[1]);
        let left = self.left(e, at);
        let left = e.mul(left, self.pixel_bytes);
        let start = self.spec.start(e);
        let one = e.int(1);
        let sums = e.repeat(self.taps.0, self.taps.1, one, &vec![start; pixels], |e, i, sums| {
            let line = self.line(e, i);
            let line = e.at(line, left);
            let tap = e.times(i, across as i64);
            let mut seen: Vec<Option<Value>> =
                vec![None; (pixels - 1) * stride + (across - 1) * dilation + 1];
            let mut sums = sums.to_vec();
            for j in 0..across {
                let tap = e.plus(tap, j as i64);
                let w = self.weight(e, tap);
                for (p, sum) in sums.iter_mut().enumerate() {
                    let column = p * stride + j * dilation;
                    let x = match seen[column] {
                        Some(x) => x,
                        None => {
                            let bytes = e.times(self.pixel_bytes, column as i64);
                            let from = e.at(line, bytes);
                            let x = self.pixel(e, from);
                            seen[column] = Some(x);
                            x
                        }
                    };
                    *sum = self.accumulate(e, x, w, *sum);
                }
            }
            sums
        });
        for (p, &sum) in sums.iter().enumerate() {
            let at = e.plus(at, p as i64);
            self.finish(e, sum, at);
        }
    }

    /// One output with taps missing across.
    fn border(&self, e: &mut Emitter, at: Value) {
        let left = self.left(e, at);
        let start = self.spec.start(e);
        let (zero, one) = (e.int(0), e.int(1));
        let across = e.int(self.spec.window[1] as i64);
        let sum = e.repeat(self.taps.0, self.taps.1, one, &[start], |e, i, sum| {
            let line = self.line(e, i);
            let row = e.mul(i, across);
            e.repeat(zero, across, one, sum, |e, j, sum| {
                let x = e.times(j, self.spec.dilation[1] as i64);
                let x = e.add(left, x);
                let inside = e.compare("ult", x, self.width);
                e.choose(
                    inside,
                    &[sum[0].ty()],
                    |e| {
                        let bytes = e.mul(x, self.pixel_bytes);
                        let from = e.at(line, bytes);
                        let x = self.pixel(e, from);
                        let tap = e.add(row, j);
                        let w = self.weight(e, tap);
                        vec![self.accumulate(e, x, w, sum[0])]
                    },
                    |_| vec![sum[0]],
                )
            })
        })[0];
        self.finish(e, sum, at);
    }

    fn finish(&self, e: &mut Emitter, sum: Value, at: Value) {
        debug_assert_eq!(at.ty(), I64);
        let y = match self.spec.format {
            Format::F32 if self.spec.bias => e.add(sum, self.bias),
            Format::F32 => sum,
            Format::U8S8 => {
                debug_assert_eq!(sum.ty(), I32X16);
                let sum = e.to_float(sum);
                e.fma(sum, self.multiplier, self.bias)
            }
        };
        let y = self.activation.apply(e, y);
        let y = self.bounds.map_or(y, |bound| e.smaller(bound, y));
        let stored = self.writer.encode(e, y);
        let bytes = e.mul(at, self.out_pixel_bytes);
        let p = e.at(self.out, bytes);
        e.store_first(stored, p, self.count);
    }
}
