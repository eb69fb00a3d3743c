//! Weights in the order kernels read them, and back.
//!
//! Panels hold `nr` columns (output features); a column count that is no multiple of `nr` and a depth that is no multiple of
//! the k-group are padded with zero weights, so kernels have no column or depth tails. Vectors by column are padded alike.
//!
//! | weights | panel, outermost first |
//! | --- | --- |
//! | f32 | `[K][nr]` |
//! | bf16 | `[K/2][nr][2]` |
//! | s8 | `[K/4][nr][4]` |
//! | s4 | `[K/8][nr][4]` bytes: low nibbles are k 0…3 of the octet, high nibbles k 4…7; code + 8 |
//! | u4 blocks | for each block: the octets as s4's (a padded nibble is 0), then `[nr]` scales |
//! | u8 blocks | for each block: `[block/4][nr][4]` (a padded byte is 0), then `[nr]` scales |
//! | split codes | see [`split`](super::split) |

use thiserror::Error;

use super::blocks::{BlockCodes, Blocks};

/// Why weights cannot be packed.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum PackError {
    /// The data does not have the size its shape says.
    #[error("{what} holds {found} values where its shape needs {expected}")]
    Length {
        /// Which operand.
        what: &'static str,
        /// Values the shape needs.
        expected: usize,
        /// Values given.
        found: usize,
    },
    /// Shape products beyond the address space.
    #[error("a packed weight of {columns} × {depth} is larger than memory can be")]
    TooLarge {
        /// Output features.
        columns: usize,
        /// Values along K.
        depth: usize,
    },
    /// A code outside its format.
    #[error("weight code {code} at index {index} is outside {lo}..={hi}")]
    Code {
        /// Index in row-major order.
        index: usize,
        /// The code found.
        code: i32,
        /// Least code.
        lo: i32,
        /// Greatest code.
        hi: i32,
    },
    /// A number that is infinite or none.
    #[error("{what} is not finite: that of column {index}; quantize another layer, or repair the model")]
    NotFinite {
        /// Which operand.
        what: &'static str,
        /// Its column.
        index: usize,
    },
    /// Elements of another type than the form holds.
    #[error("its elements are no {expected}")]
    Elements {
        /// What they should be.
        expected: &'static str,
    },
    /// Packed bytes that are not as many as the compiled program has room for.
    #[error("{found} bytes where {planned} were planned")]
    Planned {
        /// Bytes planned.
        planned: u64,
        /// Bytes made.
        found: u64,
    },
    /// A block size no kernel has.
    #[error("block size {0} is not supported: use a multiple of 8, above 64 a multiple of 32")]
    Block(usize),
}

pub(super) fn check(what: &'static str, expected: Option<usize>, found: usize) -> Result<(), PackError> {
    match expected {
        Some(expected) if expected == found => Ok(()),
        _ => Err(PackError::Length { what, expected: expected.unwrap_or(usize::MAX), found }),
    }
}

/// Bytes of `panels · panel_bytes`, checked.
pub(super) fn size(
    columns: usize,
    depth: usize,
    nr: usize,
    panel: Option<usize>,
) -> Result<usize, PackError> {
    panel
        .and_then(|p| p.checked_mul(columns.div_ceil(nr)))
        .filter(|&n| n <= isize::MAX as usize)
        .ok_or(PackError::TooLarge { columns, depth })
}

/// Weights `[N, K]` of f32 as panels.
pub fn pack_f32(weights: &[f32], columns: usize, depth: usize, nr: usize) -> Result<Vec<f32>, PackError> {
    check("weights", columns.checked_mul(depth), weights.len())?;
    let panel = depth.checked_mul(nr);
    let mut out = vec![0.0; size(columns, depth, nr, panel)?];
    if depth == 0 {
        return Ok(out);
    }
    // So many rows of a panel at a time stay in the cache, and the part of a column they hold is a line of it.
    const ROWS: usize = 16;
    for (panel, columns) in out.chunks_exact_mut(depth * nr).zip(weights.chunks(nr * depth)) {
        for (i, rows) in panel.chunks_mut(ROWS * nr).enumerate() {
            for (n, column) in columns.chunks_exact(depth).enumerate() {
                let part = &column[i * ROWS..depth.min((i + 1) * ROWS)];
                for (row, &weight) in rows.chunks_exact_mut(nr).zip(part) {
                    row[n] = weight;
                }
            }
        }
    }
    Ok(out)
}

/// The inverse of [`pack_f32`].
pub fn unpack_f32(packed: &[f32], columns: usize, depth: usize, nr: usize) -> Result<Vec<f32>, PackError> {
    check("packed weights", Some(size(columns, depth, nr, depth.checked_mul(nr))?), packed.len())?;
    let at = |n: usize, k: usize| packed[n / nr * nr * depth + k * nr + n % nr];
    Ok((0..columns).flat_map(|n| (0..depth).map(move |k| at(n, k))).collect())
}

/// Weights `[N, K]` of bf16, as their bits, in panels.
pub fn pack_bf16(weights: &[u16], columns: usize, depth: usize, nr: usize) -> Result<Vec<u16>, PackError> {
    check("weights", columns.checked_mul(depth), weights.len())?;
    let pairs = depth.div_ceil(2);
    let mut out = vec![0; size(columns, depth, nr, pairs.checked_mul(2 * nr))?];
    for (n, column) in weights.chunks_exact(depth.max(1)).enumerate() {
        let first = n / nr * pairs * 2 * nr + n % nr * 2;
        for (k, pair) in column.chunks(2).enumerate() {
            out[first + k * 2 * nr..][..pair.len()].copy_from_slice(pair);
        }
    }
    Ok(out)
}

/// The inverse of [`pack_bf16`].
pub fn unpack_bf16(packed: &[u16], columns: usize, depth: usize, nr: usize) -> Result<Vec<u16>, PackError> {
    let pairs = depth.div_ceil(2);
    check("packed weights", Some(size(columns, depth, nr, pairs.checked_mul(2 * nr))?), packed.len())?;
    let at = |n: usize, k: usize| packed[n / nr * pairs * 2 * nr + k / 2 * 2 * nr + n % nr * 2 + k % 2];
    Ok((0..columns).flat_map(|n| (0..depth).map(move |k| at(n, k))).collect())
}

/// Integer weights as panels, with the sum of each column's codes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackedIntegers {
    /// The panels.
    pub bytes: Vec<u8>,
    /// `Σ_k w`, a column each, padded with 0 to whole panels.
    pub column_sums: Vec<i32>,
}

impl PackedIntegers {
    /// Start values of the sums for activations with this zero point: `−zero · Σ_k w`, modulo 2³² as the sums are.
    pub fn corrections(&self, zero: i32) -> Vec<i32> {
        self.column_sums.iter().map(|&s| s.wrapping_mul(zero).wrapping_neg()).collect()
    }
}

fn column_sums(codes: &[i8], columns: usize, depth: usize, nr: usize) -> Vec<i32> {
    let sum = |n: usize| {
        let row = codes.get(n * depth..(n + 1) * depth).unwrap_or(&[]);
        row.iter().fold(0i32, |s, &w| s.wrapping_add(i32::from(w)))
    };
    (0..columns.div_ceil(nr) * nr).map(|n| if n < columns { sum(n) } else { 0 }).collect()
}

/// Weight codes `[N, K]` of s8 as panels.
pub fn pack_s8(codes: &[i8], columns: usize, depth: usize, nr: usize) -> Result<PackedIntegers, PackError> {
    check("weights", columns.checked_mul(depth), codes.len())?;
    let panel = depth.div_ceil(4).checked_mul(4 * nr);
    let mut bytes = vec![0; size(columns, depth, nr, panel)?];
    let panel = depth.div_ceil(4) * 4 * nr;
    for n in 0..columns {
        let base = n / nr * panel + n % nr * 4;
        for k in 0..depth {
            bytes[base + k / 4 * 4 * nr + k % 4] = codes[n * depth + k] as u8;
        }
    }
    Ok(PackedIntegers { bytes, column_sums: column_sums(codes, columns, depth, nr) })
}

/// The inverse of [`pack_s8`].
pub fn unpack_s8(packed: &[u8], columns: usize, depth: usize, nr: usize) -> Result<Vec<i8>, PackError> {
    let panel = depth.div_ceil(4).checked_mul(4 * nr);
    check("packed weights", Some(size(columns, depth, nr, panel)?), packed.len())?;
    let panel = depth.div_ceil(4) * 4 * nr;
    let at = |n: usize, k: usize| packed[n / nr * panel + k / 4 * 4 * nr + n % nr * 4 + k % 4] as i8;
    Ok((0..columns).flat_map(|n| (0..depth).map(move |k| at(n, k))).collect())
}

/// Where k's nibble stands in an octet of a panel of `nr` columns: byte, and bits to shift.
fn nibble(n: usize, k: usize, nr: usize) -> (usize, u32) {
    (k / 8 * 4 * nr + n % nr * 4 + k % 4, if k % 8 < 4 { 0 } else { 4 })
}

/// Weight codes `[N, K]` of s4 (−8 … 7) as panels of nibbles.
pub fn pack_s4(codes: &[i8], columns: usize, depth: usize, nr: usize) -> Result<PackedIntegers, PackError> {
    check("weights", columns.checked_mul(depth), codes.len())?;
    if let Some(index) = codes.iter().position(|c| !(-8..8).contains(c)) {
        return Err(PackError::Code { index, code: i32::from(codes[index]), lo: -8, hi: 7 });
    }
    let panel = depth.div_ceil(8).checked_mul(4 * nr);
    // The padding must mean 0, which is code 8 in both nibbles.
    let mut bytes = vec![0x88u8; size(columns, depth, nr, panel)?];
    let panel = depth.div_ceil(8) * 4 * nr;
    for n in 0..columns {
        for k in 0..depth {
            let (at, shift) = nibble(n, k, nr);
            let byte = &mut bytes[n / nr * panel + at];
            *byte = *byte & !(15 << shift) | ((codes[n * depth + k] + 8) as u8) << shift;
        }
    }
    Ok(PackedIntegers { bytes, column_sums: column_sums(codes, columns, depth, nr) })
}

/// The inverse of [`pack_s4`].
pub fn unpack_s4(packed: &[u8], columns: usize, depth: usize, nr: usize) -> Result<Vec<i8>, PackError> {
    let panel = depth.div_ceil(8).checked_mul(4 * nr);
    check("packed weights", Some(size(columns, depth, nr, panel)?), packed.len())?;
    let panel = depth.div_ceil(8) * 4 * nr;
    let at = |n: usize, k: usize| {
        let (at, shift) = nibble(n, k, nr);
        (packed[n / nr * panel + at] >> shift & 15) as i8 - 8
    };
    Ok((0..columns).flat_map(|n| (0..depth).map(move |k| at(n, k))).collect())
}

/// Bytes of a panel of blocks of `nr` columns.
fn block_panel(depth: usize, nr: usize, blocks: Blocks) -> Result<Option<usize>, PackError> {
    if !Blocks::fits(blocks.block) {
        return Err(PackError::Block(blocks.block as usize));
    }
    Ok(depth.div_ceil(blocks.block as usize).checked_mul(blocks.column_bytes() as usize * nr))
}

/// Where the codes and scales of a matrix stand in panels of blocks.
struct BlockPlaces {
    blocks: Blocks,
    depth: usize,
    nr: usize,
}

impl BlockPlaces {
    /// First byte of the block that holds the `k`-th value of a column.
    fn block(&self, n: usize, k: usize) -> usize {
        let (block, column_bytes) = (self.blocks.block as usize, self.blocks.column_bytes() as usize);
        (n / self.nr * self.depth.div_ceil(block) + k / block) * column_bytes * self.nr
    }

    /// The byte of a code, and bits to shift.
    fn code(&self, n: usize, k: usize) -> (usize, u32) {
        let within = k % self.blocks.block as usize;
        let (at, shift) = match self.blocks.codes {
            BlockCodes::U4 => nibble(n, within, self.nr),
            BlockCodes::U8 => (within / 4 * 4 * self.nr + n % self.nr * 4 + within % 4, 0),
        };
        (self.block(n, k) + at, shift)
    }

    /// The bytes of the scale of the `b`-th block of a column.
    fn scale(&self, n: usize, b: usize) -> std::ops::Range<usize> {
        let size = self.blocks.scales.bytes() as usize;
        let codes = self.blocks.code_bytes() as usize * self.nr;
        let at = self.block(n, b * self.blocks.block as usize) + codes + n % self.nr * size;
        at..at + size
    }
}

/// Unsigned weight codes `[N, K]` and the little-endian bytes of their scales `[N, ⌈K/block⌉]` as panels of blocks.
pub fn pack_blocks(
    codes: &[u8],
    scales: &[u8],
    columns: usize,
    depth: usize,
    nr: usize,
    blocks: Blocks,
) -> Result<Vec<u8>, PackError> {
    let panel = block_panel(depth, nr, blocks)?;
    let count = depth.div_ceil(blocks.block as usize);
    let scale_bytes = blocks.scales.bytes() as usize;
    check("weights", columns.checked_mul(depth), codes.len())?;
    check("scales", columns.checked_mul(count).and_then(|n| n.checked_mul(scale_bytes)), scales.len())?;
    let highest = u8::MAX >> (8 - blocks.codes.bits());
    if codes.iter().fold(0, |most, &c| c.max(most)) > highest {
        let index = codes.iter().position(|&c| c > highest).unwrap_or_default();
        return Err(PackError::Code { index, code: i32::from(codes[index]), lo: 0, hi: i32::from(highest) });
    }
    let mut bytes = vec![0; size(columns, depth, nr, panel)?];
    let places = BlockPlaces { blocks, depth, nr };
    let block = blocks.block as usize;
    for (n, column) in codes.chunks_exact(depth.max(1)).enumerate() {
        for (b, codes) in column.chunks(block).enumerate() {
            let first = places.block(n, b * block) + n % nr * 4;
            place_codes(&mut bytes[first..], codes, blocks.codes, nr);
            let from = (n * count + b) * scale_bytes;
            bytes[places.scale(n, b)].copy_from_slice(&scales[from..from + scale_bytes]);
        }
    }
    Ok(bytes)
}

/// Writes the codes of a block of one column, whose first four bytes are the first of `bytes`.
fn place_codes(bytes: &mut [u8], codes: &[u8], form: BlockCodes, nr: usize) {
    let groups = bytes.chunks_mut(4 * nr);
    match form {
        BlockCodes::U4 => {
            for (group, octet) in groups.zip(codes.chunks(8)) {
                let mut all = [0; 8];
                all[..octet.len()].copy_from_slice(octet);
                let octet = u64::from_le_bytes(all);
                group[..4].copy_from_slice(&((octet | octet >> 28) as u32).to_le_bytes());
            }
        }
        BlockCodes::U8 => {
            for (group, quad) in groups.zip(codes.chunks(4)) {
                group[..quad.len()].copy_from_slice(quad);
            }
        }
    }
}

/// The inverse of [`pack_blocks`]: codes and bytes of scales.
pub fn unpack_blocks(
    packed: &[u8],
    columns: usize,
    depth: usize,
    nr: usize,
    blocks: Blocks,
) -> Result<(Vec<u8>, Vec<u8>), PackError> {
    let panel = block_panel(depth, nr, blocks)?;
    check("packed weights", Some(size(columns, depth, nr, panel)?), packed.len())?;
    let (places, count) = (BlockPlaces { blocks, depth, nr }, depth.div_ceil(blocks.block as usize));
    let highest = u8::MAX >> (8 - blocks.codes.bits());
    let code = |n: usize, k: usize| {
        let (at, shift) = places.code(n, k);
        packed[at] >> shift & highest
    };
    let mut scales = Vec::with_capacity(columns * count * blocks.scales.bytes() as usize);
    for n in 0..columns {
        (0..count).for_each(|b| scales.extend_from_slice(&packed[places.scale(n, b)]));
    }
    Ok(((0..columns).flat_map(|n| (0..depth).map(move |k| code(n, k))).collect(), scales))
}

/// A vector by column (multipliers, bias) padded with zeros to whole panels.
pub fn pad_columns(values: &[f32], nr: usize) -> Vec<f32> {
    let mut out = values.to_vec();
    out.resize(values.len().div_ceil(nr) * nr, 0.0);
    out
}

/// A matrix `[channels, count]` in blocks of 16 channels, `[⌈channels/16⌉][count][16]`: the taps of depthwise and causal
/// convolutions and the decay matrix of a scan. Absent channels are 0.
pub fn pack_channel_blocks(values: &[f32], channels: usize, count: usize) -> Result<Vec<f32>, PackError> {
    check("weights", channels.checked_mul(count), values.len())?;
    let mut out = vec![0.0; size(channels, count, 16, count.checked_mul(16))?];
    for c in 0..channels {
        for j in 0..count {
            out[(c / 16 * count + j) * 16 + c % 16] = values[c * count + j];
        }
    }
    Ok(out)
}

/// As [`pack_channel_blocks`], of s8 codes.
pub fn pack_channel_blocks_s8(codes: &[i8], channels: usize, count: usize) -> Result<Vec<i8>, PackError> {
    check("weights", channels.checked_mul(count), codes.len())?;
    let mut out = vec![0; size(channels, count, 16, count.checked_mul(16))?];
    for c in 0..channels {
        for j in 0..count {
            out[(c / 16 * count + j) * 16 + c % 16] = codes[c * count + j];
        }
    }
    Ok(out)
}
