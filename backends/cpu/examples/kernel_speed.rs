//! Speed of the kernels on this machine against the ceilings measured in the same run.
#![allow(unsafe_code, dead_code)]
#[path = "../tests/kernels/harness.rs"]
mod harness;

use std::time::Instant;

use harness::*;
use qcc_cpu::kernels::TargetCaps;
use qcc_cpu::kernels::blocks::Blocks;
use qcc_cpu::kernels::epilogue::{Activation, Output};
use qcc_cpu::kernels::gemm::{ActivationScale, Epilogue, GemmSpec, Product, Rows, generate};
use qcc_cpu::kernels::peak::Peak;
use qcc_cpu::kernels::scan::{self, Gate, ScanResult, ScanSpec};

fn best(mut f: impl FnMut()) -> f64 {
    f();
    let mut best = f64::MAX;
    let start = Instant::now();
    while start.elapsed().as_secs_f64() < 0.7 {
        let t = Instant::now();
        f();
        best = best.min(t.elapsed().as_secs_f64());
    }
    best
}

/// `kernel_speed [--level NAME] [KERNEL...] [MxNxK...]`; levels are those of the tests of kernels, the default is this machine.
fn main() {
    let mut asked: Vec<String> = std::env::args().skip(1).collect();
    let level = match asked.iter().position(|text| text == "--level") {
        None => Level { name: "host", caps: TargetCaps::host() },
        Some(at) => {
            let name = asked.drain(at..at + 2).nth(1).expect("a level");
            let names: Vec<&str> = levels().iter().map(|level| level.name).collect();
            levels().into_iter().find(|l| l.name == name).unwrap_or_else(|| panic!("levels are {names:?}"))
        }
    };
    let caps = &level.caps;
    let out = Epilogue {
        bias: true,
        scale: ActivationScale::Tensor,
        activation: Activation::None,
        bounded: false,
        output: Output::F32,
    };
    let codes = Epilogue { activation: Activation::Relu, output: Output::Codes { lo: 0, hi: 255 }, ..out };
    let token = Epilogue { scale: ActivationScale::Token, ..out };
    let list = [
        ("s8", GemmSpec::new(caps, Product::U8S8, Rows::Matrix, out)),
        ("s8_codes", GemmSpec::new(caps, Product::U8S8, Rows::Matrix, codes)),
        ("s4", GemmSpec::new(caps, Product::U8S4, Rows::Matrix, out)),
        ("u4s8_32", GemmSpec::new(caps, Product::S8Block(Blocks::nibbles(32)), Rows::Matrix, token)),
        ("u4s8_128", GemmSpec::new(caps, Product::S8Block(Blocks::nibbles(128)), Rows::Matrix, token)),
        ("u4f32", GemmSpec::new(caps, Product::F32Block(Blocks::nibbles(32)), Rows::Matrix, out)),
        ("bf16", GemmSpec::new(caps, Product::BF16BF16, Rows::Matrix, out)),
        ("f32", GemmSpec::new(caps, Product::F32F32, Rows::Matrix, out)),
    ];
    let mut text: String = list.iter().map(|(n, s)| generate(s, n, caps)).collect();
    text += &Peak::Int8.generate("peak", caps);
    text += &Peak::F32.generate("peak_f32", caps);
    text += &Peak::BF16.generate("peak_bf16", caps);
    let library = Library::new(&text, &level);
    let rounds = 20_000_000u64;
    let peak = |name: &str, what: Peak| {
        let t = best(|| library.run(name, &[], rounds, 64, 1));
        (rounds * what.operations(caps)) as f64 / t / 1e9
    };
    let (peak8, peak16) = (peak("peak", Peak::Int8), peak("peak_bf16", Peak::BF16));
    let peak32 = peak("peak_f32", Peak::F32);
    println!("peak: int8 {peak8:.0} GOP/s, bf16 {peak16:.0}, f32 {peak32:.0} GFLOP/s");
    let sizes = |text: &String| {
        let sizes: Vec<u64> = text.split('x').filter_map(|n| n.parse().ok()).collect();
        <[u64; 3]>::try_from(sizes).ok()
    };
    let mut shapes: Vec<[u64; 3]> = asked.iter().filter_map(sizes).collect();
    let kernels: Vec<&String> = asked.iter().filter(|text| sizes(text).is_none()).collect();
    if shapes.is_empty() {
        shapes =
            vec![[512, 4096, 4096], [128, 1024, 1024], [16, 4096, 4096], [1, 4096, 16384], [1, 1024, 1024]];
    }
    for (name, spec) in list.iter().filter(|(n, _)| kernels.is_empty() || kernels.iter().any(|k| *k == n)) {
        for &[m, n, k] in &shapes {
            let a = Buffer::zeros((m * k * spec.product.activation_bytes()) as usize);
            let wbytes = spec.product.panel_bytes(spec.nr, k) * n.div_ceil(spec.nr as u64);
            let w = Buffer::zeros(wbytes as usize);
            let v = Buffer::zeros((n * 4).max(m * k / 8) as usize);
            let c = Buffer::zeros((m * n * 4) as usize);
            let p = v.address();
            let args = [
                a.address(),
                k * spec.product.activation_bytes(),
                w.address(),
                p,
                p,
                p,
                p,
                p,
                c.address(),
                spec.epilogue.output.bytes() as u64 * n,
                p,
                0,
                m,
                n,
                k,
                0,
            ];
            let t = best(|| library.run(name, &args, spec.items(m, n), spec.scratch_bytes(k), 1));
            let gops = 2.0 * (m * n * k) as f64 / t / 1e9;
            let peak = match spec.product.activation_bytes() {
                1 => peak8,
                2 => peak16,
                _ => peak32,
            };
            println!(
                "{name} {m}x{n}x{k}: {:.3} ms, {gops:.1} GOP/s = {:.1}% of peak, weights {:.1} GB/s",
                t * 1e3,
                100.0 * gops / peak,
                wbytes as f64 / t / 1e9
            );
        }
    }
    if kernels.is_empty() || kernels.iter().any(|k| *k == "scan") {
        scan(&level);
    }
}

/// A selective scan of 1024 steps of 1536 channels with 16 states.
fn scan(level: &Level) {
    let (time, channels, states) = (1024u64, 1536u64, 16u64);
    let result = ScanResult::Sums { skip: true, gate: Gate::None };
    let spec = ScanSpec { states: states as usize, softplus: false, delta_bias: false, result };
    let library = Library::new(&scan::generate(&spec, "scan", &level.caps), level);
    let rows = || Buffer::f32(&vec![1e-2; (time * channels) as usize]);
    let (u, delta, y) = (rows(), rows(), rows());
    let by_channel = Buffer::f32(&vec![-0.5; (channels * states) as usize]);
    let by_time = Buffer::f32(&vec![0.1; (time * states) as usize]);
    let state = Buffer::zeros((4 * channels * states) as usize);
    let (row, shared) = (4 * channels, 4 * states);
    let args = [
        u.address(),
        row,
        delta.address(),
        row,
        by_channel.address(),
        by_time.address(),
        shared,
        by_time.address(),
        shared,
        by_channel.address(),
        0,
        0,
        0,
        0,
        state.address(),
        y.address(),
        row,
        1,
        time,
        channels,
    ];
    let t = best(|| library.run("scan", &args, spec.items(1, channels), spec.scratch_bytes(), 1));
    println!(
        "scan T={time} D={channels} N={states}: {:.2} ms, {:.2} G states/s",
        t * 1e3,
        (time * channels * states) as f64 / t / 1e9
    );
}
