//! Tiles: `rows × NR` sums over the whole depth in registers, then the epilogue. The inner loops of every matrix product.
//!
//! Each row's result depends only on that row: a row computed in a tail tile has the same bits as in a whole one.
//! A k-group is what one step consumes: one value (f32), two (bf16), four bytes (s8, u8), eight nibbles (s4, u4), a word of split codes.

pub(super) mod amx;
mod bytes;
mod floats;

use super::atom;
use super::blocks::{BlockScales, Blocks};
use super::emit::{Cache, Emitter, F32, F32X16, I8X16, I8X64, I32, I64, Type, Value};
use super::epilogue::{Activation, Writer};
use super::gemm::{ActivationScale, GemmSpec, Product, Rows};
use floats::Code;

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

/// What follows the sums, with what it reads by column.
struct Ending {
    writer: Writer,
    activation: Activation,
    bias: Vec<Value>,
    bounds: Vec<Value>,
    multipliers: Vec<Value>,
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

    /// What follows the sums, and what it reads by column.
    fn ending(&self, e: &mut Emitter) -> Ending {
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
        Ending { writer, activation, bias, bounds, multipliers }
    }

    /// Scale, bias, activation, store, of all rows.
    fn finish(&self, e: &mut Emitter, sums: &[Value]) {
        let ending = self.ending(e);
        let token = self.spec.epilogue.scale == ActivationScale::Token;
        for (r, sums) in sums.chunks(self.vectors).enumerate() {
            let scale = e.offset(self.t.row_scales, if token { 4 * r as i64 } else { 0 });
            let bytes = e.times(self.t.c.1, r as i64);
            let row = e.at(self.t.c.0, bytes);
            self.finish_row(e, &ending, scale, row, sums);
        }
    }

    /// Scale, bias, activation, store, of a row of sums whose scale and results are at `scale_at` and `row`.
    fn finish_row(&self, e: &mut Emitter, ending: &Ending, scale_at: Value, row: Value, sums: &[Value]) {
        let Ending { writer, activation, bias, bounds, multipliers } = ending;
        let epilogue = &self.spec.epilogue;
        let scale = match (self.spec.product, epilogue.scale) {
            (product, _) if product.activation_bytes() > 1 => None,
            (Product::U8S8 | Product::U8S4, ActivationScale::Tensor) => None,
            _ => {
                let s = e.load(scale_at, F32);
                Some(e.splat(s, 16))
            }
        };
        for (v, &s) in sums.iter().enumerate() {
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
            let p = e.offset(row, 16 * epilogue.output.bytes() * v as i64);
            e.store(stored, p);
        }
    }
}
