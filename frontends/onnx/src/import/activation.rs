//! Activation functions.

use qcc_ir::{ElementType, Float, Op, ValueId};

use super::arithmetic::cast;
use crate::call::{Call, Outputs, Result};

/// `Relu`, also of integers.
pub(super) fn relu(call: &mut Call<'_>) -> Outputs {
    let x = call.x(0)?;
    if call.element(x).is_float() {
        return call.done(Op::Relu {}, [x]);
    }
    let zero = integer(call, 0.0, call.element(x))?;
    call.done(Op::Max {}, [x, zero])
}

fn integer(call: &mut Call<'_>, value: f64, element: ElementType) -> Result<ValueId> {
    let number = call.number(value, ElementType::F32)?;
    cast(call, number, element)
}

/// `LeakyRelu`.
pub(super) fn leaky_relu(call: &mut Call<'_>) -> Outputs {
    let x = call.x(0)?;
    let alpha = Float(call.attributes.float("alpha")?.unwrap_or(0.01));
    call.done(Op::LeakyRelu { alpha }, [x])
}

/// `PRelu`: the slope broadcasts to `x`, never the other way round.
pub(super) fn prelu(call: &mut Call<'_>) -> Outputs {
    let (x, slope) = (call.x(0)?, call.x(1)?);
    let y = call.emit(Op::Prelu {}, [x, slope])?;
    if call.dims(y) != call.dims(x) {
        return Err(format!("slopes of sizes {:?} do not broadcast to {:?}", call.dims(slope), call.dims(x)));
    }
    Ok(vec![y.into()])
}

/// `Elu`: `max(x, 0) + alpha · (exp(min(x, 0)) − 1)`.
pub(super) fn elu(call: &mut Call<'_>) -> Outputs {
    let x = call.x(0)?;
    let element = call.element(x);
    let alpha = call.attributes.float("alpha")?.unwrap_or(1.0);
    let positive = call.emit(Op::Relu {}, [x])?;
    let negative = call.emit(Op::Clamp { min: Float(f64::NEG_INFINITY), max: Float(0.0) }, [x])?;
    let exponential = call.emit(Op::Exp {}, [negative])?;
    let one = call.number(1.0, element)?;
    let mut tail = call.emit(Op::Sub {}, [exponential, one])?;
    if alpha != 1.0 {
        let alpha = call.number(alpha, element)?;
        tail = call.emit(Op::Mul {}, [tail, alpha])?;
    }
    call.done(Op::Add {}, [positive, tail])
}

/// `HardSigmoid`.
pub(super) fn hard_sigmoid(call: &mut Call<'_>) -> Outputs {
    let x = call.x(0)?;
    let alpha = Float(call.attributes.float("alpha")?.unwrap_or(f64::from(0.2f32)));
    let beta = Float(call.attributes.float("beta")?.unwrap_or(0.5));
    call.done(Op::HardSigmoid { alpha, beta }, [x])
}

/// `Gelu`.
pub(super) fn gelu(call: &mut Call<'_>) -> Outputs {
    let x = call.x(0)?;
    let tanh = match call.attributes.string("approximate")?.unwrap_or("none") {
        "none" => false,
        "tanh" => true,
        other => return Err(format!("its approximation `{other}` is not known; `none` and `tanh` are")),
    };
    call.done(Op::Gelu { tanh }, [x])
}

/// `Clip`: bounds are attributes before opset 11. Bounds known at import make a `clamp`, or a `relu`.
pub(super) fn clip(call: &mut Call<'_>) -> Outputs {
    let x = call.x(0)?;
    let (mut low, mut high) = (f64::NEG_INFINITY, f64::INFINITY);
    if call.opset < 11 {
        low = call.attributes.float("min")?.unwrap_or(low);
        high = call.attributes.float("max")?.unwrap_or(high);
    } else {
        let bounds = [call.maybe(1)?, call.maybe(2)?];
        let scalars = bounds.map(|b| b.map(|b| call.scalar(b)));
        if !call.element(x).is_float() || scalars.contains(&Some(None)) {
            return clip_between(call, x, bounds);
        }
        low = scalars[0].flatten().unwrap_or(low);
        high = scalars[1].flatten().unwrap_or(high);
    }
    if low == f64::NEG_INFINITY && high == f64::INFINITY {
        return Ok(vec![x.into()]);
    }
    if low == 0.0 && high == f64::INFINITY {
        return call.done(Op::Relu {}, [x]);
    }
    call.done(Op::Clamp { min: Float(low), max: Float(high) }, [x])
}

/// `Clip` between values.
fn clip_between(call: &mut Call<'_>, x: ValueId, [low, high]: [Option<ValueId>; 2]) -> Outputs {
    let mut y = x;
    if let Some(low) = low {
        y = call.emit(Op::Max {}, [y, low])?;
    }
    if let Some(high) = high {
        y = call.emit(Op::Min {}, [y, high])?;
    }
    Ok(vec![y.into()])
}
