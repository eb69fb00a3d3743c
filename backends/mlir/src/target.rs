//! Machines to compile for: triple, CPU and features, as LLVM names them.

use std::sync::Once;

use inkwell::targets::{
    CodeModel, InitializationConfig, RelocMode, Target as LlvmTarget, TargetMachine, TargetTriple,
};

use crate::{CodegenOptions, MlirError};

/// A machine to compile for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// LLVM triple.
    pub triple: String,
    /// LLVM CPU name.
    pub cpu: String,
    /// LLVM features, `+avx2,-sse4a,…`.
    pub features: String,
}

fn initialize() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let config = InitializationConfig::default();
        LlvmTarget::initialize_x86(&config);
        LlvmTarget::initialize_aarch64(&config);
    });
}

/// A machine's features without those that its system does not let programs use.
fn usable(features: &str) -> String {
    match qcc_runtime::features::amx_int8() {
        true => features.into(),
        false => features.replace("+amx-", "-amx-"),
    }
}

impl Target {
    /// The names [`Target::named`] knows, with a sentence each.
    pub const NAMES: [(&'static str, &'static str); 5] = [
        ("host", "this machine, with all its features"),
        ("x86-64-v2", "x86-64 with SSE4.2"),
        ("x86-64-v3", "x86-64 with AVX2 and FMA (Haswell, Zen and later)"),
        ("x86-64-v4", "x86-64 with AVX-512 F, BW, DQ, VL (Skylake-SP, Zen 4 and later)"),
        ("aarch64", "64-bit ARM with NEON"),
    ];

    /// This machine.
    pub fn host() -> Target {
        initialize();
        Target {
            triple: TargetMachine::get_default_triple().as_str().to_string_lossy().into_owned(),
            cpu: TargetMachine::get_host_cpu_name().to_string(),
            features: usable(&TargetMachine::get_host_cpu_features().to_string()),
        }
    }

    /// What can follow a name after `+`: the feature, the name, and a sentence. `host` has all that it has.
    pub const FEATURES: [(&'static str, &'static str, &'static str); 6] = [
        ("avxvnni", "x86-64-v3", "products of bytes on 256-bit registers (Alder Lake, Zen 5 and later)"),
        ("avx512vnni", "x86-64-v4", "products of bytes on 512-bit registers (Ice Lake, Zen 4 and later)"),
        ("avx512bf16", "x86-64-v4", "products of bf16 (Cooper Lake, Zen 4 and later)"),
        (
            "amx-int8",
            "x86-64-v4",
            "avx512vnni, and such products in tile registers (Sapphire Rapids and later)",
        ),
        ("dotprod", "aarch64", "products of signed bytes (Cortex-A75, Neoverse N1, Apple M1 and later)"),
        (
            "i8mm",
            "aarch64",
            "products of bytes of either sign (Neoverse V1, Cortex-A510, Apple M2 and later)",
        ),
    ];

    /// A machine by name, see [`Target::NAMES`], and with what it has beside that, see [`Target::FEATURES`]: `x86-64-v3+avxvnni`.
    ///
    /// # Errors
    /// When the name is unknown, or a machine of this name cannot have a feature.
    pub fn named(name: &str) -> Result<Target, MlirError> {
        let (base, more) = name.split_once('+').unwrap_or((name, ""));
        let mut target = Target::base(base)?;
        for feature in more.split('+').filter(|_| base.len() < name.len()) {
            let message = match Target::FEATURES.iter().find(|(known, ..)| *known == feature) {
                Some((known, machine, _)) if *machine == base => {
                    let implied = if *known == "amx-int8" { ",+avx512vnni,+amx-tile" } else { "" };
                    target.features += &format!("{implied},+{feature}");
                    continue;
                }
                Some((_, machine, _)) => format!("`{feature}` can follow {machine} only"),
                None => {
                    let known = Target::FEATURES.map(|(known, ..)| known).join(", ");
                    format!("unknown feature `{feature}`; known are {known}")
                }
            };
            return Err(MlirError::Target { target: name.into(), message });
        }
        Ok(target)
    }

    fn base(name: &str) -> Result<Target, MlirError> {
        let x86 = |cpu: &str, features: &str| Target {
            triple: "x86_64-unknown-linux-gnu".into(),
            cpu: cpu.into(),
            features: features.into(),
        };
        const V2: &str = "+sse3,+ssse3,+sse4.1,+sse4.2,+popcnt,+cx16";
        const V3: &str = "+avx,+avx2,+bmi,+bmi2,+f16c,+fma,+lzcnt,+movbe";
        match name {
            "host" => Ok(Target::host()),
            "x86-64-v2" => Ok(x86("x86-64-v2", V2)),
            "x86-64-v3" => Ok(x86("x86-64-v3", &format!("{V2},{V3}"))),
            "x86-64-v4" => {
                Ok(x86("x86-64-v4", &format!("{V2},{V3},+avx512f,+avx512bw,+avx512cd,+avx512dq,+avx512vl")))
            }
            "aarch64" => Ok(Target {
                triple: "aarch64-unknown-linux-gnu".into(),
                cpu: "generic".into(),
                features: "+neon".into(),
            }),
            other => Err(MlirError::Target {
                target: other.into(),
                message: format!("unknown; known are {}", Target::NAMES.map(|(n, _)| n).join(", ")),
            }),
        }
    }

    /// Whether the machine is 64-bit ARM.
    pub fn is_aarch64(&self) -> bool {
        self.triple.starts_with("aarch64")
    }

    /// Features that are present, without their sign.
    pub fn present_features(&self) -> impl Iterator<Item = &str> {
        self.features.split(',').filter_map(|f| f.strip_prefix('+'))
    }

    pub(crate) fn machine(&self, options: &CodegenOptions) -> Result<TargetMachine, MlirError> {
        initialize();
        let fail = |message: String| MlirError::Target { target: self.triple.clone(), message };
        let triple = TargetTriple::create(&self.triple);
        let target = LlvmTarget::from_triple(&triple).map_err(|e| fail(e.to_string()))?;
        target
            .create_target_machine(
                &triple,
                &self.cpu,
                &self.features,
                options.level(),
                RelocMode::PIC,
                CodeModel::Default,
            )
            .ok_or_else(|| fail("LLVM cannot make a target machine".into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_takes_features_of_its_machine() {
        let target = Target::named("aarch64+dotprod+i8mm").unwrap();
        assert!(target.present_features().eq(["neon", "dotprod", "i8mm"]));
        let target = Target::named("x86-64-v4+amx-int8").unwrap();
        assert!(
            ["avx512vnni", "amx-tile", "amx-int8"].iter().all(|f| target.present_features().any(|p| p == *f))
        );
        let refused = |name: &str| Target::named(name).unwrap_err().to_string();
        assert!(refused("x86-64-v3+i8mm").contains("`i8mm` can follow aarch64 only"));
        assert!(refused("x86-64-v3+avx9").contains("unknown feature `avx9`; known are avxvnni,"));
        assert!(refused("x86-64-v3+").contains("unknown feature ``"));
        assert!(refused("x86-64-v9+avxvnni").contains("unknown; known are host,"));
    }
}
