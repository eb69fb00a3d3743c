//! Tiles of up to [`ROWS`] × [`COLUMNS`] sums of bytes in the tile registers of Intel AMX: two of activations, two of weights, four of sums.
//! The sums go through scratch memory to the epilogue, row by row; they are those of the tiles in vector registers, bit for bit.
//!
//! Each register of activations takes half of the rows. A run of K is cut into chunks of as many k-quads as a register has rows, or into even
//! ones where that leaves fewer; what is left is added row by row. Nibbles are spread to bytes first, once for all tiles of a block of rows.

use super::super::TargetCaps;
use super::super::atom;
use super::super::blocks::{BlockCodes, Blocks};
use super::super::emit::{Emitter, F32X16, I8X64, I32, I32X16, I64, Scalar, Signs, Type, Value};
use super::super::gemm::{GemmSpec, Product, Rows};
use super::{Body, Coming, Tile};

/// Rows of a tile, at most.
pub const ROWS: usize = 32;
/// Columns of a tile, and of a panel.
pub const COLUMNS: usize = 32;
/// Fewer rows are left to vector registers.
pub const FEWEST_ROWS: usize = 5;

/// Shorter runs along K are left to them too: the sums' way through memory takes longer.
pub const SHORTEST_RUN: u64 = 32;

/// Rows of a register.
const REGISTER_ROWS: i64 = 16;
/// Bytes of a row of a register.
const REGISTER_BYTES: i64 = 64;
/// Bytes of a row of sums, of totals of blocks, or of k-quads of a panel.
const ROW_BYTES: i64 = 4 * COLUMNS as i64;

/// Where in scratch the sizes of registers are, …
const SIZES: i64 = 0;
/// … for how many rows they were made, …
const SIZED_FOR: i64 = 64;
/// … the sums, …
const SUMS: i64 = 128;
/// … and the totals of blocks.
const TOTALS: i64 = SUMS + ROWS as i64 * ROW_BYTES;
/// Bytes of scratch.
pub const SCRATCH_BYTES: u64 = (TOTALS + ROWS as i64 * ROW_BYTES) as u64;

const SUM_TILES: [u8; 4] = [0, 1, 2, 3];
const ROW_TILES: [u8; 2] = [4, 5];
const WEIGHT_TILES: [u8; 2] = [6, 7];

/// Whether a machine makes a product so.
pub fn supports(caps: &TargetCaps, product: Product, rows: Rows) -> bool {
    let lines = matches!(rows, Rows::Lines(_));
    caps.amx_int8
        && match product {
            Product::U8S8 => !matches!(rows, Rows::Lines(lines) if lines.pixels < FEWEST_ROWS),
            Product::U8S4 => !lines,
            Product::S8Block(blocks) => !lines && block_quads(blocks).is_some(),
            _ => false,
        }
}

/// K-quads of a chunk of a block; none where a block has no even chunks, or is too short to be worth one.
fn block_quads(blocks: Blocks) -> Option<i64> {
    let chunks = blocks.block.div_ceil(REGISTER_BYTES as u32);
    (blocks.block >= 32 && blocks.block.is_multiple_of(4 * chunks))
        .then(|| i64::from(blocks.block / (4 * chunks)))
}

/// Whether weights are nibbles, that are spread.
pub fn spreads(product: Product) -> bool {
    match product {
        Product::U8S4 => true,
        Product::S8Block(blocks) => blocks.codes == BlockCodes::U4,
        _ => false,
    }
}

/// Bytes of a panel of spread nibbles.
pub fn spread_bytes(product: Product, depth: u64) -> u64 {
    let unit = match product {
        Product::S8Block(blocks) => u64::from(blocks.block),
        _ => 8,
    };
    depth.next_multiple_of(unit) * COLUMNS as u64
}

/// [`spread_bytes`] of a depth known at run time.
pub fn spread_bytes_value(e: &mut Emitter, product: Product, depth: Value) -> Value {
    let unit = match product {
        Product::S8Block(blocks) => i64::from(blocks.block),
        _ => 8,
    };
    let units = e.ceil_div(depth, unit);
    e.times(units, unit * COLUMNS as i64)
}

/// Emits the functions that [`each_tile`] and [`spread`] call.
pub(in super::super) fn emit(e: &mut Emitter, spec: &GemmSpec, kernel: &str) {
    debug_assert!(spec.nr == COLUMNS);
    emit_sizes(e, kernel);
    if spreads(spec.product) {
        e.function(&format!("{kernel}_spread"), false, &[Type::Ptr, I64, Type::Ptr], |e, values| {
            let &[panel, depth, to] = values else { unreachable!("invariant: three parameters") };
            emit_spread(e, spec.product, panel, depth, to);
        });
    }
    let types: Vec<Type> = Tile::TYPES.into_iter().chain([Type::Ptr, I64, Type::Ptr]).collect();
    e.function(&format!("{kernel}_amx"), false, &types, |e, values| {
        let (tile, &[codes, rows, scratch]) = values.split_at(Tile::TYPES.len()) else {
            unreachable!("invariant: three more parameters")
        };
        let t = Tile::from_values(tile);
        let upper = e.ceil_div(rows, 2);
        let body = Body { spec, rows: 1, vectors: COLUMNS / 16, t, coming: Coming::Nothing };
        let tile = AmxTile { body, codes, rows, upper, scratch };
        match spec.product {
            Product::S8Block(blocks) => tile.blocks(e, blocks),
            _ => tile.bytes(e),
        }
    });
}

/// At the start of a kernel: registers have no sizes yet.
pub(in super::super) fn start(e: &mut Emitter, scratch: Value) {
    let p = e.offset(scratch, SIZED_FOR);
    let none = e.int(0);
    e.store(none, p);
}

/// Gives registers the sizes for tiles of `rows` rows and chunks of `quads` k-quads, unless they have them.
pub(in super::super) fn set_sizes(e: &mut Emitter, kernel: &str, rows: Value, quads: Value, scratch: Value) {
    e.call(&format!("{kernel}_sizes"), &[rows, quads, scratch]);
}

/// Makes `count` rows (at least [`FEWEST_ROWS`]) in tiles that are as even as may be. `tile_at`: the tile that starts at a row, and its panel as
/// bytes.
pub(in super::super) fn each_tile(
    e: &mut Emitter,
    spec: &GemmSpec,
    kernel: &str,
    depth: Value,
    count: Value,
    scratch: Value,
    mut tile_at: impl FnMut(&mut Emitter, Value) -> (Tile, Value),
) {
    let quads = match spec.product {
        Product::S8Block(blocks) => {
            e.int(block_quads(blocks).expect("invariant: only products that are supported"))
        }
        product => {
            let quads = quads(e, product, depth);
            chunks(e, quads).0
        }
    };
    let tiles = e.ceil_div(count, ROWS as i64);
    let up = e.plus(tiles, -1);
    let up = e.add(count, up);
    let rows = e.div(up, tiles);
    set_sizes(e, kernel, rows, quads, scratch);
    let (zero, last) = (e.int(0), e.sub(count, rows));
    e.repeat(zero, count, rows, &[], |e, row, _| {
        // So many rows each: where they overlap, some are made twice.
        let row = e.min_int(row, last);
        let (tile, codes) = tile_at(e, row);
        let arguments: Vec<Value> = tile.values().into_iter().chain([codes, rows, scratch]).collect();
        e.call(&format!("{kernel}_amx"), &arguments);
        Vec::new()
    });
}

/// Spreads the nibbles of a panel to signed bytes at `to`.
pub(in super::super) fn spread(e: &mut Emitter, kernel: &str, panel: Value, depth: Value, to: Value) {
    e.call(&format!("{kernel}_spread"), &[panel, depth, to]);
}

/// K-quads of a run as bytes.
fn quads(e: &mut Emitter, product: Product, depth: Value) -> Value {
    match product {
        Product::U8S4 => {
            let octets = e.ceil_div(depth, 8);
            e.times(octets, 2)
        }
        _ => e.ceil_div(depth, 4),
    }
}

/// How many k-quads a chunk of a run has, and how many chunks there are: whole registers, or even chunks where fewer quads are left over.
fn chunks(e: &mut Emitter, quads: Value) -> (Value, Value) {
    let (one, most) = (e.int(1), e.int(REGISTER_ROWS));
    let count = e.ceil_div(quads, REGISTER_ROWS);
    let count = e.max_int(count, one);
    let even = e.div(quads, count);
    let even = e.max_int(even, one);
    let (left_of_even, left_of_whole) = (e.rem(quads, even), e.rem(quads, most));
    let whole = e.compare("sle", left_of_whole, left_of_even);
    let enough = e.compare("sge", quads, most);
    let whole = e.and(whole, enough);
    let each = e.select(whole, most, even);
    (each, e.div(quads, each))
}

/// The sizes of the registers, as `LDTILECFG` reads them: a palette, at 16 the bytes of rows, at 48 the numbers of rows.
pub(in super::super) fn emit_sizes(e: &mut Emitter, kernel: &str) {
    e.function(&format!("{kernel}_sizes"), false, &[I64, I64, Type::Ptr], |e, values| {
        let &[rows, quads, scratch] = values else { unreachable!("invariant: three parameters") };
        let at = e.offset(scratch, SIZED_FOR);
        let before = e.load(at, I64);
        let other = e.compare("ne", before, rows);
        e.when(other, |e| {
            e.store(rows, at);
            let sizes = e.offset(scratch, SIZES);
            let nothing = e.int_of(I8X64, 0);
            e.store(nothing, sizes);
            let palette = e.int_of(Type::One(Scalar::I8), 1);
            e.store(palette, sizes);
            let upper = e.ceil_div(rows, 2);
            let lower = e.sub(rows, upper);
            let (line, chunk) = (e.int(REGISTER_BYTES), e.times(quads, 4));
            let registers = [
                (SUM_TILES[0], line, upper),
                (SUM_TILES[1], line, upper),
                (SUM_TILES[2], line, lower),
                (SUM_TILES[3], line, lower),
                (ROW_TILES[0], chunk, upper),
                (ROW_TILES[1], chunk, lower),
                (WEIGHT_TILES[0], line, quads),
                (WEIGHT_TILES[1], line, quads),
            ];
            for (register, bytes, rows) in registers {
                let p = e.offset(sizes, 16 + 2 * i64::from(register));
                let bytes = e.truncate(bytes, Scalar::I16);
                e.store(bytes, p);
                let p = e.offset(sizes, 48 + i64::from(register));
                let rows = e.truncate(rows, Scalar::I8);
                e.store(rows, p);
            }
            e.tile_configure(sizes);
        });
    });
}

/// `[K/4][COLUMNS][4]` of s8. What pads a part of a block is 0.
fn emit_spread(e: &mut Emitter, product: Product, panel: Value, depth: Value, to: Value) {
    let (block, from_bytes) = match product {
        Product::S8Block(blocks) => (i64::from(blocks.block), blocks.column_bytes() as i64),
        _ => (8, 4),
    };
    let columns = COLUMNS as i64;
    let (zero, count, octets) = (e.int(0), e.ceil_div(depth, block), e.int(block / 8));
    e.each(zero, count, |e, b| {
        let from = e.element(panel, b, from_bytes * columns);
        let to = e.element(to, b, block * columns);
        let first = e.times(b, block);
        let left = e.sub(depth, first);
        e.each(zero, octets, |e, octet| {
            let from = e.element(from, octet, 4 * columns);
            let to = e.element(to, octet, 8 * columns);
            let before = e.times(octet, 8);
            let left = e.sub(left, before);
            let (eight, low, four) = (e.int_of(I8X64, 8), e.int_of(I8X64, 15), e.int_of(I8X64, 4));
            let write = |e: &mut Emitter, left: Option<Value>| {
                for half in 0..2 {
                    let p = e.offset(from, REGISTER_BYTES * half);
                    let both = e.load(p, I8X64);
                    for (quad, codes) in [e.and(both, low), e.shr(both, four)].into_iter().enumerate() {
                        let weights = e.sub(codes, eight);
                        let weights = match left {
                            Some(left) => only_first(e, weights, left, 4 * quad as i64),
                            None => weights,
                        };
                        let p = e.offset(to, ROW_BYTES * quad as i64 + REGISTER_BYTES * half);
                        e.store(weights, p);
                    }
                }
            };
            if matches!(product, Product::S8Block(_)) {
                let all = e.int(8);
                let whole = e.compare("sge", left, all);
                e.branch(whole, |e| write(e, None), |e| write(e, Some(left)));
            } else {
                write(e, None);
            }
        });
    });
}

/// Of quads of bytes that stand at `first` along K those before `left`, and 0 for the others.
fn only_first(e: &mut Emitter, quads: Value, left: Value, first: i64) -> Value {
    let (low, high) = (e.int(0), e.int(8));
    let left = e.max_int(left, low);
    let left = e.min_int(left, high);
    let left = e.truncate(left, Scalar::I8);
    let left = e.splat(left, 64);
    let places: [i64; 64] = std::array::from_fn(|i| first + i as i64 % 4);
    let places = e.bytes(&places);
    let inside = e.compare("slt", places, left);
    let nothing = e.int_of(I8X64, 0);
    e.select(inside, quads, nothing)
}

/// A tile function of AMX: what it was called with.
struct AmxTile<'a> {
    body: Body<'a>,
    /// The panel as bytes.
    codes: Value,
    rows: Value,
    /// Rows of the upper half.
    upper: Value,
    scratch: Value,
}

impl AmxTile<'_> {
    fn zero(&self, e: &mut Emitter) {
        SUM_TILES.into_iter().for_each(|tile| e.tile_zero(tile));
    }

    /// Adds the products of a chunk; `starts`: of both halves of the rows.
    fn add_chunk(&self, e: &mut Emitter, signs: Signs, starts: [Value; 2], panel: Value) {
        let stride = e.int(ROW_BYTES);
        let right = e.offset(panel, REGISTER_BYTES);
        let [upper, lower] = ROW_TILES;
        let [left_weights, right_weights] = WEIGHT_TILES;
        e.tile_load(left_weights, panel, stride);
        e.tile_load(upper, starts[0], self.body.t.a.1);
        e.tile_dot(signs, SUM_TILES[0], upper, left_weights);
        e.tile_load(right_weights, right, stride);
        e.tile_dot(signs, SUM_TILES[1], upper, right_weights);
        e.tile_load(lower, starts[1], self.body.t.a.1);
        e.tile_dot(signs, SUM_TILES[2], lower, left_weights);
        e.tile_dot(signs, SUM_TILES[3], lower, right_weights);
    }

    fn store_sums(&self, e: &mut Emitter) {
        let stride = e.int(ROW_BYTES);
        let upper = e.offset(self.scratch, SUMS);
        let lower = e.element(upper, self.upper, ROW_BYTES);
        for (rows, tiles) in [upper, lower].into_iter().zip(SUM_TILES.chunks(2)) {
            e.tile_store(tiles[0], rows, stride);
            let right = e.offset(rows, REGISTER_BYTES);
            e.tile_store(tiles[1], right, stride);
        }
    }

    /// The first rows of both halves.
    fn starts(&self, e: &mut Emitter) -> [Value; 2] {
        let (first, stride) = self.body.t.a;
        let bytes = e.mul(self.upper, stride);
        [first, e.at(first, bytes)]
    }

    /// A row of the table at `table` in scratch.
    fn row(&self, e: &mut Emitter, table: i64, row: Value) -> [Value; COLUMNS / 16] {
        let p = e.offset(self.scratch, table);
        let p = e.element(p, row, ROW_BYTES);
        std::array::from_fn(|v| e.offset(p, REGISTER_BYTES * v as i64))
    }

    fn finish_row(&self, e: &mut Emitter, ending: &super::Ending, row: Value, sums: &[Value]) {
        let t = &self.body.t;
        let token = self.body.spec.epilogue.scale == super::ActivationScale::Token;
        let scale = e.element(t.row_scales, row, if token { 4 } else { 0 });
        let bytes = e.mul(row, t.c.1);
        let result = e.at(t.c.0, bytes);
        self.body.finish_row(e, ending, scale, result, sums);
    }

    /// Sums that are scaled at the end.
    fn bytes(self, e: &mut Emitter) {
        let AmxTile { body, codes, rows, .. } = &self;
        let body = Body { t: Tile { panel: *codes, ..body.t }, ..*body };
        let (zero, one) = (e.int(0), e.int(1));
        let quads = quads(e, body.spec.product, body.t.depth);
        let (each, count) = chunks(e, quads);
        let starts = self.starts(e);
        self.zero(e);
        body.runs(e, &starts, &[], |e, panel, starts, _| {
            let (chunk_bytes, panel_bytes) = (e.times(each, 4), e.times(each, ROW_BYTES));
            e.each(zero, count, |e, chunk| {
                let along = e.mul(chunk, chunk_bytes);
                let starts = [e.at(starts[0], along), e.at(starts[1], along)];
                let along = e.mul(chunk, panel_bytes);
                let panel = e.at(panel, along);
                self.add_chunk(e, Signs::Second, starts, panel);
            });
            Vec::new()
        });
        self.store_sums(e);
        let corrections: [Value; COLUMNS / 16] = std::array::from_fn(|v| {
            let p = e.offset(body.t.corrections, REGISTER_BYTES * v as i64);
            e.load(p, I32X16)
        });
        let ending = body.ending(e);
        let done = e.mul(each, count);
        let left = e.compare("slt", done, quads);
        e.each(zero, *rows, |e, row| {
            let places = self.row(e, SUMS, row);
            let sums = [0, 1].map(|v| {
                let sum = e.load(places[v], I32X16);
                e.add(sum, corrections[v])
            });
            let bytes = e.mul(row, body.t.a.1);
            let start = e.at(body.t.a.0, bytes);
            let sums = e.choose(
                left,
                &[I32X16; COLUMNS / 16],
                |e| {
                    body.runs(e, &[start], &sums, |e, panel, starts, sums| {
                        e.repeat(done, quads, one, sums, |e, quad, sums| {
                            let p = e.element(panel, quad, ROW_BYTES);
                            let weights = body.lines(e, p, I8X64);
                            let p = e.element(starts[0], quad, 4);
                            let x = body.broadcast_word(e, p);
                            sums.iter().zip(weights).map(|(&sum, w)| atom::dot_u8s8(e, sum, x, w)).collect()
                        })
                    })
                },
                |_| sums.to_vec(),
            );
            self.finish_row(e, &ending, row, &sums);
        });
    }

    /// Sums that are scaled block by block.
    fn blocks(self, e: &mut Emitter, blocks: Blocks) {
        let AmxTile { body, codes, rows, .. } = &self;
        let t = &body.t;
        let (zero, block) = (e.int(0), i64::from(blocks.block));
        let chunk = 4 * block_quads(blocks).expect("invariant: only products that are supported");
        let columns = COLUMNS as i64;
        let spread = spreads(body.spec.product);
        let (signs, codes_bytes) = match spread {
            true => (Signs::Both, block * columns),
            false => (Signs::First, blocks.column_bytes() as i64 * columns),
        };
        let nothing = e.floats(0.0);
        e.each(zero, *rows, |e, row| {
            for place in self.row(e, TOTALS, row) {
                e.store(nothing, place);
            }
        });
        let count = e.ceil_div(t.depth, block);
        let sums_stride = e.times(count, 4);
        let starts = self.starts(e);
        e.each(zero, count, |e, b| {
            let first = e.times(b, block);
            let left = e.sub(t.depth, first);
            let most = e.int(block);
            let left = e.min_int(left, most);
            let chunks = e.ceil_div(left, chunk);
            let codes = e.element(*codes, b, codes_bytes);
            let starts = starts.map(|start| e.at(start, first));
            self.zero(e);
            e.each(zero, chunks, |e, i| {
                let along = e.times(i, chunk);
                let starts = starts.map(|start| e.at(start, along));
                let codes = e.element(codes, i, chunk * columns);
                self.add_chunk(e, signs, starts, codes);
            });
            self.store_sums(e);
            let panel = e.element(t.panel, b, blocks.column_bytes() as i64 * columns);
            let scales = body.block_scales(e, blocks, panel);
            e.each(zero, *rows, |e, row| {
                let start = (!spread).then(|| {
                    let p = e.mul(row, sums_stride);
                    let p = e.at(t.row_sums, p);
                    let p = e.element(p, b, 4);
                    let sum = e.load(p, I32);
                    let minus = e.int_of(I32, -i64::from(blocks.codes.zero()));
                    let sum = e.mul(sum, minus);
                    e.splat(sum, 16)
                });
                let (sums, totals) = (self.row(e, SUMS, row), self.row(e, TOTALS, row));
                for ((from, place), &scale) in sums.into_iter().zip(totals).zip(&scales) {
                    let sum = e.load(from, I32X16);
                    let sum = start.map_or(sum, |start| e.add(sum, start));
                    let sum = e.to_float(sum);
                    let total = e.load(place, F32X16);
                    let total = e.fma(sum, scale, total);
                    e.store(total, place);
                }
            });
        });
        let ending = body.ending(e);
        e.each(zero, *rows, |e, row| {
            let totals = self.row(e, TOTALS, row).map(|place| e.load(place, F32X16));
            self.finish_row(e, &ending, row, &totals);
        });
    }
}
