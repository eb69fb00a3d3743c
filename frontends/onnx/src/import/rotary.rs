//! `RotaryEmbedding` of opset 23: angles are given by tables of their cosines and sines.

use qcc_ir::{Dim, Op, ValueId};

use crate::call::{Call, Outputs, Result};

/// `RotaryEmbedding` of `[batch, heads, tokens, features]`, or `[batch, tokens, heads · features]` with the number of heads as attribute.
pub(super) fn rotary_embedding(call: &mut Call<'_>) -> Outputs {
    let (x, cos, sin) = (call.x(0)?, call.x(1)?, call.x(2)?);
    let given = call.dims(x);
    let heads = call.attributes.int("num_heads")?.filter(|heads| *heads > 0);
    // [batch, tokens, heads, features]
    let x = match (given.len(), heads) {
        (4, _) => call.transpose(x, vec![0, 2, 1, 3])?,
        (3, Some(heads)) => {
            let features = given[2].checked_div(&Dim::Const(heads));
            let features = features.ok_or_else(|| format!("{heads} heads do not divide {}", given[2]))?;
            call.reshape(x, vec![given[0].clone(), given[1].clone(), Dim::Const(heads), features])?
        }
        _ => return Err("its operand has rank 4, or rank 3 and `num_heads`".into()),
    };
    let dims = call.dims(x);
    let features = dims[3].constant().ok_or("a head has no constant size")?;
    let turned = match call.attributes.int("rotary_embedding_dim")?.unwrap_or(0) {
        0 => features,
        turned => turned,
    };
    if turned % 2 != 0 || turned < 0 || turned > features {
        return Err(format!("it turns {turned} of {features} features"));
    }
    let angles = [angles(call, cos)?, angles(call, sin)?];
    let interleaved = call.attributes.flag("interleaved", false)?;
    let [a, b] = pairs(call, x, turned, interleaved)?;
    let [first, second] = turn(call, [a, b], angles)?;
    // Pairs side by side, or one half after the other.
    let mut parts = [first, second];
    if interleaved {
        let mut shape = call.dims(first);
        shape.push(Dim::Const(1));
        for part in &mut parts {
            *part = call.reshape(*part, shape.clone())?;
        }
    }
    let y = call.emit(Op::Concat { axis: if interleaved { 4 } else { 3 } }, parts)?;
    let mut shape = dims.clone();
    shape[3] = Dim::Const(turned);
    let mut y = call.reshape(y, shape)?;
    if turned < features {
        let rest = part(call, x, turned, features, 1)?;
        y = call.emit(Op::Concat { axis: 3 }, [y, rest])?;
    }
    let y = if given.len() == 4 { call.transpose(y, vec![0, 2, 1, 3])? } else { call.reshape(y, given)? };
    Ok(vec![y.into()])
}

/// Cosines or sines of the tokens, `[batch or 1, tokens, 1, pairs]`.
fn angles(call: &mut Call<'_>, table: ValueId) -> Result<ValueId> {
    let rows = match call.maybe(3)? {
        Some(positions) => call.emit(Op::Gather { axis: 0 }, [table, positions])?,
        None => table,
    };
    let mut shape = call.dims(rows);
    if shape.len() != 3 {
        return Err(format!("its tables give angles of sizes {shape:?}, not [batch, tokens, pairs]"));
    }
    shape.insert(2, Dim::Const(1));
    call.reshape(rows, shape)
}

/// The first and the second of each pair of features.
fn pairs(call: &mut Call<'_>, x: ValueId, turned: i64, interleaved: bool) -> Result<[ValueId; 2]> {
    Ok(match interleaved {
        true => [part(call, x, 0, turned, 2)?, part(call, x, 1, turned, 2)?],
        false => [part(call, x, 0, turned / 2, 1)?, part(call, x, turned / 2, turned, 1)?],
    })
}

fn part(call: &mut Call<'_>, x: ValueId, start: i64, end: i64, step: i64) -> Result<ValueId> {
    let op = Op::Slice { axes: vec![3], starts: vec![start], ends: vec![end], steps: vec![step] };
    call.emit(op, [x])
}

/// Turns pairs by angles.
fn turn(call: &mut Call<'_>, [a, b]: [ValueId; 2], [cos, sin]: [ValueId; 2]) -> Result<[ValueId; 2]> {
    let [ac, bs] = [call.emit(Op::Mul {}, [a, cos])?, call.emit(Op::Mul {}, [b, sin])?];
    let [bc, as_] = [call.emit(Op::Mul {}, [b, cos])?, call.emit(Op::Mul {}, [a, sin])?];
    Ok([call.emit(Op::Sub {}, [ac, bs])?, call.emit(Op::Add {}, [bc, as_])?])
}
