//! Weights in any number format at exactly its bits: how codes and scales lie in a panel, and how kernels turn a panel into one that a tuned
//! product reads ([`expand`]) right before they multiply with it. Formats with kernels of their own (int4 and int8) do not come here.
//!
//! | part | |
//! | --- | --- |
//! | header, once | the levels of a codebook (f32), the scale of the tensor (f32), padded to 64 bytes |
//! | scales, a panel of `nr` columns | `[groups][nr]` as their type has them; none where the tensor has one |
//! | zero points | `[groups][nr]` of as many bits as a code has, the first in the lowest bits, where there are any |
//! | codes | `[K][nr]` of `bits` bits each, the first in the lowest bits |
//!
//! A group is a column, or a block of neighbours along K. A convolution's K is tap by tap; blocks are of the channels of one tap.

pub mod decode;
pub mod encode;
pub mod expand;
pub mod pack;
pub mod rows;

use qcc_ir::levels::{Minifloat, NF4};
use qcc_ir::{ElementType, Granularity, QuantType, ScaleType, Storage};

use super::emit::{Emitter, Value};

/// What the bits of a code stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Levels {
    /// Two's complement integers times `2^exponent`.
    Signed {
        /// Exponent of a step.
        exponent: i32,
    },
    /// Integers.
    Unsigned,
    /// −1 and 1.
    Sign,
    /// Small floats.
    Minifloat(Minifloat),
    /// What the table in the header says.
    Table,
    /// f16.
    F16,
    /// bf16.
    BF16,
}

/// Which values share a scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sharing {
    /// All; the scale is in the header.
    Tensor,
    /// Those of a column.
    Column,
    /// So many neighbours along K, counted anew every `run` values (the channels of a tap) where that is given.
    Block {
        /// Values of a block.
        block: u32,
        /// Values after which blocks start anew.
        run: Option<u32>,
    },
}

/// The form of a weight in panels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Coded {
    /// Bits of a code: 1 to 16.
    pub bits: u8,
    /// What codes stand for.
    pub levels: Levels,
    /// The type of scales.
    pub scale: ScaleType,
    /// Which values share one.
    pub sharing: Sharing,
    /// Whether each group has a zero point.
    pub zero_points: bool,
}

impl Levels {
    /// Of a quantized type; `None` where codes are of clusters.
    pub fn of(q: QuantType) -> Option<Levels> {
        Some(match (q.storage, q.storage.minifloat()) {
            (Storage::Split(_), _) => return None,
            (_, Some(float)) => Levels::Minifloat(float),
            (Storage::Binary, _) => Levels::Sign,
            (Storage::UInt(_), _) => Levels::Unsigned,
            (storage, _) if storage.is_signed_integer() => {
                Levels::Signed { exponent: qcc_ir::levels::exponent_of(q.unit()) }
            }
            _ => Levels::Table,
        })
    }
}

impl Coded {
    /// The form of a weight `[out, in, …]` in `q`; `channels` are those of a tap of a convolution of several taps. `None` where scales are
    /// shared along other axes, or codes are of clusters.
    pub fn of(q: QuantType, channels: Option<u32>) -> Option<Coded> {
        let levels = Levels::of(q)?;
        let sharing = match q.granularity {
            Granularity::Tensor => Sharing::Tensor,
            Granularity::Channel { axis: 0 } => Sharing::Column,
            Granularity::Block { axis: 1, block } => Sharing::Block { block, run: channels },
            _ => return None,
        };
        let bits = u8::try_from(q.storage.bits()).ok()?;
        Some(Coded { bits, levels, scale: q.scale, sharing, zero_points: q.zero_point })
    }

    /// The form of a weight of narrower floats; `None` for other types.
    pub fn of_float(element: ElementType) -> Option<Coded> {
        let levels = match element {
            ElementType::F16 => Levels::F16,
            ElementType::BF16 => Levels::BF16,
            _ => return None,
        };
        Some(Coded { bits: 16, levels, scale: ScaleType::F32, sharing: Sharing::Tensor, zero_points: false })
    }

    /// Groups of a column of `depth` values.
    pub fn groups(self, depth: u64) -> u64 {
        match self.sharing {
            Sharing::Tensor | Sharing::Column => 1,
            Sharing::Block { block, run: None } => depth.div_ceil(u64::from(block)),
            Sharing::Block { block, run: Some(run) } => {
                depth / u64::from(run.max(1)) * u64::from(run).div_ceil(u64::from(block))
            }
        }
    }

    /// Bytes before the first panel.
    pub fn header_bytes(self) -> u64 {
        let table = if self.levels == Levels::Table { 4 << self.bits } else { 0 };
        (table + 4u64).next_multiple_of(64)
    }

    /// Where the scale of the tensor is in the header.
    fn tensor_scale_at(self) -> i64 {
        if self.levels == Levels::Table { 4 << self.bits } else { 0 }
    }

    /// Bytes of a group's scale in a panel.
    fn scale_bytes(self) -> u64 {
        let stored = self.sharing != Sharing::Tensor;
        if stored { u64::from(self.scale.bits()) / 8 } else { 0 }
    }

    /// Bits of a zero point; 0 where there are none.
    fn zero_point_bits(self) -> u64 {
        if self.zero_points { u64::from(self.bits) } else { 0 }
    }

    /// Bytes of a panel of `nr` columns.
    pub fn panel_bytes(self, nr: u64, depth: u64) -> u64 {
        let groups = self.groups(depth);
        // `nr` is a multiple of 8.
        let bits = groups * self.zero_point_bits() + depth * u64::from(self.bits);
        nr * groups * self.scale_bytes() + nr / 8 * bits
    }

    /// [`Coded::panel_bytes`] of a depth known at run time.
    pub(crate) fn panel_bytes_value(self, e: &mut Emitter, nr: i64, depth: Value) -> Value {
        let groups = self.groups_value(e, depth);
        let of_scales = e.times(groups, self.scale_bytes() as i64 * nr);
        let of_zero_points = e.times(groups, self.zero_point_bits() as i64 * nr / 8);
        let of_codes = e.times(depth, i64::from(self.bits) * nr / 8);
        let sum = e.add(of_scales, of_zero_points);
        e.add(sum, of_codes)
    }

    pub(crate) fn groups_value(self, e: &mut Emitter, depth: Value) -> Value {
        match self.sharing {
            Sharing::Tensor | Sharing::Column => e.int(1),
            Sharing::Block { block, run: None } => e.ceil_div(depth, i64::from(block)),
            Sharing::Block { block, run: Some(run) } => {
                let size = e.int(i64::from(run.max(1)));
                let runs = e.div(depth, size);
                e.times(runs, i64::from(run.div_ceil(block)))
            }
        }
    }

    /// The levels of a format whose table is always the same.
    pub fn fixed_table(storage: Storage) -> Option<Vec<f32>> {
        #[allow(clippy::cast_possible_truncation, reason = "the levels are f32 numbers")]
        (storage == Storage::Nf4).then(|| NF4.iter().map(|x| *x as f32).collect())
    }
}
