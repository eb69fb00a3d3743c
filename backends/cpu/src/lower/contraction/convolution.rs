//! Convolutions: the matrix product over patches, and a kernel of their own for depthwise ones.

use qcc_ir::{Dim, ElementType, Granularity, Node, Op, QuantType, ScaleType, ops::ImageLayout};
use qcc_runtime::program::Expr;

use super::super::window::{Image, channels_last, pair, sides};
use super::super::{LowerError, Lowering, Operand};
use super::weights::{Columns, Vector};
use super::{Form, Layer, Shape};
use crate::kernels::coded::{Coded, Sharing};
use crate::kernels::depthwise::{self, DepthwiseSpec};
use crate::kernels::gemm::{Product, Rows};
use crate::kernels::interleaved;
use crate::kernels::lines::{self, Lines};
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
        let mut shape = Shape {
            columns: weight[0],
            depth: weight[1] * taps,
            taps: Some((weight[1] as usize, taps as usize)),
            runs: 1,
        };
        let rows = Self::count(&[
            geometry.image.batch.clone(),
            geometry.out.height.clone(),
            geometry.out.width.clone(),
        ])?;
        let (product, x) = self.product(&layer, &shape)?;
        let mut operands = Vec::new();
        let pointwise = taps == 1 && geometry.strides == [1, 1] && geometry.sides == [0; 4];
        let lines = if pointwise { None } else { geometry.lines(product) };
        let likely = match (&lines, geometry.out.height.constant(), geometry.out.width.constant()) {
            (Some(lines), ..) => Some(lines.pixels as i64),
            (None, Some(height), Some(width)) => height.checked_mul(width),
            _ => None,
        };
        let kind = match lines {
            _ if pointwise => Rows::Matrix,
            Some(lines) => {
                shape.runs = geometry.kernel[0] as usize;
                Rows::Lines(lines)
            }
            None => Rows::Patches,
        };
        let widths = (shape.depth, shape.columns);
        let spec =
            self.gemm(&layer, product, (kind, likely), &shape, x, &rows, widths.0, widths.1, &mut operands)?;
        if !pointwise {
            let bytes = weight[1] * x.storage.bytes();
            let pad =
                if x.storage == Storage::F32 { 0 } else { i64::from(self.zero_point(&layer, x.storage)?) };
            operands.extend(geometry.operands(bytes, bytes, pad));
        }
        let (blocks, scratch) = match lines {
            Some(lines) => {
                let line_blocks = self.expr_ceil_div(&geometry.out.height, lines.count as u64)?;
                let batch = self.expr(&geometry.image.batch)?;
                let staged = geometry.staged_bytes(lines, weight[1] * x.storage.bytes());
                let scratch = spec.scratch_bytes(0) + staged;
                (Expr::Mul(Box::new(batch), Box::new(line_blocks)), scratch)
            }
            None => {
                let blocks = self.expr_ceil_div(&rows, spec.block_rows() as u64)?;
                (blocks, spec.scratch_bytes(shape.depth as u64))
            }
        };
        self.launch(&layer, &spec, operands, blocks, &shape, scratch)?;
        self.products(product.product, &rows, shape.columns, shape.depth)
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
        let zero = if integer { i64::from(self.zero_point(layer, x.storage)?) } else { 0 };
        let y = self.result_of(layer)?;
        let (out_scale, out_zero) = self.output_quantizer(layer)?;
        let size = |d: &Dim| Operand::Size(d.clone());
        let operands = |of: ByChannel| {
            vec![
                Operand::Buffer(x.buffer),
                of.weights,
                of.multipliers,
                of.bias,
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
                of.bounds,
            ]
        };
        let lines = Self::count(&[geometry.image.batch.clone(), geometry.out.height.clone()])?;
        let pixels = lines.checked_mul(&geometry.out.width).ok_or_else(LowerError::too_large)?;
        let product = if integer { Product::U8S8 } else { Product::F32F32 };
        let items = self.expr(&lines)?;
        let widths = [&geometry.image.width, &geometry.out.width].map(|d| d.constant().map(|n| n as u64));
        let name = &layer.node.location;
        if let ([Some(width), Some(out_width)], true) = (widths, interleaved::fits(&spec, self.caps)) {
            let (by_channel, corrections) = self.interleaved(layer, channels, spec.window, zero as i32)?;
            let mut operands = operands(by_channel);
            operands.extend([corrections, Operand::Bits(interleaved::period(channels as usize) as u64)]);
            let kernel = self.kernel(&format!("depthwise interleaved {spec:?}"), |name, caps| {
                interleaved::generate(&spec, name, caps)
            });
            let scratch = interleaved::scratch_bytes(&spec, channels as u64, width, out_width);
            self.step_with(name, kernel, operands, items, 1, Expr::Const(scratch));
            return self.products(product, &pixels, channels, taps);
        }
        /// Channels of a block.
        const LANES: usize = 16;
        let shape = Shape::of_matrix(channels, taps);
        let weights = match coded {
            None => self.packed_depthwise(layer, (channels as usize, taps as usize), LANES, integer)?,
            Some(coded) => {
                let more = (layer.weight_scale, &layer.weight_more[..]);
                self.packed_codes(layer.weight, more, coded, &shape, LANES)?
            }
        };
        let none = || Operand::Bits(0);
        let order = Columns::Panels(LANES);
        let multipliers =
            if integer { self.packed_multipliers(layer, &shape, order, false)? } else { none() };
        let addend = if integer { Vector::Addend } else { Vector::Bias };
        let bias = self.packed_or_none(layer.bias, channels, order, addend)?;
        let bounds = self.packed_or_none(layer.bounds, channels, order, Vector::Bounds)?;
        let operands = operands(ByChannel { weights, multipliers, bias, bounds });
        let kernel = self.kernel(&format!("{spec:?}"), |name, caps| depthwise::generate(&spec, name, caps));
        let scratch = Expr::Const(spec.scratch_bytes(channels as u64));
        self.step_with(name, kernel, operands, items, 1, scratch);
        self.products(product, &pixels, channels, taps)
    }
}

impl Lowering<'_> {
    /// The operands of an [`interleaved`] kernel that differ by channel, and its corrections.
    fn interleaved(
        &mut self,
        layer: &Layer<'_>,
        channels: i64,
        window: [usize; 2],
        zero: i32,
    ) -> Result<(ByChannel, Operand), LowerError> {
        let (weights, corrections) = self.packed_interleaved(layer, channels as usize, window, zero)?;
        let shape = Shape::of_matrix(channels, (window[0] * window[1]) as i64);
        let multipliers = self.packed_multipliers(layer, &shape, Columns::Period, false)?;
        let bias = self.packed_or_none(layer.bias, channels, Columns::Period, Vector::Addend)?;
        let bounds = self.packed_or_none(layer.bounds, channels, Columns::Period, Vector::Bounds)?;
        Ok((ByChannel { weights, multipliers, bias, bounds }, corrections))
    }
}

/// Operands of a depthwise convolution that differ by channel.
struct ByChannel {
    weights: Operand,
    multipliers: Operand,
    bias: Operand,
    bounds: Operand,
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

    /// How a convolution's output is cut into lines, where its patches are runs of the image's lines and sizes are known.
    fn lines(&self, form: Form) -> Option<Lines> {
        /// Pixels that are worth reading a panel of weights for.
        const PIXELS: u64 = 128;
        let plain = matches!(form.product, Product::U8S8 | Product::F32F32) && form.coded.is_none();
        let known = [&self.image.height, &self.image.width].into_iter().all(|d| d.constant().is_some());
        let size = |d: &Dim| d.constant().and_then(|n| u64::try_from(n).ok()).filter(|n| *n > 0);
        let (height, pixels) = (size(&self.out.height)?, size(&self.out.width)?);
        if !plain || !known || self.dilations[1] != 1 {
            return None;
        }
        let most = PIXELS.div_ceil(pixels).min(height);
        // As even as may be.
        let count = height.div_ceil(height.div_ceil(most));
        Some(Lines {
            count: usize::try_from(count).ok()?,
            pixels: usize::try_from(pixels).ok()?,
            padded: self.sides != [0; 4],
        })
    }

    /// Bytes of the lines between pads that an item of `lines` needs.
    fn staged_bytes(&self, lines: Lines, pixel_bytes: i64) -> u64 {
        if !lines.padded {
            return 0;
        }
        let needed =
            (lines.count as i64 - 1) * self.strides[0] + (self.kernel[0] - 1) * self.dilations[0] + 1;
        let span = ((lines.pixels as i64 - 1) * self.strides[1] + self.kernel[1]) * pixel_bytes;
        lines::staged_bytes(needed as u64, span as u64)
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
