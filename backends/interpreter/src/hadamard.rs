//! The Hadamard transform, in f64: butterflies within runs of `2^log2` elements, then the base matrix across the runs, then `1/√size`.

use qcc_ir::hadamard::Order;
use qcc_params::Tensor;

use crate::evaluate::{Call, Result};

/// `hadamard` of every `size` consecutive elements.
#[allow(clippy::cast_precision_loss, reason = "orders are below 2^53")]
pub(crate) fn hadamard(call: &Call<'_>, size: i64, transpose: bool) -> Result<Tensor> {
    let order = Order::of(size).ok_or_else(|| format!("no Hadamard matrix of order {size} is known"))?;
    let mut y = call.reals(0)?.into_owned();
    let matrix = order.base_matrix();
    let (base, run) = (order.base(), 1usize << order.log2());
    let factor = 1.0 / (size as f64).sqrt();
    let mut mixed = vec![0.0; base * run];
    for block in y.chunks_exact_mut(base * run) {
        block.chunks_exact_mut(run).for_each(butterflies);
        for (to, out) in mixed.chunks_exact_mut(run).enumerate() {
            out.fill(0.0);
            for (from, run) in block.chunks_exact(run).enumerate() {
                let (row, column) = if transpose { (to, from) } else { (from, to) };
                let sign = f64::from(matrix[row * base + column]);
                out.iter_mut().zip(run).for_each(|(y, x)| *y += sign * x);
            }
        }
        block.iter_mut().zip(&mixed).for_each(|(y, x)| *y = x * factor);
    }
    call.real(0, y)
}

/// The product with the Sylvester matrix `[[S, S], [S, −S]]` of the run's size, a power of two.
fn butterflies(run: &mut [f64]) {
    let mut half = 1;
    while half < run.len() {
        for pair in run.chunks_exact_mut(2 * half) {
            let (low, high) = pair.split_at_mut(half);
            for (a, b) in low.iter_mut().zip(high) {
                (*a, *b) = (*a + *b, *a - *b);
            }
        }
        half *= 2;
    }
}
