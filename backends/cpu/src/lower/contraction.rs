//! Linear layers and convolutions: one matrix product kernel with a fused epilogue, whatever the formats.

use std::collections::HashMap;

use qcc_ir::{
    Dim, ElementType, Function, Granularity, Node, Op, OpId, QuantType, ScaleType, Str, ValueId,
    ops::ImageLayout,
};
use qcc_params::{Data, Tensor};
use qcc_runtime::program::Expr;

use super::packing::{PackedParameter, PackingError, f32_bytes, i32_bytes};
use super::window::{Image, channels_last, pair, sides};
use super::{LowerError, Lowering, Operand, Place};
use crate::kernels::depthwise::{self, DepthwiseSpec};
use crate::kernels::epilogue::{Activation, Output};
use crate::kernels::gemm::{self, ActivationScale, Epilogue, GemmSpec, Product, Rows};
use crate::kernels::pack;
use crate::loops::elementwise::activation;
use crate::loops::storage::Storage;

/// Whether a quantized value is the input of a layer with block-scaled weights, whose kernels want signed codes.
pub(super) fn feeds_block_weights(
    function: &Function,
    uses: &HashMap<ValueId, Vec<(OpId, usize)>>,
    value: ValueId,
) -> bool {
    uses.get(&value).into_iter().flatten().any(|(user, slot)| {
        let user = function.node(*user);
        let weight = user.operands.get(1).copied().flatten();
        let q = weight.and_then(|w| function.ty(w).element.quantized());
        *slot == 0
            && matches!(user.op, Op::QuantizedLinear { .. })
            && q.is_some_and(|q| matches!(q.granularity, Granularity::Block { .. }))
    })
}

/// A layer, its operands resolved as far as kernels care.
struct Layer<'n> {
    node: &'n Node,
    x: ValueId,
    weight: ValueId,
    weight_scale: Option<ValueId>,
    x_scale: Option<ValueId>,
    x_zero_point: Option<ValueId>,
    bias: Option<ValueId>,
    y_scale: Option<ValueId>,
    y_zero_point: Option<ValueId>,
    /// The result after a fused activation.
    result: ValueId,
    activation: Activation,
    output: Output,
    /// What is added to a code of the result when it is stored.
    output_offset: i64,
}

/// The matrix view of a layer.
struct Shape {
    columns: i64,
    depth: i64,
    /// How to bring a weight `[columns, depth]` into the kernel's depth order: (in channels, taps) of a convolution.
    taps: Option<(usize, usize)>,
}

impl<'a> Lowering<'a> {
    fn layer<'n>(&mut self, node: &'n Node) -> Result<Layer<'n>, LowerError> {
        let operand = |i: usize| node.operands.get(i).copied().flatten();
        let missing = || LowerError::new("an operand is missing");
        let (x, weight) = (operand(0).ok_or_else(missing)?, operand(1).ok_or_else(missing)?);
        let quantized = matches!(node.op, Op::QuantizedLinear { .. } | Op::QuantizedConv { .. });
        let at = |i: usize| if quantized { operand(i) } else { None };
        let mut layer = Layer {
            node,
            x,
            weight,
            weight_scale: at(2),
            x_scale: at(3),
            x_zero_point: at(4),
            bias: if quantized { operand(5) } else { operand(2) },
            y_scale: at(6),
            y_zero_point: at(7),
            result: node.results[0],
            activation: Activation::None,
            output: Output::F32,
            output_offset: 0,
        };
        let (lower, upper, to, narrow) = match &node.op {
            Op::QuantizedLinear { lower, upper, to, narrow } => (lower.0, upper.0, *to, *narrow),
            Op::QuantizedConv { lower, upper, to, narrow, .. } => (lower.0, upper.0, *to, *narrow),
            _ => (f64::NEG_INFINITY, f64::INFINITY, ElementType::F32, true),
        };
        layer.activation = match (lower, upper) {
            (f64::NEG_INFINITY, f64::INFINITY) => Activation::None,
            (0.0, f64::INFINITY) => Activation::Relu,
            _ => Activation::Clamp { lo: (lower as f32).into(), hi: (upper as f32).into() },
        };
        if let Some(q) = to.quantized() {
            let (lo, hi) = q
                .storage
                .integer_range(narrow)
                .ok_or_else(|| LowerError::new("the result is no integer format"))?;
            layer.output_offset = if self.storage_of(layer.result)? == Storage::Biased { 128 } else { 0 };
            let offset = layer.output_offset as i32;
            layer.output = Output::Codes { lo: (lo + offset) as i16, hi: (hi + offset) as i16 };
        } else if layer.activation == Activation::None {
            self.fuse_activation(&mut layer);
        }
        Ok(layer)
    }

    /// Takes the activation that is a layer's only user into its epilogue.
    fn fuse_activation(&mut self, layer: &mut Layer<'_>) {
        if self.targets.contains_key(&layer.result) {
            return;
        }
        if let Some([(user, 0)]) = self.uses.get(&layer.result).map(Vec::as_slice)
            && let Some(fused) = activation(&self.function.node(*user).op)
        {
            layer.activation = fused;
            layer.result = self.function.node(*user).results[0];
            self.skipped.insert(*user);
        }
    }

    pub(super) fn linear(&mut self, node: &Node) -> Result<(), LowerError> {
        let layer = self.layer(node)?;
        let weight = self.function.ty(layer.weight).constant_dims().ok_or_else(LowerError::too_large)?;
        let shape = Shape { columns: weight[0], depth: weight[1], taps: None };
        let dims = self.function.ty(layer.x).dims.clone();
        let rows = Self::count(&dims[..dims.len() - 1])?;
        let strided = if self.views.contains_key(&layer.x)
            && self.function.ty(layer.weight).element.quantized().is_none()
        {
            Some(self.strided(layer.x)?)
        } else {
            None
        };
        let (product, x) = match &strided {
            Some(rows) => (Product::F32F32, Place { buffer: rows.buffer(), storage: Storage::F32 }),
            None => self.product(&layer, &shape)?,
        };
        let mut operands = Vec::new();
        let spec = self.gemm(
            &layer,
            product,
            Rows::Matrix,
            &shape,
            x,
            &rows,
            shape.depth,
            shape.columns,
            &mut operands,
        )?;
        if let Some(rows) = strided {
            (operands[0], operands[1]) = (rows.start, rows.stride);
        }
        self.launch(&layer, &spec, operands, &rows, &shape)
    }

    /// Which product a layer is, and where its input is.
    fn product(&mut self, layer: &Layer<'_>, shape: &Shape) -> Result<(Product, Place), LowerError> {
        let x = self.place(layer.x)?;
        let product = match self.function.ty(layer.weight).element.quantized() {
            None if x.storage == Storage::F32 => Product::F32F32,
            None => {
                return Err(LowerError::new(format!(
                    "an input stored as {:?} meets float weights",
                    x.storage
                )));
            }
            Some(q) => integer_product(q, x.storage, shape)?,
        };
        Ok((product, x))
    }

    /// The kernel of a layer and its operands, in the order of [`gemm::ARGS`]. `a_width` and `c_width`: elements from one row to the next.
    #[allow(clippy::too_many_arguments, reason = "one for each side of the product")]
    fn gemm(
        &mut self,
        layer: &Layer<'_>,
        product: Product,
        rows: Rows,
        shape: &Shape,
        x: Place,
        row_count: &Dim,
        a_width: i64,
        c_width: i64,
        operands: &mut Vec<Operand>,
    ) -> Result<GemmSpec, LowerError> {
        let token = match layer.x_scale {
            Some(s) => !self.function.ty(s).dims.is_empty(),
            None => false,
        };
        let epilogue = Epilogue {
            bias: layer.bias.is_some(),
            scale: if token { ActivationScale::Token } else { ActivationScale::Tensor },
            activation: layer.activation,
            output: layer.output,
        };
        let spec = GemmSpec::new(self.caps, product, rows, epilogue);
        let weights = self.packed_weights(layer, product, shape, spec.nr)?;
        let none = || Operand::Bits(0);
        let (mut corrections, mut multipliers, mut row_scales, mut row_sums) =
            (none(), none(), none(), none());
        match product {
            Product::F32F32 | Product::F32U4Block { .. } => {}
            Product::F32S8 | Product::F32S4 => {
                multipliers = self.packed_multipliers(layer, shape, spec.nr, true)?;
            }
            Product::U8S8 | Product::U8S4 => {
                let zero = self.zero_point(layer, x.storage)?;
                corrections = self.packed_corrections(layer, product, shape, spec.nr, zero)?;
                multipliers = self.packed_multipliers(layer, shape, spec.nr, token)?;
                if token {
                    row_scales = Operand::Buffer(self.scale_place(layer)?.buffer);
                }
            }
            Product::S8U4Block { block } => {
                row_scales = Operand::Buffer(self.scale_place(layer)?.buffer);
                row_sums = self.row_sums(layer, x, row_count, shape, block)?;
            }
        }
        let bias = match layer.bias {
            Some(bias) => self.packed_vector(bias, shape.columns, spec.nr, "bias")?,
            None => none(),
        };
        let c = self.result_of(layer)?;
        let (out_scale, out_zero) = self.output_quantizer(layer)?;
        operands.extend([
            Operand::Buffer(x.buffer),
            Operand::Bits((a_width * x.storage.bytes()) as u64),
            weights,
            corrections,
            multipliers,
            bias,
            row_scales,
            row_sums,
            Operand::Buffer(c.buffer),
            Operand::Bits((c_width * c.storage.bytes()) as u64),
            out_scale,
            out_zero,
            Operand::Size(row_count.clone()),
            Operand::Bits(shape.columns as u64),
            Operand::Bits(shape.depth as u64),
        ]);
        Ok(spec)
    }

    fn result_of(&mut self, layer: &Layer<'_>) -> Result<Place, LowerError> {
        match self.places.get(&layer.result) {
            Some(place) => Ok(*place),
            None => self.result(layer.result),
        }
    }

    fn launch(
        &mut self,
        layer: &Layer<'_>,
        spec: &GemmSpec,
        operands: Vec<Operand>,
        rows: &Dim,
        shape: &Shape,
    ) -> Result<(), LowerError> {
        let kernel = self.kernel(&format!("{spec:?}"), |name, caps| gemm::generate(spec, name, caps));
        let row_blocks = self.expr_ceil_div(rows, spec.block_rows() as u64)?;
        let panels = (shape.columns as u64).div_ceil(spec.nr as u64);
        let items = match row_blocks {
            Expr::Const(n) => Expr::Const(n * panels),
            e => Expr::Mul(Box::new(e), Box::new(Expr::Const(panels))),
        };
        let scratch = Expr::Const(spec.scratch_bytes(shape.depth as u64));
        self.step_with(&layer.node.location, kernel, operands, items, 1, scratch);
        Ok(())
    }

    fn scale_place(&mut self, layer: &Layer<'_>) -> Result<Place, LowerError> {
        self.place(layer.x_scale.ok_or_else(|| LowerError::new("the input has no scale"))?)
    }

    /// The zero point of the input as stored: codes of signed formats are stored 128 higher.
    fn zero_point(&self, layer: &Layer<'_>, storage: Storage) -> Result<i32, LowerError> {
        let zero = self.static_zero(layer.x_zero_point)?;
        let offset = if storage == Storage::Biased { 128 } else { 0 };
        i32::try_from(zero + offset).map_err(|_| LowerError::too_large())
    }

    pub(super) fn static_zero(&self, zero_point: Option<ValueId>) -> Result<i64, LowerError> {
        let Some(value) = zero_point else { return Ok(0) };
        match self.constant(value).map(|t| t.data) {
            Some(Data::I32(v)) if v.len() == 1 => Ok(i64::from(v[0])),
            _ => Err(LowerError::new("a zero point must be a constant")),
        }
    }

    /// The constant a value is.
    fn constant(&self, value: ValueId) -> Option<Tensor> {
        match &self.function.defining(value)?.1.op {
            Op::Constant { value } => Tensor::from_dense(value).ok(),
            _ => None,
        }
    }

    /// The stored code of 0.0 of a quantized value, as bits for a fill.
    pub(super) fn zero_code(&self, value: ValueId) -> Result<u64, LowerError> {
        let Some(q) = self.function.ty(value).element.quantized() else { return Ok(0) };
        if q.zero_point {
            // The pad's quantize carries the zero point; find it at a user.
            let user = self.uses.get(&value).into_iter().flatten().find_map(|(user, _)| {
                let node = self.function.node(*user);
                match node.op {
                    Op::QuantizedConv { .. } | Op::QuantizedLinear { .. } => {
                        node.operands.get(4).copied().flatten()
                    }
                    Op::Dequantize {} => node.operands.get(2).copied().flatten(),
                    _ => None,
                }
            });
            return Ok(self.static_zero(Some(
                user.ok_or_else(|| LowerError::new("the pad's zero point is not known"))?,
            ))? as u64);
        }
        Ok(if self.storage_of(value)? == Storage::Biased { 128 } else { 0 })
    }

    fn weight_name(&self, layer: &Layer<'_>) -> Result<Str, LowerError> {
        self.function.parameter_name(layer.weight).cloned().ok_or_else(|| {
            LowerError::new("the weight is computed at run time; only parameters can be packed")
        })
    }

    fn packed_weights(
        &mut self,
        layer: &Layer<'_>,
        product: Product,
        shape: &Shape,
        nr: usize,
    ) -> Result<Operand, LowerError> {
        let name = self.weight_name(layer)?;
        let (columns, depth, taps) = (shape.columns as usize, shape.depth as usize, shape.taps);
        let panels = columns.div_ceil(nr) as u64;
        let bytes =
            panels.checked_mul(product.panel_bytes(nr, depth as u64)).ok_or_else(LowerError::too_large)?;
        let scale = match (product, layer.weight_scale) {
            (Product::S8U4Block { .. } | Product::F32U4Block { .. }, Some(scale)) => Some(
                self.function
                    .parameter_name(scale)
                    .cloned()
                    .ok_or_else(|| LowerError::new("a weight's scales must be parameters"))?,
            ),
            _ => None,
        };
        // Block products of either activation share one form.
        let form = match product {
            Product::F32F32 => "f32".to_string(),
            Product::U8S8 | Product::F32S8 => "s8".to_string(),
            Product::U8S4 | Product::F32S4 => "s4".to_string(),
            Product::S8U4Block { block } | Product::F32U4Block { block } => format!("u4 block {block}"),
        };
        let packed = PackedParameter::new(
            format!("{name} {form} panels of {nr}{}", taps_name(taps)),
            bytes,
            move |weights| {
                let tensor = weights.get(&name)?;
                let failed = |source| PackingError::Pack { name: name.to_string(), source };
                Ok(match product {
                    Product::F32F32 => {
                        let rows = reorder(&tensor.to_f32_vec(), columns, taps);
                        f32_bytes(&pack::pack_f32(&rows, columns, depth, nr).map_err(failed)?)
                    }
                    Product::U8S8 | Product::F32S8 => {
                        pack::pack_s8(&reorder(codes(&name, &tensor)?, columns, taps), columns, depth, nr)
                            .map_err(failed)?
                            .bytes
                    }
                    Product::U8S4 | Product::F32S4 => {
                        pack::pack_s4(&reorder(codes(&name, &tensor)?, columns, taps), columns, depth, nr)
                            .map_err(failed)?
                            .bytes
                    }
                    Product::S8U4Block { block } | Product::F32U4Block { block } => {
                        let unsigned: Vec<u8> =
                            codes(&name, &tensor)?.iter().map(|c| (c + 8) as u8).collect();
                        let scale =
                            weights.get(scale.as_ref().expect("invariant: block products have scales"))?;
                        let Data::F16(scales) = &scale.data else {
                            return Err(PackingError::Unexpected {
                                name: name.to_string(),
                                message: "block scales are not f16".into(),
                            });
                        };
                        let bits: Vec<u16> = scales.iter().map(|s| s.to_bits()).collect();
                        pack::pack_u4_blocks(&unsigned, &bits, columns, depth, nr, block as usize)
                            .map_err(failed)?
                    }
                })
            },
        );
        Ok(Operand::Buffer(self.parameter(packed)))
    }

    fn packed_corrections(
        &mut self,
        layer: &Layer<'_>,
        product: Product,
        shape: &Shape,
        nr: usize,
        zero: i32,
    ) -> Result<Operand, LowerError> {
        let name = self.weight_name(layer)?;
        let (columns, depth, taps) = (shape.columns as usize, shape.depth as usize, shape.taps);
        let bytes = (columns.div_ceil(nr) * nr * 4) as u64;
        let packed = PackedParameter::new(
            format!("{name} corrections for zero {zero} padded to {nr}"),
            bytes,
            move |weights| {
                let tensor = weights.get(&name)?;
                let failed = |source| PackingError::Pack { name: name.to_string(), source };
                let rows = reorder(codes(&name, &tensor)?, columns, taps);
                let packed = match product {
                    Product::U8S4 => pack::pack_s4(&rows, columns, depth, nr),
                    _ => pack::pack_s8(&rows, columns, depth, nr),
                };
                Ok(i32_bytes(&packed.map_err(failed)?.corrections(zero)))
            },
        );
        Ok(Operand::Buffer(self.parameter(packed)))
    }

    /// `x_scale · weight_scale` a column, each rounded once; with a scale a token, the weight scales alone.
    fn packed_multipliers(
        &mut self,
        layer: &Layer<'_>,
        shape: &Shape,
        nr: usize,
        token: bool,
    ) -> Result<Operand, LowerError> {
        let scale = layer.weight_scale.ok_or_else(|| LowerError::new("the weight has no scale"))?;
        let name = self
            .function
            .parameter_name(scale)
            .cloned()
            .ok_or_else(|| LowerError::new("a weight's scales must be parameters"))?;
        let x_scale = match (token, layer.x_scale) {
            (false, Some(s)) => match self.constant(s).map(|t| t.data) {
                Some(Data::F32(v)) if v.len() == 1 => Some(v[0]),
                _ => {
                    return Err(LowerError::new(
                        "a dynamic per-tensor scale has no CPU kernel; use a static one or one a token",
                    ));
                }
            },
            _ => None,
        };
        let columns = shape.columns as usize;
        let bytes = (columns.div_ceil(nr) * nr * 4) as u64;
        let bits = x_scale.map_or_else(|| "token".to_string(), |s| format!("{:08x}", s.to_bits()));
        let packed = PackedParameter::new(
            format!("{name} multipliers {bits} of {columns} padded to {nr}"),
            bytes,
            move |weights| {
                let scales = weights.get(&name)?.to_f32_vec();
                let product: Vec<f32> = (0..columns)
                    .map(|n| {
                        let s =
                            if scales.len() == 1 { scales[0] } else { scales.get(n).copied().unwrap_or(0.0) };
                        x_scale.map_or(s, |x| x * s)
                    })
                    .collect();
                Ok(f32_bytes(&pack::pad_columns(&product, nr)))
            },
        );
        Ok(Operand::Buffer(self.parameter(packed)))
    }

    /// A per-column vector, padded to whole panels.
    fn packed_vector(
        &mut self,
        value: ValueId,
        columns: i64,
        nr: usize,
        what: &str,
    ) -> Result<Operand, LowerError> {
        let bytes = ((columns as usize).div_ceil(nr) * nr * 4) as u64;
        let packed = match (self.function.parameter_name(value).cloned(), self.constant(value)) {
            (Some(name), _) => {
                PackedParameter::new(format!("{name} padded to {nr}"), bytes, move |weights| {
                    Ok(f32_bytes(&pack::pad_columns(&weights.get(&name)?.to_f32_vec(), nr)))
                })
            }
            (None, Some(tensor)) => {
                let values = f32_bytes(&pack::pad_columns(&tensor.to_f32_vec(), nr));
                let name = format!("constant {what} {}", blake3::hash(&values).to_hex());
                PackedParameter::new(name, bytes, move |_| Ok(values.clone()))
            }
            (None, None) => {
                return Err(LowerError::new(format!(
                    "the {what} is computed at run time; only parameters can be packed"
                )));
            }
        };
        Ok(Operand::Buffer(self.parameter(packed)))
    }

    /// Per-row, per-block sums of signed codes, which correct for the weights' zero point of 8.
    fn row_sums(
        &mut self,
        layer: &Layer<'_>,
        x: Place,
        rows: &Dim,
        shape: &Shape,
        block: u32,
    ) -> Result<Operand, LowerError> {
        if let Some(&(sums, b)) = self.block_sums.get(&layer.x)
            && b == block
        {
            return Ok(Operand::Buffer(sums));
        }
        debug_assert_eq!(x.storage, Storage::I8);
        Err(LowerError::new(format!(
            "the input's sums over blocks of {block} ({} rows of {}) are not known: it must come from a dynamic quantize of the same block",
            rows, shape.depth
        )))
    }

    // ---- convolutions ----

    pub(super) fn conv(&mut self, node: &Node) -> Result<(), LowerError> {
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
        let integer = match self.function.ty(layer.weight).element.quantized() {
            None if x.storage == Storage::F32 => false,
            Some(QuantType {
                storage: qcc_ir::Storage::Int(8),
                granularity: Granularity::Tensor | Granularity::Channel { axis: 0 },
                ..
            }) if matches!(x.storage, Storage::U8 | Storage::Biased) => true,
            _ => {
                return Err(LowerError::new(
                    "a depthwise convolution of these formats has no CPU kernel; int8 and f32 have",
                ));
            }
        };
        let spec = DepthwiseSpec {
            format: if integer { depthwise::Format::U8S8 } else { depthwise::Format::F32 },
            window: geometry.kernel.map(|v| v as usize),
            stride: geometry.strides.map(|v| v as usize),
            dilation: geometry.dilations.map(|v| v as usize),
            bias: layer.bias.is_some(),
            activation: layer.activation,
            output: layer.output,
        };
        const LANES: usize = 16;
        let name = self.weight_name(layer)?;
        let (c, t) = (channels as usize, taps as usize);
        let (kind, size) = if integer { ("s8", 1) } else { ("f32", 4) };
        let bytes = (c.div_ceil(LANES) * LANES * t * size) as u64;
        let packed = PackedParameter::new(format!("{name} {kind} channel blocks"), bytes, move |weights| {
            let tensor = weights.get(&name)?;
            let failed = |source| PackingError::Pack { name: name.to_string(), source };
            Ok(if integer {
                let packed = pack::pack_channel_blocks_s8(codes(&name, &tensor)?, c, t).map_err(failed)?;
                packed.into_iter().map(|code| code as u8).collect()
            } else {
                f32_bytes(&pack::pack_channel_blocks(&tensor.to_f32_vec(), c, t).map_err(failed)?)
            })
        });
        let weights = Operand::Buffer(self.parameter(packed));
        let shape = Shape { columns: channels, depth: taps, taps: None };
        let multipliers =
            if integer { self.packed_multipliers(layer, &shape, LANES, false)? } else { Operand::Bits(0) };
        let bias = match layer.bias {
            Some(bias) => self.packed_vector(bias, channels, LANES, "bias")?,
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
        ];
        let kernel = self.kernel(&format!("{spec:?}"), |name, caps| depthwise::generate(&spec, name, caps));
        let items = Self::count(&[geometry.image.batch.clone(), geometry.out.height.clone()])?;
        self.step(&layer.node.location, kernel, operands, &items, 1)
    }

    /// Scale and stored zero point of a quantized result.
    fn output_quantizer(&mut self, layer: &Layer<'_>) -> Result<(Operand, Operand), LowerError> {
        Ok(match layer.y_scale {
            Some(scale) => {
                let zero = self.static_zero(layer.y_zero_point)? + layer.output_offset;
                (Operand::Buffer(self.place(scale)?.buffer), Operand::Bits(zero as u64))
            }
            None => (Operand::Bits(0), Operand::Bits(0)),
        })
    }
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

fn integer_product(q: QuantType, x: Storage, shape: &Shape) -> Result<Product, LowerError> {
    use qcc_ir::Storage::Int;
    match (q.storage, q.granularity, x) {
        (Int(8), Granularity::Tensor | Granularity::Channel { axis: 0 }, Storage::U8 | Storage::Biased) => {
            Ok(Product::U8S8)
        }
        (Int(4), Granularity::Tensor | Granularity::Channel { axis: 0 }, Storage::U8 | Storage::Biased) => {
            Ok(Product::U8S4)
        }
        (Int(8), Granularity::Tensor | Granularity::Channel { axis: 0 }, Storage::F32) => Ok(Product::F32S8),
        (Int(4), Granularity::Tensor | Granularity::Channel { axis: 0 }, Storage::F32) => Ok(Product::F32S4),
        (Int(4), Granularity::Block { axis: 1, block }, Storage::I8 | Storage::F32)
            if q.scale == ScaleType::F16 && shape.taps.is_none() =>
        {
            Ok(if x == Storage::F32 { Product::F32U4Block { block } } else { Product::S8U4Block { block } })
        }
        _ => Err(LowerError::new(format!(
            "weights {} on an input stored as {x:?} have no CPU kernel yet; int8 and int4 per tensor or channel, and int4:block=N with f16 scales have, on f32 or int8",
            ElementType::Quant(q)
        ))),
    }
}

fn taps_name(taps: Option<(usize, usize)>) -> String {
    taps.map_or_else(String::new, |(_, t)| if t > 1 { " taps first".into() } else { String::new() })
}

fn codes<'t>(name: &str, tensor: &'t Tensor) -> Result<&'t [i8], PackingError> {
    match &tensor.data {
        Data::I8(codes) => Ok(codes),
        _ => Err(PackingError::Unexpected {
            name: name.to_string(),
            message: "its elements are no signed codes".into(),
        }),
    }
}

/// Rows `[in][taps]` of a convolution's weight as `[taps][in]`, the order in which patches are gathered.
fn reorder<T: Copy>(weights: &[T], columns: usize, taps: Option<(usize, usize)>) -> Vec<T> {
    match taps {
        Some((channels, taps)) if taps > 1 => (0..columns)
            .flat_map(|n| {
                (0..taps).flat_map(move |t| (0..channels).map(move |c| (n * channels + c) * taps + t))
            })
            .filter_map(|i| weights.get(i).copied())
            .collect(),
        _ => weights.to_vec(),
    }
}
