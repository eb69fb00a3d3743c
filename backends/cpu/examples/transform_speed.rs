//! Time of a Hadamard transform of a row by one thread, by order, and of the f32 copy of as many rows for comparison.
#![allow(unsafe_code, dead_code)]
#[path = "../tests/kernels/harness.rs"]
mod harness;

use std::time::Instant;

use harness::*;
use qcc_cpu::kernels::epilogue::Output;
use qcc_cpu::kernels::hadamard::{HadamardSpec, generate, pack_matrix};
use qcc_cpu::kernels::norm::RowOutput;
use qcc_cpu::kernels::quantize::TokenFormat;
use qcc_ir::hadamard::Order;

const ROWS: u64 = 64;

/// Seconds of the fastest of many runs.
fn best(mut f: impl FnMut()) -> f64 {
    f();
    let mut best = f64::MAX;
    let start = Instant::now();
    while start.elapsed().as_secs_f64() < 0.3 {
        let t = Instant::now();
        f();
        best = best.min(t.elapsed().as_secs_f64());
    }
    best
}

fn main() {
    let token = RowOutput::Token(TokenFormat { limit: 127, full: false, offset: 128, block_sums: None });
    let outputs = [
        ("f32", RowOutput::Plain(Output::F32)),
        ("codes", RowOutput::Plain(Output::Codes { lo: 1, hi: 255 })),
        ("token", token),
    ];
    for level in levels() {
        println!("{}", level.name);
        for size in [16, 64, 256, 512, 1024, 4096, 48, 160, 448, 640, 1536, 5120, 14336, 8960] {
            let Some(order) = Order::of(size) else { continue };
            let columns = size as u64;
            let (x, y) =
                (Buffer::zeros((4 * ROWS * columns) as usize), Buffer::zeros((4 * ROWS * columns) as usize));
            let (matrix, scale) = (Buffer::f32(&pack_matrix(order, false)), Buffer::f32(&[1.0]));
            let scales = Buffer::zeros(4 * ROWS as usize);
            let mut line = format!("  {size:5} = {:3} · 2^{:2}", order.base(), order.log2());
            for (name, output) in outputs {
                let spec = HadamardSpec { order, output };
                let library = Library::new(&generate(&spec, "hadamard", &level.caps), &level);
                let (row, bytes) = (4 * columns, if name == "f32" { 4 * columns } else { columns });
                let args = [
                    x.address(),
                    row,
                    matrix.address(),
                    y.address(),
                    bytes,
                    scale.address(),
                    0,
                    scales.address(),
                    0,
                    ROWS,
                    columns,
                ];
                let seconds = best(|| library.run("hadamard", &args, ROWS, spec.scratch_bytes(columns), 1));
                line += &format!("  {name} {:7.0} ns", seconds / ROWS as f64 * 1e9);
            }
            let mut copy = vec![0f32; (ROWS * columns) as usize];
            let from = x.to_f32();
            let seconds = best(|| copy.copy_from_slice(std::hint::black_box(&from)));
            println!("{line}  copy {:6.0} ns", seconds / ROWS as f64 * 1e9);
            std::hint::black_box(&copy);
        }
    }
}
