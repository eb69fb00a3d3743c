//! Weights in split codes (SplitQuant's clusters as one tensor): how codes and tables lie in a panel, and how kernels decode them.
//!
//! | part of a panel of `nr` columns | |
//! | --- | --- |
//! | offsets | `[3][nr]` of i32, or `[3]` for all columns: a cluster's zero point plus its first code |
//! | scales | `[3][nr]` of f32, or `[3]`, padded to 64 bytes together |
//! | codes | `[K/group][nr]` words of 32 bits, the k-th code of a group from bit `bits · k` on |
//!
//! A code has the 4 bits of split2, or lies in the next byte or two: 8 bits for split3 to split6, 16 for split7 and split8. A value is
//! `(code − offset) · scale` by its cluster's table, the bits that the format's definition gives.

use super::emit::{Emitter, F32, F32X16, I32, I32X16, Type, Value};
use super::pack::{PackError, check, size};

const CLUSTERS: usize = qcc_ir::element::SPLIT_CLUSTERS;

/// The form of split codes in panels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SplitCodes {
    /// Bits of a level: 2 to 8.
    pub level_bits: u8,
    /// Whether one table is for all columns.
    pub shared: bool,
}

impl SplitCodes {
    /// Bits of a code.
    pub fn bits(self) -> u32 {
        match self.level_bits {
            ..=2 => 4,
            3..=6 => 8,
            _ => 16,
        }
    }

    /// Codes in a word.
    pub fn group(self) -> u64 {
        u64::from(32 / self.bits())
    }

    /// Bytes of the tables of a panel of `nr` columns.
    pub fn table_bytes(self, nr: u64) -> u64 {
        if self.shared { 64 } else { 8 * CLUSTERS as u64 * nr }
    }

    fn levels(self) -> i32 {
        1 << self.level_bits
    }
}

/// The tables of sixteen columns.
#[derive(Clone, Copy)]
pub(super) struct Tables {
    offsets: [Value; CLUSTERS],
    scales: [Value; CLUSTERS],
}

impl Tables {
    /// Those of each sixteen columns of a panel of `nr`.
    pub(super) fn load(e: &mut Emitter, codes: SplitCodes, panel: Value, nr: usize) -> Vec<Tables> {
        let lanes = |e: &mut Emitter, row: usize, v: usize, (one, lanes): (Type, Type)| {
            if codes.shared {
                let p = e.offset(panel, 4 * row as i64);
                let x = e.load(p, one);
                return e.splat(x, 16);
            }
            let p = e.offset(panel, (4 * nr * row + 64 * v) as i64);
            e.load(p, lanes)
        };
        let tables = |e: &mut Emitter, v: usize| Tables {
            offsets: std::array::from_fn(|c| lanes(e, c, v, (I32, I32X16))),
            scales: std::array::from_fn(|c| lanes(e, CLUSTERS + c, v, (F32, F32X16))),
        };
        if codes.shared {
            return vec![tables(e, 0); nr / 16];
        }
        (0..nr / 16).map(|v| tables(e, v)).collect()
    }

    /// The values of the codes in the lowest bits of words.
    pub(super) fn decode(&self, e: &mut Emitter, codes: SplitCodes, words: Value) -> Value {
        let mask = e.ints((1 << codes.bits()) - 1);
        let code = e.and(words, mask);
        let (first, second) = (e.ints(codes.levels()), e.ints(2 * codes.levels()));
        let (first, second) = (e.compare("slt", code, first), e.compare("slt", code, second));
        let pick = |e: &mut Emitter, [low, middle, high]: [Value; CLUSTERS]| {
            let upper = e.select(second, middle, high);
            e.select(first, low, upper)
        };
        let (offset, scale) = (pick(e, self.offsets), pick(e, self.scales));
        let level = e.sub(code, offset);
        let level = e.to_float(level);
        e.mul(level, scale)
    }
}

/// Split codes `[N, K]` with their tables `[3]` or `[N, 3]` as panels. What absent columns hold is never stored.
pub fn pack_split(
    values: &[u16],
    (scales, zero_points): (&[f32], &[i32]),
    columns: usize,
    depth: usize,
    nr: usize,
    codes: SplitCodes,
) -> Result<Vec<u8>, PackError> {
    check("weights", columns.checked_mul(depth), values.len())?;
    let tables = if codes.shared { 1 } else { columns };
    check("scales", tables.checked_mul(CLUSTERS), scales.len())?;
    check("zero points", Some(scales.len()), zero_points.len())?;
    let highest = CLUSTERS as i32 * codes.levels() - 1;
    if let Some(index) = values.iter().position(|&c| i32::from(c) > highest) {
        return Err(PackError::Code { index, code: i32::from(values[index]), lo: 0, hi: highest });
    }
    let (group, table_bytes) = (codes.group() as usize, codes.table_bytes(nr as u64) as usize);
    let panel_bytes = (4 * depth.div_ceil(group)).checked_mul(nr).and_then(|b| b.checked_add(table_bytes));
    let mut bytes = vec![0; size(columns, depth, nr, panel_bytes)?];
    let panel_bytes = panel_bytes.unwrap_or_default();
    for n in 0..columns {
        let panel = &mut bytes[n / nr * panel_bytes..][..panel_bytes];
        let lane = 4 * (n % nr);
        // Rows of a table of their own, or of one for all.
        let (row, at) = if codes.shared { (4, 0) } else { (4 * nr, lane) };
        for c in 0..CLUSTERS {
            let from = n.min(tables - 1) * CLUSTERS + c;
            let offset = zero_points[from].wrapping_add(c as i32 * codes.levels());
            panel[row * c + at..][..4].copy_from_slice(&offset.to_le_bytes());
            panel[row * (CLUSTERS + c) + at..][..4].copy_from_slice(&scales[from].to_le_bytes());
        }
        for (g, run) in values[n * depth..(n + 1) * depth].chunks(group).enumerate() {
            let shifted = run.iter().enumerate().map(|(k, &c)| u32::from(c) << (codes.bits() * k as u32));
            let word = shifted.fold(0, |word, code| word | code);
            panel[table_bytes + 4 * nr * g + lane..][..4].copy_from_slice(&word.to_le_bytes());
        }
    }
    Ok(bytes)
}
