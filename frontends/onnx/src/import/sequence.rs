//! Sequences of numbers, and sums along them.

use qcc_ir::{Dim, ElementType, Op, ValueId};

use super::arithmetic::cast;
use crate::call::{Call, Outputs, Result};
use crate::graph::Bound;

/// `Range`: numbers that are known at import, or integers by 1 up to a size.
pub(super) fn range(call: &mut Call<'_>) -> Outputs {
    if let Some(Bound::Value(start)) = call.bound(0)
        && call.element(*start).is_float()
    {
        return floats(call);
    }
    if let (Some(start), Some(limit), Some(delta)) =
        (call.sizes(0, "start")?, call.sizes(1, "limit")?, call.sizes(2, "delta")?)
        && let ([start], [limit], [delta]) = (&start[..], &limit[..], &delta[..])
    {
        let (count, step) = steps(start, limit, delta)?;
        let element = match call.operands[0].as_ref() {
            Some(Bound::Value(value)) => call.element(*value),
            _ => ElementType::I64,
        };
        let mut y = call.iota(&count)?;
        if step != 1 {
            let step = call.size(&Dim::Const(step))?;
            y = call.emit(Op::Mul {}, [y, step])?;
        }
        if *start != Dim::Const(0) {
            let start = call.size(start)?;
            y = call.emit(Op::Add {}, [y, start])?;
        }
        return Ok(vec![cast(call, y, element)?.into()]);
    }
    Err("its start, limit and delta are no numbers".into())
}

/// A range of floats.
fn floats(call: &mut Call<'_>) -> Outputs {
    let mut numbers = [0.0; 3];
    for (input, number) in numbers.iter_mut().enumerate() {
        let x = call.x(input)?;
        *number = call.scalar(x).ok_or("its start, limit and delta are not known at import")?;
    }
    let [start, limit, delta] = numbers;
    let count = ((limit - start) / delta).ceil().max(0.0);
    if !count.is_finite() || count > f64::from(1u32 << 24) {
        return Err(format!("from {start} to {limit} by {delta}: it has {count} numbers"));
    }
    let first = call.x(0)?;
    let element = call.element(first);
    #[allow(clippy::cast_possible_truncation, reason = "it was compared with a smaller bound")]
    let y = call.iota(&Dim::Const(count as i64))?;
    let y = cast(call, y, element)?;
    let (start, delta) = (call.number(start, element)?, call.number(delta, element)?);
    let y = call.emit(Op::Mul {}, [y, delta])?;
    call.done(Op::Add {}, [y, start])
}

/// How many numbers a range has, and from each to the next.
fn steps(start: &Dim, limit: &Dim, delta: &Dim) -> Result<(Dim, i64)> {
    let step = delta.constant().filter(|step| *step != 0);
    let step = step.ok_or_else(|| format!("its delta is {delta}, not a number other than 0"))?;
    if let (Some(start), Some(limit)) = (start.constant(), limit.constant()) {
        let span = i128::from(limit) - i128::from(start);
        let step = i128::from(step);
        let count = if (span < 0) == (step < 0) { (span.abs() + step.abs() - 1) / step.abs() } else { 0 };
        let count = i64::try_from(count).map_err(|_| "it has too many numbers")?;
        return Ok((Dim::Const(count), i64::try_from(step).map_err(|e| e.to_string())?));
    }
    let count = if step == 1 { limit.checked_sub(start) } else { None };
    count.map(|count| (count, 1)).ok_or_else(|| {
        format!("from {start} to {limit} by {step}: with symbolic sizes it must go by 1, upwards")
    })
}

/// The longest axis of `CumSum`: the triangle grows with its square.
const LONGEST_SUM: i64 = 1 << 14;

/// `CumSum`, as a product with a triangle of ones. Integers are sums of truths, as exporters count tokens: others might not be exact in the
/// floats of a product. An infinity makes NaN of what is before it too.
pub(super) fn cumulative_sum(call: &mut Call<'_>) -> Outputs {
    let x = call.x(0)?;
    let (rank, element) = (call.rank(x), call.element(x));
    if !element.is_float() && call.origin(x) != ElementType::Bool {
        return Err(format!(
            "it sums {element}; floats, and truths that were cast to integers, can be summed"
        ));
    }
    let axis = call.ints(1, "axis")?.filter(|axis| axis.len() == 1).ok_or("its axis is no number")?;
    let axis = call.axis(axis[0], rank)?;
    let (exclusive, reverse) =
        (call.attributes.flag("exclusive", false)?, call.attributes.flag("reverse", false)?);
    let size = call.dims(x)[axis].clone();
    if size.constant().is_some_and(|n| n > LONGEST_SUM) {
        return Err(format!("it sums along an axis of {size}; up to {LONGEST_SUM} can be summed"));
    }
    let (from, to) = (call.iota_along(&size, 0, 2)?, call.iota_along(&size, 1, 2)?);
    let (first, second) = if reverse { (to, from) } else { (from, to) };
    let op = if exclusive { Op::Less {} } else { Op::LessOrEqual {} };
    let summed = call.emit(op, [first, second])?;
    let float = if element.is_float() { element } else { ElementType::F32 };
    let triangle = cast(call, summed, float)?;
    let numbers = cast(call, x, float)?;
    let last = swapped(call, numbers, axis, rank)?;
    let dims = call.dims(last);
    let rows = call.product(&dims[..rank - 1])?;
    let flat = call.reshape(last, vec![rows, size])?;
    let sums = call.emit(Op::Matmul {}, [flat, triangle])?;
    let sums = call.reshape(sums, dims)?;
    let sums = swapped(call, sums, axis, rank)?;
    Ok(vec![cast(call, sums, element)?.into()])
}

/// `x` with an axis and the last one in each other's place.
fn swapped(call: &mut Call<'_>, x: ValueId, axis: usize, rank: usize) -> Result<ValueId> {
    let mut order: Vec<i64> = (0..rank as i64).collect();
    order.swap(axis, rank - 1);
    call.transpose(x, order)
}
