//! Type rules: the types of an operation's results follow from its operands and attributes. One function a family of operations; every
//! rule checks all it relies on, so a function that was built (or parsed) has only well-typed operations.

mod attention;
mod contraction;
mod elementwise;
mod quantized;
mod reduction;
mod shape;
mod window;

use smallvec::{SmallVec, smallvec};

use crate::dim::Dim;
use crate::element::ElementType;
use crate::ops::{Arity, Op};
use crate::types::TensorType;

pub use elementwise::broadcast_dims;

/// Why operands do not fit an operation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`qcc.{op}`: {message}")]
pub struct InferError {
    /// Operation name.
    pub op: &'static str,
    /// What does not fit, with the types concerned.
    pub message: String,
}

type Types = SmallVec<[TensorType; 2]>;
type Result<T> = std::result::Result<T, String>;

/// Result types of `op` on operands of the given types (one slot an operand group; variadic ones from their position on). `declared` are
/// types written in IR text: they are needed by `parameter` and `constant`, and elsewhere must agree with the rule.
///
/// # Errors
/// When operands or declared types do not fit.
pub fn infer(
    op: &Op,
    operands: &[Option<&TensorType>],
    declared: Option<&[TensorType]>,
) -> std::result::Result<Types, InferError> {
    let fail = |message| InferError { op: op.name(), message };
    check_arity(op, operands).map_err(fail)?;
    let types = infer_op(op, operands, declared).map_err(fail)?;
    if let Some(declared) = declared {
        check_declared(&types, declared).map_err(fail)?;
    }
    Ok(types)
}

fn check_arity(op: &Op, operands: &[Option<&TensorType>]) -> Result<()> {
    let groups = op.spec().operands;
    let variadic = matches!(groups.last(), Some((_, Arity::Variadic)));
    if operands.len() > groups.len() && !variadic {
        return Err(format!("takes at most {} operands, got {}", groups.len(), operands.len()));
    }
    for (i, (name, arity)) in groups.iter().enumerate() {
        if *arity == Arity::Single && !matches!(operands.get(i), Some(Some(_))) {
            return Err(format!("the operand `{name}` is missing"));
        }
    }
    Ok(())
}

/// A declared type may say `?` only where the rule says a symbol, and must agree in everything else.
fn check_declared(types: &[TensorType], declared: &[TensorType]) -> Result<()> {
    if types.len() != declared.len() {
        return Err(format!("has {} results, {} are declared", types.len(), declared.len()));
    }
    for (rule, text) in types.iter().zip(declared) {
        let same = rule.rank() == text.rank()
            && rule.element == text.element
            && rule.layout == text.layout
            && rule.dims.iter().zip(&text.dims).all(|(r, t)| r.constant() == t.constant());
        if !same {
            return Err(format!("the result must be {rule}, but {text} is declared"));
        }
    }
    Ok(())
}

fn one(ty: TensorType) -> Result<Types> {
    Ok(smallvec![ty])
}

fn tensor(dims: Vec<Dim>, element: ElementType) -> TensorType {
    TensorType { dims, element, layout: crate::types::Layout::RowMajor }
}

fn infer_op(op: &Op, x: &[Option<&TensorType>], declared: Option<&[TensorType]>) -> Result<Types> {
    let at = |i: usize| -> &TensorType { x[i].expect("invariant: arity was checked") };
    let optional = |i: usize| -> Option<&TensorType> { x.get(i).copied().flatten() };
    match op {
        Op::Parameter { .. } => match declared {
            Some([ty]) => one(ty.clone()),
            _ => Err("needs one declared result type".into()),
        },
        Op::Constant { value } => {
            let ty = value.tensor_type();
            let elements = ty.elements().and_then(|d| d.constant());
            if elements != i64::try_from(value.len()).ok() {
                return Err(format!("{} elements do not fill {ty}", value.len()));
            }
            one(ty)
        }
        Op::Iota { size } => match size.constant() {
            Some(n) if n < 0 => Err(format!("the size {n} is negative")),
            _ => one(tensor(vec![size.clone()], ElementType::I64)),
        },
        Op::Linear {} => contraction::linear(at(0), at(1), optional(2)),
        Op::Matmul {} => contraction::matmul(at(0), at(1)),
        Op::Hadamard { size, .. } => contraction::hadamard(at(0), *size),
        Op::Conv { strides, pads, dilations, groups, layout } => {
            let window = window::Window { strides, pads, dilations };
            window::conv(at(0), at(1), optional(2), &window, *groups, *layout)
        }
        Op::ConvTranspose { strides, pads, dilations, output_padding, groups } => {
            let window = window::Window { strides, pads, dilations };
            window::conv_transpose(at(0), at(1), optional(2), &window, output_padding, *groups)
        }
        Op::Embedding {} => quantized::embedding(at(0), at(1), optional(2)),
        Op::Gather { axis } => shape::gather(at(0), at(1), *axis),
        Op::Argsort {} => {
            plain(at(0))?;
            match at(0).rank() {
                1 => one(at(0).with_element(ElementType::I64)),
                rank => Err(format!("sorts a vector, not a tensor of rank {rank}")),
            }
        }
        Op::Slice { axes, starts, ends, steps } => shape::slice(at(0), axes, starts, ends, steps),
        Op::Concat { axis } => shape::concat(x, *axis),
        Op::Pad { pads, .. } => shape::pad(at(0), pads),
        Op::Reshape { shape } => shape::reshape(at(0), shape),
        Op::Transpose { permutation } => shape::transpose(at(0), permutation),
        Op::Broadcast { shape } => shape::broadcast(at(0), shape),
        Op::Resize { sizes, scales, .. } => shape::resize(at(0), sizes, scales),
        Op::Cast { to } => {
            if to.quantized().is_some() {
                return Err("cannot cast to a quantized type; use `qcc.quantize`".into());
            }
            plain(at(0))?;
            one(at(0).with_element(*to))
        }
        Op::Add {}
        | Op::Sub {}
        | Op::Mul {}
        | Op::Div {}
        | Op::Min {}
        | Op::Max {}
        | Op::Pow {}
        | Op::Prelu {} => elementwise::binary(at(0), at(1)),
        Op::ScaledSilu {} => elementwise::scaled_silu(at(0), at(1)),
        Op::Equal {} | Op::Less {} | Op::LessOrEqual {} => {
            let types = elementwise::binary(at(0), at(1))?;
            one(types[0].with_element(ElementType::Bool))
        }
        Op::Select {} => elementwise::select(at(0), at(1), at(2)),
        Op::Neg {} | Op::Abs {} => {
            plain(at(0))?;
            one(at(0).clone())
        }
        Op::Exp {}
        | Op::Log {}
        | Op::Sqrt {}
        | Op::Reciprocal {}
        | Op::Erf {}
        | Op::Sin {}
        | Op::Cos {}
        | Op::Tanh {}
        | Op::Sigmoid {}
        | Op::Silu {}
        | Op::Relu {}
        | Op::Softplus {}
        | Op::HardSwish {}
        | Op::HardSigmoid { .. }
        | Op::LeakyRelu { .. }
        | Op::Gelu { .. }
        | Op::Clamp { .. }
        | Op::Floor {} => elementwise::unary(at(0)),
        Op::Softmax { axis } | Op::LogSoftmax { axis } => reduction::softmax(at(0), *axis),
        Op::RmsNorm { .. } => reduction::rms_norm(at(0), at(1)),
        Op::LayerNorm { axis, .. } => reduction::layer_norm(at(0), *axis, optional(1), optional(2)),
        Op::BatchNorm { .. } => reduction::batch_norm(at(0), [at(1), at(2), at(3), at(4)]),
        Op::ReduceMean { axes, keep_dims }
        | Op::ReduceSum { axes, keep_dims }
        | Op::ReduceMax { axes, keep_dims } => reduction::reduce(at(0), axes, *keep_dims),
        Op::MaxPool { kernel, strides, pads, dilations, ceil, layout }
        | Op::AvgPool { kernel, strides, pads, dilations, ceil, layout, .. } => {
            window::pool(at(0), kernel, &window::Window { strides, pads, dilations }, *ceil, *layout)
        }
        Op::CausalConv {} => contraction::causal_conv(at(0), at(1), at(2), optional(3)),
        Op::SelectiveScan {} => {
            contraction::selective_scan([at(0), at(1), at(2), at(3), at(4), at(5), at(6)])
        }
        Op::SelectiveScanStates {} => contraction::selective_scan_states([at(0), at(1), at(2), at(3), at(4)]),
        Op::Positions { axis } => attention::positions(at(0), at(1), *axis),
        Op::RotaryEmbedding { .. } => attention::rotary_embedding(at(0), at(1), at(2)),
        Op::Attention { window, .. } => attention::attention([at(0), at(1), at(2)], optional(3), *window),
        Op::Quantize { to, .. } => quantized::quantize(at(0), *to, &x[1..]),
        Op::DynamicQuantize { to, .. } => quantized::dynamic_quantize(at(0), *to, optional(1)),
        Op::Dequantize {} => quantized::dequantize(at(0), &x[1..]),
        Op::QuantizedLinear { to, .. } => {
            let io = quantized::Operands {
                x: at(0),
                weight: at(1),
                weight_scale: at(2),
                x_scale: optional(3),
                x_zero_point: optional(4),
                bias: optional(5),
                y_scale: optional(6),
                y_zero_point: optional(7),
            };
            quantized::linear(&io, *to)
        }
        Op::QuantizedConv { strides, pads, dilations, groups, layout, to, .. } => {
            let io = quantized::Operands {
                x: at(0),
                weight: at(1),
                weight_scale: at(2),
                x_scale: optional(3),
                x_zero_point: optional(4),
                bias: optional(5),
                y_scale: optional(6),
                y_zero_point: optional(7),
            };
            let window = window::Window { strides, pads, dilations };
            quantized::conv(&io, &window, *groups, *layout, *to, optional(8))
        }
    }
}

/// Refuses quantized elements.
fn plain(x: &TensorType) -> Result<()> {
    match x.element.quantized() {
        None => Ok(()),
        Some(_) => Err(format!("operand {x} is quantized; dequantize it first")),
    }
}

/// Refuses all but float elements.
fn float(x: &TensorType) -> Result<()> {
    if x.element.is_float() { Ok(()) } else { Err(format!("operand {x} must have float elements")) }
}

/// Axis `axis` of a tensor of `rank`, which must exist.
fn axis_of(axis: i64, rank: usize) -> Result<usize> {
    usize::try_from(axis)
        .ok()
        .filter(|a| *a < rank)
        .ok_or_else(|| format!("axis {axis} is outside a tensor of rank {rank}"))
}

fn expect_dims(what: &str, ty: &TensorType, dims: &[Dim]) -> Result<()> {
    if ty.dims == dims { Ok(()) } else { Err(format!("`{what}` has sizes {:?}, expected {dims:?}", ty.dims)) }
}

fn overflow() -> String {
    "a size overflows".into()
}
