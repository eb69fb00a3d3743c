//! Hadamard transforms of orders of every kind, on blocks of rows that are columns of wider ones.

use qcc_cpu::kernels::epilogue::Output;
use qcc_cpu::kernels::hadamard::{self, HadamardSpec};
use qcc_cpu::kernels::norm::RowOutput;
use qcc_cpu::kernels::quantize::TokenFormat;
use qcc_ir::hadamard::Order;

use crate::harness::*;

/// The product of a block with the dense matrix, from its definition.
fn reference(order: Order, transpose: bool, x: &[f32]) -> Vec<f64> {
    let (base, run, matrix) = (order.base(), 1usize << order.log2(), order.base_matrix());
    let n = base * run;
    (0..n)
        .map(|j| {
            let terms = x.iter().enumerate().map(|(i, x)| {
                let common = ((i % run) & (j % run)).count_ones();
                let (row, column) = if transpose { (j / run, i / run) } else { (i / run, j / run) };
                let sign = f64::from(matrix[row * base + column]);
                f64::from(*x) * if common % 2 == 0 { sign } else { -sign }
            });
            terms.sum::<f64>() / (n as f64).sqrt()
        })
        .collect()
}

struct Rows {
    count: usize,
    columns: usize,
    stride: usize,
    x: Vec<f32>,
}

impl Rows {
    fn random(r: &mut Random, size: usize) -> Rows {
        let (count, columns) = (r.size(3), size * r.size(3));
        let stride = columns + r.int(0, 5) as usize;
        Rows { count, columns, stride, x: r.reals(count * stride) }
    }

    fn row(&self, i: usize) -> &[f32] {
        &self.x[i * self.stride..][..self.columns]
    }

    fn transformed(&self, i: usize, order: Order, transpose: bool) -> Vec<f64> {
        let blocks = self.row(i).chunks(order.size() as usize);
        blocks.flat_map(|x| reference(order, transpose, x)).collect()
    }
}

const PLAIN: RowOutput = RowOutput::Plain(Output::F32);

/// A kernel of this order, run on rows: what it wrote, and the scales and block sums it wrote.
fn run(library: &Library, name: &str, spec: &HadamardSpec, transpose: bool, rows: &Rows) -> [Buffer; 3] {
    let size = if spec.output == PLAIN { 4 } else { 1 };
    let x = Buffer::f32(&rows.x);
    let matrix = Buffer::f32(&hadamard::pack_matrix(spec.order, transpose));
    let out = [
        Buffer::zeros(rows.count * rows.columns * size),
        Buffer::zeros(4 * rows.count),
        Buffer::zeros(4 * rows.count * rows.columns.div_ceil(16)),
    ];
    let scale = Buffer::f32(&[0.02]);
    let args = [
        x.address(),
        4 * rows.stride as u64,
        matrix.address(),
        out[0].address(),
        (rows.columns * size) as u64,
        scale.address(),
        4,
        out[1].address(),
        out[2].address(),
        rows.count as u64,
        rows.columns as u64,
    ];
    assert_eq!(args.len(), hadamard::ARGS.len());
    library.run(name, &args, rows.count as u64, spec.scratch_bytes(rows.columns as u64), 2);
    out
}

fn order(size: i64) -> Order {
    Order::of(size).expect("a known order")
}

#[test]
fn blocks_are_multiplied_by_the_matrix() {
    let powers = (0..=12).map(|log2| 1 << log2);
    let bases = [12, 20, 28, 36, 44, 60, 76, 84, 108, 124, 140];
    // Runs of one element, less than a register, one, two and more registers.
    let products = [24, 40, 56, 80, 96, 144, 192, 384, 448, 640, 960, 1280, 1984];
    let sizes: Vec<i64> = powers.chain(bases).chain(products).collect();
    for level in levels() {
        let specs: Vec<_> =
            sizes.iter().map(|&size| HadamardSpec { order: order(size), output: PLAIN }).collect();
        let text: String = specs
            .iter()
            .map(|s| hadamard::generate(s, &format!("h{}", s.order.size()), &level.caps))
            .collect();
        let library = Library::new(&text, &level);
        let mut r = Random::new(31);
        for (spec, transpose) in specs.iter().flat_map(|spec| [(spec, false), (spec, true)]) {
            let size = spec.order.size();
            let rows = Rows::random(&mut r, size as usize);
            let [y, ..] = run(&library, &format!("h{size}"), spec, transpose, &rows);
            for (i, y) in y.to_f32().chunks(rows.columns).enumerate() {
                let wanted = rows.transformed(i, spec.order, transpose);
                // Elements of the matrix are 1/√size and those of x at most 1.
                let magnitude = vec![(size as f64).sqrt(); rows.columns];
                assert_close(y, &wanted, &magnitude, &format!("{} order {size} row {i}", level.name));
            }
        }
    }
}

#[test]
fn results_are_codes_of_a_static_scale() {
    let output = RowOutput::Plain(Output::Codes { lo: -127, hi: 127 });
    let specs = [4, 12, 40, 64, 512, 320].map(|size| HadamardSpec { order: order(size), output });
    for level in levels() {
        let text: String = specs
            .iter()
            .map(|s| hadamard::generate(s, &format!("h{}", s.order.size()), &level.caps))
            .collect();
        let library = Library::new(&text, &level);
        let mut r = Random::new(37);
        for spec in &specs {
            let rows = Rows::random(&mut r, spec.order.size() as usize);
            let [y, ..] = run(&library, &format!("h{}", spec.order.size()), spec, false, &rows);
            for (i, y) in y.to_i8().chunks(rows.columns).enumerate() {
                for (&q, v) in y.iter().zip(&rows.transformed(i, spec.order, false)) {
                    let exact = (v / f64::from(0.02f32) + 4.0).clamp(-127.0, 127.0);
                    assert!((f64::from(q) - exact).abs() <= 0.5 + 2e-3, "{spec:?}: {q} for {exact}");
                }
            }
        }
    }
}

#[test]
fn results_are_codes_with_a_scale_a_row() {
    let output = RowOutput::Token(TokenFormat { limit: 127, full: false, offset: 0, block_sums: Some(16) });
    let specs = [4, 12, 40, 64, 512, 320].map(|size| HadamardSpec { order: order(size), output });
    for level in levels() {
        let text: String = specs
            .iter()
            .map(|s| hadamard::generate(s, &format!("h{}", s.order.size()), &level.caps))
            .collect();
        let library = Library::new(&text, &level);
        let mut r = Random::new(41);
        for spec in &specs {
            let rows = Rows::random(&mut r, spec.order.size() as usize);
            let [y, scales, sums] = run(&library, &format!("h{}", spec.order.size()), spec, true, &rows);
            let blocks = rows.columns.div_ceil(16);
            for (i, y) in y.to_i8().chunks(rows.columns).enumerate() {
                let scale = f64::from(scales.to_f32()[i]);
                let exact = rows.transformed(i, spec.order, true);
                let largest = exact.iter().fold(0.0f64, |m, v| m.max(v.abs()));
                assert!((scale * 127.0 - largest).abs() <= 1e-5 * largest, "{spec:?}: {scale} for {largest}");
                for (&q, v) in y.iter().zip(&exact) {
                    assert!((f64::from(q) - v / scale).abs() <= 0.501, "{spec:?}: {q} for {}", v / scale);
                }
                let expected: Vec<i32> =
                    y.chunks(16).map(|b| b.iter().map(|&q| i32::from(q)).sum()).collect();
                assert_eq!(sums.to_i32()[i * blocks..][..blocks], expected, "{spec:?}");
            }
        }
    }
}
