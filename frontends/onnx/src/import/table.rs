//! The one table of operators. To import another one: write its function in the file of its family (or a new file), add a line here, and
//! pack its cases with `tools/onnx-vectors`.

use qcc_ir::Op;

use super::{
    activation, arithmetic, attention, choice, constant, conv, gather, matmul, normalization, pad, pool,
    reduce, resize, rotary, sequence, shape, slice, softmax,
};
use crate::call::{Call, Outputs};

/// Adds the operations of a node, and says what its outputs are.
pub(crate) type Handler = fn(&mut Call<'_>) -> Outputs;

/// What translates an operator.
pub(super) fn find(op_type: &str) -> Option<Handler> {
    TABLE.binary_search_by_key(&op_type, |(name, _)| name).ok().map(|at| TABLE[at].1)
}

/// All operators, in order of name.
pub(super) const TABLE: &[(&str, Handler)] = &[
    ("Abs", |c| arithmetic::unary(c, Op::Abs {})),
    ("Add", |c| arithmetic::binary(c, Op::Add {})),
    ("And", |c| arithmetic::binary(c, Op::Min {})),
    ("Attention", attention::attention),
    ("AveragePool", pool::average),
    ("BatchNormalization", normalization::batch),
    ("Cast", constant::cast),
    ("CastLike", constant::cast_like),
    ("Ceil", arithmetic::ceil),
    ("Clip", activation::clip),
    ("Concat", shape::concat),
    ("Constant", constant::constant),
    ("ConstantOfShape", constant::constant_of_shape),
    ("Conv", conv::conv),
    ("ConvTranspose", conv::conv_transpose),
    ("Cos", |c| arithmetic::unary(c, Op::Cos {})),
    ("CumSum", sequence::cumulative_sum),
    ("Div", |c| arithmetic::binary(c, Op::Div {})),
    ("Dropout", constant::dropout),
    ("Elu", activation::elu),
    ("Equal", choice::equal),
    ("Erf", |c| arithmetic::unary(c, Op::Erf {})),
    ("Exp", |c| arithmetic::unary(c, Op::Exp {})),
    ("Expand", shape::expand),
    ("Flatten", shape::flatten),
    ("Floor", |c| arithmetic::unary(c, Op::Floor {})),
    ("Gather", gather::gather),
    ("GatherElements", gather::gather_elements),
    ("GatherND", gather::gather_nd),
    ("Gelu", activation::gelu),
    ("Gemm", matmul::gemm),
    ("GlobalAveragePool", pool::global_average),
    ("GlobalMaxPool", pool::global_max),
    ("Greater", |c| choice::compare(c, Op::Less {}, [1, 0])),
    ("GreaterOrEqual", |c| choice::compare(c, Op::LessOrEqual {}, [1, 0])),
    ("HardSigmoid", activation::hard_sigmoid),
    ("HardSwish", |c| arithmetic::unary(c, Op::HardSwish {})),
    ("Identity", constant::identity),
    ("InstanceNormalization", normalization::instance),
    ("IsNaN", choice::is_nan),
    ("LayerNormalization", normalization::layer),
    ("LeakyRelu", activation::leaky_relu),
    ("Less", |c| choice::compare(c, Op::Less {}, [0, 1])),
    ("LessOrEqual", |c| choice::compare(c, Op::LessOrEqual {}, [0, 1])),
    ("Log", |c| arithmetic::unary(c, Op::Log {})),
    ("LogSoftmax", softmax::log_softmax),
    ("MatMul", matmul::matmul),
    ("Max", |c| arithmetic::variadic(c, Op::Max {})),
    ("MaxPool", pool::max),
    ("Mean", arithmetic::mean),
    ("Min", |c| arithmetic::variadic(c, Op::Min {})),
    ("Mul", |c| arithmetic::binary(c, Op::Mul {})),
    ("Neg", |c| arithmetic::unary(c, Op::Neg {})),
    ("Not", choice::not),
    ("Or", |c| arithmetic::binary(c, Op::Max {})),
    ("PRelu", activation::prelu),
    ("Pad", pad::pad),
    ("Pow", arithmetic::pow),
    ("Range", sequence::range),
    ("Reciprocal", |c| arithmetic::unary(c, Op::Reciprocal {})),
    ("ReduceL1", reduce::l1),
    ("ReduceL2", reduce::l2),
    ("ReduceMax", reduce::max),
    ("ReduceMean", reduce::mean),
    ("ReduceMin", reduce::min),
    ("ReduceSum", reduce::sum),
    ("ReduceSumSquare", reduce::sum_square),
    ("Relu", activation::relu),
    ("Reshape", shape::reshape),
    ("Resize", resize::resize),
    ("RotaryEmbedding", rotary::rotary_embedding),
    ("Shape", shape::shape),
    ("Sigmoid", |c| arithmetic::unary(c, Op::Sigmoid {})),
    ("Sin", |c| arithmetic::unary(c, Op::Sin {})),
    ("Slice", slice::slice),
    ("Softmax", softmax::softmax),
    ("Softplus", |c| arithmetic::unary(c, Op::Softplus {})),
    ("Split", slice::split),
    ("Sqrt", |c| arithmetic::unary(c, Op::Sqrt {})),
    ("Squeeze", shape::squeeze),
    ("Sub", |c| arithmetic::binary(c, Op::Sub {})),
    ("Sum", |c| arithmetic::variadic(c, Op::Add {})),
    ("Tanh", |c| arithmetic::unary(c, Op::Tanh {})),
    ("Transpose", shape::transpose),
    ("Unsqueeze", shape::unsqueeze),
    ("Upsample", resize::upsample),
    ("Where", choice::choose),
    ("Xor", choice::xor),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_names_each_operator_once() {
        assert!(TABLE.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }
}
