//! Kernels of the CPU backend: data that describes one ([`GemmSpec`](gemm::GemmSpec), …) and generators of its MLIR text.
//!
//! Every generator emits one public `llvm.func @NAME(args, begin, end, scratch)`: `args` is an array of 64-bit slots (addresses
//! and sizes, named by the generator's `ARGS`), `[begin, end)` the work items of this call, `scratch` the worker's own memory
//! (64-byte aligned, as many bytes as the generator's `scratch_bytes`). Sizes are run-time values: one kernel serves every
//! shape with the same formats.
//!
//! Contract for buffers: each starts at a 64-byte boundary and may be *read* [`SLACK`] bytes past its end (what is read there
//! never reaches a result). Nothing is written past an end.

pub mod atom;
pub mod attention;
pub mod blocks;
pub mod cache;
pub mod causal_conv1d;
mod channels;
pub mod coded;
pub mod depthwise;
pub mod emit;
pub mod epilogue;
pub mod gemm;
pub mod hadamard;
pub mod interleaved;
pub mod lines;
pub mod math;
pub mod norm;
pub mod pack;
mod patches;
pub mod peak;
pub mod quantize;
pub mod rotary;
mod row;
pub mod scan;
pub mod softmax;
pub mod split;
mod tile;

/// Bytes a kernel may read past the end of any buffer.
pub const SLACK: u64 = 64;

/// What a machine offers, as plain data; missing features are emulated, slower: codes
/// have the same results, floats may round otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct TargetCaps {
    /// x86-64 baseline.
    pub sse2: bool,
    /// 256-bit integer vectors.
    pub avx2: bool,
    /// Fused multiply-add.
    pub fma: bool,
    /// Half-precision conversion instructions.
    pub f16c: bool,
    /// AVX-512 F, BW, DQ and VL.
    pub avx512: bool,
    /// `vpdpbusd` on 512-bit registers.
    pub vnni512: bool,
    /// `vpdpbusd` on 256-bit registers.
    pub vnni256: bool,
    /// `vdpbf16ps` on 512-bit registers.
    pub bf16_512: bool,
    /// `tdpbusd` on tile registers, beside `vpdpbusd` on 512-bit ones.
    pub amx_int8: bool,
    /// The vectors of 64-bit ARM.
    pub neon: bool,
    /// `sdot`.
    pub dotprod: bool,
    /// `usdot`.
    pub i8mm: bool,
}

impl TargetCaps {
    /// From LLVM feature names (`avx512f`, `fma`, …, with or without `+`) of an x86-64 or AArch64 machine.
    pub fn from_features<'a>(aarch64: bool, features: impl IntoIterator<Item = &'a str>) -> Self {
        let names: Vec<&str> = features.into_iter().map(|f| f.trim_start_matches('+')).collect();
        let has = |f: &str| names.contains(&f);
        if aarch64 {
            return TargetCaps {
                fma: true,
                f16c: true,
                neon: true,
                dotprod: has("dotprod"),
                i8mm: has("i8mm"),
                ..TargetCaps::default()
            };
        }
        let avx512 = ["avx512f", "avx512bw", "avx512dq", "avx512vl"].into_iter().all(has);
        TargetCaps {
            sse2: true,
            avx2: has("avx2"),
            fma: has("fma"),
            f16c: has("f16c"),
            avx512,
            vnni512: avx512 && has("avx512vnni"),
            vnni256: has("avxvnni") || avx512 && has("avx512vnni"),
            bf16_512: avx512 && has("avx512bf16"),
            amx_int8: avx512 && has("avx512vnni") && has("amx-int8"),
            ..TargetCaps::default()
        }
    }

    /// Of the machine this runs on.
    pub fn host() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            let mut found = Vec::new();
            macro_rules! probe {
                ($($f:tt),*) => { $(if std::arch::is_x86_feature_detected!($f) { found.push($f); })* };
            }
            probe!("avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512dq", "avx512vl");
            probe!("avxvnni", "avx512vnni", "avx512bf16");
            if qcc_runtime::features::amx_int8() {
                found.push("amx-int8");
            }
            Self::from_features(false, found)
        }
        #[cfg(target_arch = "aarch64")]
        {
            let mut found = Vec::new();
            if std::arch::is_aarch64_feature_detected!("dotprod") {
                found.push("dotprod");
            }
            if std::arch::is_aarch64_feature_detected!("i8mm") {
                found.push("i8mm");
            }
            Self::from_features(true, found)
        }
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        {
            Self::default()
        }
    }
}
