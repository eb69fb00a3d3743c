//! Depthwise convolution of NHWC codes by dot products of four bytes, `vpdpbusd`: four rows of taps at once.
//!
//! A work item is one output line. First the lines of the image that its windows cover are interleaved in scratch, byte by byte in fours, with
//! the zero point where there is no image: `[phase][pixel][channel][4]`, where a phase holds the columns that are alike modulo the stride.
//! Then the line's outputs lie one after the other, pixel by pixel, and so do the bytes of each of their taps: sixty-four outputs at a time,
//! whatever the number of channels. Weights and vectors by channel repeat with a period of `channels / gcd(channels, 64)` such blocks.
//!
//! Bytes interleave, and codes are packed, within the 128-bit pieces of a register: a permutation of words by fours before and after that
//! keeps channels in their order.

use super::depthwise::{self, DepthwiseSpec, Format};
use super::emit::{Emitter, F32X16, I8X64, I32X16, Kernel, Scalar, Type, Value};
use super::epilogue::{Output, Writer};
use super::pack::PackError;
use super::{SLACK, TargetCaps, atom};

/// Outputs of a block.
const BLOCK: usize = 64;

/// Registers of a block.
const PARTS: usize = 4;

/// Argument slots: those of [`depthwise::ARGS`]; `corrections`, i32 start values; weights and vectors by channel as [`pack_weights`] and
/// [`pack_channels`] make them; `period`: blocks until they repeat.
pub fn args() -> Vec<&'static str> {
    depthwise::ARGS.into_iter().chain(["corrections", "period"]).collect()
}

/// Whether a depthwise convolution has a kernel of this kind.
pub fn fits(spec: &DepthwiseSpec, caps: &TargetCaps) -> bool {
    caps.vnni512
        && spec.format == Format::U8S8
        && spec.coded.is_none()
        && matches!(spec.output, Output::Codes { .. })
}

/// Blocks until channels repeat.
pub fn period(channels: usize) -> usize {
    let (mut a, mut b) = (channels.max(1), BLOCK);
    while b != 0 {
        (a, b) = (b, a % b);
    }
    channels / a
}

/// Elements of a vector by channel, as [`pack_channels`] makes it.
pub fn period_length(channels: usize) -> usize {
    period(channels) * BLOCK
}

/// The channel of a lane of a register of a block.
fn channel(channels: usize, block: usize, part: usize, lane: usize) -> usize {
    (block * BLOCK + 16 * part + lane) % channels
}

/// A vector by channel in the order of the sums of a period.
pub fn pack_channels<T: Copy>(values: &[T], channels: usize) -> Vec<T> {
    let lanes =
        (0..period(channels)).flat_map(|b| (0..PARTS).flat_map(move |p| (0..16).map(move |l| (b, p, l))));
    lanes.filter_map(|(b, p, l)| values.get(channel(channels, b, p, l)).copied()).collect()
}

/// Weight codes `[channels, height, width]` as `[period][width][⌈height/4⌉]` registers of four taps, one above the other.
pub fn pack_weights(codes: &[i8], channels: usize, window: [usize; 2]) -> Result<Vec<i8>, PackError> {
    let [height, width] = window;
    super::pack::check("weights", channels.checked_mul(height * width), codes.len())?;
    let mut out = Vec::new();
    for block in 0..period(channels) {
        for (j, group) in (0..width).flat_map(|j| (0..height.div_ceil(4)).map(move |g| (j, g))) {
            for (part, lane, tap) in
                (0..PARTS).flat_map(|p| (0..16).flat_map(move |l| (0..4).map(move |t| (p, l, t))))
            {
                let (c, i) = (channel(channels, block, part, lane), 4 * group + tap);
                out.push(if i < height { codes[(c * height + i) * width + j] } else { 0 });
            }
        }
    }
    Ok(out)
}

/// How a spec's lines lie in scratch.
struct Interleaved {
    groups: usize,
    phases: usize,
    /// Pixels of a phase more than an output line has.
    more: usize,
}

impl Interleaved {
    fn new(spec: &DepthwiseSpec) -> Interleaved {
        let reach = (spec.window[1] - 1) * spec.dilation[1];
        Interleaved {
            groups: spec.window[0].div_ceil(4),
            phases: spec.stride[1],
            more: reach / spec.stride[1],
        }
    }
}

/// Bytes of scratch a worker needs.
pub fn scratch_bytes(spec: &DepthwiseSpec, channels: u64, width: u64, out_width: u64) -> u64 {
    let lines = Interleaved::new(spec);
    let phase = phase_bytes(channels, out_width + lines.more as u64);
    let empty = (width * channels).next_multiple_of(64) + SLACK;
    (lines.groups * lines.phases) as u64 * phase + empty
}

fn phase_bytes(channels: u64, pixels: u64) -> u64 {
    (4 * pixels * channels).next_multiple_of(64) + 4 * BLOCK as u64
}

/// The kernel's MLIR text.
pub fn generate(spec: &DepthwiseSpec, name: &str, caps: &TargetCaps) -> String {
    let mut e = Emitter::new(caps);
    e.kernel(name, |e, k| lines(e, spec, &k));
    e.finish()
}

fn lines(e: &mut Emitter, spec: &DepthwiseSpec, k: &Kernel) {
    let args = args();
    let p = |e: &mut Emitter, slot: &str| k.pointer(e, &args, slot);
    let n = |e: &mut Emitter, slot: &str| k.size(e, &args, slot);
    let (x, y, zero_point) = (p(e, "x"), p(e, "y"), n(e, "zero"));
    let (height, width, channels) = (n(e, "height"), n(e, "width"), n(e, "channels"));
    let (out_height, out_width) = (n(e, "out_height"), n(e, "out_width"));
    let (pad_top, pad_left) = (n(e, "pad_top"), n(e, "pad_left"));
    let zero_byte = e.truncate(zero_point, Scalar::I8);
    let zeros = e.splat(zero_byte, 64);
    let shape = Interleaved::new(spec);
    let row_bytes = e.mul(width, channels);
    let pixels = e.plus(out_width, shape.more as i64);
    let phase = {
        let bytes = e.mul(pixels, channels);
        let bytes = e.times(bytes, 4);
        let up = e.plus(bytes, 63 + 4 * BLOCK as i64);
        let mask = e.int(!63);
        e.and(up, mask)
    };
    let buffers = (shape.groups * shape.phases) as i64;
    let empty = e.element(k.scratch, phase, buffers);
    e.fill_pieces(empty, row_bytes, zeros);
    let sums = Sums::new(e, spec, k, channels);
    e.each(k.begin, k.end, |e, item| {
        let (batch, line) = (e.div(item, out_height), e.rem(item, out_height));
        let top = e.times(line, spec.stride[0] as i64);
        let top = e.sub(top, pad_top);
        let image = e.mul(batch, height);
        // The rows of taps; what is not there is a line of zero points.
        let rows: Vec<Value> = (0..spec.window[0])
            .map(|i| {
                let row = e.plus(top, (i * spec.dilation[0]) as i64);
                let inside = e.compare("ult", row, height);
                let row = e.add(image, row);
                let bytes = e.mul(row, row_bytes);
                let row = e.at(x, bytes);
                e.select(inside, row, empty)
            })
            .collect();
        for (group, rows) in rows.chunks(4).enumerate() {
            for at in 0..shape.phases {
                let to = e.element(k.scratch, phase, (group * shape.phases + at) as i64);
                let stage = Stage { rows, to, channels, width, pixels, zeros };
                if shape.phases == 1 {
                    stage.whole_line(e, pad_left);
                } else {
                    stage.every(e, shape.phases as i64, at as i64, pad_left);
                }
            }
        }
        let outputs = e.mul(out_width, channels);
        let bytes = e.mul(item, outputs);
        let to = e.at(y, bytes);
        sums.line(e, (k.scratch, phase), &shape, to, outputs);
    });
}

/// Interleaving of up to four lines.
struct Stage<'a> {
    rows: &'a [Value],
    to: Value,
    channels: Value,
    width: Value,
    pixels: Value,
    zeros: Value,
}

impl Stage<'_> {
    /// Sixty-four bytes of each line from `at` on, interleaved.
    fn block(&self, e: &mut Emitter, at: Value, to: Value) {
        let mut lines: Vec<Value> = self
            .rows
            .iter()
            .map(|&row| {
                let p = e.at(row, at);
                let line = e.load(p, I8X64);
                swap_words(e, line)
            })
            .collect();
        // Weights of taps that do not exist are 0.
        lines.resize(4, self.zeros);
        let words = Type::Lanes(32, Scalar::I16);
        let pairs: Vec<Value> = [(0, 1, false), (2, 3, false), (0, 1, true), (2, 3, true)]
            .map(|(a, b, high)| {
                let pair = interleave(e, lines[a], lines[b], 16, high);
                e.bits(pair, words)
            })
            .to_vec();
        for part in 0..PARTS {
            let (a, b) = (pairs[part / 2 * 2], pairs[part / 2 * 2 + 1]);
            let fours = interleave(e, a, b, 8, part % 2 == 1);
            let fours = e.bits(fours, I8X64);
            let p = e.offset(to, (64 * part) as i64);
            e.store(fours, p);
        }
    }

    /// All columns: their bytes follow each other on both sides.
    fn whole_line(&self, e: &mut Emitter, pad_left: Value) {
        let left = e.mul(pad_left, self.channels);
        let left = e.times(left, 4);
        e.fill_pieces(self.to, left, self.zeros);
        let to = e.at(self.to, left);
        let room = e.sub(self.pixels, pad_left);
        let inner = e.min_int(self.width, room);
        let bytes = e.mul(inner, self.channels);
        let (zero, step) = (e.int(0), e.int(BLOCK as i64));
        e.repeat(zero, bytes, step, &[], |e, at, _| {
            let to = e.element(to, at, 4);
            self.block(e, at, to);
            Vec::new()
        });
        let right = e.sub(room, inner);
        let right = e.mul(right, self.channels);
        let right = e.times(right, 4);
        let to = e.element(to, bytes, 4);
        e.fill_pieces(to, right, self.zeros);
    }

    /// Every `stride`-th column, the first `phase` columns after the pads begin.
    fn every(&self, e: &mut Emitter, stride: i64, phase: i64, pad_left: Value) {
        let zero = e.int(0);
        e.each(zero, self.pixels, |e, pixel| {
            let column = e.times(pixel, stride);
            let column = e.plus(column, phase);
            let column = e.sub(column, pad_left);
            let inside = e.compare("ult", column, self.width);
            let to = e.mul(pixel, self.channels);
            let to = e.element(self.to, to, 4);
            e.branch(
                inside,
                |e| {
                    let (zero, step) = (e.int(0), e.int(BLOCK as i64));
                    let from = e.mul(column, self.channels);
                    e.repeat(zero, self.channels, step, &[], |e, channel, _| {
                        let at = e.add(from, channel);
                        let to = e.element(to, channel, 4);
                        self.block(e, at, to);
                        Vec::new()
                    });
                },
                |e| {
                    let bytes = e.times(self.channels, 4);
                    e.fill_pieces(to, bytes, self.zeros);
                },
            );
        });
    }
}

/// Sixty-four bytes as a square of four by four words, transposed.
fn swap_words(e: &mut Emitter, bytes: Value) -> Value {
    let words = e.bits(bytes, I32X16);
    let pick: Vec<usize> = (0..16).map(|i| i % 4 * 4 + i / 4).collect();
    let swapped = e.shuffle(words, words, &pick);
    e.bits(swapped, I8X64)
}

/// Elements of `a` and `b` in turn, from the low or the high half of each 128-bit piece of `piece` elements.
fn interleave(e: &mut Emitter, a: Value, b: Value, piece: usize, high: bool) -> Value {
    let lanes = 4 * piece;
    let half = piece / 2;
    let pick: Vec<usize> = (0..lanes)
        .map(|i| {
            let from = i / piece * piece + if high { half } else { 0 } + i % piece / 2;
            from + if i % 2 == 1 { lanes } else { 0 }
        })
        .collect();
    e.shuffle(a, b, &pick)
}

/// What the outputs of lines are made with.
struct Sums<'a> {
    spec: &'a DepthwiseSpec,
    channels: Value,
    period: Value,
    weights: Value,
    corrections: Value,
    multipliers: Value,
    bias: Value,
    bounds: Value,
    writer: Writer,
    signed: bool,
    activation: super::epilogue::Activation,
}

impl<'a> Sums<'a> {
    fn new(e: &mut Emitter, spec: &'a DepthwiseSpec, k: &Kernel, channels: Value) -> Sums<'a> {
        let args = args();
        let p = |e: &mut Emitter, slot: &str| k.pointer(e, &args, slot);
        let (scale, zero) = (p(e, "out_scale"), k.size(e, &args, "out_zero"));
        let writer = Writer::new(e, spec.output, scale, zero);
        let (writer, activation) =
            if spec.bounded { (writer, spec.activation) } else { writer.take(e, spec.activation) };
        Sums {
            spec,
            channels,
            period: k.size(e, &args, "period"),
            weights: p(e, "weights"),
            corrections: p(e, "corrections"),
            multipliers: p(e, "multipliers"),
            bias: p(e, "bias"),
            bounds: p(e, "bounds"),
            writer,
            signed: matches!(spec.output, Output::Codes { lo, .. } if lo < 0),
            activation,
        }
    }

    /// The outputs of a line, block by block; those with the same channels come one after the other.
    fn line(
        &self,
        e: &mut Emitter,
        (scratch, phase): (Value, Value),
        shape: &Interleaved,
        to: Value,
        outputs: Value,
    ) {
        let [across, groups] = [self.spec.window[1], shape.groups];
        let (zero, step) = (e.int(0), e.times(self.period, BLOCK as i64));
        e.each(zero, self.period, |e, block| {
            let vector = |e: &mut Emitter, p: Value, ty: Type| -> Vec<Value> {
                let p = e.element(p, block, 4 * BLOCK as i64);
                let part = |e: &mut Emitter, v: usize| {
                    let p = e.offset(p, 64 * v as i64);
                    e.load(p, ty)
                };
                (0..PARTS).map(|v| part(e, v)).collect()
            };
            let start = vector(e, self.corrections, I32X16);
            let multipliers = vector(e, self.multipliers, F32X16);
            let bias = if self.spec.bias { vector(e, self.bias, F32X16) } else { vec![e.floats(0.0); PARTS] };
            let bounds = if self.spec.bounded { vector(e, self.bounds, F32X16) } else { Vec::new() };
            let weights = e.element(self.weights, block, (64 * PARTS * groups * across) as i64);
            let first = e.times(block, BLOCK as i64);
            e.repeat(first, outputs, step, &[], |e, at, _| {
                let mut sums = start.clone();
                for j in 0..across {
                    let column = j * self.spec.dilation[1];
                    let (from, pixel) = (column % shape.phases, column / shape.phases);
                    let skip = e.times(self.channels, pixel as i64);
                    let skip = e.add(at, skip);
                    for g in 0..groups {
                        let buffer = e.element(scratch, phase, (g * shape.phases + from) as i64);
                        let codes = e.element(buffer, skip, 4);
                        for (v, sum) in sums.iter_mut().enumerate() {
                            let p = e.offset(codes, 64 * v as i64);
                            let u = e.load(p, I8X64);
                            let p = e.offset(weights, (64 * ((j * groups + g) * PARTS + v)) as i64);
                            let s = e.load(p, I8X64);
                            *sum = atom::dot_u8s8(e, *sum, u, s);
                        }
                    }
                }
                let codes: Vec<Value> = sums
                    .into_iter()
                    .enumerate()
                    .map(|(v, sum)| {
                        let sum = e.to_float(sum);
                        let y = e.fma(sum, multipliers[v], bias[v]);
                        let y = self.activation.apply(e, y);
                        let y = bounds.get(v).map_or(y, |bound| e.smaller(*bound, y));
                        self.writer.integers(e, y)
                    })
                    .collect();
                let bytes = self.bytes(e, &codes);
                let left = e.sub(outputs, at);
                let p = e.at(to, at);
                e.store_first(bytes, p, left);
                Vec::new()
            });
        });
    }

    /// Sixty-four codes in the order of channels.
    fn bytes(&self, e: &mut Emitter, codes: &[Value]) -> Value {
        let (words, bytes) = if self.signed { ("packssdw", "packsswb") } else { ("packusdw", "packuswb") };
        let mut halves = codes.chunks(2).map(|two| {
            e.intrinsic(&format!("llvm.x86.avx512.{words}.512"), two, Type::Lanes(32, Scalar::I16))
        });
        let halves: Vec<Value> = halves.by_ref().collect();
        let packed = e.intrinsic(&format!("llvm.x86.avx512.{bytes}.512"), &halves, I8X64);
        swap_words(e, packed)
    }
}
