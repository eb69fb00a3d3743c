//! Elementwise operations with one or two operands, the latter with NumPy broadcasting.
//!
//! Integers wrap around as in two's complement; division truncates and refuses zero divisors; on booleans only `min`, `max` and `mul` (and,
//! or, and) mean something.

use std::f64::consts::{FRAC_1_SQRT_2, PI};

use qcc_ir::{ElementType, Op};
use qcc_params::{Data, Tensor};

use crate::evaluate::{Call, Result};
use crate::precision::integers;
use crate::walk::expand;

/// Evaluates an elementwise operation; any other is refused.
pub(crate) fn elementwise(op: &Op, call: &Call<'_>) -> Result<Tensor> {
    match op {
        Op::Add {} => binary(op, call, |a, b| a + b, |a, b| Ok(a.wrapping_add(b))),
        Op::Sub {} => binary(op, call, |a, b| a - b, |a, b| Ok(a.wrapping_sub(b))),
        Op::Mul {} => binary(op, call, |a, b| a * b, |a, b| Ok(a.wrapping_mul(b))),
        Op::Div {} => binary(op, call, |a, b| a / b, divide),
        Op::Min {} => binary(op, call, smaller, |a, b| Ok(a.min(b))),
        Op::Max {} => binary(op, call, larger, |a, b| Ok(a.max(b))),
        Op::Pow {} => binary(op, call, f64::powf, power),
        Op::Prelu {} => binary(
            op,
            call,
            |x, slope| if x >= 0.0 { x } else { slope * x },
            |x, slope| Ok(if x >= 0 { x } else { slope.wrapping_mul(x) }),
        ),
        Op::ScaledSilu {} => {
            binary(op, call, |x, scale| x / (1.0 + (-scale * x).exp()), |_, _| Err("floats only".into()))
        }
        Op::Equal {} => compare(call, |a, b| a == b, |a, b| a == b),
        Op::Less {} => compare(call, |a, b| a < b, |a, b| a < b),
        Op::LessOrEqual {} => compare(call, |a, b| a <= b, |a, b| a <= b),
        Op::Select {} => select(call),
        Op::Neg {} => sign(op, call, |x| -x, i64::wrapping_neg),
        Op::Abs {} => sign(op, call, f64::abs, i64::wrapping_abs),
        Op::Exp {} => unary(call, f64::exp),
        Op::Log {} => unary(call, f64::ln),
        Op::Sqrt {} => unary(call, f64::sqrt),
        Op::Reciprocal {} => unary(call, f64::recip),
        Op::Erf {} => unary(call, libm::erf),
        Op::Sin {} => unary(call, f64::sin),
        Op::Cos {} => unary(call, f64::cos),
        Op::Tanh {} => unary(call, f64::tanh),
        Op::Sigmoid {} => unary(call, |x| 1.0 / (1.0 + (-x).exp())),
        Op::Silu {} => unary(call, |x| x / (1.0 + (-x).exp())),
        Op::Relu {} => unary(call, |x| larger(x, 0.0)),
        Op::Softplus {} => unary(call, |x| larger(x, 0.0) + (-x.abs()).exp().ln_1p()),
        Op::HardSwish {} => unary(call, |x| x * clamp(x / 6.0 + 0.5, 0.0, 1.0)),
        Op::HardSigmoid { alpha, beta } => unary(call, |x| clamp(alpha.0 * x + beta.0, 0.0, 1.0)),
        Op::LeakyRelu { alpha } => unary(call, |x| if x >= 0.0 { x } else { alpha.0 * x }),
        Op::Gelu { tanh: false } => unary(call, |x| 0.5 * x * libm::erfc(-x * FRAC_1_SQRT_2)),
        Op::Gelu { tanh: true } => {
            unary(call, |x| 0.5 * x * (1.0 + ((2.0 / PI).sqrt() * (x + 0.044715 * x * x * x)).tanh()))
        }
        Op::Clamp { min, max } => unary(call, |x| clamp(x, min.0, max.0)),
        Op::Floor {} => unary(call, f64::floor),
        other => Err(format!("the interpreter has no case for `qcc.{}`", other.name())),
    }
}

/// The smaller; NaN if either is.
fn smaller(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.min(b) }
}

/// The larger; NaN if either is.
pub(crate) fn larger(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) }
}

/// `min(max(x, low), high)`; NaN stays NaN.
fn clamp(x: f64, low: f64, high: f64) -> f64 {
    if x.is_nan() { x } else { x.max(low).min(high) }
}

fn divide(a: i64, b: i64) -> Result<i64> {
    if b == 0 { Err("integer division by zero".into()) } else { Ok(a.wrapping_div(b)) }
}

fn power(a: i64, b: i64) -> Result<i64> {
    match u64::try_from(b) {
        Ok(mut exponent) => {
            let (mut base, mut result) = (a, 1i64);
            while exponent > 0 {
                if exponent & 1 == 1 {
                    result = result.wrapping_mul(base);
                }
                base = base.wrapping_mul(base);
                exponent >>= 1;
            }
            Ok(result)
        }
        Err(_) => Err(format!("integer power with the negative exponent {b}")),
    }
}

fn unary(call: &Call<'_>, f: impl Fn(f64) -> f64) -> Result<Tensor> {
    call.real(0, call.reals(0)?.iter().map(|x| f(*x)).collect())
}

fn sign(op: &Op, call: &Call<'_>, real: impl Fn(f64) -> f64, integer: impl Fn(i64) -> i64) -> Result<Tensor> {
    let x = call.at(0)?;
    if x.element.is_float() {
        return unary(call, real);
    }
    refuse_bool(op, x.element)?;
    call.integer(0, integers(x).into_iter().map(integer).collect())
}

fn binary(
    op: &Op,
    call: &Call<'_>,
    real: impl Fn(f64, f64) -> f64,
    integer: impl Fn(i64, i64) -> Result<i64>,
) -> Result<Tensor> {
    let (a, b) = (call.at(0)?, call.at(1)?);
    let dims = call.dims(0);
    if a.element.is_float() {
        let (x, y) = (call.reals(0)?, call.reals(1)?);
        let (x, y) = (expand(&x, &a.dims, dims), expand(&y, &b.dims, dims));
        return call.real(0, x.iter().zip(y.iter()).map(|(x, y)| real(*x, *y)).collect());
    }
    if !matches!(op, Op::Min {} | Op::Max {} | Op::Mul {}) {
        refuse_bool(op, a.element)?;
    }
    let (x, y) = (integers(a), integers(b));
    let (x, y) = (expand(&x, &a.dims, dims), expand(&y, &b.dims, dims));
    call.integer(0, x.iter().zip(y.iter()).map(|(x, y)| integer(*x, *y)).collect::<Result<_>>()?)
}

fn compare(
    call: &Call<'_>,
    real: impl Fn(f64, f64) -> bool,
    integer: impl Fn(i64, i64) -> bool,
) -> Result<Tensor> {
    let (a, b) = (call.at(0)?, call.at(1)?);
    let dims = call.dims(0);
    let holds: Vec<bool> = if a.element.is_float() {
        let (x, y) = (call.reals(0)?, call.reals(1)?);
        let (x, y) = (expand(&x, &a.dims, dims), expand(&y, &b.dims, dims));
        x.iter().zip(y.iter()).map(|(x, y)| real(*x, *y)).collect()
    } else {
        let (x, y) = (integers(a), integers(b));
        let (x, y) = (expand(&x, &a.dims, dims), expand(&y, &b.dims, dims));
        x.iter().zip(y.iter()).map(|(x, y)| integer(*x, *y)).collect()
    };
    call.data(0, Data::Bool(holds))
}

fn select(call: &Call<'_>) -> Result<Tensor> {
    let (condition, a, b) = (call.at(0)?, call.at(1)?, call.at(2)?);
    let dims = call.dims(0);
    let condition = integers(condition);
    let condition = expand(&condition, &call.at(0)?.dims, dims);
    if a.element.is_float() {
        let (x, y) = (call.reals(1)?, call.reals(2)?);
        let (x, y) = (expand(&x, &a.dims, dims), expand(&y, &b.dims, dims));
        let pairs = x.iter().zip(y.iter()).zip(condition.iter());
        return call.real(0, pairs.map(|((x, y), first)| if *first != 0 { *x } else { *y }).collect());
    }
    let (x, y) = (integers(a), integers(b));
    let (x, y) = (expand(&x, &a.dims, dims), expand(&y, &b.dims, dims));
    let pairs = x.iter().zip(y.iter()).zip(condition.iter());
    call.integer(0, pairs.map(|((x, y), first)| if *first != 0 { *x } else { *y }).collect())
}

fn refuse_bool(op: &Op, element: ElementType) -> Result<()> {
    if element == ElementType::Bool {
        return Err(format!("`qcc.{}` has no meaning on booleans; cast them first", op.name()));
    }
    Ok(())
}
