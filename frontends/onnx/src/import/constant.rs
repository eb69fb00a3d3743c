//! Constants, casts, and operators that are the identity at inference.

use qcc_ir::{Dense, DenseData};

use super::arithmetic;
use crate::call::{Call, Outputs};
use crate::element::element_type;
use crate::initializer::Initializer;

/// `Constant`: an initialiser that a node holds.
pub(super) fn constant(call: &mut Call<'_>) -> Outputs {
    let length = |n: usize| i64::try_from(n).map_err(|_| "its list is too long".to_string());
    if let Some(tensor) = call.attributes.tensor("value")? {
        let initializer = Initializer::new(tensor, call.folder, call.files)?;
        return Ok(vec![call.weight(initializer)?]);
    }
    let dense = if let Some(value) = call.attributes.int("value_int")? {
        Dense::i64(&[], &[value])
    } else if let Some(values) = call.attributes.ints("value_ints")? {
        Dense::i64(&[length(values.len())?], &values)
    } else if let Some(values) = call.attributes.floats("value_floats")? {
        Dense::f32(&[length(values.len())?], &values)
    } else {
        #[allow(clippy::cast_possible_truncation, reason = "the attribute is an f32")]
        let value = call.attributes.float("value_float")?.map(|v| v as f32);
        Dense::scalar(
            value.ok_or("it holds no tensor, number or list of numbers, and nothing else can be imported")?,
        )
    };
    Ok(vec![call.constant(dense)?.into()])
}

/// `ConstantOfShape`.
pub(super) fn constant_of_shape(call: &mut Call<'_>) -> Outputs {
    let shape = call.sizes(0, "sizes")?.ok_or("input 0 is missing")?;
    let value = match call.attributes.tensor("value")? {
        None => call.constant(Dense::scalar(0.0))?,
        Some(tensor) => {
            let initializer = Initializer::new(tensor, call.folder, call.files)?;
            let element = initializer.ty.element;
            let one = initializer.tensor()?;
            let value = one.to_f64_vec().first().copied().filter(|_| one.len() == 1);
            let value = value.ok_or("its value must be one number")?;
            match one.as_i64() {
                Some(value) => call.constant(Dense::i64(&[], value))?,
                None => call.number(value, element)?,
            }
        }
    };
    Ok(vec![call.broadcast(value, shape)?.into()])
}

/// `Cast`.
pub(super) fn cast(call: &mut Call<'_>) -> Outputs {
    let x = call.x(0)?;
    let to = call
        .attributes
        .int("to")?
        .and_then(|to| i32::try_from(to).ok())
        .ok_or("it does not say `to` what")?;
    // How casts to 8-bit floats overflow.
    call.attributes.ignore(&["saturate"]);
    Ok(vec![arithmetic::cast(call, x, element_type(to)?)?.into()])
}

/// `CastLike`.
pub(super) fn cast_like(call: &mut Call<'_>) -> Outputs {
    let (x, like) = (call.x(0)?, call.x(1)?);
    call.attributes.ignore(&["saturate"]);
    Ok(vec![arithmetic::cast(call, x, call.element(like))?.into()])
}

/// `Identity`.
pub(super) fn identity(call: &mut Call<'_>) -> Outputs {
    Ok(vec![call.x(0)?.into()])
}

/// `Dropout`, which passes everything at inference; so the mask, where the node names it, is true.
pub(super) fn dropout(call: &mut Call<'_>) -> Outputs {
    call.attributes.ignore(&["ratio", "seed"]);
    if let Some(training) = call.maybe(2)?
        && call.scalar(training) != Some(0.0)
    {
        return Err("it is in training mode; export the model for inference".into());
    }
    let x = call.x(0)?;
    let mut outputs = vec![x.into()];
    if call.node.output.len() > 1 {
        let yes = call.constant(Dense { dims: Vec::new(), data: DenseData::Bool(vec![true]) })?;
        outputs.push(call.broadcast(yes, call.dims(x))?.into());
    }
    Ok(outputs)
}
