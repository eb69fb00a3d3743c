//! Elementwise arithmetic with NumPy broadcasting.

use qcc_ir::{ElementType, Op, ValueId};

use crate::call::{Call, Outputs, Result};

/// One operand.
pub(super) fn unary(call: &mut Call<'_>, op: Op) -> Outputs {
    let x = call.x(0)?;
    call.done(op, [x])
}

/// Two operands.
pub(super) fn binary(call: &mut Call<'_>, op: Op) -> Outputs {
    let (a, b) = (call.x(0)?, call.x(1)?);
    call.done(op, [a, b])
}

/// Any number of operands, combined from left to right.
pub(super) fn variadic(call: &mut Call<'_>, op: Op) -> Outputs {
    Ok(vec![combine(call, op)?.into()])
}

fn combine(call: &mut Call<'_>, op: Op) -> Result<ValueId> {
    let all = call.all()?;
    all[1..].iter().try_fold(all[0], |sum, x| call.emit(op.clone(), [sum, *x]))
}

/// `Mean`.
#[allow(clippy::cast_precision_loss, reason = "a node has few inputs")]
pub(super) fn mean(call: &mut Call<'_>) -> Outputs {
    let sum = combine(call, Op::Add {})?;
    let count = call.number(call.operands.len() as f64, call.element(sum))?;
    call.done(Op::Div {}, [sum, count])
}

/// `Ceil`.
pub(super) fn ceil(call: &mut Call<'_>) -> Outputs {
    let x = call.x(0)?;
    let below = call.emit(Op::Neg {}, [x])?;
    let floor = call.emit(Op::Floor {}, [below])?;
    call.done(Op::Neg {}, [floor])
}

/// `Pow`: the result has the type of the base, whatever the exponent's.
pub(super) fn pow(call: &mut Call<'_>) -> Outputs {
    let (base, exponent) = (call.x(0)?, call.x(1)?);
    let (to, by) = (call.element(base), call.element(exponent));
    if to == by {
        return call.done(Op::Pow {}, [base, exponent]);
    }
    // A whole power may have a fractional exponent, and a float power a whole one: compute in floats.
    let wide = if to.is_float() { to } else { ElementType::F64 };
    let base = cast(call, base, wide)?;
    let exponent = cast(call, exponent, wide)?;
    let power = call.emit(Op::Pow {}, [base, exponent])?;
    Ok(vec![cast(call, power, to)?.into()])
}

/// `x` as elements of type `to`.
pub(crate) fn cast(call: &mut Call<'_>, x: ValueId, to: ElementType) -> Result<ValueId> {
    if call.element(x) == to { Ok(x) } else { call.emit(Op::Cast { to }, [x]) }
}
