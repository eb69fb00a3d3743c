//! Linear layers and convolutions: one matrix product kernel with a fused epilogue, whatever the formats.

mod convolution;
mod form;
mod table;
mod weights;

use std::collections::HashMap;

use qcc_ir::{Dim, ElementType, Function, Granularity, Node, Op, OpId, QuantType, ScaleType, ValueId};
use qcc_params::{Data, Tensor};
use qcc_runtime::program::{Expr, Work};

use self::form::{Form, weight_form};
pub(crate) use self::form::{KernelForm, kernel_form};
use self::weights::{Columns, Vector};
use super::{LowerError, Lowering, Operand, Place};
use crate::kernels::coded::Coded;
use crate::kernels::epilogue::{Activation, Output};
use crate::kernels::gemm::{self, ActivationScale, Epilogue, GemmSpec, Product, Rows};
use crate::kernels::split::SplitCodes;
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

/// Where `c` stands in [`gemm::ARGS`].
const RESULT: usize = 8;

/// A layer, its operands resolved as far as kernels care.
struct Layer<'n> {
    node: &'n Node,
    x: ValueId,
    weight: ValueId,
    weight_scale: Option<ValueId>,
    /// What else comes with the codes of a weight that is decoded by the kernel.
    weight_more: Vec<ValueId>,
    x_scale: Option<ValueId>,
    x_zero_point: Option<ValueId>,
    bias: Option<ValueId>,
    y_scale: Option<ValueId>,
    y_zero_point: Option<ValueId>,
    /// An upper bound for each channel, after the activation.
    bounds: Option<ValueId>,
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
    /// Runs that the kernel reads one after the other: each has whole k-groups.
    runs: usize,
}

impl Shape {
    fn of_matrix(columns: i64, depth: i64) -> Shape {
        Shape { columns, depth, taps: None, runs: 1 }
    }

    /// Values along K of a run.
    fn run(&self) -> usize {
        self.depth as usize / self.runs.max(1)
    }

    /// Values along K of a panel: runs are filled up to whole k-groups where there are several.
    fn packed_depth(&self, product: Product) -> usize {
        let group = if product == Product::U8S8 && self.runs > 1 { 4 } else { 1 };
        self.runs * self.run().next_multiple_of(group)
    }
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
            weight_more: Vec::new(),
            x_scale: at(3),
            x_zero_point: at(4),
            bias: if quantized { operand(5) } else { operand(2) },
            y_scale: at(6),
            y_zero_point: at(7),
            bounds: at(8),
            result: node.results[0],
            activation: Activation::None,
            output: Output::F32,
            output_offset: 0,
        };
        if let Some((_, decoded)) = self.function.defining(weight)
            && is_coded_weight(self.function, decoded)
        {
            let mut operands = decoded.operands.iter().copied().flatten();
            (layer.weight, layer.weight_scale) = (operands.next().ok_or_else(missing)?, operands.next());
            layer.weight_more = operands.collect();
        }
        if let Some((_, widened)) = self.function.defining(x)
            && self.is_widened_by_readers(widened)
        {
            layer.x = widened.operands[0].ok_or_else(missing)?;
        }
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
            self.fuse_bounds(&mut layer);
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

    /// Takes a minimum with a bound for each channel, a convolution's only user, into its epilogue.
    fn fuse_bounds(&mut self, layer: &mut Layer<'_>) {
        if self.targets.contains_key(&layer.result) || !matches!(layer.node.op, Op::Conv { .. }) {
            return;
        }
        let Some([(user, slot @ (0 | 1))]) = self.uses.get(&layer.result).map(Vec::as_slice) else { return };
        let node = self.function.node(*user);
        let (Op::Min {}, Some(Some(bounds))) = (&node.op, node.operands.get(1 - slot)) else { return };
        let (ty, image) = (self.function.ty(*bounds), self.function.ty(layer.result));
        let whole = ty.dims.last() == image.dims.last() && ty.rank() <= image.rank();
        let vector = ty.dims.iter().rev().skip(1).all(|d| *d == Dim::Const(1));
        if whole && vector && self.function.parameter_name(*bounds).is_some() {
            layer.bounds = Some(*bounds);
            layer.result = node.results[0];
            self.skipped.insert(*user);
        }
    }

    pub(super) fn linear(&mut self, node: &Node) -> Result<(), LowerError> {
        let layer = self.layer(node)?;
        let weight = self.function.ty(layer.weight).constant_dims().ok_or_else(LowerError::too_large)?;
        let shape = Shape::of_matrix(weight[0], weight[1]);
        let dims = self.function.ty(layer.x).dims.clone();
        let rows = Self::count(&dims[..dims.len() - 1])?;
        let strided = if self.views.contains_key(&layer.x)
            && self.function.ty(layer.weight).element == ElementType::F32
        {
            Some(self.strided(layer.x)?)
        } else {
            None
        };
        let (product, x) = match &strided {
            Some(rows) => {
                (Form::native(Product::F32F32), Place { buffer: rows.buffer(), storage: Storage::F32 })
            }
            None => self.product(&layer, &shape)?,
        };
        let mut operands = Vec::new();
        let likely = rows.constant();
        let spec = self.gemm(
            &layer,
            product,
            (Rows::Matrix, likely),
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
        let blocks = self.expr_ceil_div(&rows, spec.block_rows() as u64)?;
        self.launch(&layer, &spec, operands, blocks, &shape, spec.scratch_bytes(shape.depth as u64))?;
        self.products(product.product, &rows, shape.columns, shape.depth)
    }

    /// Whether a linear layer of bf16 weights gives f32.
    fn is_bf16(&self, layer: &Layer<'_>) -> bool {
        let element = |value: ValueId| self.function.ty(value).element;
        matches!(layer.node.op, Op::Linear {})
            && element(layer.weight) == ElementType::BF16
            && element(layer.result) == ElementType::F32
    }

    /// Which product a layer is, and where its input is.
    fn product(&mut self, layer: &Layer<'_>, shape: &Shape) -> Result<(Form, Place), LowerError> {
        let x = self.place(layer.x)?;
        let product = match self.function.ty(layer.weight).element.quantized() {
            None if x.storage == Storage::F32 => Form::of_floats(self.function.ty(layer.weight).element),
            None if x.storage == Storage::BF16 && self.is_bf16(layer) => Form::native(Product::BF16BF16),
            None => {
                return Err(LowerError::new(format!(
                    "an input stored as {:?} meets float weights",
                    x.storage
                )));
            }
            Some(q) => weight_form(q, x.storage, shape)?,
        };
        Ok((product, x))
    }

    /// The kernel of a layer and its operands, in the order of [`gemm::ARGS`]. `rows`: what they are, and how many there are likely (of lines: in a
    /// line). `a_width` and `c_width`: elements from one row to the next.
    #[allow(clippy::too_many_arguments, reason = "one for each side of the product")]
    fn gemm(
        &mut self,
        layer: &Layer<'_>,
        form: Form,
        (rows, likely): (Rows, Option<i64>),
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
            bounded: layer.bounds.is_some(),
            output: layer.output,
        };
        let Form { product, coded } = form;
        // A single row is decoded token by token: nothing to fit.
        let likely = likely.and_then(|n| u64::try_from(n).ok()).filter(|n| *n > 1);
        let spec = GemmSpec { coded, ..GemmSpec::new(self.caps, product, rows, epilogue) };
        let spec = spec.fit(self.caps, shape.columns as u64, shape.run() as u64, likely);
        let weights = match (product, coded) {
            (_, Some(coded)) => {
                let more = (layer.weight_scale, &layer.weight_more[..]);
                self.packed_codes(layer.weight, more, coded, shape, spec.nr)?
            }
            (Product::F32Split(codes), _) => self.packed_split(layer, codes, shape, spec.nr)?,
            _ => self.packed_weights((layer.weight, layer.weight_scale), product, shape, spec.nr)?,
        };
        let none = || Operand::Bits(0);
        let (mut corrections, mut multipliers, mut row_scales, mut row_sums) =
            (none(), none(), none(), none());
        match product {
            Product::F32F32 | Product::BF16BF16 | Product::F32Block(_) | Product::F32Split(_) => {}
            Product::F32S8 | Product::F32S4 => {
                multipliers = self.packed_multipliers(layer, shape, Columns::Panels(spec.nr), true)?;
            }
            Product::U8S8 | Product::U8S4 => {
                let zero = self.zero_point(layer, x.storage)?;
                corrections = self.packed_corrections(layer, product, shape, spec.nr, zero)?;
                multipliers = self.packed_multipliers(layer, shape, Columns::Panels(spec.nr), token)?;
                if token {
                    row_scales = Operand::Buffer(self.scale_place(layer)?.buffer);
                }
            }
            Product::S8Block(blocks) => {
                row_scales = Operand::Buffer(self.scale_place(layer)?.buffer);
                row_sums = self.row_sums(layer, x, row_count, shape, blocks.block)?;
            }
        }
        let order = Columns::Panels(spec.nr);
        let codes = matches!(product, Product::U8S8 | Product::U8S4);
        let addend = if codes { Vector::Addend } else { Vector::Bias };
        let bias = self.packed_or_none(layer.bias, shape.columns, order, addend)?;
        let bounds = self.packed_or_none(layer.bounds, shape.columns, order, Vector::Bounds)?;
        let (c, to, c_width) = match self.joined_place(layer.result)? {
            Some((whole, column, width)) => {
                (whole, Operand::At(whole.buffer, column * whole.storage.bytes()), width)
            }
            None => {
                let own = self.result_of(layer)?;
                (own, Operand::Buffer(own.buffer), c_width)
            }
        };
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
            to,
            Operand::Bits((c_width * c.storage.bytes()) as u64),
            out_scale,
            out_zero,
            Operand::Size(row_count.clone()),
            Operand::Bits(shape.columns as u64),
            Operand::Bits(shape.run() as u64),
            bounds,
        ]);
        Ok(spec)
    }

    fn result_of(&mut self, layer: &Layer<'_>) -> Result<Place, LowerError> {
        match self.places.get(&layer.result) {
            Some(place) => Ok(*place),
            None => self.result(layer.result),
        }
    }

    /// Counts the operations of the last step: so many rows and columns of sums of so many products.
    fn products(&mut self, product: Product, rows: &Dim, columns: i64, depth: i64) -> Result<(), LowerError> {
        let each =
            columns.checked_mul(depth).and_then(|n| n.checked_mul(2)).ok_or_else(LowerError::too_large)?;
        let all = rows.checked_mul(&Dim::Const(each)).ok_or_else(LowerError::too_large)?;
        let all = self.expr(&all)?;
        let none = Work::default();
        self.works(match product.activation_bytes() {
            1 => Work { integer: all, ..none },
            2 => Work { bf16: all, ..none },
            _ => Work { float: all, ..none },
        });
        Ok(())
    }

    /// The step of a product: its items are the panels of so many blocks of rows.
    fn launch(
        &mut self,
        layer: &Layer<'_>,
        spec: &GemmSpec,
        operands: Vec<Operand>,
        blocks: Expr,
        shape: &Shape,
        scratch: u64,
    ) -> Result<(), LowerError> {
        let kernel = self.kernel(&format!("{spec:?}"), |name, caps| gemm::generate(spec, name, caps));
        let panels = (shape.columns as u64).div_ceil(spec.nr as u64);
        let items = match blocks {
            Expr::Const(n) => Expr::Const(n * panels),
            e => Expr::Mul(Box::new(e), Box::new(Expr::Const(panels))),
        };
        let result = match operands.get(RESULT) {
            Some(Operand::Buffer(buffer) | Operand::At(buffer, _)) => Some(*buffer),
            _ => None,
        };
        self.step_with(&layer.node.location, kernel, operands, items, 1, Expr::Const(scratch));
        if let Some(result) = result {
            self.is_product_into(result);
        }
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

    /// Scale and stored zero point of a quantized result.
    fn output_quantizer(&mut self, layer: &Layer<'_>) -> Result<(Operand, Operand), LowerError> {
        Ok(match layer.y_scale {
            Some(scale) => {
                if let Some(Data::F32(values)) = self.constant(scale).map(|t| t.data)
                    && !values.iter().all(|s| s.is_normal() && *s > 0.0)
                {
                    return Err(LowerError::new("the scale of the result is no positive normal number"));
                }
                let zero = self.static_zero(layer.y_zero_point)? + layer.output_offset;
                (Operand::Buffer(self.place(scale)?.buffer), Operand::Bits(zero as u64))
            }
            None => (Operand::Bits(0), Operand::Bits(0)),
        })
    }
}

/// The form in which split codes of a weight lie in panels, if they can.
pub fn split_codes(q: QuantType) -> Option<SplitCodes> {
    let shared = match q.granularity {
        Granularity::Tensor => true,
        Granularity::Channel { axis: 0 } => false,
        _ => return None,
    };
    match (q.storage, q.scale) {
        (qcc_ir::Storage::Split(level_bits @ 2..=8), ScaleType::F32) => {
            Some(SplitCodes { level_bits, shared })
        }
        _ => None,
    }
}

/// Whether an operation decodes codes of a weight, or widens narrower floats, that a matrix product can read as they are.
pub fn is_coded_weight(function: &Function, node: &Node) -> bool {
    let Some(codes) = node.operands.first().copied().flatten() else { return false };
    let element = function.ty(codes).element;
    let decodes = match (&node.op, element.quantized()) {
        (Op::Dequantize {}, Some(q)) => split_codes(q).is_some() || Coded::of(q, None).is_some(),
        (Op::Cast { to: ElementType::F32 }, _) => Coded::of_float(element).is_some(),
        _ => false,
    };
    decodes && node.operands.iter().all(|o| o.is_some_and(|v| function.parameter_name(v).is_some()))
}

/// Whether an operation widens bf16 for linear layers alone, all with weights in bf16: they multiply it as it is.
pub fn feeds_bf16_products(
    function: &Function,
    uses: &HashMap<ValueId, Vec<(OpId, usize)>>,
    node: &Node,
) -> bool {
    let Some(narrow) = node.operands.first().copied().flatten() else { return false };
    let is_bf16 = |value: ValueId| function.ty(value).element == ElementType::BF16;
    let users = |value: ValueId| uses.get(&value).map(Vec::as_slice).unwrap_or_default();
    let reads_pairs = |&(user, slot): &(OpId, usize)| {
        let user = function.node(user);
        let weight = user.operands.get(1).copied().flatten().filter(|_| matches!(user.op, Op::Linear {}));
        let decoded = weight.and_then(|weight| Some((weight, function.defining(weight)?.1)));
        slot == 0
            && decoded.is_some_and(|(weight, decoded)| {
                is_coded_weight(function, decoded)
                    && decoded.operands[0].is_some_and(is_bf16)
                    && !function.results.contains(&weight)
                    && only_products_read(function, users(weight))
            })
    };
    let readers = users(node.results[0]);
    matches!(node.op, Op::Cast { to: ElementType::F32 })
        && is_bf16(narrow)
        && function.parameter_name(narrow).is_none()
        && !function.results.contains(&node.results[0])
        && !readers.is_empty()
        && readers.iter().all(reads_pairs)
}

/// Whether kernels that decode it are all that reads a weight: linear layers, convolutions, and embeddings; of split codes neither depthwise ones
/// nor embeddings.
pub fn only_products_read(function: &Function, users: &[(OpId, usize)]) -> bool {
    users.iter().all(|&(user, slot)| {
        let node = function.node(user);
        match node.op {
            Op::Linear {} => slot == 1,
            Op::Conv { groups, .. } => {
                let dims = |weight: ValueId| function.ty(weight).dims.get(1).and_then(Dim::constant);
                let depthwise = groups > 1 && node.operands[1].and_then(dims) == Some(1);
                slot == 1 && (!depthwise || reads_levels(function, node, 1))
            }
            Op::Embedding {} => slot == 0 && is_coded_table(function, node),
            _ => false,
        }
    })
}

/// Whether an embedding reads rows of codes.
pub fn is_coded_table(function: &Function, node: &Node) -> bool {
    node.operands.get(2).copied().flatten().is_some() || reads_levels(function, node, 0)
}

/// Whether an operand is decoded from a weight of other than split codes.
fn reads_levels(function: &Function, node: &Node, slot: usize) -> bool {
    let operand = node.operands.get(slot).copied().flatten();
    operand.and_then(|weight| function.defining(weight)).is_some_and(|(_, decoded)| {
        let codes = decoded.operands.first().copied().flatten();
        let q = codes.and_then(|codes| function.ty(codes).element.quantized());
        is_coded_weight(function, decoded) && q.is_none_or(|q| !q.storage.is_split())
    })
}
