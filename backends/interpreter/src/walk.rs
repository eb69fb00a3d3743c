//! Walks over tensors that visit elements in row-major order of a result and say which source element each one comes from.
//!
//! Movement, broadcasting and reduction all reduce to this: a source is described by one stride an axis (0 repeats it, negative ones run
//! backwards), or by a list of source indices an axis.

use std::borrow::Cow;

/// Row-major strides.
pub(crate) fn strides(dims: &[usize]) -> Vec<isize> {
    let mut strides = vec![0isize; dims.len()];
    let mut next = 1usize;
    for (stride, &dim) in strides.iter_mut().zip(dims).rev() {
        *stride = next.cast_signed();
        next = next.saturating_mul(dim);
    }
    strides
}

/// Calls `visit` with the source offset of each element, in row-major order of `dims`.
pub(crate) fn offsets(dims: &[usize], strides: &[isize], start: isize, visit: &mut impl FnMut(usize)) {
    match (dims, strides) {
        ([], _) | (_, []) => visit(start.cast_unsigned()),
        ([n], [stride, ..]) => {
            let mut at = start;
            for _ in 0..*n {
                visit(at.cast_unsigned());
                at += stride;
            }
        }
        ([n, dims @ ..], [stride, strides @ ..]) => {
            let mut at = start;
            for _ in 0..*n {
                offsets(dims, strides, at, visit);
                at += stride;
            }
        }
    }
}

/// As [`offsets`], with the source index along each axis given by a list; `None` in a list (outside the source) makes the offset `None`.
pub(crate) fn listed(
    lists: &[Vec<Option<usize>>],
    strides: &[isize],
    start: Option<usize>,
    visit: &mut impl FnMut(Option<usize>),
) {
    let (Some((list, lists)), Some((stride, strides))) = (lists.split_first(), strides.split_first()) else {
        return visit(start);
    };
    for index in list {
        let at = start.zip(*index).map(|(s, i)| s + i * stride.unsigned_abs());
        listed(lists, strides, at, visit);
    }
}

/// Strides that broadcast a tensor of sizes `from` to the (at least as many) sizes `to`.
pub(crate) fn broadcast_strides(from: &[usize], to: &[usize]) -> Vec<isize> {
    let mut result = vec![0; to.len() - from.len()];
    result.extend(from.iter().zip(strides(from)).map(|(&n, stride)| if n == 1 { 0 } else { stride }));
    result
}

/// The elements of a tensor of sizes `from`, broadcast to `to`.
pub(crate) fn expand<'a, T: Copy>(values: &'a [T], from: &[usize], to: &[usize]) -> Cow<'a, [T]> {
    if from == to {
        return Cow::Borrowed(values);
    }
    let mut result = Vec::with_capacity(to.iter().product());
    offsets(to, &broadcast_strides(from, to), 0, &mut |i| result.push(values[i]));
    Cow::Owned(result)
}

/// Sizes split at an axis: product before it, its own size, product after it.
pub(crate) fn around(dims: &[usize], axis: usize) -> (usize, usize, usize) {
    (dims[..axis].iter().product(), dims[axis], dims[axis + 1..].iter().product())
}
