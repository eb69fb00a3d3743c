//! Products of one row with weights that caches do not hold, on all threads, beside plain reads of the same memory in alternating rounds:
//! `gemv_speed [THREADS] [COLUMNSxDEPTH...]`.
#![allow(unsafe_code, dead_code)]
#[path = "../tests/kernels/harness.rs"]
mod harness;

use std::hint::black_box;
use std::time::Instant;

use harness::*;
use qcc_cpu::kernels::blocks::Blocks;
use qcc_cpu::kernels::epilogue::{Activation, Output};
use qcc_cpu::kernels::gemm::{ActivationScale, Epilogue, GemmSpec, Product, Rows, generate};
use qcc_runtime::{AlignedBuffer, KernelFn, Pool};

/// Bytes of weights that a round reads.
const BYTES: u64 = 768 << 20;
const ROUNDS: usize = 9;

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let number = |text: &str| text.parse::<u64>().unwrap_or_else(|_| panic!("`{text}` is not a number"));
    let threads = std::env::args().nth(1).map_or(0, |text| number(&text) as usize);
    let size = |text: String| match text.split_once('x') {
        Some((columns, depth)) => (number(columns), number(depth)),
        None => panic!("`{text}` is no COLUMNSxDEPTH"),
    };
    let mut shapes: Vec<(u64, u64)> = std::env::args().skip(2).map(size).collect();
    if shapes.is_empty() {
        shapes = vec![(4096, 4096), (11008, 4096), (2048, 2048)];
    }
    let level = Level { name: "host", ..levels().remove(0) };
    let epilogue = Epilogue {
        bias: false,
        scale: ActivationScale::Token,
        activation: Activation::None,
        bounded: false,
        output: Output::F32,
    };
    let products = [
        ("int8:channel", Product::U8S8),
        ("int4:channel", Product::U8S4),
        ("int4:block=32", Product::S8Block(Blocks::nibbles(32))),
    ];
    let specs =
        products.map(|(name, product)| (name, GemmSpec::new(&level.caps, product, Rows::Matrix, epilogue)));
    let text: String =
        specs.iter().enumerate().map(|(i, (_, s))| generate(s, &format!("gemv{i}"), &level.caps)).collect();
    let library = Library::new(&text, &level);
    let mut pool = Pool::new(threads).expect("threads");
    let mut memory = AlignedBuffer::zeroed(BYTES, "weights").expect("memory");
    memory.fill(0x11);
    let start = memory.as_ptr() as u64;
    for (index, (name, spec)) in specs.iter().enumerate() {
        let address = library.address(&format!("gemv{index}"));
        // SAFETY: generated kernels have this type.
        let kernel = unsafe { std::mem::transmute::<usize, KernelFn>(address) };
        for &(columns, depth) in &shapes {
            let bytes = spec.weight_bytes(columns, depth).expect("fits");
            let layers = BYTES / bytes;
            let x = AlignedBuffer::zeroed(depth, "x").expect("memory");
            let y = AlignedBuffer::zeroed(4 * columns, "y").expect("memory");
            let vector = AlignedBuffer::zeroed(4 * columns.max(depth), "vector").expect("memory");
            let scratch_bytes = spec.scratch_bytes(depth).next_multiple_of(64);
            let scratch =
                AlignedBuffer::zeroed(scratch_bytes * pool.threads() as u64, "scratch").expect("memory");
            let v = vector.as_ptr() as u64;
            let mut args = [
                x.as_ptr() as u64,
                depth,
                0,
                v,
                v,
                v,
                v,
                v,
                y.as_ptr() as u64,
                4 * columns,
                v,
                0,
                1,
                columns,
                depth,
                0,
            ];
            let scratch = scratch.as_ptr() as usize;
            let (mut reads, mut products) = (Vec::new(), Vec::new());
            for round in 0..=ROUNDS {
                let begun = Instant::now();
                pool.parallel_for((layers * bytes) >> 16, 1, |_, begin, end| {
                    // SAFETY: within the buffer.
                    let words = unsafe {
                        std::slice::from_raw_parts(
                            (start + (begin << 16)) as *const u64,
                            ((end - begin) << 13) as usize,
                        )
                    };
                    black_box(words.chunks_exact(16).fold([0u64; 16], |mut sums, words| {
                        sums.iter_mut().zip(words).for_each(|(s, w)| *s = s.wrapping_add(*w));
                        sums
                    }));
                });
                let read = begun.elapsed().as_secs_f64();
                let begun = Instant::now();
                for layer in 0..layers {
                    args[2] = start + layer * bytes;
                    let at = args.as_ptr() as usize;
                    pool.parallel_for(spec.items(1, columns), 1, |worker, begin, end| {
                        let scratch = scratch + worker * scratch_bytes as usize;
                        // SAFETY: the buffers have the sizes that the kernel documents.
                        unsafe { kernel(at as *const u64, begin, end, scratch as *mut u8) };
                    });
                }
                if round > 0 {
                    reads.push((layers * bytes) as f64 / read / 1e9);
                    products.push((layers * bytes) as f64 / begun.elapsed().as_secs_f64() / 1e9);
                }
            }
            let ratios = reads.iter().zip(&products).map(|(r, p)| 100.0 * p / r).collect();
            println!(
                "{name} {columns}x{depth}, {} threads: {:.1} GB/s, reads {:.1}, ratio {:.1} %",
                pool.threads(),
                median(products),
                median(reads),
                median(ratios)
            );
        }
    }
}
