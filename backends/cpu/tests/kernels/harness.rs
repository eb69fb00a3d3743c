//! Compiles kernel text for a chosen feature level, runs it over guarded buffers, and makes reproducible random data.

use qcc_cpu::kernels::{SLACK, TargetCaps};
use qcc_mlir::{Jit, Target};

/// A set of machine features to build kernels for.
#[derive(Clone)]
pub struct Level {
    pub name: &'static str,
    pub caps: TargetCaps,
}

/// The levels this machine can run, fullest first.
pub fn levels() -> Vec<Level> {
    let v3 = ["avx2", "fma", "f16c"];
    let v4 = ["avx512f", "avx512bw", "avx512dq", "avx512vl"];
    let all: Vec<&str> = v3.into_iter().chain(v4).collect();
    let vnni: Vec<&str> = all.iter().copied().chain(["avx512vnni"]).collect();
    let bf16: Vec<&str> = vnni.iter().copied().chain(["avx512bf16"]).collect();
    let avx_vnni: Vec<&str> = v3.into_iter().chain(["avxvnni"]).collect();
    let level =
        |name, f: &[&'static str]| Level { name, caps: TargetCaps::from_features(false, f.iter().copied()) };
    let host = TargetCaps::host();
    let mut out = Vec::new();
    if host.amx_int8 {
        out.push(amx());
    }
    if host.vnni512 && host.bf16_512 {
        out.push(level("x86-64-v4+avx512vnni+avx512bf16", &bf16));
    } else if host.vnni512 {
        out.push(level("x86-64-v4+avx512vnni", &vnni));
    }
    if host.avx512 {
        out.push(level("x86-64-v4", &all));
    }
    if host.vnni256 && std::arch::is_x86_feature_detected!("avxvnni") {
        out.push(level("x86-64-v3+avxvnni", &avx_vnni));
    }
    if host.avx2 && host.fma {
        out.push(level("x86-64-v3", &v3));
    }
    out.push(level("x86-64", &[]));
    out
}

/// A machine with AMX.
pub fn amx() -> Level {
    let name = "x86-64-v4+amx-int8";
    let target = Target::named(name).expect("a known target");
    Level { name, caps: TargetCaps::from_features(false, target.present_features()) }
}

/// Kernels in memory, compiled as models are.
pub struct Library {
    code: Jit,
}

type Entry = unsafe extern "C" fn(*const u64, u64, u64, *mut u8);

impl Library {
    /// Builds the kernels of one text for a feature level.
    pub fn new(text: &str, level: &Level) -> Self {
        Library { code: Jit::load(text, &target(level)).expect("kernels compile") }
    }

    /// The address of a kernel.
    pub fn address(&self, name: &str) -> usize {
        self.code.address(name).expect("the kernel is there")
    }

    /// Runs a kernel over `items`, cut into `ranges` as a thread pool would.
    pub fn run(&self, name: &str, args: &[u64], items: u64, scratch_bytes: u64, ranges: u64) {
        let address = self.address(name);
        // SAFETY: every generated kernel has the kernel ABI.
        let entry = unsafe { std::mem::transmute::<usize, Entry>(address) };
        for r in 0..ranges {
            let scratch = Buffer::bytes(&vec![0x5a; scratch_bytes as usize]);
            let (begin, end) = (items * r / ranges, items * (r + 1) / ranges);
            // SAFETY: the test passes buffers of the sizes the kernel documents.
            unsafe { entry(args.as_ptr(), begin, end, scratch.address() as *mut u8) };
            scratch.check();
        }
    }
}

/// The target of a level.
pub fn target(level: &Level) -> Target {
    match level.name {
        "host" => Target::host(),
        "x86-64" => {
            let v2 = Target::named("x86-64-v2").expect("a known target");
            Target { cpu: "x86-64".into(), features: String::new(), ..v2 }
        }
        other => Target::named(other).expect("a known target"),
    }
}

/// A 64-byte aligned buffer with readable slack that must not be written.
pub struct Buffer {
    memory: Vec<u64>,
    start: usize,
    len: usize,
}

const GUARD: u8 = 0xff; // As f32 or f16: NaN. As a code: −1 or 255.

impl Buffer {
    pub fn bytes(data: &[u8]) -> Self {
        let slack = SLACK as usize;
        let memory = vec![u64::MAX; (data.len() + 2 * slack) / 8 + 9];
        let start = memory.as_ptr().align_offset(64) * 8;
        let mut b = Buffer { memory, start, len: data.len() };
        b.all_mut()[start..start + data.len()].copy_from_slice(data);
        b
    }

    pub fn f32(data: &[f32]) -> Self {
        Self::bytes(&data.iter().flat_map(|x| x.to_ne_bytes()).collect::<Vec<_>>())
    }

    pub fn i32(data: &[i32]) -> Self {
        Self::bytes(&data.iter().flat_map(|x| x.to_ne_bytes()).collect::<Vec<_>>())
    }

    pub fn i8(data: &[i8]) -> Self {
        Self::bytes(&data.iter().map(|&x| x as u8).collect::<Vec<_>>())
    }

    pub fn zeros(len: usize) -> Self {
        Self::bytes(&vec![0; len])
    }

    fn all_mut(&mut self) -> &mut [u8] {
        let len = self.memory.len() * 8;
        // SAFETY: any u64 is eight initialised bytes.
        unsafe { std::slice::from_raw_parts_mut(self.memory.as_mut_ptr().cast(), len) }
    }

    fn all(&self) -> &[u8] {
        // SAFETY: any u64 is eight initialised bytes.
        unsafe { std::slice::from_raw_parts(self.memory.as_ptr().cast(), self.memory.len() * 8) }
    }

    pub fn address(&self) -> u64 {
        self.all()[self.start..].as_ptr() as u64
    }

    /// Nothing was written past the end.
    pub fn check(&self) {
        assert!(self.all()[self.start + self.len..].iter().all(|&b| b == GUARD), "written past the end");
        assert!(self.all()[..self.start].iter().all(|&b| b == GUARD), "written before the start");
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        self.check();
        self.all()[self.start..self.start + self.len].to_vec()
    }

    pub fn to_f32(&self) -> Vec<f32> {
        self.to_bytes().chunks_exact(4).map(|b| f32::from_ne_bytes(b.try_into().expect("four"))).collect()
    }

    pub fn to_i32(&self) -> Vec<i32> {
        self.to_bytes().chunks_exact(4).map(|b| i32::from_ne_bytes(b.try_into().expect("four"))).collect()
    }

    pub fn to_i8(&self) -> Vec<i8> {
        self.to_bytes().into_iter().map(|b| b as i8).collect()
    }
}

/// A small reproducible generator (xorshift*).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    /// In `lo..=hi`.
    pub fn int(&mut self, lo: i64, hi: i64) -> i64 {
        lo + (self.next() % (hi - lo + 1) as u64) as i64
    }

    pub fn size(&mut self, hi: i64) -> usize {
        self.int(1, hi) as usize
    }

    /// In −1 … 1.
    pub fn real(&mut self) -> f32 {
        self.int(-(1 << 22), 1 << 22) as f32 / (1 << 22) as f32
    }

    pub fn reals(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.real()).collect()
    }

    pub fn i8s(&mut self, n: usize, lo: i64, hi: i64) -> Vec<i8> {
        (0..n).map(|_| self.int(lo, hi) as i8).collect()
    }

    pub fn u8s(&mut self, n: usize, lo: i64, hi: i64) -> Vec<u8> {
        (0..n).map(|_| self.int(lo, hi) as u8).collect()
    }
}

/// The reference quantizer, as the interpreter's: `clamp(round_half_even(x · (1/s)) + z, lo, hi)`, NaN → z.
pub fn quantize(x: f32, scale: f32, zero: i32, lo: i32, hi: i32) -> i32 {
    let t = x * (1.0 / scale);
    if t.is_nan() {
        return zero;
    }
    (t.round_ties_even() + zero as f32).clamp(lo as f32, hi as f32) as i32
}

pub fn assert_bits(found: &[f32], wanted: &[f32], what: &str) {
    assert_eq!(found.len(), wanted.len());
    for (i, (a, b)) in found.iter().zip(wanted).enumerate() {
        assert_eq!(a.to_bits(), b.to_bits(), "{what}: element {i} is {a}, wanted {b}");
    }
}

/// `|found − wanted| ≤ 1e-5 · magnitude`, where magnitude is Σ|x||w| of the element.
pub fn assert_close(found: &[f32], wanted: &[f64], magnitude: &[f64], what: &str) {
    assert_eq!(found.len(), wanted.len());
    for (i, ((&a, &b), &m)) in found.iter().zip(wanted).zip(magnitude).enumerate() {
        let error = (f64::from(a) - b).abs();
        assert!(error <= 1e-5 * m + 1e-30, "{what}: element {i} is {a}, wanted {b}, magnitude {m}");
    }
}
