//! Sums of products of bytes: exact in i32, scaled after a block or after all of them.

use super::super::atom::{self, ShortSums};
use super::super::blocks::{BlockCodes, Blocks};
use super::super::emit::{Emitter, I8X64, I32, I32X16, Value};
use super::Body;

impl Body<'_> {
    fn corrections(&self, e: &mut Emitter) -> Vec<Value> {
        let columns: Vec<Value> = (0..self.vectors)
            .map(|v| {
                let p = e.offset(self.t.corrections, 64 * v as i64);
                e.load(p, I32X16)
            })
            .collect();
        self.each_sum(|_, v| columns[v])
    }

    pub(super) fn u8_s8(&self, e: &mut Emitter, starts: &[Value]) -> Vec<Value> {
        let start = self.corrections(e);
        let count = e.ceil_div(self.t.depth, 4);
        self.runs(e, starts, &start, |e, panel, starts, sums| {
            self.groups(e, count, sums, |e, k, sums| {
                let p = e.element(panel, k, 4 * self.nr());
                let b = self.lines(e, p, I8X64);
                let at = e.times(k, 4);
                let mut next = Vec::new();
                for (r, &row) in starts.iter().enumerate() {
                    let p = e.at(row, at);
                    let x = self.broadcast_word(e, p);
                    for (v, &w) in b.iter().enumerate() {
                        next.push(atom::dot_u8s8(e, sums[r * self.vectors + v], x, w));
                    }
                }
                next
            })
        })
    }

    /// The low and high nibbles of each line: two k-quads.
    fn nibbles(&self, e: &mut Emitter, p: Value) -> [Vec<Value>; 2] {
        let lines = self.lines(e, p, I8X64);
        let (four, low) = (e.int_of(I8X64, 4), e.int_of(I8X64, 15));
        [lines.iter().map(|&w| e.and(w, low)).collect(), lines.iter().map(|&w| e.shr(w, four)).collect()]
    }

    pub(super) fn u8_s4(&self, e: &mut Emitter, starts: &[Value]) -> Vec<Value> {
        let start = self.corrections(e);
        let count = e.ceil_div(self.t.depth, 8);
        self.groups(e, count, &start, |e, k, sums| {
            let p = e.element(self.t.panel, k, 4 * self.nr());
            let at = e.times(k, 8);
            let eight = e.int_of(I8X64, 8);
            let mut sums = sums.to_vec();
            for (quad, codes) in self.nibbles(e, p).into_iter().enumerate() {
                let weights: Vec<Value> = codes.into_iter().map(|c| e.sub(c, eight)).collect();
                for (r, &row) in starts.iter().enumerate() {
                    let p = e.at(row, at);
                    let p = e.offset(p, 4 * quad as i64);
                    let x = self.broadcast_word(e, p);
                    for (v, &w) in weights.iter().enumerate() {
                        let s = &mut sums[r * self.vectors + v];
                        *s = atom::dot_u8s8(e, *s, x, w);
                    }
                }
            }
            sums
        })
    }

    /// The codes of an octet along K: two k-quads.
    fn octet(&self, e: &mut Emitter, codes: BlockCodes, panel: Value, octet: i64) -> [Vec<Value>; 2] {
        let p = e.offset(panel, octet * i64::from(codes.bits()) * self.nr());
        match codes {
            BlockCodes::U4 => self.nibbles(e, p),
            BlockCodes::U8 => {
                let second = e.offset(p, 4 * self.nr());
                [p, second].map(|p| self.lines(e, p, I8X64))
            }
        }
    }

    pub(super) fn s8_block(&self, e: &mut Emitter, starts: &[Value], blocks: Blocks) -> Vec<Value> {
        let block = i64::from(blocks.block);
        let block_bytes = blocks.column_bytes() as i64 * self.nr();
        // One piece is unrolled; a part of a block is padded with zero codes, which add nothing.
        let piece = if block <= 64 { block } else { 32 };
        let zero = e.floats(0.0);
        let start = self.each_sum(|_, _| zero);
        let count = e.ceil_div(self.t.depth, block);
        let sums_stride = e.times(count, 4);
        self.groups(e, count, &start, |e, b, totals| {
            let panel = e.element(self.t.panel, b, block_bytes);
            let first = e.times(b, block);
            let minus = e.int_of(I32, -i64::from(blocks.codes.zero()));
            let start: Vec<Value> = (0..self.rows)
                .flat_map(|r| {
                    let row = e.times(sums_stride, r as i64);
                    let p = e.at(self.t.row_sums, row);
                    let p = e.element(p, b, 4);
                    let s = e.load(p, I32);
                    let s = e.mul(s, minus);
                    vec![e.splat(s, 16); self.vectors]
                })
                .collect();
            let one_piece = |e: &mut Emitter, panel: Value, at: Value, sums: &[Value]| {
                let short = blocks.codes == BlockCodes::U4 && ShortSums::pay(e);
                let mut sums = sums.to_vec();
                for octets in (0..piece / 8).collect::<Vec<_>>().chunks(ShortSums::MOST / 2) {
                    let mut partial = if short { vec![ShortSums::zero(e); sums.len()] } else { sums.clone() };
                    for &octet in octets {
                        let quads = self.octet(e, blocks.codes, panel, octet);
                        for (quad, codes) in quads.into_iter().enumerate() {
                            for (r, &row) in starts.iter().enumerate() {
                                let p = e.at(row, at);
                                let p = e.offset(p, 8 * octet + 4 * quad as i64);
                                let x = self.broadcast_word(e, p);
                                for (v, &w) in codes.iter().enumerate() {
                                    let s = &mut partial[r * self.vectors + v];
                                    *s = match blocks.codes {
                                        BlockCodes::U4 if short => ShortSums::add(e, *s, w, x),
                                        BlockCodes::U4 => atom::dot_nibbles(e, *s, w, x),
                                        BlockCodes::U8 => atom::dot_u8s8(e, *s, w, x),
                                    };
                                }
                            }
                        }
                    }
                    if short {
                        let pairs = sums.iter().zip(partial);
                        sums = pairs.map(|(&sum, short)| ShortSums::finish(e, sum, short)).collect();
                    } else {
                        sums = partial;
                    }
                }
                sums
            };
            let sums = if piece == block {
                one_piece(e, panel, first, &start)
            } else {
                let left = e.sub(self.t.depth, first);
                let most = e.int(block);
                let left = e.min_int(left, most);
                let pieces = e.ceil_div(left, piece);
                let piece_bytes = piece * i64::from(blocks.codes.bits()) / 8 * self.nr();
                self.groups(e, pieces, &start, |e, i, sums| {
                    let panel = e.element(panel, i, piece_bytes);
                    let at = e.times(i, piece);
                    let at = e.add(at, first);
                    one_piece(e, panel, at, sums)
                })
            };
            let scales = self.block_scales(e, blocks, panel);
            totals
                .iter()
                .zip(sums)
                .enumerate()
                .map(|(i, (&total, s))| {
                    let s = e.to_float(s);
                    e.fma(s, scales[i % self.vectors], total)
                })
                .collect()
        })
    }
}
