//! Normalisation of rows, with the result as f32, as codes of a static scale, or quantized by row.

use super::emit::{Emitter, F32, Kernel};
use super::epilogue::{Constant, Output, Writer};
use super::quantize::{TokenFormat, TokenOutput, quantize_row};
use super::{SLACK, TargetCaps, row};

/// Which statistics are divided out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Statistics {
    /// `x / √(mean(x²) + ε)`.
    RootMeanSquare,
    /// `(x − mean) / √(var + ε)`.
    MeanVariance,
}

/// How a normalised row is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RowOutput {
    /// As f32, or as codes with the `out_scale` and `out_zero` of the arguments.
    Plain(Output),
    /// As codes with a scale of the row's own, written to `scales` (and `sums`).
    Token(TokenFormat),
}

/// A row normalisation kernel.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NormSpec {
    /// Which statistics are divided out.
    pub statistics: Statistics,
    /// ε.
    pub epsilon: Constant,
    /// Whether results are multiplied by a gain a column.
    pub gain: bool,
    /// Whether a bias a column is added.
    pub bias: bool,
    /// How results are stored.
    pub output: RowOutput,
}

/// Argument slots; a work item is a row, strides in bytes.
pub const ARGS: [&str; 12] = [
    "x",
    "x_stride",
    "gain",
    "bias",
    "y",
    "y_stride",
    "out_scale",
    "out_zero",
    "scales",
    "sums",
    "rows",
    "columns",
];

impl NormSpec {
    /// Bytes of scratch a worker needs for rows of so many columns.
    pub fn scratch_bytes(&self, columns: u64) -> u64 {
        match self.output {
            RowOutput::Plain(_) => 0,
            RowOutput::Token(_) => 4 * columns + 2 * SLACK,
        }
    }
}

/// The kernel's MLIR text.
pub fn generate(spec: &NormSpec, name: &str, caps: &TargetCaps) -> String {
    let mut e = Emitter::new(caps);
    e.kernel(name, |e, k| rows(e, spec, &k));
    e.finish()
}

fn rows(e: &mut Emitter, spec: &NormSpec, k: &Kernel) {
    let p = |e: &mut Emitter, slot: &str| k.pointer(e, &ARGS, slot);
    let n = |e: &mut Emitter, slot: &str| k.size(e, &ARGS, slot);
    let (x, gain, bias, y) = (p(e, "x"), p(e, "gain"), p(e, "bias"), p(e, "y"));
    let (x_stride, y_stride, columns) = (n(e, "x_stride"), n(e, "y_stride"), n(e, "columns"));
    let (out_scale, out_zero) = (p(e, "out_scale"), n(e, "out_zero"));
    let (scales, sums) = (p(e, "scales"), p(e, "sums"));
    let width = e.to_float(columns);
    let one = e.float_of(F32, 1.0);
    let per_column = e.div(one, width);
    let writer = match spec.output {
        RowOutput::Plain(output) => Some((Writer::new(e, output, out_scale, out_zero), output.bytes())),
        RowOutput::Token(_) => None,
    };
    e.each(k.begin, k.end, |e, index| {
        let bytes = e.mul(index, x_stride);
        let x = e.at(x, bytes);
        let zero = e.floats(0.0);
        let mean = match spec.statistics {
            Statistics::RootMeanSquare => zero,
            Statistics::MeanVariance => {
                let sum = row::sweep(e, columns, &[zero], |e, s, sum| {
                    let v = s.load(e, x, 0.0);
                    vec![e.add(sum[0], v)]
                })[0];
                let sum = e.sum(sum);
                let mean = e.mul(sum, per_column);
                e.splat(mean, 16)
            }
        };
        let squares = row::sweep(e, columns, &[zero], |e, s, sum| {
            let v = s.load(e, x, 0.0);
            let d = if spec.statistics == Statistics::MeanVariance {
                let d = e.sub(v, mean);
                s.or(e, d, 0.0)
            } else {
                v
            };
            vec![e.multiply_add(d, d, sum[0])]
        })[0];
        let sum = e.sum(squares);
        let spread = e.mul(sum, per_column);
        let epsilon = e.float_of(F32, spec.epsilon.value());
        let spread = e.add(spread, epsilon);
        let root = e.square_root(spread);
        let scale = e.div(one, root);
        let scale = e.splat(scale, 16);
        let bytes = e.mul(index, y_stride);
        let result = e.at(y, bytes);
        row::sweep(e, columns, &[], |e, s, _| {
            let mut v = s.load(e, x, 0.0);
            if spec.statistics == Statistics::MeanVariance {
                v = e.sub(v, mean);
            }
            v = e.mul(v, scale);
            if spec.gain {
                let g = s.load(e, gain, 0.0);
                v = e.mul(v, g);
            }
            if spec.bias {
                let b = s.load(e, bias, 0.0);
                v = e.add(v, b);
            }
            match &writer {
                Some((writer, size)) => {
                    let v = writer.encode(e, v);
                    s.store(e, v, result, *size);
                }
                None => s.store(e, v, k.scratch, 4),
            }
            Vec::new()
        });
        if let RowOutput::Token(format) = spec.output {
            let out = TokenOutput { codes: y, stride: y_stride, scales, sums };
            quantize_row(e, format, k.scratch, &out, index, columns);
        }
    });
}
