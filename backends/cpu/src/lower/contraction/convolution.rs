//! Convolutions: the matrix product over patches, and a kernel of their own for depthwise ones.

use qcc_ir::{Dim, ElementType, Granularity, Node, Op, QuantType, ScaleType, ops::ImageLayout};
use qcc_runtime::program::Expr;

use super::super::window::{Image, channels_last, pair, sides};
use super::super::{LowerError, Lowering, Operand};
use super::{Layer, Shape};
use crate::kernels::coded::{Coded, Sharing};
use crate::kernels::depthwise::{self, DepthwiseSpec};
use crate::kernels::gemm::Rows;
use crate::loops::storage::Storage;

impl Lowering<'_> {
    pub(in super::super) fn conv(&mut self, node: &Node) -> Result<(), LowerError> {
        let layer = self.layer(node)?;
        let (Op::Conv { strides, pads, dilations, groups, layout }
        | Op::QuantizedConv { strides, pads, dilations, groups, layout, .. }) = &node.op
        else {
            return Err(LowerError::new(format!("qcc.{} is no convolution", node.op.name())));
        };
        let geometry = Geometry::new(self, &layer, strides, pads, dilations, *layout)?;
        let weight = self.function.ty(layer.weight).constant_dims().ok_or_else(LowerError::too_large)?;
        let taps: i64 = weight[2..].iter().product();
        if weight[1] == 1 && *groups == weight[0] && *groups > 1 {
            return self.depthwise(&layer, &geometry, weight[0], taps);
        }
        if *groups != 1 {
            return Err(LowerError::new("grouped convolutions that are not depthwise were not legalised"));
        }
        let shape = Shape {
            columns: weight[0],
            depth: weight[1] * taps,
            taps: Some((weight[1] as usize, taps as usize)),
        };
        let rows = Self::count(&[
            geometry.image.batch.clone(),
            geometry.out.height.clone(),
            geometry.out.width.clone(),
        ])?;
        let (product, x) = self.product(&layer, &shape)?;
        let mut operands = Vec::new();
        let pointwise = taps == 1 && geometry.strides == [1, 1] && geometry.sides == [0; 4];
        let kind = if pointwise { Rows::Matrix } else { Rows::Patches };
        let spec =
            self.gemm(&layer, product, kind, &shape, x, &rows, shape.depth, shape.columns, &mut operands)?;
        if !pointwise {
            let bytes = weight[1] * x.storage.bytes();
            let pad =
                if x.storage == Storage::F32 { 0 } else { i64::from(self.zero_point(&layer, x.storage)?) };
            operands.extend(geometry.operands(bytes, bytes, pad));
        }
        self.launch(&layer, &spec, operands, &rows, &shape)
    }

    fn depthwise(
        &mut self,
        layer: &Layer<'_>,
        geometry: &Geometry,
        channels: i64,
        taps: i64,
    ) -> Result<(), LowerError> {
        let x = self.place(layer.x)?;
        let (format, coded) = depthwise_form(self.function.ty(layer.weight).element, x.storage, taps)?;
        let integer = format == depthwise::Format::U8S8;
        let spec = DepthwiseSpec {
            format,
            coded,
            window: geometry.kernel.map(|v| v as usize),
            stride: geometry.strides.map(|v| v as usize),
            dilation: geometry.dilations.map(|v| v as usize),
            bias: layer.bias.is_some(),
            activation: layer.activation,
            bounded: layer.bounds.is_some(),
            output: layer.output,
        };
        /// Channels of a block.
        const LANES: usize = 16;
        let shape = Shape { columns: channels, depth: taps, taps: None };
        let weights = match coded {
            None => self.packed_depthwise(layer, (channels as usize, taps as usize), LANES, integer)?,
            Some(coded) => {
                let more = (layer.weight_scale, &layer.weight_more[..]);
                self.packed_codes(layer.weight, more, coded, &shape, LANES)?
            }
        };
        let multipliers =
            if integer { self.packed_multipliers(layer, &shape, LANES, false)? } else { Operand::Bits(0) };
        let bias = match layer.bias {
            Some(bias) => self.packed_vector(bias, channels, LANES, "bias")?,
            None => Operand::Bits(0),
        };
        let bounds = match layer.bounds {
            Some(bounds) => self.packed_vector(bounds, channels, LANES, "bounds")?,
            None => Operand::Bits(0),
        };
        let zero = if integer { i64::from(self.zero_point(layer, x.storage)?) } else { 0 };
        let y = self.result_of(layer)?;
        let (out_scale, out_zero) = self.output_quantizer(layer)?;
        let size = |d: &Dim| Operand::Size(d.clone());
        let operands = vec![
            Operand::Buffer(x.buffer),
            weights,
            multipliers,
            bias,
            Operand::Bits(zero as u64),
            Operand::Buffer(y.buffer),
            out_scale,
            out_zero,
            size(&geometry.image.batch),
            size(&geometry.image.height),
            size(&geometry.image.width),
            Operand::Bits(channels as u64),
            size(&geometry.out.height),
            size(&geometry.out.width),
            Operand::Bits(geometry.sides[0] as u64),
            Operand::Bits(geometry.sides[1] as u64),
            bounds,
        ];
        let kernel = self.kernel(&format!("{spec:?}"), |name, caps| depthwise::generate(&spec, name, caps));
        let items = Self::count(&[geometry.image.batch.clone(), geometry.out.height.clone()])?;
        let (items, scratch) = (self.expr(&items)?, Expr::Const(spec.scratch_bytes(channels as u64)));
        self.step_with(&layer.node.location, kernel, operands, items, 1, scratch);
        Ok(())
    }
}

/// What a depthwise convolution computes with, and the form of weights that are expanded to that.
fn depthwise_form(
    weight: ElementType,
    x: Storage,
    taps: i64,
) -> Result<(depthwise::Format, Option<Coded>), LowerError> {
    // The blocks of a channel start anew at each tap, which has but one input channel.
    let coded = |q: QuantType| Coded::of(q, (taps > 1).then_some(1));
    let form = match (weight.quantized(), x) {
        (None, Storage::F32) => Some((depthwise::Format::F32, Coded::of_float(weight))),
        (Some(q), Storage::F32) => coded(q).map(|coded| (depthwise::Format::F32, Some(coded))),
        (
            Some(
                q @ QuantType {
                    storage: qcc_ir::Storage::Int(bits),
                    granularity: Granularity::Tensor | Granularity::Channel { axis: 0 },
                    zero_point: false,
                    ..
                },
            ),
            Storage::U8 | Storage::Biased,
        ) => {
            // Scales are in the multipliers.
            let plain = |coded| Coded { sharing: Sharing::Tensor, scale: ScaleType::F32, ..coded };
            Some((depthwise::Format::U8S8, coded(q).map(plain).filter(|_| bits != 8)))
        }
        _ => None,
    };
    form.ok_or_else(|| {
        LowerError::new(format!(
            "a depthwise convolution with weights {weight} on an input stored as {x:?} has no CPU kernel"
        ))
    })
}

/// Sizes and window of a channels-last convolution.
pub(super) struct Geometry {
    image: Image,
    out: Image,
    kernel: [i64; 2],
    strides: [i64; 2],
    dilations: [i64; 2],
    sides: [i64; 4],
}

impl Geometry {
    fn new(
        lowering: &Lowering<'_>,
        layer: &Layer<'_>,
        strides: &[i64],
        pads: &[i64],
        dilations: &[i64],
        layout: ImageLayout,
    ) -> Result<Geometry, LowerError> {
        channels_last(layout)?;
        let weight = lowering.function.ty(layer.weight).constant_dims().ok_or_else(LowerError::too_large)?;
        Ok(Geometry {
            image: Image::of(&lowering.function.ty(layer.x).dims)?,
            out: Image::of(&lowering.function.ty(layer.node.results[0]).dims)?,
            kernel: pair(&weight[2..], 1),
            strides: pair(strides, 1),
            dilations: pair(dilations, 1),
            sides: sides(pads),
        })
    }

    /// In the order of the patch gatherer's arguments.
    fn operands(&self, channel_bytes: i64, pixel_bytes: i64, pad_byte: i64) -> Vec<Operand> {
        let size = |d: &Dim| Operand::Size(d.clone());
        let bits = |v: i64| Operand::Bits(v as u64);
        vec![
            size(&self.image.height),
            size(&self.image.width),
            bits(channel_bytes),
            bits(pixel_bytes),
            size(&self.out.height),
            size(&self.out.width),
            bits(self.kernel[0]),
            bits(self.kernel[1]),
            bits(self.strides[0]),
            bits(self.strides[1]),
            bits(self.dilations[0]),
            bits(self.dilations[1]),
            bits(self.sides[0]),
            bits(self.sides[1]),
            bits(pad_byte),
        ]
    }
}
