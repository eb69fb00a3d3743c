//! Matrix products. One kernel, [`product`], serves linear layers, matmul and (through patches) convolutions, in floats and in integers.

use std::ops::{AddAssign, Mul};

use qcc_params::Tensor;

use crate::evaluate::{Call, Result};
use crate::walk::broadcast_strides;
use crate::walk::offsets;

/// `y[i][j] = Σ_k a[i][k] · b[j][k]` for row-major `a` `[m, k]` and `b` `[n, k]`; each sum runs over ascending k from zero. Four rows of `b`
/// go together: the order within a sum stays, four independent sums hide the latency of addition.
pub(crate) fn product<T>(a: &[T], b: &[T], k: usize, y: &mut [T])
where
    T: Copy + Default + AddAssign + Mul<Output = T>,
{
    if k == 0 {
        return y.fill(T::default());
    }
    let n = b.len() / k;
    if n == 0 {
        return;
    }
    for (row, out) in a.chunks_exact(k).zip(y.chunks_exact_mut(n)) {
        let mut outs = out.chunks_exact_mut(4);
        let mut blocks = b.chunks_exact(4 * k);
        for (out, block) in outs.by_ref().zip(blocks.by_ref()) {
            let (b0, rest) = block.split_at(k);
            let (b1, rest) = rest.split_at(k);
            let (b2, b3) = rest.split_at(k);
            let mut sums = [T::default(); 4];
            for ((((&x, &p), &q), &r), &s) in row.iter().zip(b0).zip(b1).zip(b2).zip(b3) {
                sums[0] += x * p;
                sums[1] += x * q;
                sums[2] += x * r;
                sums[3] += x * s;
            }
            out.copy_from_slice(&sums);
        }
        for (out, column) in outs.into_remainder().iter_mut().zip(blocks.remainder().chunks_exact(k)) {
            let mut sum = T::default();
            for (&x, &p) in row.iter().zip(column) {
                sum += x * p;
            }
            *out = sum;
        }
    }
}

/// `x · weightᵀ + bias`.
pub(crate) fn linear(call: &Call<'_>) -> Result<Tensor> {
    let (x, weight) = (call.reals(0)?, call.reals(1)?);
    let (out, inner) = (call.at(1)?.dims[0], call.at(1)?.dims[1]);
    let mut y = vec![0.0; call.count(0)];
    product(&x, &weight, inner, &mut y);
    if let Some(bias) = call.optional_reals(2) {
        for row in y.chunks_exact_mut(out.max(1)) {
            row.iter_mut().zip(bias.iter()).for_each(|(y, b)| *y += b);
        }
    }
    call.real(0, y)
}

/// NumPy `matmul` of operands with rank 2 or more.
pub(crate) fn matmul(call: &Call<'_>) -> Result<Tensor> {
    let (a_dims, b_dims) = (&call.at(0)?.dims, &call.at(1)?.dims);
    let (a, b) = (call.reals(0)?, call.reals(1)?);
    let (batch_a, mk) = a_dims.split_at(a_dims.len() - 2);
    let (batch_b, kn) = b_dims.split_at(b_dims.len() - 2);
    let (m, k, n) = (mk[0], mk[1], kn[1]);
    let dims = call.dims(0);
    let batch = &dims[..dims.len() - 2];
    let blocks = |from: &[usize]| {
        let mut at = Vec::new();
        offsets(batch, &broadcast_strides(from, batch), 0, &mut |i| at.push(i));
        at
    };
    let mut y = vec![0.0; call.count(0)];
    let mut transposed = vec![0.0; k * n];
    if m * n > 0 {
        for ((i, j), y) in blocks(batch_a).into_iter().zip(blocks(batch_b)).zip(y.chunks_exact_mut(m * n)) {
            let (a, b) = (&a[i * m * k..(i + 1) * m * k], &b[j * k * n..(j + 1) * k * n]);
            for (row, values) in b.chunks_exact(n).enumerate() {
                transposed[row..].iter_mut().step_by(k).zip(values).for_each(|(t, v)| *t = *v);
            }
            product(a, &transposed, k, y);
        }
    }
    call.real(0, y)
}
