//! Reductions over axes that are not neighbours: one run of neighbouring axes after the other.

use qcc_ir::{ElementType, Op};

use super::site::{Rewritten, Site, one};

/// Rewrites reductions over no axis, and over axes with others between them.
pub(super) fn reduce(site: &mut Site<'_>) -> Rewritten {
    let x = site.operand(0);
    let (Op::ReduceMean { axes, .. } | Op::ReduceSum { axes, .. } | Op::ReduceMax { axes, .. }) =
        &site.node.op
    else {
        return Ok(None);
    };
    if axes.is_empty() {
        return one(x);
    }
    let runs = runs(axes);
    if runs.len() == 1 {
        return Ok(None);
    }
    // The truncated mean of truncated means is another number.
    let integer_mean = matches!(site.node.op, Op::ReduceMean { .. }) && site.ty(x).element.is_integer();
    if integer_mean || site.ty(x).element == ElementType::Bool {
        return Ok(None);
    }
    let mut y = x;
    // From the innermost run outwards: the first reduction leaves the least to the others.
    for run in runs.into_iter().rev() {
        let op = over(&site.node.op, run);
        y = site.add(op, &[y])?;
    }
    let dims = site.result_ty().dims.clone();
    one(site.reshape(y, dims)?)
}

/// The reduction over other axes, which keep their places.
fn over(op: &Op, run: Vec<i64>) -> Op {
    let mut op = op.clone();
    if let Op::ReduceMean { axes, keep_dims }
    | Op::ReduceSum { axes, keep_dims }
    | Op::ReduceMax { axes, keep_dims } = &mut op
    {
        (*axes, *keep_dims) = (run, true);
    }
    op
}

/// Sorted axes in runs of neighbours.
fn runs(axes: &[i64]) -> Vec<Vec<i64>> {
    let mut sorted = axes.to_vec();
    sorted.sort_unstable();
    let mut runs: Vec<Vec<i64>> = Vec::new();
    for axis in sorted {
        match runs.last_mut() {
            Some(run) if run.last() == Some(&(axis - 1)) => run.push(axis),
            _ => runs.push(vec![axis]),
        }
    }
    runs
}
