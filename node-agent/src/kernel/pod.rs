//! Values that cross into maps.

use bytemuck::Pod;

/// Makes a `bytemuck` plain value one for aya.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct Plain<T>(pub(super) T);

// SAFETY: `T: bytemuck::Pod` is any bit pattern without padding, which is all that aya asks.
#[expect(unsafe_code, reason = "aya's marker for plain values is an unsafe trait")]
unsafe impl<T: Pod> aya::Pod for Plain<T> {}

impl<T> Plain<T> {
    /// A reference to a value as a reference to its wrapper.
    pub(super) fn from_ref(value: &T) -> &Self
    where
        T: Pod,
    {
        // SAFETY: `repr(transparent)`.
        #[expect(unsafe_code, reason = "large tables must not be copied to be wrapped")]
        unsafe {
            &*std::ptr::from_ref(value).cast::<Self>()
        }
    }
}
