//! A layer's constant operands in the form its kernel reads: weights in panels, correction and multiplier by column, bias.

use std::borrow::Cow;

use qcc_ir::{Granularity, Str, ValueId};
use qcc_params::{Data, Tensor};

use super::super::packing::{PackedParameter, f32_bytes, i32_bytes};
use super::super::{LowerError, Lowering, Operand};
use super::{Layer, Shape};
use crate::kernels::blocks::{BlockCodes, BlockScales};
use crate::kernels::coded::pack::Parts;
use crate::kernels::coded::{Coded, Sharing};
use crate::kernels::gemm::Product;
use crate::kernels::interleaved;
use crate::kernels::pack::{self, PackError};
use crate::kernels::split::{SplitCodes, pack_split};

/// How a vector by column lies in memory.
#[derive(Clone, Copy)]
pub(super) enum Columns {
    /// Padded to whole panels of so many.
    Panels(usize),
    /// A period of blocks, for [`interleaved`].
    Period,
}

impl Columns {
    pub(super) fn arrange(self, values: &[f32]) -> Vec<f32> {
        match self {
            Columns::Panels(nr) => pack::pad_columns(values, nr),
            Columns::Period => interleaved::pack_channels(values, values.len()),
        }
    }

    fn bytes(self, columns: usize) -> u64 {
        match self {
            Columns::Panels(nr) => padded_bytes(columns, nr),
            Columns::Period => 4 * interleaved::period_length(columns) as u64,
        }
    }
}

impl std::fmt::Display for Columns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Columns::Panels(nr) => write!(f, "padded to {nr}"),
            Columns::Period => f.write_str("in blocks of 64"),
        }
    }
}

/// What a vector by column is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Vector {
    /// Added to sums of floats.
    Bias,
    /// Added to sums of codes: kernels rely on its being finite.
    Addend,
    /// Upper bounds.
    Bounds,
}

impl Vector {
    fn name(self) -> &'static str {
        match self {
            Vector::Bias | Vector::Addend => "bias",
            Vector::Bounds => "bounds",
        }
    }
}

impl Lowering<'_> {
    /// The parameter that an operand is.
    fn parameter_of(&self, value: ValueId, what: &str) -> Result<Str, LowerError> {
        self.function.parameter_name(value).cloned().ok_or_else(|| {
            LowerError::new(format!("the {what} is computed at run time; only parameters can be packed"))
        })
    }

    pub(super) fn packed_weights(
        &mut self,
        (weight, scale): (ValueId, Option<ValueId>),
        product: Product,
        shape: &Shape,
        nr: usize,
    ) -> Result<Operand, LowerError> {
        let name = self.parameter_of(weight, "weight")?;
        let (columns, taps) = (shape.columns as usize, shape.taps);
        let (run, runs, depth) = (shape.run(), shape.runs, shape.packed_depth(product));
        let panels = columns.div_ceil(nr) as u64;
        let bytes =
            panels.checked_mul(product.panel_bytes(nr, depth as u64)).ok_or_else(LowerError::too_large)?;
        let mut order = if taps.is_some_and(|(_, taps)| taps > 1) { " taps first" } else { "" }.to_string();
        if depth != run * runs {
            order += &format!(", {runs} runs filled up");
        }
        let title = |form: &str| format!("{name} {form} panels of {nr}{order}");
        // Products with either activation share one form.
        let packed = match product {
            Product::F32F32 => PackedParameter::new(title("f32"), bytes, [name.clone()], move |[weight]| {
                let values = floats(weight);
                let rows = reorder(&values, columns, taps);
                Ok(f32_bytes(&pack::pack_f32(&rows, columns, depth, nr)?))
            }),
            Product::BF16BF16 => {
                PackedParameter::new(title("bf16"), bytes, [name.clone()], move |[weight]| {
                    let bits = halves(weight)?;
                    let rows = reorder(&bits, columns, taps);
                    let packed = pack::pack_bf16(&rows, columns, depth, nr)?;
                    Ok(packed.iter().flat_map(|bits| bits.to_le_bytes()).collect())
                })
            }
            Product::U8S8 | Product::F32S8 => {
                PackedParameter::new(title("s8"), bytes, [name.clone()], move |[weight]| {
                    let rows = reorder(codes(weight)?, columns, taps);
                    Ok(pack::pack_s8(&fill_runs(rows, run, depth / runs), columns, depth, nr)?.bytes)
                })
            }
            Product::U8S4 | Product::F32S4 => {
                PackedParameter::new(title("s4"), bytes, [name.clone()], move |[weight]| {
                    Ok(pack::pack_s4(&reorder(codes(weight)?, columns, taps), columns, depth, nr)?.bytes)
                })
            }
            Product::F32Split(_) => return Err(LowerError::new("split codes are packed with their tables")),
            Product::S8Block(blocks) | Product::F32Block(blocks) => {
                let reads = [name.clone(), self.scale_name(scale)?];
                let scales = if blocks.scales == BlockScales::F16 { "" } else { " f32 scales" };
                let form = title(&format!("u{} block {}{scales}", blocks.codes.bits(), blocks.block));
                PackedParameter::new(form, bytes, reads, move |[weight, scale]| {
                    let codes = unsigned(codes(weight)?, blocks.codes);
                    let held = matches!(
                        (&scale.data, blocks.scales),
                        (Data::F16(_), BlockScales::F16) | (Data::F32(_), BlockScales::F32)
                    );
                    if !held {
                        return Err(PackError::Elements { expected: "block scales of the format's type" });
                    }
                    pack::pack_blocks(&codes, &scale.to_le_bytes(), columns, depth, nr, blocks)
                })
            }
        };
        Ok(Operand::Buffer(self.parameter(packed)))
    }

    /// Split codes with their tables.
    pub(super) fn packed_split(
        &mut self,
        layer: &Layer<'_>,
        form: SplitCodes,
        shape: &Shape,
        nr: usize,
    ) -> Result<Operand, LowerError> {
        let name = self.parameter_of(layer.weight, "weight")?;
        let zero_point = layer
            .weight_more
            .first()
            .copied()
            .ok_or_else(|| LowerError::new("the weight has no zero point"))?;
        let reads = [
            name.clone(),
            self.scale_name(layer.weight_scale)?,
            self.parameter_of(zero_point, "weight's zero point")?,
        ];
        let (columns, depth, taps) = (shape.columns as usize, shape.depth as usize, shape.taps);
        let panel = Product::F32Split(form).panel_bytes(nr, depth as u64);
        let bytes = (columns.div_ceil(nr) as u64).checked_mul(panel).ok_or_else(LowerError::too_large)?;
        let order = if taps.is_some_and(|(_, taps)| taps > 1) { " taps first" } else { "" };
        let title = format!("{name} split{} panels of {nr}{order}", form.level_bits);
        let packed = PackedParameter::new(title, bytes, reads, move |[weight, scale, zero_point]| {
            let codes: Vec<u16> = match &weight.data {
                Data::U8(codes) => codes.iter().copied().map(u16::from).collect(),
                Data::U16(codes) => codes.clone(),
                _ => return Err(PackError::Elements { expected: "split codes" }),
            };
            let (Data::F32(scales), Data::I32(zero_points)) = (&scale.data, &zero_point.data) else {
                return Err(PackError::Elements { expected: "tables of f32 and i32" });
            };
            pack_split(&reorder(&codes, columns, taps), (scales, zero_points), columns, depth, nr, form)
        });
        Ok(Operand::Buffer(self.parameter(packed)))
    }

    /// Codes that are expanded panel by panel, with their scales and what else comes with them.
    pub(super) fn packed_codes(
        &mut self,
        weight: ValueId,
        (scale, more): (Option<ValueId>, &[ValueId]),
        form: Coded,
        shape: &Shape,
        nr: usize,
    ) -> Result<Operand, LowerError> {
        let element = self.function.ty(weight).element;
        let q = element.quantized();
        let name = self.parameter_of(weight, "weight")?;
        // Scales that the epilogue applies are not in the panels.
        let in_epilogue = q.is_some_and(|q| {
            form.scale != q.scale
                || (form.sharing == Sharing::Tensor) != (q.granularity == Granularity::Tensor)
        });
        let mut reads = vec![name.clone()];
        if q.is_some() {
            reads.push(self.scale_name(scale)?);
        }
        for &value in more {
            reads.push(self.parameter_of(value, "what comes with the weight's codes")?);
        }
        let (columns, depth, taps) = (shape.columns as usize, shape.depth as usize, shape.taps);
        let panels = (columns.div_ceil(nr) as u64).checked_mul(form.panel_bytes(nr as u64, depth as u64));
        let bytes =
            panels.and_then(|b| b.checked_add(form.header_bytes())).ok_or_else(LowerError::too_large)?;
        let order = if taps.is_some_and(|(_, taps)| taps > 1) { " taps first" } else { "" };
        let scales = if in_epilogue { " without scales" } else { "" };
        let of = q.map_or_else(|| element.to_string(), |q| q.storage.name());
        let title = format!("{name} {of} codes in panels of {nr}{order}{scales}");
        let packed = PackedParameter::reading(title, bytes, reads, move |values| {
            let (weight, scale, more, q) = match (values, q) {
                ([weight, scale, more @ ..], Some(q)) => (weight, scale, more, q),
                ([weight], None) => {
                    let patterns = halves(weight)?;
                    let patterns = &reorder(&patterns, columns, taps);
                    let scales = &1f32.to_le_bytes();
                    let parts =
                        Parts { patterns, scales, zero_points: None, tensor_scale: None, table: None };
                    return form.pack(&parts, columns, depth, nr);
                }
                _ => return Err(PackError::Elements { expected: "codes and scales" }),
            };
            let mut more = more.iter();
            let zero_points = match more.as_slice().first().filter(|_| q.zero_point) {
                Some(tensor) => {
                    more.next();
                    let Data::I32(zeros) = &tensor.data else {
                        return Err(PackError::Elements { expected: "zero points" });
                    };
                    Some(by_tap(zeros, &tensor.dims, columns, taps))
                }
                None => None,
            };
            let next =
                |more: &mut std::slice::Iter<'_, std::sync::Arc<Tensor>>| more.next().map(|t| t.to_f32_vec());
            let tensor_scale =
                if q.has_tensor_scale() { next(&mut more).and_then(|v| v.first().copied()) } else { None };
            let table = match q.storage.has_codebook() {
                true => next(&mut more),
                false => Coded::fixed_table(q.storage),
            };
            let patterns = patterns(weight, q.storage)?;
            let patterns = reorder(&patterns, columns, taps);
            let scales = match in_epilogue {
                true => 1f32.to_le_bytes().to_vec(),
                false => {
                    let bytes = scale.to_le_bytes();
                    let each: Vec<&[u8]> = bytes.chunks((bytes.len() / scale.len().max(1)).max(1)).collect();
                    by_tap(&each, &scale.dims, columns, taps).concat()
                }
            };
            let parts = Parts {
                patterns: &patterns,
                scales: &scales,
                zero_points: zero_points.as_deref(),
                tensor_scale,
                table: table.as_deref(),
            };
            form.pack(&parts, columns, depth, nr)
        });
        Ok(Operand::Buffer(self.parameter(packed)))
    }

    fn scale_name(&self, scale: Option<ValueId>) -> Result<Str, LowerError> {
        let scale = scale.ok_or_else(|| LowerError::new("the weight has no scale"))?;
        self.parameter_of(scale, "weight's scale")
    }

    /// `−zero point · Σ weights` a column.
    pub(super) fn packed_corrections(
        &mut self,
        layer: &Layer<'_>,
        product: Product,
        shape: &Shape,
        nr: usize,
        zero: i32,
    ) -> Result<Operand, LowerError> {
        let name = self.parameter_of(layer.weight, "weight")?;
        let (columns, depth, taps) = (shape.columns as usize, shape.depth as usize, shape.taps);
        let bytes = padded_bytes(columns, nr);
        let title = format!("{name} corrections for zero {zero} padded to {nr}");
        let packed = PackedParameter::new(title, bytes, [name], move |[weight]| {
            let rows = reorder(codes(weight)?, columns, taps);
            let packed = match product {
                Product::U8S4 => pack::pack_s4(&rows, columns, depth, nr)?,
                _ => pack::pack_s8(&rows, columns, depth, nr)?,
            };
            Ok(i32_bytes(&packed.corrections(zero)))
        });
        Ok(Operand::Buffer(self.parameter(packed)))
    }

    /// `x_scale · weight_scale` a column, each rounded once; with a scale a token, the weight scales alone.
    pub(super) fn packed_multipliers(
        &mut self,
        layer: &Layer<'_>,
        shape: &Shape,
        order: Columns,
        token: bool,
    ) -> Result<Operand, LowerError> {
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
        self.packed_scales(layer.weight_scale, x_scale, shape.columns as usize, order)
    }

    /// Scales of a weight by column, each times `x_scale`.
    pub(super) fn packed_scales(
        &mut self,
        scale: Option<ValueId>,
        x_scale: Option<f32>,
        columns: usize,
        order: Columns,
    ) -> Result<Operand, LowerError> {
        let name = self.scale_name(scale)?;
        let bits = x_scale.map_or_else(|| "token".to_string(), |s| format!("{:08x}", s.to_bits()));
        let title = format!("{name} multipliers {bits} of {columns} {order}");
        let packed = PackedParameter::new(title, order.bytes(columns), [name], move |[scale]| {
            let mut scales = scale.to_f32_vec();
            if let [one] = scales[..] {
                scales = vec![one; columns];
            }
            if let Some(x) = x_scale {
                scales.iter_mut().for_each(|s| *s *= x);
            }
            finite("a scale", &scales)?;
            Ok(f32_bytes(&order.arrange(&scales)))
        });
        Ok(Operand::Buffer(self.parameter(packed)))
    }

    /// A per-column vector, padded to whole panels.
    pub(super) fn packed_vector(
        &mut self,
        value: ValueId,
        columns: i64,
        order: Columns,
        kind: Vector,
    ) -> Result<Operand, LowerError> {
        let what = kind.name();
        let bytes_of = move |values: Vec<f32>| {
            if kind == Vector::Addend {
                finite("a bias", &values)?;
            }
            Ok(f32_bytes(&order.arrange(&values)))
        };
        let packed = match self.constant(value) {
            Some(tensor) => {
                let values =
                    bytes_of(tensor.to_f32_vec()).map_err(|e: PackError| LowerError::new(e.to_string()))?;
                let name = format!("constant {what} {}", blake3::hash(&values).to_hex());
                PackedParameter::given(name, values)
            }
            None => {
                let name = self.parameter_of(value, what)?;
                let bytes = order.bytes(columns as usize);
                PackedParameter::new(format!("{name} {order}"), bytes, [name], move |[vector]| {
                    bytes_of(vector.to_f32_vec())
                })
            }
        };
        Ok(Operand::Buffer(self.parameter(packed)))
    }

    /// A vector by column, or nothing.
    pub(super) fn packed_or_none(
        &mut self,
        value: Option<ValueId>,
        columns: i64,
        order: Columns,
        kind: Vector,
    ) -> Result<Operand, LowerError> {
        value.map_or(Ok(Operand::Bits(0)), |value| self.packed_vector(value, columns, order, kind))
    }

    /// A depthwise convolution's weight codes and start values for this zero point, as [`interleaved`] reads them.
    pub(super) fn packed_interleaved(
        &mut self,
        layer: &Layer<'_>,
        channels: usize,
        window: [usize; 2],
        zero: i32,
    ) -> Result<(Operand, Operand), LowerError> {
        let name = self.parameter_of(layer.weight, "weight")?;
        let length = interleaved::period_length(channels);
        let registers = window[0].div_ceil(4) * window[1];
        let title = format!("{name} s8 interleaved taps {window:?}");
        let weights =
            PackedParameter::new(title, (length * 4 * registers) as u64, [name.clone()], move |[weight]| {
                let packed = interleaved::pack_weights(codes(weight)?, channels, window)?;
                Ok(packed.into_iter().map(|code| code as u8).collect())
            });
        let title = format!("{name} corrections for zero {zero} in blocks of 64");
        let corrections = PackedParameter::new(title, 4 * length as u64, [name], move |[weight]| {
            let taps = window[0] * window[1];
            let codes = codes(weight)?;
            let sum = |codes: &[i8]| codes.iter().fold(0i32, |s, &w| s.wrapping_add(i32::from(w)));
            let starts: Vec<i32> =
                codes.chunks(taps).map(|codes| sum(codes).wrapping_mul(zero).wrapping_neg()).collect();
            Ok(i32_bytes(&interleaved::pack_channels(&starts, channels)))
        });
        Ok((Operand::Buffer(self.parameter(weights)), Operand::Buffer(self.parameter(corrections))))
    }

    /// A depthwise convolution's weight `[channels, taps]` in blocks of `lanes` channels.
    pub(super) fn packed_depthwise(
        &mut self,
        layer: &Layer<'_>,
        (channels, taps): (usize, usize),
        lanes: usize,
        integer: bool,
    ) -> Result<Operand, LowerError> {
        let name = self.parameter_of(layer.weight, "weight")?;
        let size = if integer { 1 } else { 4 };
        let bytes = (channels.div_ceil(lanes) * lanes * taps * size) as u64;
        let title = format!("{name} {} channel blocks", if integer { "s8" } else { "f32" });
        let packed = PackedParameter::new(title, bytes, [name], move |[weight]| {
            if integer {
                let packed = pack::pack_channel_blocks_s8(codes(weight)?, channels, taps)?;
                return Ok(packed.into_iter().map(|code| code as u8).collect());
            }
            Ok(f32_bytes(&pack::pack_channel_blocks(&weight.to_f32_vec(), channels, taps)?))
        });
        Ok(Operand::Buffer(self.parameter(packed)))
    }
}

/// Bit patterns of codes.
fn patterns(weight: &Tensor, storage: qcc_ir::Storage) -> Result<Vec<u16>, PackError> {
    match &weight.data {
        Data::I8(codes) => Ok(codes.iter().map(|c| storage.pattern_of(i32::from(*c))).collect()),
        Data::U8(codes) => Ok(codes.iter().copied().map(u16::from).collect()),
        Data::U16(codes) => Ok(codes.clone()),
        _ => Err(PackError::Elements { expected: "codes" }),
    }
}

/// Bit patterns of narrower floats.
fn halves(weight: &Tensor) -> Result<Vec<u16>, PackError> {
    match &weight.data {
        Data::F16(values) => Ok(values.iter().map(|x| x.to_bits()).collect()),
        Data::BF16(values) => Ok(values.iter().map(|x| x.to_bits()).collect()),
        _ => Err(PackError::Elements { expected: "f16 or bf16" }),
    }
}

/// What belongs to groups of a weight; of blocks of channels `[out, blocks, taps…]` tap by tap.
fn by_tap<'a, T: Copy>(
    groups: &'a [T],
    dims: &[usize],
    columns: usize,
    taps: Option<(usize, usize)>,
) -> Cow<'a, [T]> {
    match (taps, dims) {
        (Some((_, taps)), &[_, blocks, _, ..]) => reorder(groups, columns, Some((blocks, taps))),
        _ => Cow::Borrowed(groups),
    }
}

/// Bytes of a vector by column.
fn padded_bytes(columns: usize, nr: usize) -> u64 {
    (columns.div_ceil(nr) * nr * 4) as u64
}

/// The elements in f32, where they are if they are held so.
fn floats(tensor: &Tensor) -> Cow<'_, [f32]> {
    tensor.as_f32().map_or_else(|| Cow::Owned(tensor.to_f32_vec()), Cow::Borrowed)
}

/// Signed codes as the unsigned ones of blocks; packing checks that they have as few bits.
fn unsigned(codes: &[i8], form: BlockCodes) -> Vec<u8> {
    codes.iter().map(|code| (*code as u8).wrapping_add(form.zero())).collect()
}

fn codes(tensor: &Tensor) -> Result<&[i8], PackError> {
    match &tensor.data {
        Data::I8(codes) => Ok(codes),
        _ => Err(PackError::Elements { expected: "signed codes" }),
    }
}

/// Rows `[in][taps]` of a convolution's weight as `[taps][in]`, the order in which patches are gathered.
fn finite(what: &'static str, values: &[f32]) -> Result<(), PackError> {
    match values.iter().position(|v| !v.is_finite()) {
        Some(index) => Err(PackError::NotFinite { what, index }),
        None => Ok(()),
    }
}

/// Runs of so many codes, filled up with zeros.
fn fill_runs(codes: Cow<'_, [i8]>, run: usize, filled: usize) -> Cow<'_, [i8]> {
    if run == filled || run == 0 {
        return codes;
    }
    let fill = std::iter::repeat_n(0, filled - run);
    codes.chunks(run).flat_map(|codes| codes.iter().copied().chain(fill.clone())).collect()
}

fn reorder<T: Copy>(weights: &[T], columns: usize, taps: Option<(usize, usize)>) -> Cow<'_, [T]> {
    match taps {
        Some((channels, taps)) if taps > 1 => (0..columns)
            .flat_map(|n| {
                (0..taps).flat_map(move |t| (0..channels).map(move |c| (n * channels + c) * taps + t))
            })
            .filter_map(|i| weights.get(i).copied())
            .collect(),
        _ => Cow::Borrowed(weights),
    }
}
