//! Contractions and recurrences: linear, matmul, Hadamard transform, causal convolution, selective scan.

use smallvec::smallvec;

use super::{Result, Types, broadcast_dims, expect_dims, float, one, plain, tensor};
use crate::dim::Dim;
use crate::hadamard::Order;
use crate::types::TensorType;

/// Sizes of `x · weightᵀ`.
pub(super) fn linear_dims(
    x: &TensorType,
    weight: &TensorType,
    bias: Option<&TensorType>,
) -> Result<Vec<Dim>> {
    let [out, inner] = weight.dims.as_slice() else {
        return Err(format!("weight {weight} must have rank 2"));
    };
    let (last, lead) = x.dims.split_last().ok_or("`x` must have rank 1 or more")?;
    if last != inner {
        return Err(format!(
            "`x` {:?} has {last} features, the weight {:?} takes {inner}",
            x.dims, weight.dims
        ));
    }
    if let Some(bias) = bias {
        expect_dims("bias", bias, std::slice::from_ref(out))?;
    }
    Ok(lead.iter().chain([out]).cloned().collect())
}

pub(super) fn linear(x: &TensorType, weight: &TensorType, bias: Option<&TensorType>) -> Result<Types> {
    for operand in [Some(x), Some(weight), bias].into_iter().flatten() {
        plain(operand)?;
    }
    one(tensor(linear_dims(x, weight, bias)?, x.element))
}

pub(super) fn matmul(a: &TensorType, b: &TensorType) -> Result<Types> {
    plain(a)?;
    plain(b)?;
    if a.rank() < 2 || b.rank() < 2 {
        return Err(format!("operands {a} and {b} must have rank 2 or more"));
    }
    let (batch_a, mk) = a.dims.split_at(a.rank() - 2);
    let (batch_b, kn) = b.dims.split_at(b.rank() - 2);
    if mk[1] != kn[0] {
        return Err(format!("inner sizes {} and {} differ", mk[1], kn[0]));
    }
    let mut dims = broadcast_dims(batch_a, batch_b)
        .ok_or_else(|| format!("batch sizes {batch_a:?} and {batch_b:?} do not broadcast"))?;
    dims.extend([mk[0].clone(), kn[1].clone()]);
    one(tensor(dims, a.element))
}

pub(super) fn hadamard(x: &TensorType, size: i64) -> Result<Types> {
    float(x)?;
    let last = x.dims.last().ok_or("`x` must have rank 1 or more")?;
    let Some(width) = last.constant() else {
        return Err(format!("the last axis of {x} must have a constant size, not {last}"));
    };
    let known = Order::of(size).is_some();
    if known && width % size == 0 && size <= width.max(1) {
        return one(x.clone());
    }
    let largest = Order::largest_dividing(width).size();
    Err(match known {
        true => format!("size {size} does not divide the last axis, {width}; {largest} does"),
        false => format!(
            "no Hadamard matrix of order {size} is known here; the largest that divides the last axis, {width}, has order {largest}"
        ),
    })
}

pub(super) fn causal_conv(
    x: &TensorType,
    weight: &TensorType,
    state: &TensorType,
    bias: Option<&TensorType>,
) -> Result<Types> {
    let [batch, _, channels] = x.dims.as_slice() else {
        return Err(format!("`x` {x} must be [batch, time, channels]"));
    };
    let [d, k] = weight.dims.as_slice() else {
        return Err(format!("weight {weight} must be [channels, kernel]"));
    };
    if d != channels {
        return Err(format!("weight has {d} channels, `x` has {channels}"));
    }
    let history = match k.constant() {
        Some(k) if k >= 1 => Dim::Const(k - 1),
        _ => return Err(format!("kernel size {k} must be a positive constant")),
    };
    expect_dims("state", state, &[batch.clone(), channels.clone(), history])?;
    if let Some(bias) = bias {
        expect_dims("bias", bias, std::slice::from_ref(channels))?;
    }
    Ok(smallvec![x.clone(), state.clone()])
}

pub(super) fn selective_scan([u, delta, a, b, c, d, state]: [&TensorType; 7]) -> Result<Types> {
    let recurrence = Recurrence::of([u, delta, a, b, state])?;
    expect_dims("c", c, &recurrence.projection())?;
    expect_dims("d", d, std::slice::from_ref(recurrence.channels))?;
    Ok(smallvec![u.clone(), state.clone()])
}

pub(super) fn selective_scan_states(operands: [&TensorType; 5]) -> Result<Types> {
    let [u, _, _, _, state] = operands;
    let Recurrence { batch, time, channels, n } = Recurrence::of(operands)?;
    let dims = [batch, time, channels, n].map(Clone::clone).to_vec();
    Ok(smallvec![tensor(dims, u.element), state.clone()])
}

/// Sizes of a selective scan.
struct Recurrence<'a> {
    batch: &'a Dim,
    time: &'a Dim,
    channels: &'a Dim,
    n: &'a Dim,
}

impl<'a> Recurrence<'a> {
    /// The sizes of `h ← exp(delta · a) ⊙ h + (delta · u) · b`, on which all operands must agree.
    fn of([u, delta, a, b, state]: [&'a TensorType; 5]) -> Result<Recurrence<'a>> {
        let [batch, time, channels] = u.dims.as_slice() else {
            return Err(format!("`u` {u} must be [batch, time, channels]"));
        };
        let [_, n] = a.dims.as_slice() else {
            return Err(format!("`a` {a} must be [channels, state]"));
        };
        let sizes = Recurrence { batch, time, channels, n };
        expect_dims("delta", delta, &u.dims)?;
        expect_dims("a", a, &[channels.clone(), n.clone()])?;
        expect_dims("b", b, &sizes.projection())?;
        expect_dims("state", state, &[batch.clone(), channels.clone(), n.clone()])?;
        Ok(sizes)
    }

    /// Sizes of `b` and `c`.
    fn projection(&self) -> [Dim; 3] {
        [self.batch, self.time, self.n].map(Clone::clone)
    }
}
