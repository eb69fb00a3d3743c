//! Tiles: `rows × NR` sums over the whole depth in registers, then the epilogue. The inner loops of every matrix product.
//!
//! Each row's result depends only on that row: a row computed in a tail tile has the same bits as in a whole one.
//! A k-group is what one step consumes: one value (f32), two (bf16), four bytes (s8, u8), eight nibbles (s4, u4), a word of split codes.

use super::atom::{self, ShortSums};
use super::blocks::{BlockCodes, BlockScales, Blocks};
use super::emit::{Cache, Emitter, F32, F32X16, I8X16, I8X64, I32, I32X16, I64, Scalar, Type, Value};
use super::epilogue::Writer;
use super::gemm::{ActivationScale, GemmSpec, Product, Rows};
use super::split::{SplitCodes, Tables};

/// Parameters of a tile function, in call order; addresses already stand at the tile's row and column.
#[derive(Clone, Copy)]
pub(super) struct Tile {
    /// First row of activations, bytes from row to row.
    pub a: (Value, Value),
    /// The weight panel.
    pub panel: Value,
    /// K.
    pub depth: Value,
    /// i32 start values of the sums, a column each.
    pub corrections: Value,
    /// f32 multipliers, a column each.
    pub multipliers: Value,
    /// f32 bias, a column each.
    pub bias: Value,
    /// f32 activation scale(s).
    pub row_scales: Value,
    /// i32 sums of the activation codes by row and block.
    pub row_sums: Value,
    /// First result, bytes from row to row.
    pub c: (Value, Value),
    /// Address of the result's scale, and its zero point.
    pub out: (Value, Value),
    /// f32 upper bounds, a column each.
    pub bounds: Value,
    /// Runs of activations of [`Rows::Lines`]: how many, and bytes from one to the next. The depth is that of a run.
    pub runs: (Value, Value),
}

impl Tile {
    pub const TYPES: [Type; 16] = [
        Type::Ptr,
        I64,
        Type::Ptr,
        I64,
        Type::Ptr,
        Type::Ptr,
        Type::Ptr,
        Type::Ptr,
        Type::Ptr,
        Type::Ptr,
        I64,
        Type::Ptr,
        I64,
        Type::Ptr,
        I64,
        I64,
    ];

    pub fn values(&self) -> [Value; 16] {
        [
            self.a.0,
            self.a.1,
            self.panel,
            self.depth,
            self.corrections,
            self.multipliers,
            self.bias,
            self.row_scales,
            self.row_sums,
            self.c.0,
            self.c.1,
            self.out.0,
            self.out.1,
            self.bounds,
            self.runs.0,
            self.runs.1,
        ]
    }

    fn from_values(v: &[Value]) -> Self {
        Tile {
            a: (v[0], v[1]),
            panel: v[2],
            depth: v[3],
            corrections: v[4],
            multipliers: v[5],
            bias: v[6],
            row_scales: v[7],
            row_sums: v[8],
            c: (v[9], v[10]),
            out: (v[11], v[12]),
            bounds: v[13],
            runs: (v[14], v[15]),
        }
    }
}

/// The name of the tile function of `rows` rows.
pub(super) fn tile_name(kernel: &str, rows: usize) -> String {
    format!("{kernel}_rows{rows}")
}

/// Emits the tile function of `rows` rows.
pub(super) fn emit_tile(e: &mut Emitter, spec: &GemmSpec, kernel: &str, rows: usize) {
    e.function(&tile_name(kernel, rows), false, &Tile::TYPES, |e, values| {
        let t = Tile::from_values(values);
        let coming = match spec.rows {
            _ if rows <= 4 => Coming::Soon(if spec.product == Product::U8S8 { 1536 } else { 4096 }),
            Rows::Matrix | Rows::Patches if spec.coded.is_none() => {
                Coming::NextPanel(spec.product.panel_bytes_value(e, spec.nr as i64, t.depth))
            }
            _ => Coming::Nothing,
        };
        let body = Body { spec, rows, vectors: spec.nr / 16, t, coming };
        let starts: Vec<Value> = (0..rows)
            .map(|r| {
                let bytes = e.times(t.a.1, r as i64);
                e.at(t.a.0, bytes)
            })
            .collect();
        let sums = match spec.product {
            Product::F32F32 => body.f32_f32(e, &starts),
            Product::BF16BF16 => body.bf16_bf16(e, &starts),
            Product::U8S8 => body.u8_s8(e, &starts),
            Product::U8S4 => body.u8_s4(e, &starts),
            Product::S8Block(blocks) => body.s8_block(e, &starts, blocks),
            Product::F32S8 => body.f32_codes(e, &starts, Code::S8),
            Product::F32S4 => body.f32_codes(e, &starts, Code::U4),
            Product::F32Block(blocks) => body.f32_block(e, &starts, blocks),
            Product::F32Split(codes) => body.f32_split(e, &starts, codes),
        };
        body.finish(e, &sums);
    });
}

/// How a code lies in a word of its column.
#[derive(Clone, Copy)]
enum Code<'t> {
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

struct Body<'a> {
    spec: &'a GemmSpec,
    rows: usize,
    vectors: usize,
    t: Tile,
    coming: Coming,
}

/// What of the weights to ask for while others are at work.
#[derive(Clone, Copy)]
enum Coming {
    /// So many bytes ahead: each is used once, as fast as memory gives it. Products of bytes run 1.03 times as fast with 1536 as with 4096,
    /// of nibbles 0.97 times (mamba-1.4b, decode on two Zen 5 cores at 76 GB/s).
    Soon(i64),
    /// What stands at the same place in the panel after this one, so many bytes behind. The next tiles of this panel find its lines in the
    /// second-level cache; the first tile of the next would not (512 × 4096 × 4096 of bytes: 78 % of the peak without, 90 % with it).
    NextPanel(Value),
    /// Nothing: where the panel was just made, or the next is elsewhere.
    Nothing,
}

impl Body<'_> {
    fn nr(&self) -> i64 {
        self.spec.nr as i64
    }

    fn each_sum(&self, mut f: impl FnMut(usize, usize) -> Value) -> Vec<Value> {
        (0..self.rows * self.vectors).map(|i| f(i / self.vectors, i % self.vectors)).collect()
    }

    /// Asks for what is needed after the weights at `at`.
    fn ask(&self, e: &mut Emitter, at: Value) {
        match self.coming {
            Coming::Soon(bytes) => {
                let far = e.offset(at, bytes);
                e.prefetch(far, Cache::First);
            }
            Coming::NextPanel(bytes) => {
                let far = e.at(at, bytes);
                e.prefetch(far, Cache::Second);
            }
            Coming::Nothing => {}
        }
    }

    fn lines(&self, e: &mut Emitter, p: Value, ty: Type) -> Vec<Value> {
        (0..self.vectors)
            .map(|v| {
                let at = e.offset(p, 64 * v as i64);
                self.ask(e, at);
                e.load(at, ty)
            })
            .collect()
    }

    fn broadcast_word(&self, e: &mut Emitter, p: Value) -> Value {
        let word = e.load(p, I32);
        let words = e.splat(word, 16);
        e.bits(words, I8X64)
    }

    /// A loop over k-groups: `step(e, group, sums) -> sums`.
    fn groups(
        &self,
        e: &mut Emitter,
        count: Value,
        start: &[Value],
        step: impl FnOnce(&mut Emitter, Value, &[Value]) -> Vec<Value>,
    ) -> Vec<Value> {
        let (zero, one) = (e.int(0), e.int(1));
        e.repeat(zero, count, one, start, step)
    }

    /// The body once for each run, with its panel and its rows, or just once.
    fn runs(
        &self,
        e: &mut Emitter,
        starts: &[Value],
        sums: &[Value],
        body: impl FnOnce(&mut Emitter, Value, &[Value], &[Value]) -> Vec<Value>,
    ) -> Vec<Value> {
        if !matches!(self.spec.rows, Rows::Lines(_)) {
            return body(e, self.t.panel, starts, sums);
        }
        let run_bytes = self.spec.product.panel_bytes_value(e, self.nr(), self.t.depth);
        self.groups(e, self.t.runs.0, sums, |e, run, sums| {
            let bytes = e.mul(run, run_bytes);
            let panel = e.at(self.t.panel, bytes);
            let bytes = e.mul(run, self.t.runs.1);
            let starts: Vec<Value> = starts.iter().map(|&row| e.at(row, bytes)).collect();
            body(e, panel, &starts, sums)
        })
    }

    fn f32_f32(&self, e: &mut Emitter, starts: &[Value]) -> Vec<Value> {
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

    fn bf16_bf16(&self, e: &mut Emitter, starts: &[Value]) -> Vec<Value> {
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

    fn corrections(&self, e: &mut Emitter) -> Vec<Value> {
        let columns: Vec<Value> = (0..self.vectors)
            .map(|v| {
                let p = e.offset(self.t.corrections, 64 * v as i64);
                e.load(p, I32X16)
            })
            .collect();
        self.each_sum(|_, v| columns[v])
    }

    fn u8_s8(&self, e: &mut Emitter, starts: &[Value]) -> Vec<Value> {
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

    fn u8_s4(&self, e: &mut Emitter, starts: &[Value]) -> Vec<Value> {
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

    /// The scales that follow a block's codes.
    fn block_scales(&self, e: &mut Emitter, blocks: Blocks, panel: Value) -> Vec<Value> {
        let first = blocks.code_bytes() as i64 * self.nr();
        (0..self.vectors)
            .map(|v| {
                let p = e.offset(panel, first + 16 * i64::from(blocks.scales.bytes()) * v as i64);
                if matches!(self.coming, Coming::NextPanel(_)) {
                    self.ask(e, p);
                }
                match blocks.scales {
                    BlockScales::F16 => atom::load_halves(e, p),
                    BlockScales::F32 => e.load(p, F32X16),
                }
            })
            .collect()
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

    fn s8_block(&self, e: &mut Emitter, starts: &[Value], blocks: Blocks) -> Vec<Value> {
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

    fn f32_block(&self, e: &mut Emitter, starts: &[Value], blocks: Blocks) -> Vec<Value> {
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
    fn f32_codes(&self, e: &mut Emitter, starts: &[Value], code: Code<'_>) -> Vec<Value> {
        let zero = e.floats(0.0);
        let start = self.each_sum(|_, _| zero);
        let first = e.int(0);
        self.decoded(e, starts, code, (self.t.panel, first, self.t.depth), &start)
    }

    fn f32_split(&self, e: &mut Emitter, starts: &[Value], codes: SplitCodes) -> Vec<Value> {
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

    /// Scale, bias, activation, store.
    fn finish(&self, e: &mut Emitter, sums: &[Value]) {
        let epilogue = &self.spec.epilogue;
        let t = &self.t;
        // Sums of codes times finite multipliers are numbers; only then may clamps be one.
        let exact = self.spec.product == Product::U8S8 && epilogue.scale == ActivationScale::Tensor;
        let writer = Writer::new(e, epilogue.output, t.out.0, t.out.1);
        let (writer, activation) = if exact && !epilogue.bounded {
            writer.take(e, epilogue.activation)
        } else {
            (writer, epilogue.activation)
        };
        let columns = |e: &mut Emitter, p: Value| -> Vec<Value> {
            (0..self.vectors)
                .map(|v| {
                    let p = e.offset(p, 64 * v as i64);
                    e.load(p, F32X16)
                })
                .collect()
        };
        let bias = if epilogue.bias { columns(e, t.bias) } else { vec![e.floats(0.0); self.vectors] };
        let bounds = if epilogue.bounded { columns(e, t.bounds) } else { Vec::new() };
        let multipliers = match self.spec.product {
            Product::U8S8 | Product::U8S4 | Product::F32S8 | Product::F32S4 => columns(e, t.multipliers),
            _ => Vec::new(),
        };
        let size = epilogue.output.bytes();
        for r in 0..self.rows {
            let scale = match (self.spec.product, epilogue.scale) {
                (product, _) if product.activation_bytes() > 1 => None,
                (Product::U8S8 | Product::U8S4, ActivationScale::Tensor) => None,
                (_, scale) => {
                    let row = if scale == ActivationScale::Token { 4 * r as i64 } else { 0 };
                    let p = e.offset(t.row_scales, row);
                    let s = e.load(p, F32);
                    Some(e.splat(s, 16))
                }
            };
            let bytes = e.times(t.c.1, r as i64);
            let row = e.at(t.c.0, bytes);
            for v in 0..self.vectors {
                let s = sums[r * self.vectors + v];
                let y = match self.spec.product {
                    Product::F32F32 | Product::BF16BF16 | Product::F32Block(_) | Product::F32Split(_) => {
                        if epilogue.bias {
                            e.add(s, bias[v])
                        } else {
                            s
                        }
                    }
                    Product::F32S8 | Product::F32S4 => e.multiply_add(s, multipliers[v], bias[v]),
                    Product::U8S8 | Product::U8S4 => {
                        let m = match scale {
                            Some(x) => e.mul(x, multipliers[v]),
                            None => multipliers[v],
                        };
                        let s = e.to_float(s);
                        e.fma(s, m, bias[v])
                    }
                    Product::S8Block(_) => {
                        let x = scale.expect("invariant: block products read the activation scale");
                        e.fma(s, x, bias[v])
                    }
                };
                let y = activation.apply(e, y);
                let y = bounds.get(v).map_or(y, |bound| e.smaller(*bound, y));
                let stored = writer.encode(e, y);
                debug_assert!(stored.ty() == F32X16 || stored.ty() == I8X16);
                let p = e.offset(row, 16 * size * v as i64);
                e.store(stored, p);
            }
        }
    }
}
