//! One source, three instruction sets: a generic body is inlined into functions that enable the instructions.

/// Declares, for a generic `#[inline(always)]` body `fn body::<…, const FMA: bool>(args)`, a selector `name::<…>(isa)` that
/// gives the instance compiled for an instruction set as a function pointer.
macro_rules! per_isa {
    ($(#[$doc:meta])* $vis:vis fn $name:ident [$($g:ident : $bound:path),*] ($($arg:ident : $ty:ty),* $(,)?) $(-> $ret:ty)? = $body:ident) => {
        $(#[$doc])*
        $vis fn $name<$($g: $bound),*>(isa: $crate::Isa) -> unsafe fn($($ty),*) $(-> $ret)? {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,bmi2")]
            unsafe fn avx512<$($g: $bound),*>($($arg: $ty),*) $(-> $ret)? {
                // SAFETY: the caller keeps the contract of the body.
                unsafe { $body::<$($g,)* true>($($arg),*) }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c,bmi2")]
            unsafe fn avx2<$($g: $bound),*>($($arg: $ty),*) $(-> $ret)? {
                // SAFETY: the caller keeps the contract of the body.
                unsafe { $body::<$($g,)* true>($($arg),*) }
            }
            unsafe fn portable<$($g: $bound),*>($($arg: $ty),*) $(-> $ret)? {
                // SAFETY: the caller keeps the contract of the body.
                unsafe { $body::<$($g,)* false>($($arg),*) }
            }
            match isa {
                #[cfg(target_arch = "x86_64")]
                $crate::Isa::Avx512 => avx512::<$($g),*>,
                #[cfg(target_arch = "x86_64")]
                $crate::Isa::Avx2 => avx2::<$($g),*>,
                _ => portable::<$($g),*>,
            }
        }
    };
}

pub(crate) use per_isa;
