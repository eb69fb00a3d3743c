//! `C[M,N] = A[M,K] · B + epilogue` over packed weights ([`pack`](super::pack)), and convolution as the same product over
//! gathered patches.
//!
//! A work item is one block of rows × one panel; the panels of a block come one after the other, so its rows stay in the second-level
//! cache. Blocks are of even height. Patches, and rows whose stride would crowd one cache set, are first copied beside each other.
//! The order of a sum does not depend on M, on the item or on the thread.

use super::blocks::Blocks;
use super::coded::Coded;
use super::coded::expand::Expand;
use super::emit::{Emitter, I64, Kernel, Type, Value};
use super::epilogue::{Activation, Output};
use super::lines::{self, Lines};
use super::patches::{self, Geometry};
use super::split::SplitCodes;
use super::tile::{Tile, amx, emit_tile, tile_name};
use super::{SLACK, TargetCaps};

/// What is multiplied with what, and so how weights are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Product {
    /// f32 activations, f32 weights.
    F32F32,
    /// bf16 activations, bf16 weights, sums of f32.
    BF16BF16,
    /// u8 activation codes, s8 weight codes; sums start at a correction by column, −zero point · Σ weights.
    U8S8,
    /// u8 activation codes, s4 weight codes, otherwise as `U8S8`.
    U8S4,
    /// s8 activation codes, weight codes with a scale for each block along K.
    S8Block(Blocks),
    /// f32 activations, s8 weight codes in the panels of `U8S8`; a multiplier by column.
    F32S8,
    /// f32 activations, s4 weight codes in the panels of `U8S4`; a multiplier by column.
    F32S4,
    /// f32 activations, weight codes in the panels of `S8Block`.
    F32Block(Blocks),
    /// f32 activations, split weight codes with their tables in the panels.
    F32Split(SplitCodes),
}

impl Product {
    /// Bytes of one activation.
    pub fn activation_bytes(self) -> u64 {
        match self {
            Product::F32F32
            | Product::F32S8
            | Product::F32S4
            | Product::F32Block(_)
            | Product::F32Split(_) => 4,
            Product::BF16BF16 => 2,
            Product::U8S8 | Product::U8S4 | Product::S8Block(_) => 1,
        }
    }

    /// Bytes of one weight panel of `nr` columns and `depth` values along K.
    pub fn panel_bytes(self, nr: usize, depth: u64) -> u64 {
        let nr = nr as u64;
        match self {
            Product::F32F32 => 4 * nr * depth,
            Product::BF16BF16 => 4 * nr * depth.div_ceil(2),
            Product::U8S8 | Product::F32S8 => 4 * nr * depth.div_ceil(4),
            Product::U8S4 | Product::F32S4 => 4 * nr * depth.div_ceil(8),
            Product::S8Block(blocks) | Product::F32Block(blocks) => {
                depth.div_ceil(u64::from(blocks.block)) * blocks.column_bytes() * nr
            }
            Product::F32Split(codes) => codes.table_bytes(nr) + 4 * nr * depth.div_ceil(codes.group()),
        }
    }

    /// [`Product::panel_bytes`] of a depth known at run time.
    pub(crate) fn panel_bytes_value(self, e: &mut Emitter, nr: i64, depth: Value) -> Value {
        match self {
            Product::F32F32 => e.times(depth, 4 * nr),
            Product::BF16BF16 => {
                let groups = e.ceil_div(depth, 2);
                e.times(groups, 4 * nr)
            }
            Product::U8S8 | Product::F32S8 => {
                let groups = e.ceil_div(depth, 4);
                e.times(groups, 4 * nr)
            }
            Product::U8S4 | Product::F32S4 => {
                let groups = e.ceil_div(depth, 8);
                e.times(groups, 4 * nr)
            }
            Product::S8Block(blocks) | Product::F32Block(blocks) => {
                let count = e.ceil_div(depth, i64::from(blocks.block));
                e.times(count, blocks.column_bytes() as i64 * nr)
            }
            Product::F32Split(codes) => {
                let words = e.ceil_div(depth, codes.group() as i64);
                let words = e.times(words, 4 * nr);
                e.plus(words, codes.table_bytes(nr as u64) as i64)
            }
        }
    }
}

/// Where the activation scale of an integer product comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ActivationScale {
    /// One for the tensor: folded into `multipliers` (u8 products), or the first of `row_scales` (block products).
    #[default]
    Tensor,
    /// One for each row, in `row_scales`.
    Token,
}

/// What follows the sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Epilogue {
    /// Whether a bias by column is added.
    pub bias: bool,
    /// The activation's scale; not used by products of f32.
    pub scale: ActivationScale,
    /// The fused activation.
    pub activation: Activation,
    /// Whether results then have an upper bound by column.
    pub bounded: bool,
    /// How results are stored.
    pub output: Output,
}

/// What a row of A is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Rows {
    /// A row of a matrix.
    #[default]
    Matrix,
    /// The patch of one output pixel of an NHWC image: implicit convolution. `K = kernel_height · kernel_width · channels`.
    Patches,
    /// The same pixels, read where they lie in lines of the image, without gathering patches. Only of windows that are dense across.
    Lines(Lines),
}

/// Rows of bytes that stay in the second-level cache beside a panel; of f32 half as many.
const BLOCK_ROWS: usize = 96;

/// A matrix product kernel.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GemmSpec {
    /// Formats of the operands.
    pub product: Product,
    /// The form of weights that are expanded to those of the product, panel by panel.
    pub coded: Option<Coded>,
    /// Whether sums of more than a few rows are made in the tile registers of AMX. `mr` is then what those hold.
    pub amx: bool,
    /// Rows of a tile.
    pub mr: usize,
    /// Columns of a panel: a multiple of 16; the packer must use the same.
    pub nr: usize,
    /// Tiles of `mr` rows in a work item, at most.
    pub row_tiles: usize,
    /// Rows of the last tile, where that is likely: there is a tile of just so many.
    pub rest: Option<usize>,
    /// What a row of A is.
    pub rows: Rows,
    /// What follows the sum.
    pub epilogue: Epilogue,
}

impl GemmSpec {
    /// The spec with the best tile for a machine.
    pub fn new(caps: &TargetCaps, product: Product, rows: Rows, epilogue: Epilogue) -> Self {
        let amx = amx::supports(caps, product, rows);
        let (mr, nr) = if amx { (amx::ROWS, amx::COLUMNS) } else { Self::tile(caps, product) };
        let block_rows = match product.activation_bytes() {
            // Machines with AMX have larger caches.
            1 if amx => 2 * BLOCK_ROWS,
            1 => BLOCK_ROWS,
            _ => BLOCK_ROWS / 2,
        };
        GemmSpec { product, coded: None, amx, mr, nr, row_tiles: block_rows / mr, rest: None, rows, epilogue }
    }

    /// The spec for a known number of columns and values of a run along K, and of rows if it is known: panels that are filled and whole tiles.
    pub fn fit(mut self, caps: &TargetCaps, columns: u64, run: u64, rows: Option<u64>) -> Self {
        let plain = matches!(self.product, Product::F32F32 | Product::U8S8) && self.coded.is_none();
        // Few columns are few panels; a single row, as when text is written, needs some for each thread.
        let narrow = rows.is_none() && columns <= 192;
        let blocks = matches!(self.product, Product::S8Block(_)) && self.coded.is_none();
        let few_columns = (blocks || plain) && (narrow || columns <= 16);
        if self.amx && (few_columns || run < amx::SHORTEST_RUN) {
            self.amx = false;
            (self.mr, self.nr) = Self::tile(caps, self.product);
            self.row_tiles = BLOCK_ROWS / self.mr;
        }
        if self.amx {
            return self;
        }
        if caps.avx512 && narrow && blocks {
            let block_rows = self.block_rows();
            (self.mr, self.nr) = (12, 16);
            self.row_tiles = block_rows / self.mr;
            return self;
        }
        if !(caps.avx512 && plain) {
            return self;
        }
        let block_rows = self.block_rows();
        // As many sums as registers hold beside the weights and one activation.
        let padded = |nr: u64| columns.next_multiple_of(nr);
        (self.mr, self.nr) = match columns {
            0..=16 => (28, 16),
            _ if narrow => (28, 16),
            _ if 12 * padded(48) < 11 * padded(32) => (9, 48),
            _ => (14, 32),
        };
        if let Some(rows) = rows.filter(|n| *n > 0) {
            // As even as may be.
            let tiles = rows.div_ceil(self.mr as u64);
            self.mr = rows.div_ceil(tiles) as usize;
            self.rest = Some((rows % self.mr as u64) as usize).filter(|rest| *rest > 0);
        }
        self.row_tiles = (block_rows / self.mr).max(1);
        self
    }

    /// Rows and columns of a tile: as many sums as the registers hold beside one step's operands.
    pub fn tile(caps: &TargetCaps, product: Product) -> (usize, usize) {
        // Decoded codes or block sums need registers beside the sums.
        let block = match product {
            Product::F32F32 | Product::U8S8 | Product::U8S4 => false,
            Product::BF16BF16 => !caps.bf16_512,
            _ => true,
        };
        let wide = caps.avx512;
        match (wide, block) {
            (true, false) if product == Product::U8S4 => (10, 32),
            (true, false) => (12, 32),
            (true, true) => (6, 32),
            _ if product == Product::F32F32 && (caps.avx2 || caps.neon) => (6, 16),
            _ if product == Product::U8S8 && (caps.vnni256 || caps.i8mm) => (6, 16),
            _ if caps.neon => (4, 16),
            _ if caps.avx2 => (4, 16),
            _ => (2, 16),
        }
    }

    /// Rows of a work item, at most.
    pub fn block_rows(&self) -> usize {
        self.mr * self.row_tiles
    }

    /// Rows of the tiles that are generated, the largest first.
    fn variants(&self) -> Vec<usize> {
        if self.amx {
            // Those of vector registers.
            return match self.rows {
                Rows::Lines(_) => Vec::new(),
                _ => (0..usize::BITS).rev().map(|b| 1 << b).filter(|&r| r < amx::FEWEST_ROWS).collect(),
            };
        }
        let mut rows = vec![self.mr];
        match (self.rows, self.rest) {
            (Rows::Lines(lines), _) => {
                rows.extend(Some(lines.pixels % self.mr).filter(|rest| *rest > 0));
                // There may be no whole tile.
                rows.retain(|rows| *rows <= lines.pixels);
            }
            (_, rest) => {
                rows.extend((0..usize::BITS).rev().map(|b| 1 << b).filter(|&r| r < self.mr));
                rows.extend(rest.filter(|rest| !rest.is_power_of_two()));
            }
        }
        rows
    }

    /// Work items of an `M × N` product.
    pub fn items(&self, rows: u64, columns: u64) -> u64 {
        rows.div_ceil(self.block_rows() as u64) * columns.div_ceil(self.nr as u64)
    }

    pub(super) fn tile_bytes(&self) -> u64 {
        let rows = match self.rows {
            Rows::Lines(lines) => lines.count * lines.pixels,
            _ => self.block_rows(),
        };
        (rows * self.nr) as u64 * self.epilogue.output.bytes() as u64
    }

    /// Bytes of scratch a worker needs for depth K: results, an expanded panel, rows beside each other.
    pub fn scratch_bytes(&self, depth: u64) -> u64 {
        let row = depth * self.product.activation_bytes();
        let expanded = match self.coded {
            Some(_) => (self.product.panel_bytes(self.nr, depth) + SLACK).next_multiple_of(64),
            None if self.spreads() => (amx::spread_bytes(self.product, depth) + SLACK).next_multiple_of(64),
            None => 0,
        };
        let amx = if self.amx { amx::SCRATCH_BYTES } else { 0 };
        amx + self.tile_bytes() + expanded + self.block_rows() as u64 * patches::row_stride(row) + 2 * SLACK
    }

    /// Whether panels of nibbles are spread to bytes in scratch.
    fn spreads(&self) -> bool {
        self.amx && amx::spreads(self.product)
    }

    /// Bytes of a panel of weights as they are stored.
    pub fn panel_bytes(&self, depth: u64) -> u64 {
        self.coded.map_or_else(
            || self.product.panel_bytes(self.nr, depth),
            |coded| coded.panel_bytes(self.nr as u64, depth),
        )
    }

    /// Bytes of all weights as they are stored; `None` when that overflows.
    pub fn weight_bytes(&self, columns: u64, depth: u64) -> Option<u64> {
        let header = self.coded.map_or(0, Coded::header_bytes);
        columns.div_ceil(self.nr as u64).checked_mul(self.panel_bytes(depth))?.checked_add(header)
    }
}

/// Argument slots of a matrix product, then those of [`Rows::Patches`] only. Strides in bytes; addresses that a spec does not use may be 0.
pub const ARGS: [&str; 16] = [
    "a",
    "a_stride",
    "weights",
    "corrections",
    "multipliers",
    "bias",
    "row_scales",
    "row_sums",
    "c",
    "c_stride",
    "out_scale",
    "out_zero",
    "rows",
    "columns",
    "depth",
    "bounds",
];

/// All slots of a convolution: [`ARGS`] (where `a` is the image and `a_stride` unused), then the geometry.
pub fn convolution_args() -> Vec<&'static str> {
    ARGS.into_iter().chain(Geometry::ARGS).collect()
}

/// The kernel's MLIR text.
pub fn generate(spec: &GemmSpec, name: &str, caps: &TargetCaps) -> String {
    let mut e = Emitter::new(caps);
    for rows in spec.variants() {
        emit_tile(&mut e, spec, name, rows);
    }
    if let Some(coded) = spec.coded {
        e.function(&expand_name(name), false, &[Type::Ptr, Type::Ptr, I64, Type::Ptr], |e, values| {
            let &[header, panel, depth, to] = values else { unreachable!("invariant: four parameters") };
            Expand { coded, nr: spec.nr, header, panel, depth, sixteen: None }.emit(e, spec.product, to);
        });
    }
    if spec.amx {
        amx::emit(&mut e, spec, name);
    }
    e.kernel(name, |e, k| {
        let own = k.scratch;
        let k = match spec.amx {
            true => {
                amx::start(e, own);
                k.with_scratch(e.offset(own, amx::SCRATCH_BYTES as i64))
            }
            false => k,
        };
        match spec.rows {
            Rows::Lines(lines) => lines::drive(e, spec, lines, name, &k, own),
            _ => drive(e, spec, name, &k, own),
        }
        if spec.amx {
            e.tile_release();
        }
    });
    e.finish()
}

fn expand_name(kernel: &str) -> String {
    format!("{kernel}_expand")
}

/// The operands of all tiles.
pub(super) fn operands(e: &mut Emitter, k: &Kernel) -> (Tile, Value, Value) {
    let args = convolution_args();
    let p = |e: &mut Emitter, slot: &str| k.pointer(e, &args, slot);
    let n = |e: &mut Emitter, slot: &str| k.size(e, &args, slot);
    let t = Tile {
        a: (p(e, "a"), n(e, "a_stride")),
        panel: p(e, "weights"),
        depth: n(e, "depth"),
        corrections: p(e, "corrections"),
        multipliers: p(e, "multipliers"),
        bias: p(e, "bias"),
        row_scales: p(e, "row_scales"),
        row_sums: p(e, "row_sums"),
        c: (p(e, "c"), n(e, "c_stride")),
        out: (p(e, "out_scale"), n(e, "out_zero")),
        bounds: p(e, "bounds"),
        runs: (e.int(1), e.int(0)),
    };
    (t, n(e, "rows"), n(e, "columns"))
}

/// The loop over work items; `amx_scratch` is for the tiles of AMX.
fn drive(e: &mut Emitter, spec: &GemmSpec, name: &str, k: &Kernel, amx_scratch: Value) {
    let args = convolution_args();
    let (t, rows, columns) = operands(e, k);
    let geometry = match spec.rows {
        Rows::Matrix | Rows::Lines(_) => None,
        Rows::Patches => Some(Geometry::read(e, k, &args)),
    };
    let nr = spec.nr as i64;
    let size = spec.epilogue.output.bytes();
    let panel_bytes = match spec.coded {
        Some(coded) => coded.panel_bytes_value(e, nr, t.depth),
        None => spec.product.panel_bytes_value(e, nr, t.depth),
    };
    let header = t.panel;
    let first_panel = e.offset(header, spec.coded.map_or(0, Coded::header_bytes) as i64);
    let panels = e.ceil_div(columns, nr);
    let block_rows = even_block(e, spec, rows);
    let row_bytes = e.times(t.depth, spec.product.activation_bytes() as i64);
    let staged_stride = patches::row_stride_value(e, row_bytes);
    let expanded = e.offset(k.scratch, spec.tile_bytes() as i64);
    let staging = match spec.coded {
        Some(_) => {
            let bytes = spec.product.panel_bytes_value(e, nr, t.depth);
            let bytes = e.plus(bytes, SLACK as i64);
            let lines = e.ceil_div(bytes, 64);
            e.element(expanded, lines, 64)
        }
        None if spec.spreads() => {
            let bytes = amx::spread_bytes_value(e, spec.product, t.depth);
            let bytes = e.plus(bytes, SLACK as i64);
            let lines = e.ceil_div(bytes, 64);
            e.element(expanded, lines, 64)
        }
        None => expanded,
    };
    let sums_stride = match spec.product {
        Product::S8Block(blocks) => {
            let count = e.ceil_div(t.depth, i64::from(blocks.block));
            e.times(count, 4)
        }
        _ => e.int(0),
    };
    let (one, nothing) = (e.int(1), e.int(-1));
    e.repeat(k.begin, k.end, one, &[nothing], |e, item, staged| {
        let row_block = e.div(item, panels);
        let panel = e.rem(item, panels);
        let first_row = e.mul(row_block, block_rows);
        let left = e.sub(rows, first_row);
        let count = e.min_int(left, block_rows);
        let none = e.int(0);
        let count = e.max_int(count, none);
        let fresh = e.compare("ne", row_block, staged[0]);
        let a = match &geometry {
            Some(g) => {
                e.when(fresh, |e| patches::gather(e, g, t.a.0, first_row, count, staging, staged_stride));
                (staging, staged_stride)
            }
            None => {
                let bytes = e.mul(first_row, t.a.1);
                let from = e.at(t.a.0, bytes);
                // A stride near a multiple of 2048 puts every row of a tile into the same few cache sets.
                let low = e.int(2047);
                let low = e.and(t.a.1, low);
                let zero = e.int(0);
                let crowded = e.compare("eq", low, zero);
                let several = e.int(4);
                let many = e.compare("sgt", count, several);
                let copy = e.and(crowded, many);
                let both = e.choose(
                    copy,
                    &[Type::Ptr, I64],
                    |e| {
                        e.when(fresh, |e| {
                            patches::copy_rows(e, (from, t.a.1), count, row_bytes, (staging, staged_stride))
                        });
                        vec![staging, staged_stride]
                    },
                    |_| vec![from, t.a.1],
                );
                (both[0], both[1])
            }
        };
        let column = e.times(panel, nr);
        let width = e.sub(columns, column);
        let nr_value = e.int(nr);
        let whole = e.compare("sge", width, nr_value);
        let bytes = e.mul(first_row, t.c.1);
        let result = e.at(t.c.0, bytes);
        let result = e.element(result, column, size);
        let tile_stride = e.int(nr * size);
        let c = e.select(whole, result, k.scratch);
        let c_stride = e.select(whole, t.c.1, tile_stride);
        let by_column = e.times(column, 4);
        let [corrections, multipliers, bias, bounds] =
            [t.corrections, t.multipliers, t.bias, t.bounds].map(|p| e.at(p, by_column));
        let start = e.mul(panel, panel_bytes);
        let mut panel = e.at(first_panel, start);
        if spec.coded.is_some() {
            e.call(&expand_name(name), &[header, panel, t.depth, expanded]);
            panel = expanded;
        }
        let at_panel = Tile { a, panel, corrections, multipliers, bias, bounds, c: (c, c_stride), ..t };
        let tile_at = |e: &mut Emitter, row: Value| {
            let a_bytes = e.mul(row, a.1);
            let c_bytes = e.mul(row, c_stride);
            let global = e.add(first_row, row);
            let scale = if spec.epilogue.scale == ActivationScale::Token { 4 } else { 0 };
            let sums = e.mul(global, sums_stride);
            Tile {
                a: (e.at(a.0, a_bytes), a.1),
                c: (e.at(c, c_bytes), c_stride),
                row_scales: e.element(t.row_scales, global, scale),
                row_sums: e.at(t.row_sums, sums),
                ..at_panel
            }
        };
        let call = |e: &mut Emitter, row: Value, variant: usize| {
            let tile = tile_at(e, row);
            e.call(&tile_name(name, variant), &tile.values());
        };
        if spec.amx {
            let fewest = e.int(amx::FEWEST_ROWS as i64);
            let many = e.compare("sge", count, fewest);
            e.branch(
                many,
                |e| {
                    let codes = if spec.spreads() {
                        amx::spread(e, name, panel, t.depth, expanded);
                        expanded
                    } else {
                        panel
                    };
                    amx::each_tile(e, spec, name, t.depth, count, amx_scratch, |e, row| {
                        (tile_at(e, row), codes)
                    });
                },
                |e| tail_in_powers(e, amx::FEWEST_ROWS, count, |e, row, variant| call(e, row, variant)),
            );
        } else {
            in_tiles(e, spec, count, call);
        }
        let partial = e.compare("slt", width, nr_value);
        e.when(partial, |e| {
            let bytes = e.times(width, size);
            let zero = e.int(0);
            e.each(zero, count, |e, row| {
                let from = e.element(k.scratch, row, nr * size);
                let to = e.mul(row, t.c.1);
                let to = e.at(result, to);
                e.copy_exact(to, from, bytes);
            });
        });
        vec![row_block]
    });
}

/// All rows as tiles of vector registers: calls `tile` with the first row of each, and how many.
fn in_tiles(e: &mut Emitter, spec: &GemmSpec, count: Value, tile: impl Fn(&mut Emitter, Value, usize)) {
    let mr = e.int(spec.mr as i64);
    let rest = e.rem(count, mr);
    let done = e.sub(count, rest);
    let zero = e.int(0);
    e.repeat(zero, done, mr, &[], |e, row, _| {
        tile(e, row, spec.mr);
        Vec::new()
    });
    let powers = |e: &mut Emitter| {
        tail_in_powers(e, spec.mr, rest, |e, row, variant| {
            let row = e.add(done, row);
            tile(e, row, variant);
        });
    };
    match spec.rest.filter(|rest| !rest.is_power_of_two()) {
        None => powers(e),
        Some(likely) => {
            let wanted = e.int(likely as i64);
            let as_wanted = e.compare("eq", rest, wanted);
            e.branch(as_wanted, |e| tile(e, done, likely), powers);
        }
    }
}

/// The rows of the last tile as tiles of powers of two: calls `tile` with the first row after whole tiles, and how many.
fn tail_in_powers(e: &mut Emitter, mr: usize, rest: Value, mut tile: impl FnMut(&mut Emitter, Value, usize)) {
    let zero = e.int(0);
    for power in (0..usize::BITS).rev().map(|b| 1usize << b).filter(|&r| r < mr) {
        let bit = e.int(power as i64);
        let here = e.and(rest, bit);
        let needed = e.compare("ne", here, zero);
        e.when(needed, |e| {
            let higher = e.int(!(2 * power as i64 - 1));
            let before = e.and(rest, higher);
            tile(e, before, power);
        });
    }
}

/// Rows of a block: whole tiles, as even as the number of blocks allows.
fn even_block(e: &mut Emitter, spec: &GemmSpec, rows: Value) -> Value {
    let one = e.int(1);
    let blocks = e.ceil_div(rows, spec.block_rows() as i64);
    let blocks = e.max_int(blocks, one);
    let tiles = e.ceil_div(rows, spec.mr as i64);
    let below = e.sub(blocks, one);
    let tiles = e.add(tiles, below);
    let tiles = e.div(tiles, blocks);
    e.times(tiles, spec.mr as i64)
}
