//! Normalisations, as they are at inference.

use qcc_ir::{Dim, Float, Op};

use crate::call::{Call, Outputs};

/// `BatchNormalization` with stored statistics.
pub(super) fn batch(call: &mut Call<'_>) -> Outputs {
    let epsilon = Float(call.attributes.float("epsilon")?.unwrap_or(f64::from(1e-5f32)));
    call.attributes.ignore(&["momentum"]);
    call.attributes.only("spatial", 1)?;
    if call.attributes.flag("training_mode", false)? {
        return Err("it is in training mode; export the model for inference".into());
    }
    let operands = [call.x(0)?, call.x(1)?, call.x(2)?, call.x(3)?, call.x(4)?];
    call.done(Op::BatchNorm { epsilon }, operands)
}

/// `InstanceNormalization`: over the spatial axes of each image and channel, then scale and bias per channel.
pub(super) fn instance(call: &mut Call<'_>) -> Outputs {
    let epsilon = Float(call.attributes.float("epsilon")?.unwrap_or(f64::from(1e-5f32)));
    let (x, scale, bias) = (call.x(0)?, call.x(1)?, call.x(2)?);
    let dims = call.dims(x);
    let Some(channels) = dims.get(1).cloned().filter(|_| dims.len() > 2) else {
        return Err(format!("an input of sizes {dims:?} has no spatial axes"));
    };
    let normal = call.emit_with(Op::LayerNorm { axis: 2, epsilon }, &[Some(x), None, None])?;
    let mut column = vec![channels];
    column.resize(dims.len() - 1, Dim::Const(1));
    let scale = call.reshape(scale, column.clone())?;
    let bias = call.reshape(bias, column)?;
    let scaled = call.emit(Op::Mul {}, [normal, scale])?;
    call.done(Op::Add {}, [scaled, bias])
}

/// `LayerNormalization`, and the mean and the inverse deviation where the node names them.
pub(super) fn layer(call: &mut Call<'_>) -> Outputs {
    let x = call.x(0)?;
    let dims = call.dims(x);
    let axis = call.axis(call.attributes.int("axis")?.unwrap_or(-1), dims.len())?;
    let epsilon = Float(call.attributes.float("epsilon")?.unwrap_or(f64::from(1e-5f32)));
    call.attributes.only("stash_type", 1)?;
    let mut operands = vec![Some(x)];
    for input in [1, 2] {
        operands.push(match call.maybe(input)? {
            Some(weight) => Some(call.broadcast(weight, dims[axis..].to_vec())?),
            None => None,
        });
    }
    let mut outputs = vec![call.emit_with(Op::LayerNorm { axis: axis as i64, epsilon }, &operands)?.into()];
    if call.node.output.len() > 1 {
        let axes: Vec<i64> = (axis as i64..dims.len() as i64).collect();
        let mean = call.emit(Op::ReduceMean { axes: axes.clone(), keep_dims: true }, [x])?;
        let centred = call.emit(Op::Sub {}, [x, mean])?;
        let square = call.emit(Op::Mul {}, [centred, centred])?;
        let variance = call.emit(Op::ReduceMean { axes, keep_dims: true }, [square])?;
        let epsilon = call.number(epsilon.0, call.element(x))?;
        let shifted = call.emit(Op::Add {}, [variance, epsilon])?;
        let deviation = call.emit(Op::Sqrt {}, [shifted])?;
        outputs.extend([mean.into(), call.emit(Op::Reciprocal {}, [deviation])?.into()]);
    }
    Ok(outputs)
}
