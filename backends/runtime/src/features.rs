//! CPU features by LLVM's names: which ones this machine has. Code compiled for a feature the machine lacks would die of an illegal
//! instruction, so a model is refused before that.

use crate::RuntimeError;

/// One table an architecture: LLVM's name of each feature and the standard library's, which detects it.
/// Behind them features that are asked otherwise.
macro_rules! architecture {
    ($names:ident, $arch:literal, $detect:ident, $($llvm:literal = $rust:tt),*; $($more:literal = $ask:path),*) => {
        const $names: &[&str] = &[$($llvm,)* $($more),*];

        /// What the machine says of each feature that can be asked for.
        #[cfg(target_arch = $arch)]
        fn detected() -> Vec<(&'static str, bool)> {
            vec![$(($llvm, std::arch::$detect!($rust)),)* $(($more, $ask())),*]
        }
    };
}

architecture!(
    X86,
    "x86_64",
    is_x86_feature_detected,
    "sse" = "sse",
    "sse2" = "sse2",
    "sse3" = "sse3",
    "ssse3" = "ssse3",
    "sse4.1" = "sse4.1",
    "sse4.2" = "sse4.2",
    "sse4a" = "sse4a",
    "popcnt" = "popcnt",
    "cx16" = "cmpxchg16b",
    "movbe" = "movbe",
    "lzcnt" = "lzcnt",
    "bmi" = "bmi1",
    "bmi2" = "bmi2",
    "tbm" = "tbm",
    "adx" = "adx",
    "aes" = "aes",
    "pclmul" = "pclmulqdq",
    "sha" = "sha",
    "gfni" = "gfni",
    "vaes" = "vaes",
    "vpclmulqdq" = "vpclmulqdq",
    "f16c" = "f16c",
    "fma" = "fma",
    "avx" = "avx",
    "avx2" = "avx2",
    "avxvnni" = "avxvnni",
    "avxifma" = "avxifma",
    "avxneconvert" = "avxneconvert",
    "avxvnniint8" = "avxvnniint8",
    "avxvnniint16" = "avxvnniint16",
    "avx512f" = "avx512f",
    "avx512cd" = "avx512cd",
    "avx512bw" = "avx512bw",
    "avx512dq" = "avx512dq",
    "avx512vl" = "avx512vl",
    "avx512ifma" = "avx512ifma",
    "avx512vbmi" = "avx512vbmi",
    "avx512vbmi2" = "avx512vbmi2",
    "avx512vnni" = "avx512vnni",
    "avx512bitalg" = "avx512bitalg",
    "avx512vpopcntdq" = "avx512vpopcntdq",
    "avx512bf16" = "avx512bf16",
    "avx512fp16" = "avx512fp16";
    "amx-tile" = amx_int8,
    "amx-int8" = amx_int8
);

architecture!(
    ARM,
    "aarch64",
    is_aarch64_feature_detected,
    "neon" = "neon",
    "fullfp16" = "fp16",
    "dotprod" = "dotprod",
    "i8mm" = "i8mm",
    "bf16" = "bf16",
    "fp16fml" = "fhm",
    "rdm" = "rdm",
    "lse" = "lse",
    "crc" = "crc",
    "sve" = "sve",
    "sve2" = "sve2";
);

/// Whether there are products of bytes in tile registers (Intel AMX) and the system lets this process use them, which it is asked for.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
#[allow(unsafe_code)]
pub fn amx_int8() -> bool {
    use std::sync::OnceLock;

    /// Bits of EDX of CPUID leaf 7: AMX-TILE and AMX-INT8.
    const BITS: u32 = 1 << 24 | 1 << 25;
    /// `ARCH_REQ_XCOMP_PERM` and `XFEATURE_XTILEDATA`, see "x86: Using XSTATE features in user space applications" of Linux.
    const REQUEST: libc::c_long = 0x1023;
    const TILE_DATA: libc::c_long = 18;
    static USABLE: OnceLock<bool> = OnceLock::new();
    *USABLE.get_or_init(|| {
        let there = std::arch::x86_64::__cpuid_count(7, 0).edx & BITS == BITS;
        // SAFETY: it takes numbers, and changes only what this process may use.
        there && unsafe { libc::syscall(libc::SYS_arch_prctl, REQUEST, TILE_DATA) } == 0
    })
}

/// Elsewhere there are none.
#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
pub fn amx_int8() -> bool {
    false
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn detected() -> Vec<(&'static str, bool)> {
    Vec::new()
}

/// Those of a compiler's feature names that [`check`] can ask the machine about, sorted, each once. The others (tuning hints, system
/// instructions that generated code never uses) do not belong into a program.
pub fn checkable<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let mut kept: Vec<String> =
        names.into_iter().filter(|n| X86.contains(n) || ARM.contains(n)).map(str::to_string).collect();
    kept.sort();
    kept.dedup();
    kept
}

/// Checks that this machine has all of these features.
///
/// # Errors
/// [`RuntimeError::Features`] with those it lacks; a name that this runtime does not know counts as lacking.
pub fn check<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<(), RuntimeError> {
    let detected = detected();
    let missing: Vec<String> = names
        .into_iter()
        .filter(|n| !detected.iter().any(|(name, there)| name == n && *there))
        .map(str::to_string)
        .collect();
    if missing.is_empty() { Ok(()) } else { Err(RuntimeError::Features { missing }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_machine_has_is_accepted_and_the_rest_named() {
        let present: Vec<&str> = detected().into_iter().filter(|f| f.1).map(|f| f.0).collect();
        check(present.iter().copied()).unwrap();
        let error = check(present.iter().copied().chain(["avx4096"])).unwrap_err();
        assert!(error.to_string().starts_with("this CPU lacks avx4096, which"), "{error}");
    }

    #[test]
    fn every_detected_name_is_checkable_and_others_are_dropped() {
        let names: Vec<&str> = detected().into_iter().map(|f| f.0).collect();
        assert_eq!(checkable(names.iter().copied()).len(), names.len());
        assert_eq!(checkable(["avx2", "prfchw", "fma", "avx2"]), ["avx2", "fma"]);
    }
}
