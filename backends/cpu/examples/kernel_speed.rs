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
use qcc_runtime::KernelFn;

/// The shortest time of each in alternating rounds, so that both find the machine at the same clock.
fn best<const N: usize>(mut each: [&mut dyn FnMut(); N]) -> [f64; N] {
    const ROUNDS: usize = 6;
    let mut best = [f64::MAX; N];
    for _ in 0..ROUNDS {
        for (f, best) in each.iter_mut().zip(&mut best) {
            f();
            let start = Instant::now();
            while start.elapsed().as_secs_f64() < 0.1 {
                let t = Instant::now();
                f();
                *best = best.min(t.elapsed().as_secs_f64());
            }
        }
    }
    best
}

/// A kernel and its scratch.
struct Call {
    kernel: KernelFn,
    scratch: Buffer,
}

impl Call {
    fn of(library: &Library, name: &str, scratch_bytes: u64) -> Call {
        // SAFETY: generated kernels have this type.
        let kernel = unsafe { std::mem::transmute::<usize, KernelFn>(library.address(name)) };
        Call { kernel, scratch: Buffer::zeros(scratch_bytes as usize) }
    }

    fn run(&self, args: &[u64], items: u64) {
        // SAFETY: the buffers have the sizes that the kernel documents.
        unsafe { (self.kernel)(args.as_ptr(), 0, items, self.scratch.address() as *mut u8) };
    }
}

/// `kernel_speed [--level NAME] [--assembly] [KERNEL...] [MxNxK...]`; levels are those of the tests of kernels, the default is this machine.
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
    let assembly = asked.iter().position(|text| text == "--assembly").map(|at| asked.remove(at)).is_some();
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
        ("s8f32", GemmSpec::new(caps, Product::F32S8, Rows::Matrix, out)),
        ("u4f32", GemmSpec::new(caps, Product::F32Block(Blocks::nibbles(32)), Rows::Matrix, out)),
        ("bf16", GemmSpec::new(caps, Product::BF16BF16, Rows::Matrix, out)),
        ("f32", GemmSpec::new(caps, Product::F32F32, Rows::Matrix, out)),
    ];
    let peaks: String = Peak::ALL.iter().map(|peak| peak.generate(peak.name(), caps)).collect();
    let peaks = Library::new(&peaks, &level);
    let sizes = |text: &String| {
        let sizes: Vec<u64> = text.split('x').filter_map(|n| n.parse().ok()).collect();
        <[u64; 3]>::try_from(sizes).ok()
    };
    let mut shapes: Vec<[u64; 3]> = asked.iter().filter_map(sizes).collect();
    let kernels: Vec<&String> = asked.iter().filter(|text| sizes(text).is_none()).collect();
    let names: Vec<&str> = list.iter().map(|(name, _)| *name).chain(["scan"]).collect();
    if let Some(unknown) = kernels.iter().find(|asked| !names.contains(&asked.as_str())) {
        panic!("`{unknown}` is neither MxNxK nor a kernel; those are {names:?}");
    }
    if shapes.is_empty() {
        shapes =
            vec![[512, 4096, 4096], [128, 1024, 1024], [16, 4096, 4096], [1, 4096, 16384], [1, 1024, 1024]];
    }
    for (name, spec) in list.iter().filter(|(n, _)| kernels.is_empty() || kernels.iter().any(|k| *k == n)) {
        for &[m, n, k] in &shapes {
            // As programs of these sizes have it; a single row is text that is written, whose rows are not known.
            let spec = spec.clone().fit(caps, n, k, Some(m).filter(|m| *m > 1));
            let text = generate(&spec, name, caps);
            if assembly {
                let target = harness::target(&level);
                println!(
                    "{}",
                    qcc_mlir::emit_assembly(&text, &target, &qcc_mlir::CodegenOptions::default())
                        .expect("kernels compile")
                );
                continue;
            }
            let library = Library::new(&text, &level);
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
            let peak = match spec.product.activation_bytes() {
                1 => Peak::Int8,
                2 => Peak::BF16,
                _ => Peak::F32,
            };
            let rounds = 200_000u64;
            let (kernel, limit) = (
                Call::of(&library, name, spec.scratch_bytes(k)),
                Call::of(&peaks, peak.name(), Peak::SCRATCH_BYTES),
            );
            let [t, of_peak] =
                best([&mut || kernel.run(&args, spec.items(m, n)), &mut || limit.run(&[], rounds)]);
            let speed = 2.0 * (m * n * k) as f64 / t / 1e9;
            let limit = (rounds * peak.operations(caps)) as f64 / of_peak / 1e9;
            println!(
                "{name} {m}x{n}x{k}, tile {}x{}: {:.3} ms, {speed:.0} of {limit:.0} Gop/s = {:.1} %, weights {:.1} GB/s",
                spec.mr,
                spec.nr,
                t * 1e3,
                100.0 * speed / limit,
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
    let kernel = Call::of(&library, "scan", spec.scratch_bytes());
    let [t] = best([&mut || kernel.run(&args, spec.items(1, channels))]);
    println!(
        "scan T={time} D={channels} N={states}: {:.2} ms, {:.2} G states/s",
        t * 1e3,
        (time * channels * states) as f64 / t / 1e9
    );
}
