//! Activations in a format: `dequantize(quantize(x))`, once for each activation, however many layers read it.

use std::collections::HashMap;

use qcc_ir::format::{Format, Sharing};
use qcc_ir::{
    Dense, DenseData, ElementType, Float, Function, Granularity, InferError, Op, QuantType, ScaleType,
    ValueId,
    ops::{Rounding, Special},
};

use super::{Refused, codes, range};
use crate::calibrate::{Range, Statistics};

/// The quantized activations of a function so far.
pub(super) struct Activations<'a> {
    statistics: &'a Statistics,
    /// The range of what was not measured.
    assumed: Option<Range>,
    /// Layers that share an input may ask for different formats.
    done: HashMap<(ValueId, Format), ValueId>,
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
        if let Some(done) = self.done.get(&(x, *format)) {
            return Ok(Ok(*done));
        }
        let rank = function.ty(x).rank();
        let added = if let Some(float) = format.float() {
            let location = function.value(x).name.clone();
            narrowed(function, x, float.element(), &location)
        } else if format.dynamic() {
            let q = dynamic_type(format, conv, rank)?;
            dynamic(function, x, q, format.narrow())
        } else {
            let q = static_type(format, conv, rank)?;
            let unmeasured = "the range of its input was not measured; run `calibrate` first";
            let ranges = match q.granularity {
                Granularity::Channel { axis } => {
                    let assumed = || {
                        let size = function.ty(x).dims.get(usize::from(axis)).and_then(qcc_ir::Dim::constant);
                        let size = size.and_then(|n| usize::try_from(n).ok());
                        Some(vec![self.assumed?; size?])
                    };
                    self.statistics.channels_in(x, format).map(<[Range]>::to_vec).or_else(assumed)
                }
                _ => self.statistics.range_in(x, format).or(self.assumed).map(|range| vec![range]),
            };
            fixed(function, x, q, format.narrow(), &ranges.ok_or(unmeasured)?)
        };
        if let Ok(y) = &added {
            self.done.insert((x, *format), *y);
        }
        Ok(added)
    }
}

fn dynamic_type(format: &Format, conv: bool, rank: usize) -> Result<QuantType, Refused> {
    let last = u8::try_from(rank.saturating_sub(1)).map_err(|_| "it has too many axes")?;
    let granularity = match format.sharing() {
        Sharing::Token | Sharing::Block(_) if conv => {
            return Err("a convolution has no tokens; give it a static format per tensor".into());
        }
        Sharing::Token => Granularity::Token,
        Sharing::Tensor => Granularity::Tensor,
        Sharing::Block(block) => Granularity::Block { axis: last, block },
        _ => return Err("dynamic activations are quantized per token, block or tensor".into()),
    };
    Ok(QuantType {
        storage: codes(format)?,
        granularity,
        scale: format.scale(),
        zero_point: format.asymmetric(),
    })
}

fn static_type(format: &Format, conv: bool, rank: usize) -> Result<QuantType, Refused> {
    let granularity = match format.sharing() {
        Sharing::Tensor | Sharing::Kernel => Granularity::Tensor,
        Sharing::Channel if conv => {
            return Err(
                "features of images with scales of their own cannot be summed; give it a format per tensor"
                    .into(),
            );
        }
        Sharing::Channel => Granularity::Channel {
            axis: u8::try_from(rank.saturating_sub(1)).map_err(|_| "it has too many axes")?,
        },
        _ => return Err("static activations are quantized per tensor or feature".into()),
    };
    if format.scale() != ScaleType::F32 {
        return Err("scales of static activations are f32".into());
    }
    Ok(QuantType {
        storage: codes(format)?,
        granularity,
        scale: format.scale(),
        zero_point: format.asymmetric(),
    })
}

/// `x` rounded to a narrower float type, in its own type.
pub(super) fn narrowed(
    function: &mut Function,
    x: ValueId,
    to: ElementType,
    location: &str,
) -> Result<ValueId, InferError> {
    let own = function.ty(x).element;
    if own == to {
        return Ok(x);
    }
    // As all codes, halves saturate; in f32, which has both their largest numbers.
    let most = match to {
        ElementType::F16 => half::f16::MAX.to_f64(),
        _ => half::bf16::MAX.to_f64(),
    };
    let wide = match own {
        ElementType::F32 => x,
        _ => function.add_one(Op::Cast { to: ElementType::F32 }, [x], location)?,
    };
    let held = function.add_one(Op::Clamp { min: Float(-most), max: Float(most) }, [wide], location)?;
    let narrow = function.add_one(Op::Cast { to }, [held], location)?;
    function.add_one(Op::Cast { to: own }, [narrow], location)
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

/// With scales (and zero points) from ranges: one, or one for each feature.
fn fixed(
    function: &mut Function,
    x: ValueId,
    q: QuantType,
    narrow: bool,
    ranges: &[Range],
) -> Result<ValueId, InferError> {
    let location = function.value(x).name.clone();
    let parameters: Vec<_> = ranges.iter().map(|r| range::parameters(*r, &q, narrow)).collect();
    let dims = match q.granularity {
        Granularity::Tensor => Vec::new(),
        _ => vec![i64::try_from(ranges.len()).unwrap_or(i64::MAX)],
    };
    let scales: Vec<f32> = parameters.iter().map(|p| p.scale).collect();
    let scale = function.add_constant(Dense::f32(&dims, &scales), &location);
    let zero_point = q.zero_point.then(|| {
        let zeros = parameters.iter().map(|p| p.zero_point).collect();
        function.add_constant(Dense { dims, data: DenseData::I32(zeros) }, &location)
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
