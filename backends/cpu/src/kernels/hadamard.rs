//! Fast Hadamard transform of the rows' blocks, with the result as f32, as codes of a static scale, or quantized by row.
//!
//! A block of `base · 2^log2` elements goes through butterflies within runs of `2^log2` (the lowest four stages inside registers, the
//! others between them, up to sixteen registers at a time), then through the base matrix across the runs, whose elements carry the
//! factor 1/√size. The order of sums depends on nothing but the order.

use qcc_ir::hadamard::Order;

use super::emit::{Emitter, F32, F32X16, Kernel, Value};
use super::epilogue::{Output, Writer};
use super::norm::RowOutput;
use super::quantize::{TokenOutput, quantize_row};
use super::{SLACK, TargetCaps, row};

/// A Hadamard transform kernel.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HadamardSpec {
    /// Order of the blocks of a row.
    pub order: Order,
    /// How results are stored.
    pub output: RowOutput,
}

/// Argument slots; a work item is a row, strides in bytes. `matrix` by [`pack_matrix`]; `columns` is a multiple of the order.
pub const ARGS: [&str; 11] = [
    "x",
    "x_stride",
    "matrix",
    "y",
    "y_stride",
    "out_scale",
    "out_zero",
    "scales",
    "sums",
    "rows",
    "columns",
];

/// Lanes of a register, and their number's logarithm.
const LANES: i64 = 16;
const LANE_STAGES: u32 = 4;

impl HadamardSpec {
    /// Bytes of scratch a worker needs for rows of so many columns: a block, and the row where it is quantized as a whole.
    pub fn scratch_bytes(&self, columns: u64) -> u64 {
        let row = match self.output {
            RowOutput::Plain(_) => 0,
            RowOutput::Token(_) => 4 * columns + SLACK,
        };
        self.block_bytes() + row
    }

    /// Bytes of a block with slack, a multiple of 64.
    fn block_bytes(&self) -> u64 {
        (4 * self.order.size() as u64).next_multiple_of(64) + SLACK
    }
}

/// The base matrix over √size as the kernel reads it, transposed for the transposed transform; nothing for powers of two.
/// Row k holds the factors of run k for every element of the result: one a run, or, for runs shorter than a register, one an element,
/// padded with zeros to whole registers.
pub fn pack_matrix(order: Order, transpose: bool) -> Vec<f32> {
    if order.base() == 1 {
        return Vec::new();
    }
    let (base, matrix, factor) = (order.base(), order.base_matrix(), factor(order));
    let run = if order.log2() < LANE_STAGES { 1 << order.log2() } else { 1 };
    let width = if order.log2() < LANE_STAGES { (base * run).next_multiple_of(LANES as usize) } else { base };
    let mut packed = vec![0.0; base * width];
    for (from, row) in packed.chunks_exact_mut(width).enumerate() {
        for (element, cell) in row.iter_mut().take(base * run).enumerate() {
            let to = element / run;
            let sign = matrix[if transpose { to * base + from } else { from * base + to }];
            *cell = f32::from(sign) * factor;
        }
    }
    packed
}

fn factor(order: Order) -> f32 {
    (1.0 / (order.size() as f64).sqrt()) as f32
}

/// The kernel's MLIR text.
pub fn generate(spec: &HadamardSpec, name: &str, caps: &TargetCaps) -> String {
    let mut e = Emitter::new(caps);
    e.kernel(name, |e, k| rows(e, spec, &k));
    e.finish()
}

fn rows(e: &mut Emitter, spec: &HadamardSpec, k: &Kernel) {
    let p = |e: &mut Emitter, slot: &str| k.pointer(e, &ARGS, slot);
    let n = |e: &mut Emitter, slot: &str| k.size(e, &ARGS, slot);
    let (x, matrix, y) = (p(e, "x"), p(e, "matrix"), p(e, "y"));
    let (x_stride, y_stride, columns) = (n(e, "x_stride"), n(e, "y_stride"), n(e, "columns"));
    let (out_scale, out_zero) = (p(e, "out_scale"), n(e, "out_zero"));
    let (scales, sums) = (p(e, "scales"), p(e, "sums"));
    let plain = match spec.output {
        RowOutput::Plain(output) => output,
        RowOutput::Token(_) => Output::F32,
    };
    let writer = Writer::new(e, plain, out_scale, out_zero);
    let size = plain.bytes();
    let whole = e.offset(k.scratch, spec.block_bytes() as i64);
    e.each(k.begin, k.end, |e, index| {
        let bytes = e.mul(index, x_stride);
        let from = e.at(x, bytes);
        let to = match spec.output {
            RowOutput::Plain(_) => {
                let bytes = e.mul(index, y_stride);
                e.at(y, bytes)
            }
            RowOutput::Token(_) => whole,
        };
        let transform = Transform { order: spec.order, work: k.scratch, matrix, writer, size };
        transform.row(e, from, to, columns);
        if let RowOutput::Token(format) = spec.output {
            let out = TokenOutput { codes: y, stride: y_stride, scales, sums };
            quantize_row(e, format, whole, &out, index, columns);
        }
    });
}

/// What transforms a row.
struct Transform {
    order: Order,
    /// A block of scratch.
    work: Value,
    matrix: Value,
    writer: Writer,
    /// Bytes of a stored element.
    size: i64,
}

impl Transform {
    fn row(&self, e: &mut Emitter, from: Value, to: Value, columns: Value) {
        if self.order.base() == 1 && self.order.log2() < LANE_STAGES {
            return self.short_runs(e, from, to, columns, true);
        }
        let size = self.order.size();
        let step = e.int(size);
        let zero = e.int(0);
        e.repeat(zero, columns, step, &[], |e, first, _| {
            let from = e.element(from, first, 4);
            let to = e.element(to, first, self.size);
            match (self.order.log2(), self.order.base()) {
                (LANE_STAGES.., 1) => self.butterflies(e, from, Some(to)),
                (LANE_STAGES.., _) => {
                    self.butterflies(e, from, None);
                    self.across_long_runs(e, to);
                }
                (0, _) => self.across_short_runs(e, from, to),
                _ => {
                    let count = e.int(size);
                    self.short_runs(e, from, self.work, count, false);
                    self.across_short_runs(e, self.work, to);
                }
            }
            Vec::new()
        });
    }

    /// A finished vector, stored at an element of the result.
    fn finish(&self, e: &mut Emitter, v: Value, to: Value, element: Value) {
        let v = self.writer.encode(e, v);
        let p = e.element(to, element, self.size);
        e.store(v, p);
    }

    /// Butterflies of runs shorter than a register, on so many columns; with the factor and in stored form if they are `all`.
    fn short_runs(&self, e: &mut Emitter, from: Value, to: Value, columns: Value, all: bool) {
        let factor = e.floats(factor(self.order));
        row::sweep(e, columns, &[], |e, s, _| {
            let v = s.load(e, from, 0.0);
            let v = lane_stages(e, v, self.order.log2());
            if all {
                let v = e.mul(v, factor);
                let v = self.writer.encode(e, v);
                s.store(e, v, to, self.size);
            } else {
                s.store(e, v, to, 4);
            }
            Vec::new()
        });
    }

    /// Butterflies of runs of whole registers, through the scratch block; into `result` where nothing follows.
    fn butterflies(&self, e: &mut Emitter, from: Value, result: Option<Value>) {
        // As many registers as leave some for what is computed.
        let most = if e.caps.avx512 { 4 } else { 2 };
        let stages = self.order.log2() - LANE_STAGES;
        let mut done = 0;
        loop {
            let now = most.min(stages - done);
            let last = done + now == stages;
            let source = if done == 0 { from } else { self.work };
            self.pass(e, source, LANES << done, now, done == 0, result.filter(|_| last));
            done += now;
            if last {
                return;
            }
        }
    }

    /// `stages` stages between registers that lie `stride` elements apart, after those within if it is the `first` pass.
    fn pass(
        &self,
        e: &mut Emitter,
        from: Value,
        stride: i64,
        stages: u32,
        first: bool,
        result: Option<Value>,
    ) {
        let (zero, size) = (e.int(0), e.int(self.order.size()));
        let (outer, inner) = (e.int(stride << stages), e.int(LANES));
        let factor = e.floats(factor(self.order));
        e.repeat(zero, size, outer, &[], |e, start, _| {
            let end = e.plus(start, stride);
            e.repeat(start, end, inner, &[], |e, at, _| {
                let source = e.element(from, at, 4);
                let mut v: Vec<Value> = (0..1 << stages)
                    .map(|i| {
                        let p = e.offset(source, 4 * stride * i);
                        let v = e.load(p, F32X16);
                        if first { lane_stages(e, v, LANE_STAGES) } else { v }
                    })
                    .collect();
                register_stages(e, &mut v);
                for (i, v) in v.into_iter().enumerate() {
                    let element = e.plus(at, stride * i as i64);
                    match result {
                        Some(to) => {
                            let v = e.mul(v, factor);
                            self.finish(e, v, to, element);
                        }
                        None => {
                            let p = e.element(self.work, element, 4);
                            e.store(v, p);
                        }
                    }
                }
                Vec::new()
            });
            Vec::new()
        });
    }

    /// The base matrix on runs of whole registers in scratch: some registers of some runs of the result at a time.
    fn across_long_runs(&self, e: &mut Emitter, to: Value) {
        let (base, run) = (self.order.base() as i64, 1i64 << self.order.log2());
        let (sums, wide) = if e.caps.avx512 { (24, 4) } else { (6, 1) };
        let registers = wide.min(run / LANES);
        let runs = largest_divisor(base, sums / registers);
        let (zero, one) = (e.int(0), e.int(1));
        let (all_runs, all_columns) = (e.int(base), e.int(run));
        let (some_runs, some_columns) = (e.int(runs), e.int(LANES * registers));
        let start = vec![e.floats(0.0); (runs * registers) as usize];
        e.repeat(zero, all_columns, some_columns, &[], |e, column, _| {
            e.repeat(zero, all_runs, some_runs, &[], |e, first, _| {
                let sums = e.repeat(zero, all_runs, one, &start, |e, k, sums| {
                    let at = e.times(k, run);
                    let at = e.add(at, column);
                    let x_at = e.element(self.work, at, 4);
                    let x: Vec<Value> = (0..registers)
                        .map(|j| {
                            let p = e.offset(x_at, 4 * LANES * j);
                            e.load(p, F32X16)
                        })
                        .collect();
                    let at = e.times(k, base);
                    let at = e.add(at, first);
                    let factors = e.element(self.matrix, at, 4);
                    let mut next = Vec::with_capacity(sums.len());
                    for (i, sums) in sums.chunks_exact(x.len()).enumerate() {
                        let p = e.offset(factors, 4 * i as i64);
                        let factor = e.load(p, F32);
                        let factor = e.splat(factor, LANES as u16);
                        for (sum, x) in sums.iter().zip(&x) {
                            next.push(e.multiply_add(*x, factor, *sum));
                        }
                    }
                    next
                });
                for (i, sums) in sums.chunks_exact(registers as usize).enumerate() {
                    let run_of = e.plus(first, i as i64);
                    let at = e.times(run_of, run);
                    let at = e.add(at, column);
                    for (j, sum) in sums.iter().enumerate() {
                        let element = e.plus(at, LANES * j as i64);
                        self.finish(e, *sum, to, element);
                    }
                }
                Vec::new()
            });
            Vec::new()
        });
    }

    /// The base matrix on runs shorter than a register: a run is repeated over the lanes and meets a row of factors.
    fn across_short_runs(&self, e: &mut Emitter, from: Value, to: Value) {
        let (base, run, size) = (self.order.base() as i64, 1i64 << self.order.log2(), self.order.size());
        let registers = (size + LANES - 1) / LANES;
        let some = largest_divisor(registers, if e.caps.avx512 { 12 } else { 4 });
        let repeated: Vec<usize> = (0..LANES as usize).map(|lane| lane % run as usize).collect();
        let (zero, one, runs) = (e.int(0), e.int(1), e.int(base));
        let (all, step, end) = (e.int(LANES * registers), e.int(LANES * some), e.int(size));
        let start = vec![e.floats(0.0); some as usize];
        e.repeat(zero, all, step, &[], |e, column, _| {
            let sums = e.repeat(zero, runs, one, &start, |e, k, sums| {
                let p = e.element(from, k, 4 * run);
                let x = e.load(p, F32X16);
                let x = e.shuffle(x, x, &repeated);
                let at = e.times(k, LANES * registers);
                let at = e.add(at, column);
                let factors = e.element(self.matrix, at, 4);
                let mut next = Vec::with_capacity(sums.len());
                for (i, sum) in sums.iter().enumerate() {
                    let p = e.offset(factors, 4 * LANES * i as i64);
                    let factor = e.load(p, F32X16);
                    next.push(e.multiply_add(x, factor, *sum));
                }
                next
            });
            for (i, sum) in sums.into_iter().enumerate() {
                let element = e.plus(column, LANES * i as i64);
                let v = self.writer.encode(e, sum);
                let p = e.element(to, element, self.size);
                let left = e.sub(end, element);
                e.store_first(v, p, left);
            }
            Vec::new()
        });
    }
}

/// The first `stages` stages inside a register: lanes whose numbers differ in one bit become their sum and difference.
fn lane_stages(e: &mut Emitter, mut v: Value, stages: u32) -> Value {
    for bit in (0..stages).map(|stage| 1usize << stage) {
        let partner: Vec<usize> = (0..LANES as usize).map(|lane| lane ^ bit).collect();
        let partners = e.shuffle(v, v, &partner);
        let (plus, minus) = (e.floats(1.0), e.floats(-1.0));
        let pick: Vec<usize> = (0..LANES as usize)
            .map(|lane| if lane & bit == 0 { lane } else { LANES as usize + lane })
            .collect();
        let signs = e.shuffle(plus, minus, &pick);
        v = e.multiply_add(v, signs, partners);
    }
    v
}

/// All stages between registers.
fn register_stages(e: &mut Emitter, v: &mut [Value]) {
    let mut half = 1;
    while half < v.len() {
        for i in (0..v.len()).filter(|i| i & half == 0) {
            let (a, b) = (v[i], v[i + half]);
            (v[i], v[i + half]) = (e.add(a, b), e.sub(a, b));
        }
        half *= 2;
    }
}

/// The largest divisor of `n` that is at most `most`.
fn largest_divisor(n: i64, most: i64) -> i64 {
    (1..=most.max(1)).rev().find(|d| n % d == 0).unwrap_or(1)
}
