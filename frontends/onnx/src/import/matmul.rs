//! Matrix products. One with a weight on the right is a `linear`, the anchor that quantization looks for.

use qcc_ir::{Dim, Op, ValueId};

use crate::call::{Call, Outputs, Result};

/// `MatMul`, NumPy's: a vector on the left is a row, one on the right a column.
pub(super) fn matmul(call: &mut Call<'_>) -> Outputs {
    let (mut a, mut b) = (call.x(0)?, call.x(1)?);
    let (rank_a, rank_b) = (call.rank(a), call.rank(b));
    if rank_a == 0 || rank_b == 0 {
        return Err("its operands must have rank 1 or more".into());
    }
    if rank_b == 2 && call.is_weight(b) {
        let weight = call.transpose(b, vec![1, 0])?;
        return call.done(Op::Linear {}, [a, weight]);
    }
    if rank_a == 1 {
        let row = [&[Dim::Const(1)], call.dims(a).as_slice()].concat();
        a = call.reshape(a, row)?;
    }
    if rank_b == 1 {
        let column = [call.dims(b).as_slice(), &[Dim::Const(1)]].concat();
        b = call.reshape(b, column)?;
    }
    let y = call.emit(Op::Matmul {}, [a, b])?;
    let mut shape = call.dims(y);
    if rank_b == 1 {
        shape.pop();
    }
    if rank_a == 1 {
        shape.remove(shape.len() - 1 - usize::from(rank_b != 1));
    }
    Ok(vec![call.reshape(y, shape)?.into()])
}

/// `Gemm`: `alpha · A · B + beta · C`, with A or B transposed on request.
pub(super) fn gemm(call: &mut Call<'_>) -> Outputs {
    let (mut a, mut b, c) = (call.x(0)?, call.x(1)?, call.maybe(2)?);
    let alpha = call.attributes.float("alpha")?.unwrap_or(1.0);
    let beta = call.attributes.float("beta")?.unwrap_or(1.0);
    let (transposed_a, transposed_b) =
        (call.attributes.flag("transA", false)?, call.attributes.flag("transB", false)?);
    if call.rank(a) != 2 || call.rank(b) != 2 {
        return Err(format!("its operands {} and {} must be matrices", call.ty(a), call.ty(b)));
    }
    if transposed_a {
        a = call.transpose(a, vec![1, 0])?;
    }
    if !call.is_weight(b) {
        if transposed_b {
            b = call.transpose(b, vec![1, 0])?;
        }
        let product = call.emit(Op::Matmul {}, [a, b])?;
        return finish(call, product, alpha, beta, c);
    }
    if !transposed_b {
        b = call.transpose(b, vec![1, 0])?;
    }
    let bias = c.filter(|c| alpha == 1.0 && beta == 1.0 && call.dims(*c) == call.dims(b)[..1]);
    let product = call.emit_with(Op::Linear {}, &[Some(a), Some(b), bias])?;
    finish(call, product, alpha, beta, c.filter(|_| bias.is_none()))
}

fn finish(call: &mut Call<'_>, product: ValueId, alpha: f64, beta: f64, c: Option<ValueId>) -> Outputs {
    let mut y = scaled(call, product, alpha)?;
    if let Some(c) = c {
        let c = scaled(call, c, beta)?;
        y = call.emit(Op::Add {}, [y, c])?;
        if call.dims(y) != call.dims(product) {
            return Err(format!("its summand {} does not broadcast to the product", call.ty(c)));
        }
    }
    Ok(vec![y.into()])
}

fn scaled(call: &mut Call<'_>, x: ValueId, by: f64) -> Result<ValueId> {
    if by == 1.0 {
        return Ok(x);
    }
    let by = call.number(by, call.element(x))?;
    call.emit(Op::Mul {}, [x, by])
}
