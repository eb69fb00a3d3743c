//! Reductions. Axes are an attribute in old operator sets and an input in new ones; none means all, unless the node says otherwise.

use qcc_ir::{ElementType, Op, ValueId};

use super::arithmetic::cast;
use crate::call::{Call, Outputs, Result};

/// `None` when nothing is reduced.
fn axes(call: &Call<'_>, x: ValueId) -> Result<Option<(Vec<i64>, bool)>> {
    let rank = call.rank(x);
    let keep_dims = call.attributes.flag("keepdims", true)?;
    let nothing = call.attributes.flag("noop_with_empty_axes", false)?;
    let axes = call.attribute_or_input("axes", 1)?.unwrap_or_default();
    if axes.is_empty() {
        return Ok((!nothing).then(|| ((0..rank as i64).collect(), keep_dims)));
    }
    let mut axes =
        axes.into_iter().map(|a| call.axis(a, rank).map(|a| a as i64)).collect::<Result<Vec<i64>>>()?;
    axes.sort_unstable();
    axes.dedup();
    Ok(Some((axes, keep_dims)))
}

/// `make` of `before(x)`.
fn reduce(call: &mut Call<'_>, before: &[Op], make: fn(Vec<i64>, bool) -> Op) -> Result<ValueId> {
    let mut x = call.x(0)?;
    let axes = axes(call, x)?;
    for op in before {
        x = match op {
            Op::Mul {} => call.emit(Op::Mul {}, [x, x])?,
            op => call.emit(op.clone(), [x])?,
        };
    }
    match axes {
        Some((axes, keep_dims)) => call.emit(make(axes, keep_dims), [x]),
        None => Ok(x),
    }
}

const SUM: fn(Vec<i64>, bool) -> Op = |axes, keep_dims| Op::ReduceSum { axes, keep_dims };
const MAX: fn(Vec<i64>, bool) -> Op = |axes, keep_dims| Op::ReduceMax { axes, keep_dims };

/// `ReduceMean`.
pub(super) fn mean(call: &mut Call<'_>) -> Outputs {
    Ok(vec![reduce(call, &[], |axes, keep_dims| Op::ReduceMean { axes, keep_dims })?.into()])
}

/// `ReduceSum`.
pub(super) fn sum(call: &mut Call<'_>) -> Outputs {
    Ok(vec![reduce(call, &[], SUM)?.into()])
}

/// `ReduceMax`.
pub(super) fn max(call: &mut Call<'_>) -> Outputs {
    Ok(vec![reduce(call, &[], MAX)?.into()])
}

/// `ReduceMin`: −max(−x), of narrow integers in a type that holds −x.
pub(super) fn min(call: &mut Call<'_>) -> Outputs {
    let x = call.x(0)?;
    let element = call.element(x);
    let wide = match element {
        ElementType::Bool | ElementType::U8 | ElementType::I8 => ElementType::I32,
        ElementType::I32 => ElementType::I64,
        element => element,
    };
    let x = cast(call, x, wide)?;
    call.operands[0] = Some(x.into());
    let y = reduce(call, &[Op::Neg {}], MAX)?;
    let y = call.emit(Op::Neg {}, [y])?;
    Ok(vec![cast(call, y, element)?.into()])
}

/// `ReduceL1`: sum of |x|.
pub(super) fn l1(call: &mut Call<'_>) -> Outputs {
    Ok(vec![reduce(call, &[Op::Abs {}], SUM)?.into()])
}

/// `ReduceSumSquare`: sum of x².
pub(super) fn sum_square(call: &mut Call<'_>) -> Outputs {
    Ok(vec![reduce(call, &[Op::Mul {}], SUM)?.into()])
}

/// `ReduceL2`: root of the sum of x².
pub(super) fn l2(call: &mut Call<'_>) -> Outputs {
    let y = reduce(call, &[Op::Mul {}], SUM)?;
    call.done(Op::Sqrt {}, [y])
}
