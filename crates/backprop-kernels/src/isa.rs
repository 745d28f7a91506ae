use std::fmt;
use std::sync::OnceLock;

/// Instruction set a kernel is planned for.
///
/// `Avx2` and `Avx512` give identical bits; `Portable` has no fused multiply-add and may differ in the last ones.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub enum Isa {
    /// Plain Rust that the compiler vectorises for the baseline of the target.
    Portable,
    /// x86-64 with AVX2 and FMA (and F16C).
    Avx2,
    /// x86-64 with AVX-512 F, BW, DQ and VL.
    Avx512,
}

impl Isa {
    /// The best instruction set of this processor.
    pub fn detect() -> Isa {
        *Isa::available().last().unwrap_or(&Isa::Portable)
    }

    /// The instruction sets this processor can run, in ascending order.
    pub fn available() -> &'static [Isa] {
        #[cfg(target_arch = "x86_64")]
        {
            if !(is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c")) {
                return &[Isa::Portable];
            }
            if is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
            {
                return &[Isa::Portable, Isa::Avx2, Isa::Avx512];
            }
            &[Isa::Portable, Isa::Avx2]
        }
        #[cfg(not(target_arch = "x86_64"))]
        &[Isa::Portable]
    }

    /// Whether results larger than the caches are written faster [past them](crate::TileProgram::store_past_caches): where those behind
    /// the second level are slow, as on Intel's servers, twice as fast.
    pub fn writes_faster_past_caches(self) -> bool {
        self == Isa::Avx512 && is_intel()
    }

    /// `portable`, `avx2` or `avx512`.
    pub const fn name(self) -> &'static str {
        match self {
            Isa::Portable => "portable",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
        }
    }
}

/// Whether Intel made this processor.
pub(crate) fn is_intel() -> bool {
    static INTEL: OnceLock<bool> = OnceLock::new();
    #[cfg(target_arch = "x86_64")]
    let look = || {
        let name = std::arch::x86_64::__cpuid(0);
        [name.ebx, name.edx, name.ecx].map(u32::to_le_bytes).as_flattened() == b"GenuineIntel"
    };
    #[cfg(not(target_arch = "x86_64"))]
    let look = || false;
    *INTEL.get_or_init(look)
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
