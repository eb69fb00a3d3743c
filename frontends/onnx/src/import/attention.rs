//! `Attention` of opset 23, without a cache.

use qcc_ir::format::CacheFormat;
use qcc_ir::{Dim, Float, Op, ValueId};
use qcc_params::Data;

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
    if call.attributes.int("qk_matmul_output_mode")?.is_some_and(|mode| mode != 0)
        && call.node.output.len() > 3
    {
        return Err("its output of scores is not supported".into());
    }
    call.attributes.ignore(&["softmax_precision"]);
    for (input, what) in [(4, "past keys"), (5, "past values")] {
        if call.maybe(input)?.is_some() {
            return Err(format!("its {what} are not supported; export the model without a cache"));
        }
    }
    if let Some(mask) = call.maybe(3)?
        && !lets_all_pass(call, mask)?
    {
        return Err("its mask is not supported; only one that lets every key be seen is".into());
    }
    let mut tokens = Vec::new();
    for (x, heads) in [(q, heads[0]), (k, heads[1]), (v, heads[1])] {
        tokens.push(by_token(call, x, heads.filter(|_| three))?);
    }
    let features =
        call.dims(tokens[0]).last().and_then(Dim::constant).ok_or("a head has no constant size")?;
    #[allow(clippy::cast_precision_loss, reason = "sizes are far below 2^53")]
    let scale = Float(scale.unwrap_or(1.0 / (features as f64).sqrt()));
    let (keys, values) = (CacheFormat::F32, CacheFormat::F32);
    let op = Op::Attention { scale, causal, window: 0, keys, values };
    let y = call.emit(op, [tokens[0], tokens[1], tokens[2]])?;
    if !three {
        return Ok(vec![call.transpose(y, vec![0, 2, 1, 3])?.into()]);
    }
    let dims = call.dims(y);
    let joined = call.product(&dims[2..])?;
    Ok(vec![call.reshape(y, vec![dims[0].clone(), dims[1].clone(), joined])?.into()])
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
fn lets_all_pass(call: &Call<'_>, mask: ValueId) -> Result<bool> {
    let contents = call.contents(3, "masks")?;
    Ok(contents.is_some_and(|tensor| match &tensor.data {
        Data::Bool(seen) => seen.iter().all(|seen| *seen),
        _ => call.ty(mask).element.is_float() && tensor.to_f64_vec().iter().all(|x| *x == 0.0),
    }))
}
