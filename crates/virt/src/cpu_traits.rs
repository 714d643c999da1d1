//! Traits of a host that follow from the features of its CPUs.
//!
//! Trait names are those of the os-traits list, feature names those of `/proc/cpuinfo`. The table has the features that
//! guests are placed by (vector units, cryptography, virtualisation), and not every flag of a CPU. An operator adds other
//! traits in the agent's configuration.

use std::borrow::Cow;

use crate::stats::CpuInfo;

/// Features on x86, each with its trait's name after `HW_CPU_X86_`. `vmx` and `svm` have two traits each, because the older
/// names without a vendor are still asked for.
const X86: &[(&str, &str)] = &[
    ("abm", "ABM"),
    ("aes", "AESNI"),
    ("amx_bf16", "AMXBF16"),
    ("amx_int8", "AMXINT8"),
    ("amx_tile", "AMXTILE"),
    ("avx", "AVX"),
    ("avx2", "AVX2"),
    ("avx512_bitalg", "AVX512BITALG"),
    ("avx512_vbmi2", "AVX512VBMI2"),
    ("avx512_vnni", "AVX512VNNI"),
    ("avx512_vpopcntdq", "AVX512VPOPCNTDQ"),
    ("avx512bw", "AVX512BW"),
    ("avx512cd", "AVX512CD"),
    ("avx512dq", "AVX512DQ"),
    ("avx512f", "AVX512F"),
    ("avx512ifma", "AVX512IFMA"),
    ("avx512vbmi", "AVX512VBMI"),
    ("avx512vl", "AVX512VL"),
    ("bmi1", "BMI"),
    ("bmi2", "BMI2"),
    ("f16c", "F16C"),
    ("fma", "FMA3"),
    ("fma4", "FMA4"),
    ("gfni", "AVX512GFNI"),
    ("mmx", "MMX"),
    ("pclmulqdq", "CLMUL"),
    ("pdpe1gb", "PDPE1GB"),
    ("pni", "SSE3"),
    ("rtm", "TSX"),
    ("sev", "AMD_SEV"),
    ("sev_es", "AMD_SEV_ES"),
    ("sev_snp", "AMD_SEV_SNP"),
    ("sgx", "SGX"),
    ("sha_ni", "SHA"),
    ("sse", "SSE"),
    ("sse2", "SSE2"),
    ("sse4_1", "SSE41"),
    ("sse4_2", "SSE42"),
    ("sse4a", "SSE4A"),
    ("ssse3", "SSSE3"),
    ("svm", "AMD_SVM"),
    ("svm", "SVM"),
    ("vaes", "AVX512VAES"),
    ("vmx", "INTEL_VMX"),
    ("vmx", "VMX"),
    ("vpclmulqdq", "AVX512VPCLMULQDQ"),
];

/// Features on 64-bit ARM. The trait is `HW_CPU_AARCH64_` followed by the feature in capitals.
const AARCH64: &[&str] = &[
    "aes", "asimd", "asimddp", "asimdhp", "asimdrdm", "atomics", "crc32", "fp", "fphp", "pmull", "sha1",
    "sha2", "sha3", "sha512", "sve",
];

/// Architectures that have a trait: `HW_ARCH_` followed by the name in capitals.
const ARCHITECTURES: &[&str] = &["aarch64", "i686", "ppc64le", "s390x", "x86_64"];

/// The traits that follow from the host's CPUs, sorted.
pub fn cpu_traits(cpu: &CpuInfo) -> Vec<Cow<'static, str>> {
    let has = |feature: &str| cpu.features.iter().any(|f| f == feature);
    let mut traits: Vec<Cow<'static, str>> = Vec::new();
    if ARCHITECTURES.contains(&cpu.arch.as_str()) {
        traits.push(format!("HW_ARCH_{}", cpu.arch.to_uppercase()).into());
    }
    if cpu.topology.threads > 1 {
        traits.push("HW_CPU_HYPERTHREADING".into());
    }
    match cpu.arch.as_str() {
        "x86_64" | "i686" => traits
            .extend(X86.iter().filter(|(f, _)| has(f)).map(|(_, name)| format!("HW_CPU_X86_{name}").into())),
        "aarch64" => traits.extend(
            AARCH64.iter().filter(|f| has(f)).map(|f| format!("HW_CPU_AARCH64_{}", f.to_uppercase()).into()),
        ),
        _ => {}
    }
    traits.sort_unstable();
    traits
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::CpuTopology;

    fn traits_of(arch: &str, threads: u32, features: &[&str]) -> Vec<Cow<'static, str>> {
        cpu_traits(&CpuInfo {
            arch: arch.into(),
            model: "m".into(),
            vendor: "v".into(),
            features: features.iter().map(|f| (*f).to_owned()).collect(),
            topology: CpuTopology { sockets: 1, cores: 1, threads, cells: 1 },
        })
    }

    #[test]
    fn features_become_the_names_that_flavors_ask_for() {
        assert_eq!(
            traits_of("x86_64", 2, &["aes", "avx2", "sse4_2", "vmx", "constant_tsc"]),
            [
                "HW_ARCH_X86_64",
                "HW_CPU_HYPERTHREADING",
                "HW_CPU_X86_AESNI",
                "HW_CPU_X86_AVX2",
                "HW_CPU_X86_INTEL_VMX",
                "HW_CPU_X86_SSE42",
                "HW_CPU_X86_VMX",
            ]
        );
    }

    #[test]
    fn one_feature_name_means_another_trait_on_another_architecture() {
        assert_eq!(
            traits_of("aarch64", 1, &["aes", "sve", "avx2"]),
            ["HW_ARCH_AARCH64", "HW_CPU_AARCH64_AES", "HW_CPU_AARCH64_SVE"]
        );
        assert!(traits_of("riscv64", 1, &["aes"]).is_empty());
    }
}
