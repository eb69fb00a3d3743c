//! Panels of codes, made from the tensors of a weight.

use super::{Coded, Levels, Sharing};
use crate::kernels::pack::{PackError, check, size};

/// A weight `[N, K]` and what comes with its codes.
pub struct Parts<'a> {
    /// Bit patterns, row by row.
    pub patterns: &'a [u16],
    /// Scales, little-endian: one, `[N]`, or `[N, groups]`.
    pub scales: &'a [u8],
    /// Zero points, likewise.
    pub zero_points: Option<&'a [i32]>,
    /// What E4M3 scales are multiples of.
    pub tensor_scale: Option<f32>,
    /// The levels of a table.
    pub table: Option<&'a [f32]>,
}

impl Coded {
    /// The header and all panels.
    ///
    /// # Errors
    /// When counts do not fit the shape, or the weight would not fit memory.
    pub fn pack(
        self,
        parts: &Parts<'_>,
        columns: usize,
        depth: usize,
        nr: usize,
    ) -> Result<Vec<u8>, PackError> {
        check("weights", columns.checked_mul(depth), parts.patterns.len())?;
        let shared = self.sharing == Sharing::Tensor;
        let groups = self.groups(depth as u64) as usize;
        let per_scale = self.scale.bits() as usize / 8;
        let all_groups = if shared { Some(1) } else { columns.checked_mul(groups) };
        check("scales", all_groups.and_then(|n| n.checked_mul(per_scale)), parts.scales.len())?;
        if self.zero_points {
            check("zero points", all_groups, parts.zero_points.map_or(0, <[i32]>::len))?;
        }
        let panel_bytes = usize::try_from(self.panel_bytes(nr as u64, depth as u64)).ok();
        let header = self.header_bytes() as usize;
        let all = size(columns, depth, nr, panel_bytes)?.checked_add(header);
        let mut bytes = vec![0u8; all.ok_or(PackError::TooLarge { columns, depth })?];
        let (head, panels) = bytes.split_at_mut(header);
        self.write_header(head, parts)?;
        let panel_bytes = panel_bytes.unwrap_or_default();
        let scale_bytes = self.scale_bytes() as usize;
        let zero_bytes = groups * self.zero_point_bits() as usize * nr / 8;
        let bits = usize::from(self.bits);
        for n in 0..columns {
            let panel = &mut panels[n / nr * panel_bytes..][..panel_bytes];
            let column = n % nr;
            let (scales, rest) = panel.split_at_mut(groups * scale_bytes * nr);
            let (zeros, codes) = rest.split_at_mut(zero_bytes);
            for g in 0..groups {
                let group = if shared { 0 } else { n * groups + g };
                if scale_bytes > 0 {
                    let from = &parts.scales[group * per_scale..][..per_scale];
                    scales[(g * nr + column) * scale_bytes..][..scale_bytes].copy_from_slice(from);
                }
                if let (true, Some(all)) = (self.zero_points, parts.zero_points) {
                    let pattern = all[group] as u16 & (u16::MAX >> (16 - bits));
                    write_bits(zeros, g * nr + column, pattern, bits);
                }
            }
            let row = &parts.patterns[n * depth..(n + 1) * depth];
            for (k, &pattern) in row.iter().enumerate() {
                write_bits(codes, k * nr + column, pattern, bits);
            }
        }
        Ok(bytes)
    }

    fn write_header(self, head: &mut [u8], parts: &Parts<'_>) -> Result<(), PackError> {
        if self.levels == Levels::Table {
            let table = parts.table.unwrap_or_default();
            check("levels", Some(1 << self.bits), table.len())?;
            for (to, level) in head.chunks_exact_mut(4).zip(table) {
                to.copy_from_slice(&level.to_le_bytes());
            }
        }
        let at = self.tensor_scale_at() as usize;
        let scale = match (self.sharing, parts.tensor_scale) {
            (Sharing::Tensor, of_tensor) => self.number(parts.scales)? * of_tensor.unwrap_or(1.0),
            (_, of_tensor) => of_tensor.unwrap_or(1.0),
        };
        head[at..at + 4].copy_from_slice(&scale.to_le_bytes());
        Ok(())
    }

    /// A single scale.
    fn number(self, bytes: &[u8]) -> Result<f32, PackError> {
        let wrong = PackError::Elements { expected: "scale of the format's type" };
        Ok(match (bytes, self.scale) {
            (&[a, b, c, d], qcc_ir::ScaleType::F32) => f32::from_le_bytes([a, b, c, d]),
            (&[a, b], qcc_ir::ScaleType::F16) => half::f16::from_le_bytes([a, b]).to_f32(),
            (&[a, b], qcc_ir::ScaleType::BF16) => half::bf16::from_le_bytes([a, b]).to_f32(),
            #[allow(clippy::cast_possible_truncation, reason = "scales are f32 numbers")]
            (&[code], ty) => ty.of_code(code).ok_or(wrong)? as f32,
            _ => return Err(wrong),
        })
    }
}

/// Writes the `index`-th pattern of `bits` bits each, the first in the lowest bits, where only zeros are.
fn write_bits(bytes: &mut [u8], index: usize, pattern: u16, bits: usize) {
    let bit = index * bits;
    let value = u32::from(pattern) << (bit % 8);
    for (byte, part) in bytes[bit / 8..].iter_mut().zip(value.to_le_bytes()) {
        *byte |= part;
    }
}
