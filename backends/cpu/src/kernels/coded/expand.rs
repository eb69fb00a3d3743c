//! A panel of codes as a panel that a product reads.

use super::decode::{patterns, scales, signed};
use super::{Coded, Levels, Sharing};
use crate::kernels::blocks::{BlockScales, Blocks};
use crate::kernels::emit::{Emitter, F32, F32X16, I32X16, Scalar, Value};
use crate::kernels::gemm::Product;

/// Expands a panel of `nr` columns: `panel` and the header at `header`, to `to`.
#[derive(Clone, Copy)]
pub(crate) struct Expand {
    pub coded: Coded,
    pub nr: usize,
    pub header: Value,
    pub panel: Value,
    pub depth: Value,
    /// The first of the only sixteen columns that are wanted.
    pub sixteen: Option<Value>,
}

impl Expand {
    /// Writes the panel that `product` reads.
    pub(crate) fn emit(&self, e: &mut Emitter, product: Product, to: Value) {
        match product {
            Product::U8S8 => self.write_bytes(e, to),
            Product::S8Block(blocks) => self.write_blocks(e, blocks, to),
            _ => self.write_floats(e, to),
        }
    }

    fn vectors(&self) -> usize {
        if self.sixteen.is_some() { 1 } else { self.nr / 16 }
    }

    /// The `v`-th vector of elements of `size` bytes in a row of columns.
    fn columns(&self, e: &mut Emitter, row: Value, v: usize, size: i64) -> Value {
        match self.sixteen {
            None => e.offset(row, 16 * size * v as i64),
            Some(first) => e.element(row, first, size),
        }
    }

    /// The panel's scales, zero points and codes.
    fn parts(&self, e: &mut Emitter) -> (Value, Value, Value) {
        let groups = self.coded.groups_value(e, self.depth);
        let of_scales = e.times(groups, self.coded.scale_bytes() as i64 * self.nr as i64);
        let zeros = e.at(self.panel, of_scales);
        let of_zeros = e.times(groups, self.coded.zero_point_bits() as i64 * self.nr as i64 / 8);
        (self.panel, zeros, e.at(zeros, of_zeros))
    }

    /// The `row`-th bit patterns of each column.
    fn patterns(&self, e: &mut Emitter, at: Value, row: Value) -> Vec<Value> {
        let bits = i64::from(self.coded.bits);
        let row = e.element(at, row, bits * self.nr as i64 / 8);
        (0..self.vectors())
            .map(|v| {
                let p = match self.sixteen {
                    None => e.offset(row, 2 * bits * v as i64),
                    Some(first) => {
                        let eights = e.ceil_div(first, 8);
                        e.element(row, eights, bits)
                    }
                };
                patterns(e, self.coded.bits, p)
            })
            .collect()
    }

    /// The scales of a group of each vector of columns, times the tensor's.
    fn scales(&self, e: &mut Emitter, scales_at: Value, group: Value) -> Vec<Value> {
        let at = e.offset(self.header, self.coded.tensor_scale_at());
        let of_tensor = e.load(at, F32);
        let of_tensor = e.splat(of_tensor, 16);
        if self.coded.sharing == Sharing::Tensor {
            return vec![of_tensor; self.vectors()];
        }
        let size = i64::from(self.coded.scale.bits()) / 8;
        let row = e.element(scales_at, group, size * self.nr as i64);
        (0..self.vectors())
            .map(|v| {
                let p = self.columns(e, row, v, size);
                let s = scales(e, self.coded.scale, p);
                // Only E4M3 scales are multiples of one of the tensor.
                if self.coded.scale == qcc_ir::ScaleType::E4M3 { e.mul(s, of_tensor) } else { s }
            })
            .collect()
    }

    fn zeros(&self, e: &mut Emitter, zeros_at: Value, group: Value) -> Vec<Option<Value>> {
        if !self.coded.zero_points {
            return vec![None; self.vectors()];
        }
        let with_sign = |e: &mut Emitter, pattern| match self.coded.levels {
            Levels::Signed { .. } => signed(e, self.coded.bits, pattern),
            _ => pattern,
        };
        self.patterns(e, zeros_at, group).into_iter().map(|zero| Some(with_sign(e, zero))).collect()
    }

    /// `[K][nr]` of f32.
    pub(crate) fn write_floats(&self, e: &mut Emitter, to: Value) {
        let row_bytes = 4 * self.nr as i64;
        self.each_value(e, |e, k, v, x| {
            let row = e.element(to, k, row_bytes);
            let p = e.offset(row, 64 * v as i64);
            e.store(x, p);
        });
    }

    /// One column of them beside each other; `scratch` has room for sixteen.
    pub(crate) fn row(&self, e: &mut Emitter, lane: Value, scratch: Value, to: Value) {
        self.each_value(e, |e, k, _, x| {
            e.store(x, scratch);
            let p = e.element(scratch, lane, 4);
            let x = e.load(p, F32);
            let p = e.element(to, k, 4);
            e.store(x, p);
        });
    }

    /// The numbers of each `k` and vector of columns.
    fn each_value(&self, e: &mut Emitter, mut body: impl FnMut(&mut Emitter, Value, usize, Value)) {
        let (scales_at, zeros_at, codes_at) = self.parts(e);
        self.each_group(e, |e, group, first, last| {
            let scales = self.scales(e, scales_at, group);
            let zeros = self.zeros(e, zeros_at, group);
            e.each(first, last, |e, k| {
                let codes = self.patterns(e, codes_at, k);
                for (v, code) in codes.into_iter().enumerate() {
                    let level = self.coded.levels.decode(e, self.coded.bits, code, zeros[v], self.header);
                    let x = e.mul(level, scales[v]);
                    debug_assert_eq!(x.ty(), F32X16);
                    body(e, k, v, x);
                }
            });
        });
    }

    /// Each group and its values `first..last`.
    fn each_group(&self, e: &mut Emitter, body: impl FnOnce(&mut Emitter, Value, Value, Value)) {
        let zero = e.int(0);
        match self.coded.sharing {
            Sharing::Tensor | Sharing::Column => body(e, zero, zero, self.depth),
            Sharing::Block { block, run } => {
                let (run, per_run) = match run {
                    None => (self.depth, e.ceil_div(self.depth, i64::from(block))),
                    Some(run) => (e.int(i64::from(run)), e.int(i64::from(run.div_ceil(block)))),
                };
                let groups = self.coded.groups_value(e, self.depth);
                e.each(zero, groups, |e, group| {
                    let (of_run, within) = (e.div(group, per_run), e.rem(group, per_run));
                    let start = e.mul(of_run, run);
                    let end = e.add(start, run);
                    let first = e.times(within, i64::from(block));
                    let first = e.add(start, first);
                    let last = e.plus(first, i64::from(block));
                    let last = e.min_int(last, end);
                    body(e, group, first, last);
                });
            }
        }
    }

    /// The signed code, as the low byte of each lane; 0 past the depth.
    fn signed(&self, e: &mut Emitter, codes_at: Value, k: Value, plus: i32) -> Vec<Value> {
        let one = e.int(1);
        let most = e.sub(self.depth, one);
        let at = e.min_int(k, most);
        let inside = e.compare("sle", k, most);
        let codes = self.patterns(e, codes_at, at);
        codes
            .into_iter()
            .map(|code| {
                let code = signed(e, self.coded.bits, code);
                let shift = e.ints(plus);
                let code = e.add(code, shift);
                let byte = e.ints(255);
                let code = e.and(code, byte);
                let nothing = e.ints(0);
                e.select(inside, code, nothing)
            })
            .collect()
    }

    /// Four neighbours along K of each column as words.
    fn quad(&self, e: &mut Emitter, codes_at: Value, first: Value, plus: i32) -> Vec<Value> {
        let nothing = e.ints(0);
        let mut words = vec![nothing; self.vectors()];
        for j in 0..4 {
            let k = e.plus(first, j);
            let shift = e.ints(8 * j as i32);
            for (word, code) in words.iter_mut().zip(self.signed(e, codes_at, k, plus)) {
                let code = e.shl(code, shift);
                *word = e.or(*word, code);
            }
        }
        words
    }

    fn store_words(&self, e: &mut Emitter, words: Vec<Value>, to: Value) {
        for (v, word) in words.into_iter().enumerate() {
            debug_assert_eq!(word.ty(), I32X16);
            let p = e.offset(to, 64 * v as i64);
            e.store(word, p);
        }
    }

    /// `[K/4][nr][4]` of s8.
    fn write_bytes(&self, e: &mut Emitter, to: Value) {
        let (_, _, codes_at) = self.parts(e);
        let (zero, quads) = (e.int(0), e.ceil_div(self.depth, 4));
        e.each(zero, quads, |e, quad| {
            let first = e.times(quad, 4);
            let words = self.quad(e, codes_at, first, 0);
            let row = e.element(to, quad, 4 * self.nr as i64);
            self.store_words(e, words, row);
        });
    }

    /// `[K][nr]` of s8.
    pub(crate) fn write_codes(&self, e: &mut Emitter, to: Value) {
        let (_, _, codes_at) = self.parts(e);
        let zero = e.int(0);
        e.each(zero, self.depth, |e, k| {
            let row = e.element(to, k, self.nr as i64);
            for (v, code) in self.signed(e, codes_at, k, 0).into_iter().enumerate() {
                let p = e.offset(row, 16 * v as i64);
                let code = e.truncate(code, Scalar::I8);
                e.store(code, p);
            }
        });
    }

    /// Blocks of bytes 128 higher, each with its scales behind it.
    fn write_blocks(&self, e: &mut Emitter, blocks: Blocks, to: Value) {
        let (scales_at, _, codes_at) = self.parts(e);
        let nr = self.nr as i64;
        let block = i64::from(blocks.block);
        let (zero, count) = (e.int(0), e.ceil_div(self.depth, block));
        e.each(zero, count, |e, group| {
            let panel = e.element(to, group, blocks.column_bytes() as i64 * nr);
            let start = e.times(group, block);
            let quads = e.int(block / 4);
            e.each(zero, quads, |e, quad| {
                let first = e.times(quad, 4);
                let first = e.add(start, first);
                let words = self.quad(e, codes_at, first, 128);
                let row = e.element(panel, quad, 4 * nr);
                self.store_words(e, words, row);
            });
            let behind = e.offset(panel, blocks.code_bytes() as i64 * nr);
            let size = i64::from(self.coded.scale.bits()) / 8;
            let from = e.element(scales_at, group, size * nr);
            for v in 0..self.vectors() as i64 {
                let p = e.offset(from, 16 * size * v);
                let q = e.offset(behind, 16 * i64::from(blocks.scales.bytes()) * v);
                let s = match blocks.scales {
                    BlockScales::F16 => e.load(p, crate::loops::storage::Storage::F16.lanes()),
                    BlockScales::F32 => scales(e, self.coded.scale, p),
                };
                e.store(s, q);
            }
        });
    }
}
