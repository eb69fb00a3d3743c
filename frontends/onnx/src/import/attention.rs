//! `Attention` of opset 23.

use qcc_ir::format::CacheFormat;
use qcc_ir::{Dim, ElementType, Float, Op, ValueId};

use crate::call::{Call, Outputs, Result};

/// `Attention`: operands `[batch, heads, tokens, features]`, or `[batch, tokens, heads · features]` with the numbers of heads as attributes.
pub(super) fn attention(call: &mut Call<'_>) -> Outputs {
    let [q, k, v] = [call.x(0)?, call.x(1)?, call.x(2)?];
    let three = call.rank(q) == 3;
    let heads = [call.attributes.int("q_num_heads")?, call.attributes.int("kv_num_heads")?];
    let scale = call.attributes.float("scale")?;
    let causal = call.attributes.flag("is_causal", false)?;
    if call.attributes.float("softcap")?.is_some_and(|cap| cap != 0.0) {
        return Err("its softcap is not supported".into());
    }
    if call.node.output.get(3).is_some_and(|name| !name.is_empty()) {
        return Err("its output of scores is not supported".into());
    }
    call.attributes.ignore(&["qk_matmul_output_mode", "softmax_precision"]);
    let mut tokens = Vec::new();
    for (x, heads) in [(q, heads[0]), (k, heads[1]), (v, heads[1])] {
        tokens.push(by_token(call, x, heads.filter(|_| three))?);
    }
    // What was read before goes before; with it, the last query sees all keys.
    let past = [call.maybe(4)?, call.maybe(5)?];
    let mut present = Vec::new();
    for (slot, past) in past.into_iter().enumerate() {
        let tokens = &mut tokens[1 + slot];
        if let Some(past) = past {
            let past = call.transpose(past, vec![0, 2, 1, 3])?;
            *tokens = call.emit(Op::Concat { axis: 1 }, [past, *tokens])?;
        }
        if call.node.output.len() > 1 {
            present.push(call.transpose(*tokens, vec![0, 2, 1, 3])?.into());
        }
    }
    let features =
        call.dims(tokens[0]).last().and_then(Dim::constant).ok_or("a head has no constant size")?;
    #[allow(clippy::cast_precision_loss, reason = "sizes are far below 2^53")]
    let scale = Float(scale.unwrap_or(1.0 / (features as f64).sqrt()));
    let (keys, values) = (CacheFormat::F32, CacheFormat::F32);
    let (queries, seen) = (call.dims(tokens[0])[1].clone(), call.dims(tokens[1])[1].clone());
    let mut bias = match call.maybe(3)? {
        Some(mask) if !lets_all_pass(call, mask) => Some(additive(call, mask, &seen, call.element(q))?),
        _ => None,
    };
    // The first query sees the first key, however many there are; the operation lets the last one see all.
    let first_sees_first = causal && queries != seen && past == [None, None];
    if first_sees_first {
        let (query, key) = (call.iota_along(&queries, 2, 4)?, call.iota_along(&seen, 3, 4)?);
        let earlier = call.emit(Op::LessOrEqual {}, [key, query])?;
        let triangle = hiding(call, earlier, call.element(q))?;
        bias = Some(match bias {
            Some(bias) => call.emit(Op::Add {}, [bias, triangle])?,
            None => triangle,
        });
    }
    let op = Op::Attention { scale, causal: causal && !first_sees_first, window: 0, keys, values };
    let y = call.emit_with(op, &[Some(tokens[0]), Some(tokens[1]), Some(tokens[2]), bias])?;
    let y = if three {
        let dims = call.dims(y);
        let joined = call.product(&dims[2..])?;
        call.reshape(y, vec![dims[0].clone(), dims[1].clone(), joined])?
    } else {
        call.transpose(y, vec![0, 2, 1, 3])?
    };
    let mut outputs = vec![y.into()];
    outputs.append(&mut present);
    Ok(outputs)
}

/// `[batch, tokens, heads, features]`.
fn by_token(call: &mut Call<'_>, x: ValueId, heads: Option<i64>) -> Result<ValueId> {
    match (call.rank(x), heads) {
        (4, None) => call.transpose(x, vec![0, 2, 1, 3]),
        (3, Some(heads)) => {
            let dims = call.dims(x);
            let features = dims[2].checked_div(&Dim::Const(heads)).filter(|_| heads > 0);
            let features = features.ok_or_else(|| format!("{heads} heads do not divide {}", dims[2]))?;
            call.reshape(x, vec![dims[0].clone(), dims[1].clone(), Dim::Const(heads), features])
        }
        _ => Err("its operands have rank 4, or rank 3 and `q_num_heads` and `kv_num_heads`".into()),
    }
}

/// Whether a mask is known at import and hides nothing.
fn lets_all_pass(call: &Call<'_>, mask: ValueId) -> bool {
    call.uniform(mask) == Some(if call.element(mask) == ElementType::Bool { 1.0 } else { 0.0 })
}

/// A mask as numbers to be added to scores `[batch, heads, queries, keys]`.
fn additive(call: &mut Call<'_>, mask: ValueId, keys: &Dim, element: ElementType) -> Result<ValueId> {
    let mut shape = call.dims(mask);
    if shape.len() > 4 {
        return Err(format!("its mask has the sizes {shape:?}, more than four"));
    }
    shape.splice(0..0, std::iter::repeat_n(Dim::Const(1), 4 - shape.len()));
    let mask = call.reshape(mask, shape.clone())?;
    let mask = if call.element(mask) == ElementType::Bool { hiding(call, mask, element)? } else { mask };
    shape[3] = keys.clone();
    call.broadcast(mask, shape)
}

/// −∞ where a mask is false.
fn hiding(call: &mut Call<'_>, mask: ValueId, element: ElementType) -> Result<ValueId> {
    let nothing = call.number(0.0, element)?;
    let hidden = call.number(f64::NEG_INFINITY, element)?;
    call.emit(Op::Select {}, [mask, nothing, hidden])
}
