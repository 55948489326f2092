//! The operating system's random numbers, made to follow from a number: std's hash keys, tokio's scheduler and every
//! `getrandom` of a library then give the same in every run.
//!
//! libc's `getrandom` is a weak symbol for std and is looked up by name by the `getrandom` crate, so that a definition in
//! the program itself is used by both. This program makes no key and no secret.

use std::{
    ffi::{c_uint, c_void},
    sync::atomic::{AtomicU64, Ordering},
};

static STATE: AtomicU64 = AtomicU64::new(0);

/// From now on all follows from `seed`.
pub(crate) fn seed(seed: u64) {
    STATE.store(seed, Ordering::SeqCst);
}

fn next() -> u64 {
    waifud_tests::sim::Dice::new(STATE.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::SeqCst)).number()
}

/// Replaces libc's function of this name (`getrandom(2)`): fills the buffer and says how much it filled.
///
/// # Safety
/// As for libc's: `buffer` must be valid for writes of `length` bytes.
#[expect(unsafe_code, reason = "libc's function can only be replaced by one of its name, and it takes a bare pointer")]
#[unsafe(no_mangle)]
unsafe extern "C" fn getrandom(buffer: *mut c_void, length: usize, _flags: c_uint) -> isize {
    // The crate of this name asks with a null pointer and no length whether the call is there.
    if buffer.is_null() || length == 0 {
        return 0;
    }
    // SAFETY: the caller promises that `length` bytes from `buffer` on may be written, and it is not null; bytes have no
    // alignment, and the slice is gone before this function returns.
    let bytes = unsafe { std::slice::from_raw_parts_mut(buffer.cast::<u8>(), length) };
    for chunk in bytes.chunks_mut(8) {
        chunk.copy_from_slice(&next().to_le_bytes()[..chunk.len()]);
    }
    isize::try_from(length).unwrap_or(isize::MAX)
}

/// True if the replacement is what this program uses.
pub(crate) fn is_ours() -> bool {
    use std::hash::{BuildHasher, RandomState};
    let draw = |number| {
        seed(number);
        // Keys are drawn once a thread.
        std::thread::spawn(|| RandomState::new().hash_one(1)).join().ok()
    };
    draw(1) == draw(1) && draw(1) != draw(2)
}
