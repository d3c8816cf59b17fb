//! Release builds end at a panic: nobody unwinds their stack. What the standard library and the C
//! library would call to do so stands here in the unwinder's place and does nothing; the linker
//! then also leaves out everything that would have turned addresses into names and lines.

/// `_URC_END_OF_STACK` of the Itanium C++ ABI for exception handling: no frame to tell of.
const END_OF_STACK: i32 = 5;

/// Walks over the frames of the stack: there are none.
// SAFETY: this is the only definition of the name in the program, with the ABI's signature.
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Backtrace(_visit: *const u8, _argument: *const u8) -> i32 {
    END_OF_STACK
}

/// What only an exception on its way calls: nothing throws one.
macro_rules! never_called {
    ($($name:ident)*) => {$(
        // SAFETY: as above; it takes what the ABI passes in registers and never returns.
        #[unsafe(no_mangle)]
        extern "C" fn $name() -> usize {
            std::process::abort()
        }
    )*};
}

never_called! {
    _Unwind_DeleteException _Unwind_FindEnclosingFunction _Unwind_ForcedUnwind _Unwind_GetCFA
    _Unwind_GetDataRelBase _Unwind_GetGR _Unwind_GetIP _Unwind_GetIPInfo
    _Unwind_GetLanguageSpecificData _Unwind_GetRegionStart _Unwind_GetTextRelBase
    _Unwind_RaiseException _Unwind_Resume _Unwind_Resume_or_Rethrow _Unwind_SetGR _Unwind_SetIP
}
