//! Parts of a tensor along its axes.

use qcc_ir::{Dim, Op};

use crate::call::{Call, Outputs, Result};

/// `Slice`: bounds are attributes before opset 10. Negative ones count from the end, and all are clamped to the axis.
pub(super) fn slice(call: &mut Call<'_>) -> Outputs {
    let mut x = call.x(0)?;
    let dims = call.dims(x);
    let list = |list: Option<Vec<i64>>| list.map(|l| l.into_iter().map(Dim::Const).collect::<Vec<_>>());
    let (starts, ends, axes, steps) = if call.opset < 10 {
        let bound = |name| call.attributes.ints(name).map(list);
        (bound("starts")?, bound("ends")?, call.attributes.ints("axes")?, None)
    } else {
        (call.sizes(1, "starts")?, call.sizes(2, "ends")?, call.ints(3, "axes")?, call.ints(4, "steps")?)
    };
    let (starts, ends) = starts.zip(ends).ok_or("its starts or ends are missing")?;
    let axes = axes.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = steps.unwrap_or_else(|| vec![1; starts.len()]);
    if [ends.len(), axes.len(), steps.len()] != [starts.len(); 3] {
        return Err("its starts, ends, axes and steps differ in number".into());
    }
    let mut part = Part::default();
    for i in 0..starts.len() {
        let axis = call.axis(axes[i], dims.len())?;
        if steps[i] == 0 {
            return Err("a step is 0".into());
        }
        // The first of a table, as many as there are positions.
        let first = dims[axis].constant().is_some() && ends[i].constant().is_none();
        if first && steps[i] == 1 && starts[i] == Dim::Const(0) {
            let indices = call.iota(&ends[i])?;
            x = call.emit(Op::Gather { axis: axis as i64 }, [x, indices])?;
            continue;
        }
        part.take(axis, &dims[axis], &starts[i], &ends[i], steps[i])?;
    }
    if part.axes.is_empty() {
        return Ok(vec![x.into()]);
    }
    let Part { axes, starts, ends, steps } = part;
    call.done(Op::Slice { axes, starts, ends, steps }, [x])
}

/// The axes that a slice cuts, bounds clamped.
#[derive(Default)]
struct Part {
    axes: Vec<i64>,
    starts: Vec<i64>,
    ends: Vec<i64>,
    steps: Vec<i64>,
}

impl Part {
    fn take(&mut self, axis: usize, size: &Dim, start: &Dim, end: &Dim, step: i64) -> Result<()> {
        let Some(n) = size.constant() else {
            let to_the_end = end == size || end.constant().is_some_and(|e| e >= i64::from(i32::MAX));
            if step == 1 && *start == Dim::Const(0) && to_the_end {
                return Ok(());
            }
            return Err(format!(
                "axis {axis} has the symbolic size {size}, of which only the whole can be taken"
            ));
        };
        let known = |bound: &Dim| {
            bound
                .constant()
                .ok_or_else(|| format!("its bound {bound} on axis {axis} of size {n} is symbolic"))
        };
        let from_start = |bound: i64| if bound < 0 { bound.saturating_add(n) } else { bound };
        // A negative step may begin at the last element and end before the first.
        let (low, high) = if step < 0 { (-1, n - 1) } else { (0, n) };
        let start = from_start(known(start)?).clamp(if step < 0 { 0.min(high) } else { low }, high);
        let end = from_start(known(end)?).clamp(low, high);
        self.axes.push(axis as i64);
        self.starts.push(start);
        self.ends.push(end);
        // A step beyond the axis takes one element, as does the size of the axis.
        self.steps.push(step.clamp(-n.max(1), n.max(1)));
        Ok(())
    }
}

/// `Split`: parts of given sizes, or as many equal ones as there are outputs (the last may be smaller).
pub(super) fn split(call: &mut Call<'_>) -> Outputs {
    let x = call.x(0)?;
    let dims = call.dims(x);
    let axis = call.axis(call.attributes.int("axis")?.unwrap_or(0), dims.len())?;
    let outputs = call.node.output.len();
    if let Some(count) = call.attributes.int("num_outputs")?
        && usize::try_from(count) != Ok(outputs)
    {
        return Err(format!("it has {outputs} outputs and says {count}"));
    }
    let size = dims[axis].constant();
    let size = size
        .ok_or_else(|| format!("axis {axis} has the symbolic size {}, which cannot be split", dims[axis]))?;
    let sizes = match call.attribute_or_input("split", 1)? {
        Some(sizes) => sizes,
        None => {
            let count = i64::try_from(outputs.max(1)).map_err(|e| e.to_string())?;
            let part = size / count + i64::from(size % count != 0);
            (0..count).map(|i| (size - i * part).clamp(0, part)).collect()
        }
    };
    let total = sizes.iter().try_fold(0i64, |sum, n| if *n < 0 { None } else { sum.checked_add(*n) });
    if total != Some(size) || sizes.len() != outputs {
        return Err(format!(
            "parts of {sizes:?} are not {outputs} outputs that fill axis {axis} of size {size}"
        ));
    }
    let mut start = 0;
    let mut parts = Vec::with_capacity(outputs);
    for n in sizes {
        let bounds = (vec![axis as i64], vec![start], vec![start + n], vec![1]);
        let (axes, starts, ends, steps) = bounds;
        parts.push(call.emit(Op::Slice { axes, starts, ends, steps }, [x])?.into());
        start += n;
    }
    Ok(parts)
}
