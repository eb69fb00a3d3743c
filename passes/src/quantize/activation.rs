//! Activations in a format: `dequantize(quantize(x))`, once for each activation, however many layers read it.

use std::collections::HashMap;

use qcc_ir::format::{Format, Sharing};
use qcc_ir::{
    Dense, DenseData, ElementType, Function, Granularity, InferError, Op, QuantType, ScaleType, ValueId,
    ops::{Rounding, Special},
};

use super::{Refused, codes, range};
use crate::calibrate::{Range, Statistics};

/// The quantized activations of a function so far.
pub(super) struct Activations<'a> {
    statistics: &'a Statistics,
    /// The range of what was not measured.
    assumed: Option<Range>,
    done: HashMap<ValueId, ValueId>,
}

impl<'a> Activations<'a> {
    pub(super) fn new(statistics: &'a Statistics, assumed: Option<Range>) -> Activations<'a> {
        Activations { statistics, assumed, done: HashMap::new() }
    }

    /// `x` through the format; the outer error says why the format does not fit.
    pub(super) fn quantized(
        &mut self,
        function: &mut Function,
        x: ValueId,
        format: &Format,
        conv: bool,
    ) -> Result<Result<ValueId, InferError>, Refused> {
        if let Some(done) = self.done.get(&x) {
            return Ok(Ok(*done));
        }
        let added = if format.dynamic() {
            let q = dynamic_type(format, conv)?;
            dynamic(function, x, q, format.narrow())
        } else {
            let q = static_type(format)?;
            let range = self
                .statistics
                .range(x)
                .or(self.assumed)
                .ok_or("the range of its input was not measured; run `calibrate` first")?;
            fixed(function, x, q, format.narrow(), range::parameters(range, &q, format.narrow()))
        };
        if let Ok(y) = &added {
            self.done.insert(x, *y);
        }
        Ok(added)
    }
}

fn dynamic_type(format: &Format, conv: bool) -> Result<QuantType, Refused> {
    let granularity = match format.sharing() {
        Sharing::Token if conv => {
            return Err("a convolution has no tokens; give it a static format per tensor".into());
        }
        Sharing::Token => Granularity::Token,
        Sharing::Tensor => Granularity::Tensor,
        _ => return Err("dynamic activations are quantized per token or per tensor".into()),
    };
    if format.asymmetric() {
        return Err("dynamic asymmetric activations are not supported yet".into());
    }
    Ok(QuantType { storage: codes(format)?, granularity, scale: format.scale(), zero_point: false })
}

fn static_type(format: &Format) -> Result<QuantType, Refused> {
    if format.sharing() != Sharing::Tensor {
        return Err("static activations are quantized per tensor".into());
    }
    if format.scale() != ScaleType::F32 {
        return Err("scales of static activations are f32".into());
    }
    Ok(QuantType {
        storage: codes(format)?,
        granularity: Granularity::Tensor,
        scale: format.scale(),
        zero_point: format.asymmetric(),
    })
}

fn dynamic(function: &mut Function, x: ValueId, q: QuantType, narrow: bool) -> Result<ValueId, InferError> {
    let location = function.value(x).name.clone();
    let op = Op::DynamicQuantize {
        to: ElementType::Quant(q),
        narrow,
        rounding: Rounding::HalfEven,
        special: Special::Saturate,
    };
    let codes = function.add(op, [x], &location)?;
    function.add_one(Op::Dequantize {}, codes, &location)
}

fn fixed(
    function: &mut Function,
    x: ValueId,
    q: QuantType,
    narrow: bool,
    parameters: range::QuantParameters,
) -> Result<ValueId, InferError> {
    let location = function.value(x).name.clone();
    let scale = function.add_constant(Dense::scalar(parameters.scale), &location);
    let zero_point = q.zero_point.then(|| {
        let value = Dense { dims: Vec::new(), data: DenseData::I32(vec![parameters.zero_point]) };
        function.add_constant(value, &location)
    });
    let op = Op::Quantize {
        to: ElementType::Quant(q),
        narrow,
        rounding: Rounding::HalfEven,
        special: Special::Saturate,
    };
    let codes = function.add_one(op, [x, scale].into_iter().chain(zero_point), &location)?;
    function.add_one(Op::Dequantize {}, [codes, scale].into_iter().chain(zero_point), &location)
}
