//! Rows of a quantized table, read from the panels that a matrix product reads ([`pack`](crate::kernels::pack)): so a table that is also
//! the output head is stored once. A row is a column of the panels; its codes lie far apart, which is as slow as it is rare.
//!
//! Work item: one index. Negative and too large indices are held at the nearest valid one, as in [`gather`](super::gather).

use super::Slots;
use super::gather::held_index;
use crate::kernels::TargetCaps;
use crate::kernels::atom;
use crate::kernels::blocks::{BlockScales, Blocks};
use crate::kernels::coded::Coded;
use crate::kernels::coded::expand::Expand;
use crate::kernels::emit::{Emitter, F32, I8, I32, Scalar, Value};
use crate::kernels::gemm::Product;

/// A kernel for one form of panels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PackedRows {
    /// The product whose panels these are: of s8 codes, s4 codes, or blocks.
    pub panels: Product,
    /// The form of panels that are expanded for that product.
    pub coded: Option<Coded>,
    /// Columns of a panel.
    pub nr: usize,
    /// Whether indices are 64-bit (else 32-bit).
    pub wide: bool,
}

/// Bytes of scratch memory a worker needs.
pub const SCRATCH_BYTES: u64 = 64;

impl PackedRows {
    /// Argument names: `rows` and `depth` are the table's sizes, `multipliers` a scale a row for codes without block scales.
    pub const ARGUMENTS: [&'static str; 7] =
        ["out", "panels", "index", "multipliers", "rows", "depth", "fault"];

    /// The kernel's MLIR text.
    pub fn generate(&self, name: &str, caps: &TargetCaps) -> String {
        let mut e = Emitter::new(caps);
        let names: Vec<String> = Self::ARGUMENTS.map(String::from).to_vec();
        e.kernel(name, |e, kernel| {
            let slots = Slots::new(kernel, &names);
            let [out, panels, index, multipliers] =
                ["out", "panels", "index", "multipliers"].map(|n| slots.pointer(e, n));
            let fault = slots.pointer(e, "fault");
            let [rows, depth] = ["rows", "depth"].map(|n| slots.size(e, n));
            let panel_bytes = match self.coded {
                Some(coded) => coded.panel_bytes_value(e, self.nr as i64, depth),
                None => self.panels.panel_bytes_value(e, self.nr as i64, depth),
            };
            let header = panels;
            let panels = e.offset(panels, self.coded.map_or(0, Coded::header_bytes) as i64);
            e.each(kernel.begin, kernel.end, |e, item| {
                let row = held_index(e, index, item, rows, (self.wide, fault));
                let nr = e.int(self.nr as i64);
                let (panel, column) = (e.div(row, nr), e.rem(row, nr));
                let panel = e.mul(panel, panel_bytes);
                let panel = e.at(panels, panel);
                let to = e.mul(item, depth);
                let to = e.element(out, to, 4);
                let zero = e.int(0);
                if let Some(coded) = self.coded {
                    let sixteen = e.int(16);
                    let lane = e.rem(column, sixteen);
                    let sixteen = Some(e.sub(column, lane));
                    let expand = Expand { coded, nr: self.nr, header, panel, depth, sixteen };
                    return expand.row(e, lane, kernel.scratch, to);
                }
                match self.panels {
                    Product::S8Block(blocks) | Product::F32Block(blocks) => {
                        let block = i64::from(blocks.block);
                        let count = e.ceil_div(depth, block);
                        e.each(zero, count, |e, b| {
                            let panel = e.element(panel, b, blocks.column_bytes() as i64 * self.nr as i64);
                            let first = e.times(b, block);
                            let left = e.sub(depth, first);
                            let most = e.int(block);
                            let count = e.min_int(left, most);
                            let scale = self.block_scale(e, panel, blocks, column, kernel.scratch);
                            let to = e.element(to, first, 4);
                            self.decode(e, panel, column, count, scale, to);
                        });
                    }
                    _ => {
                        let scale = e.element(multipliers, row, 4);
                        let scale = e.load(scale, F32);
                        self.decode(e, panel, column, depth, scale, to);
                    }
                }
            });
        });
        e.finish()
    }

    /// The scale of a column behind a block's codes. Sixteen halves are widened at once, as the matrix product does.
    fn block_scale(
        &self,
        e: &mut Emitter,
        panel: Value,
        blocks: Blocks,
        column: Value,
        scratch: Value,
    ) -> Value {
        let scales = e.offset(panel, blocks.code_bytes() as i64 * self.nr as i64);
        if blocks.scales == BlockScales::F32 {
            let scale = e.element(scales, column, 4);
            return e.load(scale, F32);
        }
        let sixteen = e.int(16);
        let (group, lane) = (e.div(column, sixteen), e.rem(column, sixteen));
        let group = e.element(scales, group, 32);
        let scales = atom::load_halves(e, group);
        e.store(scales, scratch);
        let scale = e.element(scratch, lane, 4);
        e.load(scale, F32)
    }

    /// `count` codes of a column, each times `scale`.
    fn decode(&self, e: &mut Emitter, panel: Value, column: Value, count: Value, scale: Value, to: Value) {
        let nr = self.nr as i64;
        let zero = e.int(0);
        let codes = e.element(panel, column, 4);
        // Bits of a code, and its zero point; without one a code is signed.
        let (bits, zero_point) = match self.panels {
            Product::S8Block(blocks) | Product::F32Block(blocks) => {
                (blocks.codes.bits(), Some(i64::from(blocks.codes.zero())))
            }
            Product::U8S8 | Product::F32S8 => (8, None),
            _ => (4, Some(8)),
        };
        e.each(zero, count, |e, k| {
            let (three, two) = (e.int(3), e.int(2));
            let byte = e.and(k, three);
            let quad = e.shr(k, two);
            let code = if bits == 4 {
                let one = e.int(1);
                let octet = e.shr(quad, one);
                let half = e.and(quad, one);
                let at = e.element(codes, octet, 4 * nr);
                let at = e.at(at, byte);
                let pair = e.load(at, I8);
                let pair = e.extend_unsigned(pair, Scalar::I32);
                let shift = e.times(half, 4);
                let shift = e.truncate(shift, Scalar::I32);
                let pair = e.shr(pair, shift);
                let low = e.int_of(I32, 15);
                e.and(pair, low)
            } else {
                let at = e.element(codes, quad, 4 * nr);
                let at = e.at(at, byte);
                let code = e.load(at, I8);
                match zero_point {
                    None => e.extend(code, Scalar::I32),
                    Some(_) => e.extend_unsigned(code, Scalar::I32),
                }
            };
            let code = match zero_point {
                None => code,
                Some(zero) => {
                    let zero = e.int_of(I32, zero);
                    e.sub(code, zero)
                }
            };
            let code = e.to_float(code);
            let y = e.mul(code, scale);
            let to = e.element(to, k, 4);
            e.store(y, to);
        });
    }
}
