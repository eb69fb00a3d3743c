//! Sums of products of floats: with weights as they are, and with codes that are decoded on the way.

use super::super::atom;
use super::super::blocks::{BlockCodes, Blocks};
use super::super::emit::{Emitter, F32, F32X16, I32, I32X16, Scalar, Value};
use super::super::gemm::Product;
use super::super::split::{SplitCodes, Tables};
use super::Body;

/// How a code lies in a word of its column.
#[derive(Clone, Copy)]
pub(super) enum Code<'t> {
    /// Four signed bytes.
    S8,
    /// Four bytes with zero point 128.
    U8,
    /// Eight nibbles with zero point 8: low ones of the four bytes, then high ones.
    U4,
    /// Split codes, with the tables of each vector of columns.
    Split(SplitCodes, &'t [Tables]),
}

impl Code<'_> {
    /// Codes in a word.
    fn group(self) -> i64 {
        match self {
            Code::S8 | Code::U8 => 4,
            Code::U4 => 8,
            Code::Split(codes, _) => codes.group() as i64,
        }
    }

    /// Where the k-th code starts, in bits.
    fn shift(self, k: i32) -> i32 {
        match self {
            Code::S8 | Code::U8 => 8 * k,
            Code::U4 => 8 * (k % 4) + 4 * (k / 4),
            Code::Split(codes, _) => codes.bits() as i32 * k,
        }
    }

    fn shift_value(self, e: &mut Emitter, k: Value) -> Value {
        match self {
            Code::S8 | Code::U8 => e.times(k, 8),
            Code::Split(codes, _) => e.times(k, i64::from(codes.bits())),
            Code::U4 => {
                let (three, two) = (e.int(3), e.int(2));
                let byte = e.and(k, three);
                let byte = e.times(byte, 8);
                let half = e.shr(k, two);
                let half = e.times(half, 4);
                e.add(byte, half)
            }
        }
    }

    /// The code in the lowest bits of the words of the `v`-th vector, as f32.
    fn decode(self, e: &mut Emitter, word: Value, v: usize) -> Value {
        match self {
            Code::S8 => {
                let top = e.ints(24);
                let high = e.shl(word, top);
                let code = e.sar(high, top);
                e.to_float(code)
            }
            Code::U8 => {
                let (low, zero) = (e.ints(255), e.ints(128));
                let code = e.and(word, low);
                let code = e.sub(code, zero);
                e.to_float(code)
            }
            Code::U4 => atom::decode_u4(e, word),
            Code::Split(codes, tables) => tables[v].decode(e, codes, word),
        }
    }
}

impl Body<'_> {
    pub(super) fn f32_f32(&self, e: &mut Emitter, starts: &[Value]) -> Vec<Value> {
        let zero = e.floats(0.0);
        let start = self.each_sum(|_, _| zero);
        self.runs(e, starts, &start, |e, panel, starts, sums| {
            self.groups(e, self.t.depth, sums, |e, k, sums| {
                let p = e.element(panel, k, 4 * self.nr());
                let b = self.lines(e, p, F32X16);
                let at = e.times(k, 4);
                let mut next = Vec::new();
                for (r, &row) in starts.iter().enumerate() {
                    let p = e.at(row, at);
                    let x = e.load(p, F32);
                    let x = e.splat(x, 16);
                    for (v, &w) in b.iter().enumerate() {
                        next.push(e.multiply_add(x, w, sums[r * self.vectors + v]));
                    }
                }
                next
            })
        })
    }

    pub(super) fn bf16_bf16(&self, e: &mut Emitter, starts: &[Value]) -> Vec<Value> {
        let zero = e.floats(0.0);
        let start = self.each_sum(|_, _| zero);
        let pair = |e: &mut Emitter, k: Value, sums: &[Value], only_first: bool| {
            let p = e.element(self.t.panel, k, 4 * self.nr());
            let b = self.lines(e, p, I32X16);
            let at = e.times(k, 4);
            let mut next = Vec::new();
            for (r, &row) in starts.iter().enumerate() {
                let p = e.at(row, at);
                let mut x = e.load(p, I32);
                if only_first {
                    // What stands behind the last activation may be anything, even NaN.
                    let first = e.int_of(I32, 0xffff);
                    x = e.and(x, first);
                }
                let x = e.splat(x, 16);
                for (v, &w) in b.iter().enumerate() {
                    next.push(atom::dot_bf16(e, sums[r * self.vectors + v], x, w));
                }
            }
            next
        };
        let two = e.int(2);
        let pairs = e.div(self.t.depth, two);
        let sums = self.groups(e, pairs, &start, |e, k, sums| pair(e, k, sums, false));
        let rest = e.rem(self.t.depth, two);
        self.groups(e, rest, &sums, |e, _, sums| pair(e, pairs, sums, true))
    }

    pub(super) fn f32_block(&self, e: &mut Emitter, starts: &[Value], blocks: Blocks) -> Vec<Value> {
        let block = i64::from(blocks.block);
        let block_bytes = blocks.column_bytes() as i64 * self.nr();
        let code = match blocks.codes {
            BlockCodes::U4 => Code::U4,
            BlockCodes::U8 => Code::U8,
        };
        let zero = e.floats(0.0);
        let start = self.each_sum(|_, _| zero);
        let count = e.ceil_div(self.t.depth, block);
        self.groups(e, count, &start, |e, b, totals| {
            let panel = e.element(self.t.panel, b, block_bytes);
            let first = e.times(b, block);
            let left = e.sub(self.t.depth, first);
            let most = e.int(block);
            let left = e.min_int(left, most);
            let sums = self.decoded(e, starts, code, (panel, first, left), &start);
            let scales = self.block_scales(e, blocks, panel);
            totals
                .iter()
                .zip(sums)
                .enumerate()
                .map(|(i, (&total, s))| e.multiply_add(s, scales[i % self.vectors], total))
                .collect()
        })
    }

    /// Codes without block scales; the column's scale follows in the epilogue.
    pub(super) fn f32_codes(&self, e: &mut Emitter, starts: &[Value], code: Code<'_>) -> Vec<Value> {
        let zero = e.floats(0.0);
        let start = self.each_sum(|_, _| zero);
        let first = e.int(0);
        self.decoded(e, starts, code, (self.t.panel, first, self.t.depth), &start)
    }

    pub(super) fn f32_split(&self, e: &mut Emitter, starts: &[Value], codes: SplitCodes) -> Vec<Value> {
        let tables = Tables::load(e, codes, self.t.panel, self.spec.nr);
        let zero = e.floats(0.0);
        let start = self.each_sum(|_, _| zero);
        let words = e.offset(self.t.panel, codes.table_bytes(self.nr() as u64) as i64);
        let first = e.int(0);
        self.decoded(e, starts, Code::Split(codes, &tables), (words, first, self.t.depth), &start)
    }

    /// Products of activations with codes decoded to f32: `panel` holds those of `count` values from `first` on; sums start from zeros.
    fn decoded(
        &self,
        e: &mut Emitter,
        starts: &[Value],
        code: Code<'_>,
        (panel, first, count): (Value, Value, Value),
        start: &[Value],
    ) -> Vec<Value> {
        let group = code.group();
        let size = e.int(group);
        let groups = e.div(count, size);
        // A chain of sums is as slow as an addition is late, which one row has too few columns to hide: two sums a column give one row
        // of bytes 39 GB/s of weights on a Zen 5 core, one gives it 33. Tables and sums of blocks need the registers.
        let whole = matches!(self.spec.product, Product::F32S8 | Product::F32S4);
        let chains = if e.caps.avx512 && whole { 2 } else { 1 };
        let start = start.repeat(chains);
        let own = start.len() / chains;
        let sums = self.groups(e, groups, &start, |e, index, sums| {
            let p = e.element(panel, index, 4 * self.nr());
            let words = self.lines(e, p, I32X16);
            let at = e.times(index, group);
            let at = e.add(at, first);
            let at = e.times(at, 4);
            let mut sums = sums.to_vec();
            for k in 0..group {
                let shift = e.ints(code.shift(k as i32));
                let chain = &mut sums[own * (k as usize % chains)..][..own];
                self.add_column(e, chain, starts, (&words, code, shift), (at, 4 * k));
            }
            sums
        });
        let sums: Vec<Value> =
            (0..own).map(|i| (1..chains).fold(sums[i], |s, c| e.add(s, sums[own * c + i]))).collect();
        // Activations past the depth may be anything, even NaN: the last few values go one by one.
        let rest = e.rem(count, size);
        let p = e.element(panel, groups, 4 * self.nr());
        let done = e.mul(groups, size);
        let done = e.add(done, first);
        self.groups(e, rest, &sums, |e, k, sums| {
            let words = self.lines(e, p, I32X16);
            let shift = code.shift_value(e, k);
            let shift = e.truncate(shift, Scalar::I32);
            let shift = e.splat(shift, 16);
            let at = e.add(done, k);
            let at = e.times(at, 4);
            let mut sums = sums.to_vec();
            self.add_column(e, &mut sums, starts, (&words, code, shift), (at, 0));
            sums
        })
    }

    /// Adds one k: decodes its code of each column and multiplies it with each row's value at `at + offset` bytes.
    fn add_column(
        &self,
        e: &mut Emitter,
        sums: &mut [Value],
        starts: &[Value],
        (words, code, shift): (&[Value], Code<'_>, Value),
        (at, offset): (Value, i64),
    ) {
        let weights: Vec<Value> = words
            .iter()
            .enumerate()
            .map(|(v, &w)| {
                let low = e.shr(w, shift);
                code.decode(e, low, v)
            })
            .collect();
        for (r, &row) in starts.iter().enumerate() {
            let p = e.at(row, at);
            let p = e.offset(p, offset);
            let x = e.load(p, F32);
            let x = e.splat(x, 16);
            for (v, &w) in weights.iter().enumerate() {
                let s = &mut sums[r * self.vectors + v];
                *s = e.multiply_add(x, w, *s);
            }
        }
    }
}
