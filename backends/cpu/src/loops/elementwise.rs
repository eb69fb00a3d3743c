//! Fused elementwise kernels: an expression over broadcasting operands, evaluated sixteen elements at a time.
//!
//! The result is contiguous. Innermost, an operand is contiguous or constant; axes are already merged so that nothing else occurs.
//! Work item: rank 1, sixteen elements; else one innermost row. A row may be quantized as it is made, with a scale of its own.

use qcc_ir::{Float, Op};

use super::conversion::cast;
use super::integer::integer;
use super::storage::{I64X16, Storage};
use super::{Slots, coordinates, dot, numbered};
use crate::kernels::emit::{Emitter, F32X16, I32X16, Scalar, Value};
use crate::kernels::epilogue::{Activation, Quantizer};
use crate::kernels::quantize::{TokenFormat, TokenOutput, quantize_row};
use crate::kernels::{SLACK, TargetCaps};

/// An operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Input {
    /// How its elements lie.
    pub storage: Storage,
    /// Whether it is constant along the innermost axis.
    pub splat: bool,
}

/// One step of the expression; operands are earlier values: first the inputs, then the steps.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Step {
    /// What is computed; `quantize` and `dequantize` included, with scale and zero point as inputs.
    pub op: Op,
    /// Indices of the operands.
    pub operands: Vec<usize>,
}

/// A fused elementwise kernel.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Elementwise {
    /// Rank after merging axes, at least 1.
    pub rank: usize,
    /// The operands.
    pub inputs: Vec<Input>,
    /// The expression; the last step (or the last input, if there is none) is the result.
    pub steps: Vec<Step>,
    /// How the result is stored.
    pub output: Storage,
    /// Whether rows, of f32 then, are quantized instead, and how: `out` are codes, `scales` f32 a row, `sums` those of blocks.
    pub token: Option<TokenFormat>,
}

impl Elementwise {
    /// Argument names: `out`, `in…`, `dim…`, then `stride<input>_<axis>` in elements.
    pub fn arguments(&self) -> Vec<String> {
        let mut names = vec!["out".to_string()];
        names.extend(numbered("in", self.inputs.len()));
        names.extend(numbered("dim", self.rank));
        for i in 0..self.inputs.len() {
            names.extend(numbered(&format!("stride{i}_"), self.rank));
        }
        if self.token.is_some() {
            names.extend(["scales", "sums"].map(String::from));
        }
        names
    }

    /// Bytes of scratch a worker needs for rows of so many columns.
    pub fn scratch_bytes(&self, columns: u64) -> u64 {
        if self.token.is_some() { 4 * columns + 2 * SLACK } else { 0 }
    }

    /// The kernel's MLIR text.
    pub fn generate(&self, name: &str, caps: &TargetCaps) -> String {
        let mut e = Emitter::new(caps);
        let names = self.arguments();
        e.kernel(name, |e, kernel| {
            let slots = Slots::new(kernel, &names);
            let out = slots.pointer(e, "out");
            let inputs: Vec<Value> =
                (0..self.inputs.len()).map(|i| slots.pointer(e, &format!("in{i}"))).collect();
            let dims = slots.sizes(e, "dim", self.rank);
            let strides: Vec<Vec<Value>> =
                (0..self.inputs.len()).map(|i| slots.sizes(e, &format!("stride{i}_"), self.rank)).collect();
            let inner = dims[self.rank - 1];
            let quantized = self.token.map(|format| {
                let [scales, sums] = ["scales", "sums"].map(|n| slots.pointer(e, n));
                (format, TokenOutput { codes: out, stride: inner, scales, sums })
            });
            debug_assert!(self.token.is_none() || self.rank == 2, "invariant: rows are quantized");
            if self.rank == 1 {
                let from = e.times(kernel.begin, 16);
                let to = e.times(kernel.end, 16);
                let to = e.min_int(to, inner);
                self.row(e, out, &inputs, from, to);
                return;
            }
            e.each(kernel.begin, kernel.end, |e, row| {
                let at = coordinates(e, row, &dims[..self.rank - 1]);
                let start = e.mul(row, inner);
                let out = match quantized {
                    Some(_) => kernel.scratch,
                    None => e.element(out, start, self.output.bytes()),
                };
                let rows: Vec<Value> = (0..inputs.len())
                    .map(|i| {
                        let index = dot(e, &at, &strides[i][..self.rank - 1]);
                        e.element(inputs[i], index, self.inputs[i].storage.bytes())
                    })
                    .collect();
                let zero = e.int(0);
                self.row(e, out, &rows, zero, inner);
                if let Some((format, to)) = &quantized {
                    quantize_row(e, *format, out, to, row, inner);
                }
            });
        });
        e.finish()
    }

    /// Elements `from..to` of one row.
    fn row(&self, e: &mut Emitter, out: Value, inputs: &[Value], from: Value, to: Value) {
        let step = e.int(16);
        let constant: Vec<Option<Value>> = self
            .inputs
            .iter()
            .zip(inputs)
            .map(|(input, p)| input.splat.then(|| input.storage.load_splat(e, *p)))
            .collect();
        e.repeat(from, to, step, &[], |e, i, _| {
            let loaded: Vec<Value> = self
                .inputs
                .iter()
                .zip(inputs)
                .zip(&constant)
                .map(|((input, p), constant)| {
                    constant.unwrap_or_else(|| {
                        let p = e.element(*p, i, input.storage.bytes());
                        input.storage.load(e, p)
                    })
                })
                .collect();
            let y = self.expression(e, loaded);
            let y = self.output.narrow(e, y);
            let p = e.element(out, i, self.output.bytes());
            let left = e.sub(to, i);
            e.store_first(y, p, left);
            Vec::new()
        });
    }

    fn expression(&self, e: &mut Emitter, mut values: Vec<Value>) -> Value {
        for step in &self.steps {
            let operands: Vec<Value> = step.operands.iter().map(|&i| values[i]).collect();
            let y = if matches!(step.op, Op::Select {}) {
                let zero = e.int_of(I64X16, 0);
                let first = e.compare("ne", operands[0], zero);
                e.select(first, operands[1], operands[2])
            } else if operands[0].ty() == I64X16 && !matches!(step.op, Op::Dequantize {} | Op::Cast { .. }) {
                integer(e, &step.op, &operands)
            } else {
                float(e, &step.op, &operands)
            };
            values.push(y);
        }
        *values.last().expect("invariant: an expression has a value")
    }
}

/// Whether an operation has an elementwise kernel for float (or integer) operands.
pub fn supported(op: &Op, integers: bool) -> bool {
    if integers {
        return matches!(
            op,
            Op::Add {}
                | Op::Sub {}
                | Op::Mul {}
                | Op::Div {}
                | Op::Min {}
                | Op::Max {}
                | Op::Prelu {}
                | Op::Equal {}
                | Op::Less {}
                | Op::LessOrEqual {}
                | Op::Select {}
                | Op::Neg {}
                | Op::Abs {}
                | Op::Cast { .. }
                | Op::Dequantize {}
        );
    }
    !matches!(op, Op::Pow {}) && (is_binary(op) || activation(op).is_some() || is_unary(op))
        || matches!(op, Op::Pow {} | Op::Quantize { .. })
}

fn is_binary(op: &Op) -> bool {
    matches!(
        op,
        Op::Add {}
            | Op::Sub {}
            | Op::Mul {}
            | Op::Div {}
            | Op::Min {}
            | Op::Max {}
            | Op::Prelu {}
            | Op::ScaledSilu {}
            | Op::Equal {}
            | Op::Less {}
            | Op::LessOrEqual {}
    )
}

fn is_unary(op: &Op) -> bool {
    matches!(
        op,
        Op::Neg {}
            | Op::Abs {}
            | Op::Exp {}
            | Op::Log {}
            | Op::Sqrt {}
            | Op::Reciprocal {}
            | Op::Erf {}
            | Op::Sin {}
            | Op::Cos {}
            | Op::LeakyRelu { .. }
            | Op::Floor {}
            | Op::Cast { .. }
    )
}

/// The fused activation that computes a one-operand operation.
pub fn activation(op: &Op) -> Option<Activation> {
    let c = |x: &Float| (x.0 as f32).into();
    Some(match op {
        Op::Relu {} => Activation::Relu,
        Op::Clamp { min, max } => Activation::Clamp { lo: c(min), hi: c(max) },
        Op::Sigmoid {} => Activation::Sigmoid,
        Op::Tanh {} => Activation::Tanh,
        Op::Silu {} => Activation::Silu,
        Op::Gelu { tanh: false } => Activation::Gelu,
        Op::Gelu { tanh: true } => Activation::GeluTanh,
        Op::Softplus {} => Activation::Softplus,
        Op::HardSigmoid { alpha, beta } => Activation::HardSigmoid { a: c(alpha), b: c(beta) },
        Op::HardSwish {} => Activation::HardSwish,
        _ => return None,
    })
}

fn float(e: &mut Emitter, op: &Op, x: &[Value]) -> Value {
    if let Some(activation) = activation(op) {
        return activation.apply(e, x[0]);
    }
    match op {
        Op::Add {} => e.add(x[0], x[1]),
        Op::Sub {} => e.sub(x[0], x[1]),
        Op::Mul {} => e.mul(x[0], x[1]),
        Op::Div {} => e.div(x[0], x[1]),
        Op::Min {} => propagate_nan(e, x, Emitter::smaller),
        Op::Max {} => propagate_nan(e, x, Emitter::larger),
        Op::Pow {} => power(e, x[0], x[1]),
        Op::Prelu {} => slope(e, x[0], x[1]),
        Op::ScaledSilu {} => e.scaled_silu(x[0], x[1]),
        Op::Equal {} => holds(e, "oeq", x),
        Op::Less {} => holds(e, "olt", x),
        Op::LessOrEqual {} => holds(e, "ole", x),
        Op::LeakyRelu { alpha } => {
            let a = e.floats(alpha.0 as f32);
            slope(e, x[0], a)
        }
        Op::Neg {} => e.negate(x[0]),
        Op::Abs {} => e.magnitude(x[0]),
        Op::Exp {} => e.exp(x[0]),
        Op::Log {} => e.log(x[0]),
        Op::Sqrt {} => e.square_root(x[0]),
        Op::Reciprocal {} => {
            let one = e.floats(1.0);
            e.div(one, x[0])
        }
        Op::Erf {} => e.erf(x[0]),
        Op::Sin {} | Op::Cos {} => {
            let angle = e.widen(x[0], Scalar::F64);
            let (sin, cos) = e.sin_cos(angle);
            let y = if *op == (Op::Sin {}) { sin } else { cos };
            // Beyond 2^28 quarter turns nothing is left of an angle.
            let (size, most, nan) = (e.magnitude(x[0]), e.floats(4.216_574e8), e.floats(f32::NAN));
            let known = e.compare_float("ole", size, most);
            e.select(known, y, nan)
        }
        Op::Floor {} => floor(e, x[0]),
        Op::Cast { to } => cast(e, x[0], *to),
        Op::Dequantize {} => {
            let codes = e.truncate(x[0], Scalar::I32);
            let codes = match x.get(2) {
                Some(z) => {
                    let z = e.truncate(*z, Scalar::I32);
                    e.sub(codes, z)
                }
                None => codes,
            };
            let codes = e.to_float(codes);
            e.mul(codes, x[1])
        }
        Op::Quantize { to, narrow, .. } => {
            let storage = to.quantized().expect("invariant: quantize has a quantized type").storage;
            let (lo, hi) =
                storage.integer_range(*narrow).expect("invariant: lowering admits integer formats");
            let scale = e.lane(x[1], 0);
            let zero = match x.get(2) {
                Some(z) => e.lane(*z, 0),
                None => e.int(0),
            };
            let quantizer = Quantizer::new(e, scale, zero, lo as i16, hi as i16);
            let codes = quantizer.integers(e, x[0]);
            e.extend(codes, Scalar::I64)
        }
        other => unreachable!("invariant: `supported` admits no {}", other.name()),
    }
}

/// 1 where a comparison of floats holds, else 0.
fn holds(e: &mut Emitter, predicate: &'static str, x: &[Value]) -> Value {
    let (zero, one) = (e.int_of(I64X16, 0), e.int_of(I64X16, 1));
    let holds = e.compare_float(predicate, x[0], x[1]);
    e.select(holds, one, zero)
}

/// NaN if either operand is.
fn propagate_nan(e: &mut Emitter, x: &[Value], pick: impl Fn(&mut Emitter, Value, Value) -> Value) -> Value {
    // `pick` gives its second operand where either is NaN; a NaN in the first must win.
    let y = pick(e, x[0], x[1]);
    let number = e.compare_float("ord", x[0], x[0]);
    e.select(number, y, x[0])
}

fn slope(e: &mut Emitter, x: Value, slope: Value) -> Value {
    let zero = e.floats(0.0);
    let scaled = e.mul(x, slope);
    let negative = e.compare_float("olt", x, zero);
    e.select(negative, scaled, x)
}

/// Numbers of magnitude 2²³ and more (and NaN, infinities) are integers already.
fn floor(e: &mut Emitter, x: Value) -> Value {
    let size = e.magnitude(x);
    let limit = e.floats(8_388_608.0);
    let small = e.compare_float("olt", size, limit);
    let zero = e.floats(0.0);
    let safe = e.select(small, x, zero);
    let truncated = to_integer(e, safe);
    let back = e.to_float(truncated);
    let above = e.compare_float("ogt", back, safe);
    let one = e.floats(1.0);
    let less = e.sub(back, one);
    let y = e.select(above, less, back);
    e.select(small, y, x)
}

/// Truncation of floats inside the range of `i32`.
fn to_integer(e: &mut Emitter, x: Value) -> Value {
    e.intrinsic("llvm.fptosi.sat.v16i32.v16f32", &[x], I32X16)
}

/// `aᵇ` as `exp(b · log|a|)`, with the sign and the NaN of negative bases.
fn power(e: &mut Emitter, a: Value, b: Value) -> Value {
    let (zero, one) = (e.floats(0.0), e.floats(1.0));
    let size = e.magnitude(a);
    let log = e.log(size);
    let exponent = e.mul(b, log);
    let magnitude = e.exp(exponent);
    // The square is exact this way, and by far the commonest power.
    let two = e.floats(2.0);
    let squares = e.compare_float("oeq", b, two);
    let square = e.mul(a, a);
    let whole = floor(e, b);
    let integral = e.compare_float("oeq", whole, b);
    let half = e.floats(0.5);
    let halved = e.mul(b, half);
    let even_floor = floor(e, halved);
    let even = e.compare_float("oeq", even_floor, halved);
    let minus = e.negate(magnitude);
    let signed = e.select(even, magnitude, minus);
    let nan = e.floats(f32::NAN);
    let negative_base = e.select(integral, signed, nan);
    let negative = e.compare_float("olt", a, zero);
    let y = e.select(negative, negative_base, magnitude);
    let y = e.select(squares, square, y);
    let no_power = e.compare_float("oeq", b, zero);
    debug_assert_eq!(y.ty(), F32X16);
    e.select(no_power, one, y)
}
