//! Between f32 and one-byte codes: static per tensor, dynamic per token, and back.
//!
//! Always holds: codes are those of the interpreter bit for bit. Dynamic symmetric: `s = max|x| · (1/limit)`, 1 where that is 0.

use super::emit::{Emitter, F32, F32X16, I8X16, I32, Scalar, Type, Value};
use super::epilogue::Quantizer;
use super::{TargetCaps, row};

/// Elements of a work item of the flat kernels.
pub const CHUNK: u64 = 4096;

/// Symmetric quantization of a row with a scale of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TokenFormat {
    /// Greatest code, `2^(bits−1) − 1`.
    pub limit: i16,
    /// Whether the least code is one below its negative.
    pub full: bool,
    /// Added to codes when they are stored: 128 stores s8 codes as the u8 operand of `U8S8`, 0 keeps them signed.
    pub offset: i16,
    /// Also write the i32 sum of each block's codes (without offset): a multiple of 8.
    pub block_sums: Option<u32>,
}

/// A kernel between f32 and codes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum QuantizeSpec {
    /// One scale and zero point for the tensor; [`FLAT_ARGS`].
    Tensor {
        /// Least code.
        lo: i16,
        /// Greatest code.
        hi: i16,
    },
    /// One scale for each row, found from its values; [`TOKEN_ARGS`].
    Token(TokenFormat),
    /// `(code − zero) · scale`; [`FLAT_ARGS`].
    Dequantize {
        /// Whether codes are s8; otherwise u8.
        signed: bool,
    },
    /// s8 codes to u8 codes 128 higher, or back; [`FLAT_ARGS`] without scale and zero.
    Recode,
}

/// Slots of the flat kernels; a work item is [`CHUNK`] elements.
pub const FLAT_ARGS: [&str; 5] = ["x", "y", "scale", "zero", "count"];

/// Slots of the dynamic quantizer; a work item is a row. Strides in bytes; `scales`: f32 a row; `sums`: i32 a row and block.
pub const TOKEN_ARGS: [&str; 8] = ["x", "x_stride", "y", "y_stride", "scales", "sums", "rows", "columns"];

impl QuantizeSpec {
    /// Work items of a tensor of `rows × columns`.
    pub fn items(&self, rows: u64, columns: u64) -> u64 {
        match self {
            QuantizeSpec::Token(_) => rows,
            _ => (rows * columns).div_ceil(CHUNK),
        }
    }
}

/// The kernel's MLIR text.
pub fn generate(spec: &QuantizeSpec, name: &str, caps: &TargetCaps) -> String {
    let mut e = Emitter::new(caps);
    e.kernel(name, |e, k| match spec {
        QuantizeSpec::Token(format) => {
            let p = |e: &mut Emitter, slot: &str| k.pointer(e, &TOKEN_ARGS, slot);
            let n = |e: &mut Emitter, slot: &str| k.size(e, &TOKEN_ARGS, slot);
            let (x, x_stride, columns) = (p(e, "x"), n(e, "x_stride"), n(e, "columns"));
            let out = TokenOutput {
                codes: p(e, "y"),
                stride: n(e, "y_stride"),
                scales: p(e, "scales"),
                sums: p(e, "sums"),
            };
            e.each(k.begin, k.end, |e, index| {
                let bytes = e.mul(index, x_stride);
                let from = e.at(x, bytes);
                quantize_row(e, *format, from, &out, index, columns);
            });
        }
        _ => {
            let (x, y) = (k.pointer(e, &FLAT_ARGS, "x"), k.pointer(e, &FLAT_ARGS, "y"));
            let (scale, zero) = (k.pointer(e, &FLAT_ARGS, "scale"), k.size(e, &FLAT_ARGS, "zero"));
            let count = k.size(e, &FLAT_ARGS, "count");
            let chunk = CHUNK as i64;
            let (first, last) = (e.times(k.begin, chunk), e.times(k.end, chunk));
            let last = e.min_int(last, count);
            let length = e.sub(last, first);
            let none = e.int(0);
            let length = e.max_int(length, none);
            let (x_size, y_size) = match spec {
                QuantizeSpec::Tensor { .. } => (4, 1),
                QuantizeSpec::Dequantize { .. } => (1, 4),
                _ => (1, 1),
            };
            let (x, y) = (e.element(x, first, x_size), e.element(y, first, y_size));
            let convert = Convert::new(e, spec, scale, zero);
            row::sweep(e, length, &[], |e, s, _| {
                let from = e.element(x, s.column, x_size);
                let v = e.load(from, if x_size == 4 { F32X16 } else { I8X16 });
                let v = convert.apply(e, v);
                s.store(e, v, y, y_size);
                Vec::new()
            });
        }
    });
    e.finish()
}

/// A flat conversion whose constants stand in registers.
enum Convert {
    Quantize(Quantizer),
    Dequantize { signed: bool, zero: Value, scale: Value },
    Recode,
}

impl Convert {
    fn new(e: &mut Emitter, spec: &QuantizeSpec, scale: Value, zero: Value) -> Self {
        match spec {
            QuantizeSpec::Tensor { lo, hi } => {
                let scale = e.load(scale, F32);
                Convert::Quantize(Quantizer::new(e, scale, zero, *lo, *hi))
            }
            QuantizeSpec::Dequantize { signed } => {
                let scale = e.load(scale, F32);
                let zero = e.truncate(zero, Scalar::I32);
                Convert::Dequantize { signed: *signed, zero: e.splat(zero, 16), scale: e.splat(scale, 16) }
            }
            QuantizeSpec::Recode | QuantizeSpec::Token(_) => Convert::Recode,
        }
    }

    fn apply(&self, e: &mut Emitter, v: Value) -> Value {
        match self {
            Convert::Quantize(q) => q.codes(e, v),
            Convert::Dequantize { signed, zero, scale } => {
                let v = if *signed { e.extend(v, Scalar::I32) } else { e.extend_unsigned(v, Scalar::I32) };
                let v = e.sub(v, *zero);
                let v = e.to_float(v);
                e.mul(v, *scale)
            }
            Convert::Recode => {
                let flip = e.int_of(I8X16, -128);
                e.xor(v, flip)
            }
        }
    }
}

/// Where a dynamic quantizer writes: codes and their row stride, a scale a row, block sums a row.
pub(crate) struct TokenOutput {
    pub codes: Value,
    pub stride: Value,
    pub scales: Value,
    pub sums: Value,
}

/// Quantizes the f32 row at `x` into row `index` of `out`.
pub(crate) fn quantize_row(
    e: &mut Emitter,
    format: TokenFormat,
    x: Value,
    out: &TokenOutput,
    index: Value,
    columns: Value,
) {
    let zero = e.floats(0.0);
    let most = row::sweep(e, columns, &[zero], |e, s, most| {
        let v = s.load(e, x, 0.0);
        let v = e.magnitude(v);
        vec![e.larger(v, most[0])]
    })[0];
    let most = e.fold(most, Emitter::larger);
    let part = e.float_of(F32, 1.0 / f32::from(format.limit));
    let scale = e.mul(most, part);
    let (nothing, one) = (e.float_of(F32, 0.0), e.float_of(F32, 1.0));
    let empty = e.compare_float("oeq", scale, nothing);
    let scale = e.select(empty, one, scale);
    let to = e.element(out.scales, index, 4);
    e.store(scale, to);
    let shift = e.int(i64::from(format.offset));
    let lo = format.offset - format.limit - i16::from(format.full);
    let hi = format.offset + format.limit;
    let quantizer = Quantizer::new(e, scale, shift, lo, hi);
    let bytes = e.mul(index, out.stride);
    let codes = e.at(out.codes, bytes);
    row::sweep(e, columns, &[], |e, s, _| {
        let v = s.load(e, x, 0.0);
        let v = quantizer.codes(e, v);
        s.store(e, v, codes, 1);
        Vec::new()
    });
    if let Some(block) = format.block_sums {
        let blocks = e.ceil_div(columns, i64::from(block));
        let first = e.mul(index, blocks);
        let sums = e.element(out.sums, first, 4);
        block_sums(e, format, codes, columns, i64::from(block), sums);
    }
}

/// Sums of the codes of each block, eight codes a step.
fn block_sums(e: &mut Emitter, format: TokenFormat, codes: Value, columns: Value, block: i64, sums: Value) {
    let ty = Type::Lanes(8, Scalar::I32);
    let blocks = e.ceil_div(columns, block);
    let zero = e.int(0);
    e.each(zero, blocks, |e, b| {
        let first = e.times(b, block);
        let end = e.plus(first, block);
        let end = e.min_int(end, columns);
        let count = e.sub(end, first);
        let eight = e.int(8);
        let rest = e.rem(count, eight);
        let whole = e.sub(end, rest);
        let widen = |e: &mut Emitter, v: Value| {
            if format.offset == 0 { e.extend(v, Scalar::I32) } else { e.extend_unsigned(v, Scalar::I32) }
        };
        let start = e.int_of(ty, 0);
        let sum = e.repeat(first, whole, eight, &[start], |e, at, sum| {
            let p = e.at(codes, at);
            let v = e.load(p, Type::Lanes(8, Scalar::I8));
            let v = widen(e, v);
            vec![e.add(sum[0], v)]
        })[0];
        let sum = e.sum(sum);
        let one = e.int(1);
        let sum = e.repeat(whole, end, one, &[sum], |e, at, sum| {
            let p = e.at(codes, at);
            let v = e.load(p, Type::One(Scalar::I8));
            let v = widen(e, v);
            vec![e.add(sum[0], v)]
        })[0];
        let offset = e.truncate(count, Scalar::I32);
        let shift = e.int_of(I32, i64::from(format.offset));
        let offset = e.mul(offset, shift);
        let sum = e.sub(sum, offset);
        let p = e.element(sums, b, 4);
        e.store(sum, p);
    });
}
