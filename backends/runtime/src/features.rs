//! CPU features by LLVM's names: which ones this machine has. Code compiled for a feature the machine lacks would die of an illegal
//! instruction, so a model is refused before that.

use crate::RuntimeError;

/// One table an architecture: LLVM's name of each feature and the standard library's, which detects it.
macro_rules! architecture {
    ($names:ident, $arch:literal, $detect:ident, $($llvm:literal = $rust:tt),* $(,)?) => {
        const $names: &[&str] = &[$($llvm),*];

        /// What the machine says of each feature that can be asked for.
        #[cfg(target_arch = $arch)]
        fn detected() -> Vec<(&'static str, bool)> {
            vec![$(($llvm, std::arch::$detect!($rust))),*]
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
    "avx512fp16" = "avx512fp16",
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
    "sve2" = "sve2",
);

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
