//! Element types: half precision, integers, booleans, dynamic codes.

use qcc_ir::format::CacheFormat;
use qcc_ir::ops::{ImageLayout, Rounding, Special};
use qcc_ir::{ElementType, Float, Granularity, Op, QuantType, ScaleType, Storage, ValueId};

use crate::fixture::{Fixture, conv};

fn half(f: &mut Fixture, x: ValueId, to: ElementType) -> ValueId {
    f.op(Op::Cast { to }, &[x])
}

#[test]
fn half_precision_computes_in_f32() {
    for element in [ElementType::F16, ElementType::BF16] {
        let mut f = Fixture::new();
        let x = f.input("x", "B,2,4,4");
        let w = f.weight("w", &[3, 2, 3, 3]);
        let (x, w) = (half(&mut f, x, element), half(&mut f, w, element));
        let y = f.op(conv(2, 1, 1, 1, ImageLayout::ChannelsFirst), &[x, w]);
        let pool = Op::AvgPool {
            kernel: vec![2, 2],
            strides: vec![2, 2],
            pads: vec![0; 4],
            dilations: vec![1; 2],
            ceil: false,
            count_pads: true,
            layout: ImageLayout::ChannelsFirst,
        };
        let y = f.op(pool, &[y]);
        let y = f.op(Op::Softmax { axis: 3 }, &[y]);
        let y = f.op(Op::LogSoftmax { axis: 1 }, &[y]);
        let y = f.op(Op::Matmul {}, &[y, y]);
        let gain = f.weight("gain", &[2]);
        let gain = half(&mut f, gain, element);
        let y = f.op(Op::RmsNorm { epsilon: Float(1e-5) }, &[y, gain]);
        let y = f.op(Op::LayerNorm { axis: 2, epsilon: Float(1e-5) }, &[y]);
        let y = f.op(Op::ReduceSum { axes: vec![0, 2], keep_dims: true }, &[y]);
        let y = f.op(Op::Relu {}, &[y]);
        f.result(y);
        let q = f.input("q", "B,3,4,8");
        let q = half(&mut f, q, element);
        let bias = f.weight("bias", &[1, 4, 1, 3]);
        let bias = half(&mut f, bias, element);
        let (keys, values) = (CacheFormat::F32, CacheFormat::F32);
        let attention = Op::Attention { scale: Float(0.5), causal: false, window: 0, keys, values };
        let y = f.op(attention, &[q, q, q, bias]);
        f.result(y);
        f.lower();
    }
}

#[test]
fn integers_and_booleans() {
    for element in [ElementType::I64, ElementType::I32, ElementType::I8, ElementType::U8] {
        let mut f = Fixture::new();
        let (a, b) = (f.typed_input("a", "B,3", element), f.typed_input("b", "3", element));
        let mut y = a;
        for op in [Op::Add {}, Op::Sub {}, Op::Mul {}, Op::Min {}, Op::Max {}, Op::Prelu {}] {
            y = f.op(op, &[y, b]);
        }
        let truth = f.op(Op::Cast { to: ElementType::Bool }, &[y]);
        let some = f.op(Op::Cast { to: element }, &[truth]);
        let one = f.op(Op::Max {}, &[some, b]);
        let sum = f.op(Op::ReduceSum { axes: vec![0], keep_dims: true }, &[y]);
        let most = f.op(Op::ReduceMax { axes: vec![0, 1], keep_dims: false }, &[one]);
        let y = f.op(Op::Abs {}, &[y]);
        let y = f.op(Op::Neg {}, &[y]);
        let real = f.op(Op::Cast { to: ElementType::F32 }, &[y]);
        let back = f.op(Op::Cast { to: element }, &[real]);
        let any = f.op(Op::Mul {}, &[truth, truth]);
        let less = f.op(Op::Less {}, &[a, b]);
        let equal = f.op(Op::Equal {}, &[less, truth]);
        let not_more = f.op(Op::LessOrEqual {}, &[b, y]);
        let chosen = f.op(Op::Select {}, &[not_more, a, b]);
        for y in [sum, most, back, any, equal, chosen] {
            f.result(y);
        }
        f.lower();
    }
}

#[test]
fn dynamic_codes_of_a_whole_tensor() {
    let mut f = Fixture::new();
    let x = f.input("x", "B,3,5");
    let to = ElementType::Quant(QuantType {
        storage: Storage::Int(8),
        granularity: Granularity::Tensor,
        scale: ScaleType::F32,
        zero_point: false,
    });
    let op =
        Op::DynamicQuantize { to, narrow: true, rounding: Rounding::HalfEven, special: Special::Saturate };
    let codes = f.function.add(op, [x], "codes").expect("well-typed");
    let y = f.op(Op::Dequantize {}, &[codes[0], codes[1]]);
    f.result(y);
    f.result(codes[1]);
    assert!(!f.lower().contains(&"dynamic_quantize"));
}

#[test]
fn what_no_kernel_quantizes_is_named() {
    let mut f = Fixture::new();
    let x = f.input("x", "B,3");
    let to = ElementType::Quant(QuantType {
        storage: Storage::Int(8),
        granularity: Granularity::Tensor,
        scale: ScaleType::F32,
        zero_point: false,
    });
    let scale = f.function.add_constant(qcc_ir::Dense::scalar(0.1), "scale");
    let codes = f.op(
        Op::Quantize { to, narrow: true, rounding: Rounding::HalfAway, special: Special::Saturate },
        &[x, scale],
    );
    let y = f.op(Op::Dequantize {}, &[codes, scale]);
    f.result(y);
    let error = f.try_lower().expect_err("ties go to the even code");
    assert!(error.contains("with ties to the even code"), "{error}");
}
