//! Which product a weight goes into, and in which form it lies in panels.

use std::collections::HashMap;

use qcc_ir::{ElementType, Function, Granularity, Node, Op, OpId, QuantType, ScaleType, ValueId};

use super::super::LowerError;
use super::{Shape, is_coded_weight, split_codes};
use crate::kernels::blocks::{BlockCodes, BlockScales, Blocks};
use crate::kernels::coded::{Coded, Sharing};
use crate::kernels::gemm::Product;
use crate::loops::storage::Storage;

/// The product that a weight goes into, and its form in panels where that is not the product's own.
#[derive(Clone, Copy)]
pub(super) struct Form {
    pub product: Product,
    pub coded: Option<Coded>,
}

impl Form {
    pub fn native(product: Product) -> Form {
        Form { product, coded: None }
    }

    /// Of f32 or narrower floats.
    pub fn of_floats(element: ElementType) -> Form {
        Form { product: Product::F32F32, coded: Coded::of_float(element) }
    }
}

/// How a quantized weight is multiplied with an input that is stored as `x`.
pub(super) fn weight_form(q: QuantType, x: Storage, shape: &Shape) -> Result<Form, LowerError> {
    if let (Some(codes), Storage::F32) = (split_codes(q), x) {
        return Ok(Form::native(Product::F32Split(codes)));
    }
    let channels =
        shape.taps.filter(|(_, taps)| *taps > 1).and_then(|(channels, _)| u32::try_from(channels).ok());
    let coded = Coded::of(q, channels);
    let native = native_product(q, x, shape).map(Form::native);
    let form = native.or_else(|| match (x, q.granularity, q.storage.integer_range(false)) {
        (Storage::F32, ..) => coded.map(|coded| Form { product: Product::F32F32, coded: Some(coded) }),
        // Scales are in the epilogue.
        (
            Storage::U8 | Storage::Biased,
            Granularity::Tensor | Granularity::Channel { axis: 0 },
            Some((low, _)),
        ) if low < 0 && !q.zero_point => coded.map(|coded| Form {
            product: Product::U8S8,
            coded: Some(Coded { sharing: Sharing::Tensor, scale: ScaleType::F32, ..coded }),
        }),
        (Storage::I8, Granularity::Block { axis: 1, block }, Some((low, _)))
            if low < 0 && !q.zero_point && Blocks::fits(block) && shape.taps.is_none() =>
        {
            let scales = if q.scale == ScaleType::F16 { BlockScales::F16 } else { BlockScales::F32 };
            let blocks = Blocks { block, codes: BlockCodes::U8, scales };
            coded.map(|coded| Form { product: Product::S8Block(blocks), coded: Some(coded) })
        }
        _ => None,
    });
    form.ok_or_else(|| {
        LowerError::new(format!(
            "weights {} on an input stored as {x:?} have no CPU kernel",
            ElementType::Quant(q)
        ))
    })
}

/// The product whose panels hold a weight of 4 or 8 bits as it is.
fn native_product(q: QuantType, x: Storage, shape: &Shape) -> Option<Product> {
    let bits = match q.storage {
        qcc_ir::Storage::Int(bits @ (4 | 8)) if !q.zero_point => bits,
        _ => return None,
    };
    match (q.granularity, q.scale) {
        (Granularity::Tensor | Granularity::Channel { axis: 0 }, ScaleType::F32) => match (bits, x) {
            (8, Storage::U8 | Storage::Biased) => Some(Product::U8S8),
            (4, Storage::U8 | Storage::Biased) => Some(Product::U8S4),
            (8, Storage::F32) => Some(Product::F32S8),
            (4, Storage::F32) => Some(Product::F32S4),
            _ => None,
        },
        (Granularity::Block { axis: 1, block }, scale) if shape.taps.is_none() && Blocks::fits(block) => {
            let codes = if bits == 4 { BlockCodes::U4 } else { BlockCodes::U8 };
            let scales = match scale {
                ScaleType::F16 => BlockScales::F16,
                ScaleType::F32 => BlockScales::F32,
                _ => return None,
            };
            let blocks = Blocks { block, codes, scales };
            match x {
                Storage::I8 => Some(Product::S8Block(blocks)),
                Storage::F32 => Some(Product::F32Block(blocks)),
                _ => None,
            }
        }
        _ => None,
    }
}

/// How the kernel of a layer takes its weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KernelForm {
    /// The weight.
    pub weight: ValueId,
    /// Whether products are of integers.
    pub is_integer: bool,
    /// Whether the weight is expanded to what the product reads, at each call.
    pub is_expanded: bool,
}

/// How the kernel of a layer takes its weight; none of what is no layer, or has no kernel.
pub(crate) fn kernel_form(
    function: &Function,
    uses: &HashMap<ValueId, Vec<(OpId, usize)>>,
    node: &Node,
) -> Option<KernelForm> {
    let operand = |slot: usize| node.operands.get(slot).copied().flatten();
    let quantized = match node.op {
        Op::Linear {} | Op::Conv { .. } => false,
        Op::QuantizedLinear { .. } | Op::QuantizedConv { .. } => true,
        _ => return None,
    };
    let (x, mut weight) = (operand(0)?, operand(1)?);
    if let Some((_, decoded)) = function.defining(weight)
        && is_coded_weight(function, decoded)
    {
        weight = decoded.operands.first().copied().flatten()?;
    }
    let blocks = super::feeds_block_weights(function, uses, x);
    let x = match function.ty(x).element.quantized().map(|q| q.storage) {
        Some(qcc_ir::Storage::Int(_)) if blocks => Storage::I8,
        Some(qcc_ir::Storage::Int(_)) => Storage::Biased,
        Some(_) if quantized => Storage::U8,
        _ => Storage::F32,
    };
    let ty = function.ty(weight);
    let Some(q) = ty.element.quantized() else {
        // Widening halves takes next to nothing.
        return Some(KernelForm { weight, is_integer: false, is_expanded: false });
    };
    let dims = ty.constant_dims()?;
    let taps = dims.get(2..).map_or(1, |taps| taps.iter().product::<i64>());
    let shape = Shape {
        columns: dims[0],
        depth: dims.get(1)?.checked_mul(taps)?,
        taps: (dims.len() > 2).then_some((usize::try_from(dims[1]).ok()?, usize::try_from(taps).ok()?)),
        runs: 1,
    };
    let form = weight_form(q, x, &shape).ok()?;
    let is_integer = form.product.activation_bytes() == 1;
    Some(KernelForm { weight, is_integer, is_expanded: form.coded.is_some() })
}
