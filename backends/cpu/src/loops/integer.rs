//! Integer arithmetic on sixteen 64-bit lanes. Overflow wraps; narrower types are cut to their width by a conversion that follows.

use qcc_ir::Op;

use super::storage::I64X16;
use crate::kernels::emit::{Emitter, Value};

/// An operation that [`supported`](super::elementwise::supported) admits for integers.
pub(super) fn integer(e: &mut Emitter, op: &Op, x: &[Value]) -> Value {
    match op {
        Op::Add {} => e.add(x[0], x[1]),
        Op::Sub {} => e.sub(x[0], x[1]),
        Op::Mul {} => e.mul(x[0], x[1]),
        Op::Min {} => e.min_int(x[0], x[1]),
        Op::Max {} => e.max_int(x[0], x[1]),
        Op::Neg {} => {
            let zero = e.int_of(I64X16, 0);
            e.sub(zero, x[0])
        }
        Op::Abs {} => {
            let zero = e.int_of(I64X16, 0);
            let negated = e.sub(zero, x[0]);
            e.max_int(x[0], negated)
        }
        Op::Prelu {} => {
            let zero = e.int_of(I64X16, 0);
            let scaled = e.mul(x[0], x[1]);
            let negative = e.compare("slt", x[0], zero);
            e.select(negative, scaled, x[0])
        }
        Op::Div {} => divide(e, x[0], x[1]),
        Op::Equal {} => holds(e, "eq", x),
        Op::Less {} => holds(e, "slt", x),
        Op::LessOrEqual {} => holds(e, "sle", x),
        other => unreachable!("invariant: `supported` admits no integer {}", other.name()),
    }
}

/// 1 where a comparison holds, else 0.
fn holds(e: &mut Emitter, predicate: &'static str, x: &[Value]) -> Value {
    let (zero, one) = (e.int_of(I64X16, 0), e.int_of(I64X16, 1));
    let holds = e.compare(predicate, x[0], x[1]);
    e.select(holds, one, zero)
}

/// Truncated quotients. Division by −1 is negation, as it may overflow; a divisor of 0, which has no quotient and would trap, gives `a`
/// (lanes past a row's end hold anything).
fn divide(e: &mut Emitter, a: Value, b: Value) -> Value {
    let (zero, one, minus) = (e.int_of(I64X16, 0), e.int_of(I64X16, 1), e.int_of(I64X16, -1));
    let nothing = e.compare("eq", b, zero);
    let negates = e.compare("eq", b, minus);
    let unsafe_divisor = e.or(nothing, negates);
    let divisor = e.select(unsafe_divisor, one, b);
    let quotient = e.div_signed(a, divisor);
    let negated = e.sub(zero, a);
    e.select(negates, negated, quotient)
}
