//! Evaluation of one operation: the type rule is checked on the actual operands, then the operation's family computes the results.

use std::borrow::Cow;

use qcc_ir::{ElementType, Granularity, Layout, Op, Storage, TensorType, infer::infer};
use qcc_params::{Data, OpEvaluator, Tensor};

use crate::formats::Rules;
use crate::precision::{Precision, hold, integers, reals, store_integers, store_reals};
use crate::{
    attention, contraction, convolution, elementwise, hadamard, movement, normalization, pool, quantized,
    reduction, resize, state_space,
};

pub(crate) type Result<T> = std::result::Result<T, String>;

/// Results with more elements than this are refused rather than left to the allocator.
const LARGEST_RESULT: usize = 1 << 31;

/// Evaluates operations and functions in a precision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interpreter {
    /// How float tensors are held and computed.
    pub precision: Precision,
}

impl Interpreter {
    /// An interpreter of this precision.
    pub fn new(precision: Precision) -> Interpreter {
        Interpreter { precision }
    }
}

impl OpEvaluator for Interpreter {
    /// Results of `op`; `types` must have constant sizes and agree with the type rule, and `reshape` and `broadcast` constant shapes.
    fn evaluate(
        &self,
        op: &Op,
        operands: &[Option<&Tensor>],
        types: &[TensorType],
    ) -> std::result::Result<Vec<Tensor>, String> {
        let operand_types: Vec<Option<TensorType>> = operands.iter().map(|o| o.map(Tensor::ty)).collect();
        let references: Vec<Option<&TensorType>> = operand_types.iter().map(Option::as_ref).collect();
        infer(op, &references, Some(types)).map_err(|e| e.message)?;
        let call = Call {
            precision: self.precision,
            operands: operands.iter().map(|o| o.map(|t| hold(t, self.precision))).collect(),
            dims: types.iter().map(sizes).collect::<Result<_>>()?,
            types,
        };
        let results = dispatch(op, &call)?;
        for (result, dims) in results.iter().zip(&call.dims) {
            if &result.dims != dims {
                return Err(format!("computed sizes {:?}, the type rule says {dims:?}", result.dims));
            }
        }
        Ok(results)
    }

    fn is_row_wise(&self, op: &Op) -> bool {
        match op {
            Op::Cast { .. } | Op::Neg {} | Op::Exp {} => true,
            Op::Quantize { to, .. } | Op::DynamicQuantize { to, .. } => to.quantized().is_some_and(|q| {
                let apart = match q.granularity {
                    Granularity::Channel { axis } => axis == 0,
                    Granularity::Block { axis, .. } => axis > 0,
                    Granularity::Tensor | Granularity::Token => false,
                };
                apart && !q.has_tensor_scale() && !q.storage.has_codebook()
            }),
            _ => false,
        }
    }

    /// Copies, what is done to one element at a time, and rounding whose scales follow from extremes.
    fn is_quick(&self, op: &Op) -> bool {
        let searched = |to: &ElementType| {
            to.quantized().is_none_or(|q| {
                q.storage.has_codebook()
                    || q.storage.is_split()
                    || matches!(q.storage, Storage::PowExp(_) | Storage::Ternary)
            })
        };
        match op {
            Op::Quantize { to, .. } | Op::DynamicQuantize { to, .. } => !searched(to),
            Op::Cast { .. }
            | Op::Reshape { .. }
            | Op::Broadcast { .. }
            | Op::Transpose { .. }
            | Op::Slice { .. }
            | Op::Concat { .. }
            | Op::Neg {}
            | Op::Exp {}
            | Op::Add {}
            | Op::Sub {}
            | Op::Mul {}
            | Op::Div {}
            | Op::Dequantize {} => true,
            _ => false,
        }
    }

    fn semantics(&self) -> Option<String> {
        Some(format!("interpreter {:?}", self.precision))
    }
}

/// Constant sizes of a result type.
fn sizes(ty: &TensorType) -> Result<Vec<usize>> {
    if ty.layout != Layout::RowMajor {
        return Err(format!("{ty} is packed for a backend; only row-major tensors have a meaning here"));
    }
    let dims: Option<Vec<usize>> =
        ty.dims.iter().map(|d| d.constant().and_then(|d| usize::try_from(d).ok())).collect();
    let dims =
        dims.ok_or_else(|| format!("the sizes of {ty:?} are not constants; bind its symbols first"))?;
    match dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d)) {
        Some(n) if n <= LARGEST_RESULT => Ok(dims),
        _ => Err(format!("a result of sizes {dims:?} is too large to interpret")),
    }
}

/// One evaluation: operands as the precision holds them, and the result types.
pub(crate) struct Call<'a> {
    pub precision: Precision,
    operands: Vec<Option<Cow<'a, Tensor>>>,
    types: &'a [TensorType],
    dims: Vec<Vec<usize>>,
}

impl Call<'_> {
    /// A present operand; the type rule guarantees those that are not optional.
    pub fn at(&self, slot: usize) -> Result<&Tensor> {
        self.optional(slot).ok_or_else(|| format!("operand {slot} is missing"))
    }

    /// An operand that may be absent.
    pub fn optional(&self, slot: usize) -> Option<&Tensor> {
        self.operands.get(slot)?.as_deref()
    }

    /// All operands, of a variadic operation.
    pub fn all(&self) -> Result<Vec<&Tensor>> {
        (0..self.operands.len()).map(|i| self.at(i)).collect()
    }

    /// Float elements of an operand.
    pub fn reals(&self, slot: usize) -> Result<Cow<'_, [f64]>> {
        Ok(reals(self.at(slot)?))
    }

    /// Float elements of an operand that may be absent.
    pub fn optional_reals(&self, slot: usize) -> Option<Cow<'_, [f64]>> {
        self.optional(slot).map(reals)
    }

    /// Sizes of a result.
    pub fn dims(&self, result: usize) -> &[usize] {
        &self.dims[result]
    }

    /// Number of elements of a result.
    pub fn count(&self, result: usize) -> usize {
        self.dims[result].iter().product()
    }

    /// Element type of a result.
    pub fn element(&self, result: usize) -> ElementType {
        self.types[result].element
    }

    /// A float result.
    pub fn real(&self, result: usize, values: Vec<f64>) -> Result<Tensor> {
        store_reals(self.precision, self.dims[result].clone(), self.element(result), values)
    }

    /// An integer result.
    pub fn integer(&self, result: usize, values: Vec<i64>) -> Result<Tensor> {
        store_integers(self.dims[result].clone(), self.element(result), values)
    }

    /// A result of elements as they are held.
    pub fn data(&self, result: usize, data: Data) -> Result<Tensor> {
        Tensor::new(self.dims[result].clone(), self.element(result), data).map_err(|e| e.to_string())
    }
}

fn dispatch(op: &Op, call: &Call<'_>) -> Result<Vec<Tensor>> {
    let y = match op {
        Op::Parameter { name } => return Err(format!("the value of `{name}` is in the parameter table")),
        Op::Constant { value } => {
            let tensor = Tensor::from_dense(value).map_err(|e| e.to_string())?;
            hold(&tensor, call.precision).into_owned()
        }
        Op::Linear {} => contraction::linear(call)?,
        Op::Matmul {} => contraction::matmul(call)?,
        Op::Hadamard { size, transpose } => hadamard::hadamard(call, *size, *transpose)?,
        Op::Conv { strides, pads, dilations, groups, layout } => {
            convolution::conv(call, strides, pads, dilations, *groups, *layout)?
        }
        Op::ConvTranspose { strides, pads, dilations, groups, .. } => {
            convolution::conv_transpose(call, strides, pads, dilations, *groups)?
        }
        Op::Embedding {} => movement::embedding(call)?,
        Op::Gather { axis } => movement::gather(call, *axis)?,
        Op::Argsort {} => movement::argsort(call)?,
        Op::Slice { axes, starts, steps, .. } => movement::slice(call, axes, starts, steps)?,
        Op::Concat { axis } => movement::concat(call, *axis)?,
        Op::Pad { pads, mode, value } => movement::pad(call, pads, *mode, value.0)?,
        Op::Reshape { .. } => call.data(0, call.at(0)?.data.clone())?,
        Op::Transpose { permutation } => movement::transpose(call, permutation)?,
        Op::Broadcast { .. } => movement::broadcast(call)?,
        Op::Resize { mode, coordinates, rounding, scales, .. } => {
            resize::resize(call, *mode, *coordinates, *rounding, scales)?
        }
        Op::Cast { to } => movement::cast(call, *to)?,
        Op::Softmax { axis } => normalization::softmax(call, *axis, false)?,
        Op::LogSoftmax { axis } => normalization::softmax(call, *axis, true)?,
        Op::RmsNorm { epsilon } => normalization::rms_norm(call, epsilon.0)?,
        Op::LayerNorm { axis, epsilon } => normalization::layer_norm(call, *axis, epsilon.0)?,
        Op::BatchNorm { epsilon } => normalization::batch_norm(call, epsilon.0)?,
        Op::ReduceMean { axes, .. } => reduction::mean(call, axes)?,
        Op::ReduceSum { axes, .. } => reduction::sum(call, axes)?,
        Op::ReduceMax { axes, .. } => reduction::max(call, axes)?,
        Op::MaxPool { kernel, strides, pads, dilations, layout, .. } => {
            pool::max(call, kernel, strides, pads, dilations, *layout)?
        }
        Op::AvgPool { kernel, strides, pads, dilations, count_pads, layout, .. } => {
            pool::mean(call, kernel, [strides, pads, dilations], *count_pads, *layout)?
        }
        Op::CausalConv {} => return state_space::causal_conv(call),
        Op::SelectiveScan {} => return state_space::selective_scan(call),
        Op::SelectiveScanStates {} => return state_space::selective_scan_states(call),
        Op::Iota { .. } => {
            let count = i64::try_from(call.count(0)).map_err(|e| e.to_string())?;
            call.integer(0, (0..count).collect())?
        }
        Op::Positions { axis } => attention::positions(call, *axis)?,
        Op::RotaryEmbedding { interleaved } => attention::rotary_embedding(call, *interleaved)?,
        Op::Attention { scale, causal, window, keys, values } => {
            let formats = attention::Formats { keys: *keys, values: *values };
            attention::attention(call, scale.0, *causal, *window, formats)?
        }
        &Op::Quantize { to, narrow, rounding, special } => {
            quantized::quantize(call, to, Rules { narrow, rounding, special })?
        }
        &Op::DynamicQuantize { to, narrow, rounding, special } => {
            return quantized::dynamic_quantize(call, to, Rules { narrow, rounding, special });
        }
        Op::Dequantize {} => quantized::dequantize(call)?,
        Op::QuantizedLinear { to, narrow, lower, upper } => {
            let finish = quantized::Finish { to: *to, narrow: *narrow, lower: lower.0, upper: upper.0 };
            quantized::linear(call, &finish)?
        }
        Op::QuantizedConv { strides, pads, dilations, groups, layout, to, narrow, lower, upper } => {
            let finish = quantized::Finish { to: *to, narrow: *narrow, lower: lower.0, upper: upper.0 };
            quantized::conv(call, [strides, pads, dilations], *groups, *layout, &finish)?
        }
        _ => elementwise::elementwise(op, call)?,
    };
    Ok(vec![y])
}

/// Integer elements of an index operand.
pub(crate) fn indices(tensor: &Tensor) -> Vec<i64> {
    integers(tensor)
}
