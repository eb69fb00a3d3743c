//! Rows of a quantized table, read from the panels that a matrix product reads ([`pack`](crate::kernels::pack)): so a table that is also
//! the output head is stored once. A row is a column of the panels; its codes lie far apart, which is as slow as it is rare.
//!
//! Work item: one index. Negative and too large indices are held at the nearest valid one, as in [`gather`](super::gather).

use super::Slots;
use super::gather::held_index;
use crate::kernels::TargetCaps;
use crate::kernels::atom;
use crate::kernels::emit::{Emitter, F32, I8, I32, Scalar, Value};
use crate::kernels::gemm::Product;

/// A kernel for one form of panels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PackedRows {
    /// The product whose panels these are: of s8 codes, s4 codes, or u4 blocks.
    pub panels: Product,
    /// Columns of a panel.
    pub nr: usize,
    /// Whether indices are 64-bit (else 32-bit).
    pub wide: bool,
}

/// Bytes of scratch memory a worker needs.
pub const SCRATCH_BYTES: u64 = 64;

impl PackedRows {
    /// Argument names: `rows` and `depth` are the table's sizes, `multipliers` a scale a row for codes without block scales.
    pub const ARGUMENTS: [&'static str; 6] = ["out", "panels", "index", "multipliers", "rows", "depth"];

    /// The kernel's MLIR text.
    pub fn generate(&self, name: &str, caps: &TargetCaps) -> String {
        let mut e = Emitter::new(caps);
        let names: Vec<String> = Self::ARGUMENTS.map(String::from).to_vec();
        e.kernel(name, |e, kernel| {
            let slots = Slots::new(kernel, &names);
            let [out, panels, index, multipliers] =
                ["out", "panels", "index", "multipliers"].map(|n| slots.pointer(e, n));
            let [rows, depth] = ["rows", "depth"].map(|n| slots.size(e, n));
            let panel_bytes = self.panels.panel_bytes_value(e, self.nr as i64, depth);
            e.each(kernel.begin, kernel.end, |e, item| {
                let row = held_index(e, index, item, rows, self.wide);
                let nr = e.int(self.nr as i64);
                let (panel, column) = (e.div(row, nr), e.rem(row, nr));
                let panel = e.mul(panel, panel_bytes);
                let panel = e.at(panels, panel);
                let to = e.mul(item, depth);
                let to = e.element(out, to, 4);
                let zero = e.int(0);
                match self.panels {
                    Product::S8U4Block { block } | Product::F32U4Block { block } => {
                        let block = i64::from(block);
                        let blocks = e.ceil_div(depth, block);
                        e.each(zero, blocks, |e, b| {
                            let panel = e.element(panel, b, (block / 2 + 2) * self.nr as i64);
                            let first = e.times(b, block);
                            let left = e.sub(depth, first);
                            let most = e.int(block);
                            let count = e.min_int(left, most);
                            let scale = self.block_scale(e, panel, block, column, kernel.scratch);
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

    /// The f16 scale of a column behind a block's codes. Sixteen are widened at once, as the matrix product does.
    fn block_scale(&self, e: &mut Emitter, panel: Value, block: i64, column: Value, scratch: Value) -> Value {
        let scales = e.offset(panel, block / 2 * self.nr as i64);
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
        let nibbles = !matches!(self.panels, Product::U8S8 | Product::F32S8);
        e.each(zero, count, |e, k| {
            let (three, two) = (e.int(3), e.int(2));
            let byte = e.and(k, three);
            let quad = e.shr(k, two);
            let code = if nibbles {
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
                let (low, eight) = (e.int_of(I32, 15), e.int_of(I32, 8));
                let code = e.and(pair, low);
                e.sub(code, eight)
            } else {
                let at = e.element(codes, quad, 4 * nr);
                let at = e.at(at, byte);
                let code = e.load(at, I8);
                e.extend(code, Scalar::I32)
            };
            let code = e.to_float(code);
            let y = e.mul(code, scale);
            let to = e.element(to, k, 4);
            e.store(y, to);
        });
    }
}
