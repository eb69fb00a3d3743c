//! What this machine can do at most, measured: products a second, bytes read a second, and what starting a step costs (S. Williams,
//! A. Waterman and D. Patterson, Roofline, CACM 2009). Never asked while compiling, so that the same inputs give the same program.

#![allow(unsafe_code)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use qcc_ir::ScaleType;
use qcc_mlir::{Jit, Target};
use qcc_runtime::{AlignedBuffer, KernelFn, Pool};

use crate::CpuError;
use crate::compile::capabilities;
use crate::kernels::TargetCaps;
use crate::kernels::coded::{Coded, Levels, Sharing};
use crate::kernels::epilogue::{Activation, Output};
use crate::kernels::gemm::{self, ActivationScale, Epilogue, GemmSpec, Product, Rows};
use crate::kernels::peak::Peak;

/// Bytes that are read from memory: many times what caches hold.
const BYTES: u64 = 1 << 30;
/// Bytes of a work item of such a read.
const ITEM: usize = 4 << 20;
/// Bytes that each thread reads over and over from a cache of its own.
const CACHED: usize = 256 << 10;
/// Measurements, of which the fastest counts: whatever else the machine does only takes from it.
const MEASUREMENTS: usize = 4;
/// How long a measurement of products goes on.
const LONG: Duration = Duration::from_millis(20);
/// Bytes of scratch of a worker.
const SCRATCH: usize = Peak::SCRATCH_BYTES as usize;

/// Threads, and what measures them.
pub struct Machine {
    pool: Pool,
    caps: TargetCaps,
    code: Jit,
    scratch: AlignedBuffer,
    memory: Option<AlignedBuffer>,
}

impl Machine {
    /// For so many threads; 0 means one for each core.
    ///
    /// # Errors
    /// When threads cannot be started or code cannot be made.
    pub fn new(threads: usize) -> Result<Machine, CpuError> {
        let pool = Pool::new(threads)?;
        let target = Target::host();
        let caps = capabilities(&target);
        let text: String = Peak::ALL.iter().map(|peak| peak.generate(peak.name(), &caps)).collect();
        let code = Jit::load(&text, &target)?;
        let mut scratch = AlignedBuffer::zeroed((SCRATCH * pool.threads()) as u64, "measuring products")?;
        // As f32 a number of usual size, so that nothing is slow about it.
        scratch.chunks_exact_mut(4).for_each(|word| word.copy_from_slice(&1e-3f32.to_le_bytes()));
        Ok(Machine { pool, caps, code, scratch, memory: None })
    }

    /// Threads that work together.
    pub fn threads(&self) -> usize {
        self.pool.threads()
    }

    /// Bytes of memory it holds.
    pub fn bytes(&self) -> u64 {
        self.memory.as_ref().map_or(0, |memory| memory.len() as u64)
    }

    /// Operations (products and sums) a second of all threads together.
    ///
    /// # Errors
    /// When the kernel is not there.
    pub fn peak(&mut self, what: Peak) -> Result<f64, CpuError> {
        let address = self.code.address(what.name())?;
        // SAFETY: generated kernels have this type.
        let kernel = unsafe { std::mem::transmute::<usize, KernelFn>(address) };
        let Machine { pool, caps, scratch, .. } = self;
        let (threads, scratch) = (pool.threads() as u64, scratch.as_mut_ptr() as usize);
        let mut run = |items: u64| {
            let start = Instant::now();
            pool.parallel_for(threads * items, items, |worker, begin, end| {
                let scratch = (scratch + worker * SCRATCH) as *mut u8;
                // SAFETY: it has no arguments, and each worker has scratch memory of its own.
                unsafe { kernel(std::ptr::null(), begin, end, scratch) }
            });
            start.elapsed()
        };
        // As many as take long enough.
        let mut items = 1 << 14;
        while run(items) < LONG && items < 1 << 40 {
            items *= 2;
        }
        let best = (0..MEASUREMENTS).map(|_| run(items)).min().unwrap_or(LONG);
        Ok((threads * items * what.operations(caps)) as f64 / best.as_secs_f64())
    }

    /// Bytes a second that all threads read together from memory.
    ///
    /// # Errors
    /// When there is not enough of it.
    pub fn bandwidth(&mut self) -> Result<f64, CpuError> {
        if self.memory.is_none() {
            let mut memory = AlignedBuffer::zeroed(BYTES, "memory to measure its bandwidth")?;
            // Memory that was never written is one page of zeros, which caches hold.
            memory.fill(1);
            self.memory = Some(memory);
        }
        let (pool, data) = (&mut self.pool, self.memory.as_deref().unwrap_or_default());
        let items = data.len() / ITEM;
        let mut best = 0.0f64;
        for streams in [1, 4].into_iter().cycle().take(2 * MEASUREMENTS) {
            let start = Instant::now();
            pool.parallel_for(items as u64, 1, |_, begin, end| {
                let words = words(&data[begin as usize * ITEM..end as usize * ITEM]);
                black_box(if streams == 1 { sum(words) } else { sum_of_four(words) });
            });
            best = best.max((items * ITEM) as f64 / start.elapsed().as_secs_f64());
        }
        Ok(best)
    }

    /// Bytes a second that all threads read together, each from a cache of its own.
    ///
    /// # Errors
    /// When there is not enough memory.
    pub fn cache_bandwidth(&mut self) -> Result<f64, CpuError> {
        let threads = self.pool.threads();
        let mut data = AlignedBuffer::zeroed((threads * CACHED) as u64, "memory to measure caches")?;
        data.fill(1);
        let rounds = 512;
        let mut best = 0.0f64;
        for _ in 0..MEASUREMENTS {
            let start = Instant::now();
            self.pool.parallel_for(threads as u64, 1, |_, begin, end| {
                for part in begin as usize..end as usize {
                    for _ in 0..rounds {
                        black_box(sum(words(black_box(&data[part * CACHED..(part + 1) * CACHED]))));
                    }
                }
            });
            best = best.max((rounds * threads * CACHED) as f64 / start.elapsed().as_secs_f64());
        }
        Ok(best)
    }

    /// Elements of weights a second that one thread expands from `nf4` codes, with the products of one row that come with them.
    ///
    /// # Errors
    /// When code cannot be made.
    pub fn decoding(&mut self) -> Result<f64, CpuError> {
        const SIZE: u64 = 1024;
        let epilogue = Epilogue {
            bias: false,
            scale: ActivationScale::Tensor,
            activation: Activation::None,
            bounded: false,
            output: Output::F32,
        };
        let coded = Coded {
            bits: 4,
            levels: Levels::Table,
            scale: ScaleType::F32,
            sharing: Sharing::Column,
            zero_points: false,
        };
        let spec = GemmSpec::new(&self.caps, Product::F32F32, Rows::Matrix, epilogue);
        let spec = GemmSpec { coded: Some(coded), ..spec };
        let code = Jit::load(&gemm::generate(&spec, "decoding", &self.caps), &Target::host())?;
        let address = code.address("decoding")?;
        // SAFETY: generated kernels have this type.
        let kernel = unsafe { std::mem::transmute::<usize, KernelFn>(address) };
        let zeroed = |bytes: u64| AlignedBuffer::zeroed(bytes, "measuring codes");
        let weights = zeroed(spec.weight_bytes(SIZE, SIZE).unwrap_or_default())?;
        let (x, mut y) = (zeroed(4 * SIZE)?, zeroed(4 * SIZE)?);
        let mut scratch = zeroed(spec.scratch_bytes(SIZE))?;
        let mut args = [0u64; gemm::ARGS.len()];
        for (slot, value) in [
            ("a", x.as_ptr() as u64),
            ("a_stride", 4 * SIZE),
            ("weights", weights.as_ptr() as u64),
            ("c", y.as_mut_ptr() as u64),
            ("c_stride", 4 * SIZE),
            ("rows", 1),
            ("columns", SIZE),
            ("depth", SIZE),
        ] {
            let at = gemm::ARGS.iter().position(|name| *name == slot);
            args[at.expect("invariant: a slot of products")] = value;
        }
        let items = spec.items(1, SIZE);
        let mut best = f64::INFINITY;
        for _ in 0..64 {
            let start = Instant::now();
            // SAFETY: the buffers have the sizes that the kernel documents.
            unsafe { kernel(args.as_ptr(), 0, items, scratch.as_mut_ptr()) };
            best = best.min(start.elapsed().as_secs_f64());
        }
        Ok((SIZE * SIZE) as f64 / best)
    }

    /// Seconds to start a step on all threads.
    pub fn start(&mut self) -> f64 {
        let (threads, rounds) = (self.pool.threads() as u64, 20_000);
        let mut best = f64::INFINITY;
        for _ in 0..MEASUREMENTS {
            let start = Instant::now();
            for _ in 0..rounds {
                self.pool.parallel_for(threads, 1, |worker, _, _| {
                    black_box(worker);
                });
            }
            best = best.min(start.elapsed().as_secs_f64() / f64::from(rounds));
        }
        best
    }
}

/// Bytes of the last cache of this machine, as far as it says.
pub fn cache_bytes() -> u64 {
    let size = |index: usize| {
        let text =
            std::fs::read_to_string(format!("/sys/devices/system/cpu/cpu0/cache/index{index}/size")).ok()?;
        let text = text.trim();
        let (number, unit) = match text.strip_suffix('K') {
            Some(number) => (number, 1 << 10),
            None => (text.strip_suffix('M')?, 1 << 20),
        };
        number.parse::<u64>().ok()?.checked_mul(unit)
    };
    /// Where it does not say.
    const USUAL: u64 = 32 << 20;
    (0..8).filter_map(size).max().unwrap_or(USUAL)
}

/// Words of a cache line.
const LINE: usize = 8;

fn words(bytes: &[u8]) -> &[u64] {
    // SAFETY: any bits are a number.
    unsafe { bytes.align_to().1 }
}

/// The sum of all words, by as many sums as registers hold.
fn sum(words: &[u64]) -> u64 {
    let mut sums = [0u64; 2 * LINE];
    for pair in words.chunks_exact(2 * LINE) {
        sums.iter_mut().zip(pair).for_each(|(sum, x)| *sum = sum.wrapping_add(*x));
    }
    sums.iter().fold(0, |a, b| a.wrapping_add(*b))
}

/// The same, in four places at a time: some machines fetch more ahead so.
fn sum_of_four(words: &[u64]) -> u64 {
    let quarter = words.len() / 4;
    let mut sums = [0u64; 4 * LINE];
    for at in (0..quarter).step_by(LINE) {
        for (stream, sums) in sums.chunks_exact_mut(LINE).enumerate() {
            let line = &words[stream * quarter + at..][..LINE];
            sums.iter_mut().zip(line).for_each(|(sum, x)| *sum = sum.wrapping_add(*x));
        }
    }
    sums.iter().fold(0, |a, b| a.wrapping_add(*b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_read_once() {
        let words: Vec<u64> = (0..4096).collect();
        assert_eq!(sum(&words), 4095 * 2048);
        assert_eq!(sum_of_four(&words), 4095 * 2048);
    }

    #[test]
    fn a_machine_does_something() {
        let mut machine = Machine::new(2).unwrap();
        assert_eq!(machine.threads(), 2);
        for what in Peak::ALL {
            let peak = machine.peak(what).unwrap();
            assert!(peak.is_finite() && peak > 1e6, "{what:?}: {peak}");
        }
        assert!(machine.cache_bandwidth().unwrap() > 1e6);
        assert!(machine.decoding().unwrap() > 1e6);
        assert!(machine.start() > 0.0);
        assert_eq!(machine.bytes(), 0, "bandwidth was not asked for");
    }
}
