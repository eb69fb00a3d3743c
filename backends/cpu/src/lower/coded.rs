//! Activations to codes and back, in the formats that no other kernel has.

use qcc_ir::ops::{Rounding, Special};
use qcc_ir::{Dim, Granularity, Node, Op, QuantType, ScaleType, Storage as Element};
use qcc_runtime::program::Expr;

use super::packing::{PackedParameter, f32_bytes};
use super::{LowerError, Lowering, Operand};
use crate::kernels::coded::encode::Nearest;
use crate::kernels::coded::rows::{self, Direction, Found, Groups, RowSpec};
use crate::kernels::coded::{Coded, Levels};
use crate::loops::storage::Storage;

/// Whether the tuned kernels of integers quantize to or from a type: one scale a tensor, feature or token.
pub(super) fn is_plain(q: QuantType) -> bool {
    q.storage.integer_range(false).is_some()
        && !matches!(q.scale, ScaleType::E4M3 | ScaleType::E8M0)
        && !matches!(q.granularity, Granularity::Block { .. })
}

/// Whether the tuned kernel of tokens finds the scales of a type.
pub(super) fn is_plain_token(q: QuantType) -> bool {
    matches!(q.storage, Element::Int(_))
        && q.granularity == Granularity::Token
        && q.scale == ScaleType::F32
        && !q.zero_point
}

impl Lowering<'_> {
    /// A quantize or dequantize row by row.
    pub(super) fn coded_rows(&mut self, node: &Node) -> Result<(), LowerError> {
        let operand = |i: usize| node.operands.get(i).copied().flatten();
        let x = operand(0).ok_or_else(|| LowerError::new("an operand is missing"))?;
        let (values, codes) = match node.op {
            Op::Dequantize {} => (node.results[0], x),
            _ => (x, node.results[0]),
        };
        let ty = self.function.ty(codes).clone();
        let q = ty.element.quantized().ok_or_else(|| LowerError::new("there are no codes"))?;
        let (groups, rows, columns) = self.row_groups(q, &ty.dims, &node.op)?;
        let offset = |storage: Storage| if storage == Storage::Biased { 128 } else { 0 };
        let nearest = |narrow: bool, rounding: Rounding, special: Special| {
            if rounding != Rounding::HalfEven || special != Special::Saturate {
                return Err(LowerError::new(
                    "codes are computed at run time with ties to the even code, saturating",
                ));
            }
            Nearest::of(q, narrow).ok_or_else(|| {
                LowerError::new(format!(
                    "{} is not computed at run time: its levels are found in weights, or its codes are wide",
                    q.storage.name()
                ))
            })
        };
        let direction = match node.op {
            Op::Quantize { narrow, rounding, special, .. } => {
                Direction::Encode(nearest(narrow, rounding, special)?)
            }
            Op::DynamicQuantize { narrow, rounding, special, .. } => {
                Direction::Find(nearest(narrow, rounding, special)?, found(q, narrow)?)
            }
            _ => {
                let levels = Levels::of(q).filter(|_| q.storage.bits() <= 8 && !q.storage.has_codebook());
                let levels = levels
                    .ok_or_else(|| LowerError::new(format!("{} has no kernel here", q.storage.name())))?;
                Direction::Decode(levels, u8::try_from(q.storage.bits()).unwrap_or(8))
            }
        };
        if self.storage_of(values)? != Storage::F32 {
            return Err(LowerError::new("only f32 is quantized"));
        }
        let from = self.place(x)?;
        let places: Vec<_> = match node.op {
            Op::DynamicQuantize { .. } => Vec::new(),
            _ => (1..node.operands.len()).filter_map(operand).collect(),
        };
        let mut more: Vec<Operand> = Vec::new();
        for value in places {
            more.push(Operand::Buffer(self.place(value)?.buffer));
        }
        let to = self.result(node.results[0])?;
        if matches!(node.op, Op::DynamicQuantize { .. }) {
            for &result in &node.results[1..] {
                if result == node.results[node.results.len() - 1] && q.has_tensor_scale() {
                    // The tensor's scale is an operand; its result is the same.
                    let scale =
                        operand(1).ok_or_else(|| LowerError::new("the tensor's scale was not legalised"))?;
                    let place = self.place(scale)?;
                    self.places.insert(result, place);
                    more.push(Operand::Buffer(place.buffer));
                } else {
                    more.push(Operand::Buffer(self.result(result)?.buffer));
                }
            }
        }
        let spec = RowSpec {
            direction,
            groups,
            scale: q.scale,
            zero_points: q.zero_point,
            offset: if matches!(node.op, Op::Dequantize {}) {
                offset(from.storage)
            } else {
                offset(to.storage)
            },
        };
        let mut more = more.into_iter();
        let mut next = |wanted: bool| if wanted { more.next() } else { None }.unwrap_or(Operand::Bits(0));
        let (scales, zeros, tensor_scale) = (next(true), next(q.zero_point), next(q.has_tensor_scale()));
        let table = match Coded::fixed_table(q.storage) {
            Some(levels) => {
                let packed =
                    PackedParameter::given(format!("{} levels", q.storage.name()), f32_bytes(&levels));
                Operand::Buffer(self.parameter(packed))
            }
            None => Operand::Bits(0),
        };
        let kernel = self.kernel(&format!("{spec:?}"), |name, caps| rows::generate(&spec, name, caps));
        let operands = vec![
            Operand::Buffer(from.buffer),
            Operand::Buffer(to.buffer),
            scales,
            zeros,
            tensor_scale,
            Operand::Size(columns),
            table,
        ];
        let items = self.expr(&rows)?;
        self.step_with(&node.location, kernel, operands, items, 4, Expr::Const(0));
        Ok(())
    }

    /// Which values share scales, and the rows that they are seen as.
    fn row_groups(&self, q: QuantType, dims: &[Dim], op: &Op) -> Result<(Groups, Dim, Dim), LowerError> {
        let finds = matches!(op, Op::DynamicQuantize { .. });
        let last = dims.len().saturating_sub(1);
        let groups = match q.granularity {
            // All are one row, where a scale is found in all.
            Granularity::Tensor if finds => return Ok((Groups::Row, Dim::Const(1), Self::count(dims)?)),
            Granularity::Tensor => Groups::Tensor,
            Granularity::Channel { axis } if usize::from(axis) == last && !finds => Groups::Column,
            Granularity::Token => Groups::Row,
            Granularity::Block { axis, block } if usize::from(axis) == last => Groups::Block(block),
            other => {
                return Err(LowerError::new(format!("activations with scales {other} have no CPU kernel")));
            }
        };
        let Some((columns, outer)) = dims.split_last() else {
            return Ok((groups, Dim::Const(1), Dim::Const(1)));
        };
        Ok((groups, Self::count(outer)?, columns.clone()))
    }
}

/// What the scales of a type are found from.
pub(super) fn found(q: QuantType, narrow: bool) -> Result<Found, LowerError> {
    let unsigned = matches!(q.storage, Element::UInt(_)) && !q.zero_point;
    let part = match (q.zero_point, q.storage.integer_range(narrow)) {
        #[allow(clippy::cast_precision_loss, reason = "codes are small")]
        (true, Some((low, high))) => 1.0 / ((high - low) as f32),
        (true, None) => return Err(LowerError::new("only integers have zero points")),
        #[allow(clippy::cast_possible_truncation, reason = "levels are f32 numbers")]
        (false, _) => 1.0 / (q.largest_level() as f32),
    };
    if matches!(q.storage, Element::Ternary | Element::Binary | Element::Fixed { .. }) {
        return Err(LowerError::new(format!("scales of {} are not found at run time", q.storage.name())));
    }
    Ok(Found { part: part.to_bits(), exponent: q.largest_exponent(), unsigned })
}
