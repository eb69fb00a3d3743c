//! Memory that kernels may touch: aligned to cache lines and vectors, zero at first, with a line of slack behind, and failing with a
//! message instead of an abort. Large buffers come from the system directly, so that untouched pages cost nothing, in huge pages where
//! the system has them.

#![allow(unsafe_code)]

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::NonNull;

use memmap2::MmapMut;

use crate::RuntimeError;

/// Alignment of every buffer a kernel sees, in bytes: a cache line, and the widest vector register.
pub const ALIGNMENT: usize = 64;

/// Buffers of this size and more are mapped instead of taken from the heap.
const MAPPED_FROM: usize = 256 << 10;

/// Mappings of this size and more ask for huge pages.
const HUGE_FROM: usize = 4 << 20;

/// The smallest multiple of [`ALIGNMENT`] that holds `bytes` and a line of slack behind them.
pub(crate) fn padded(bytes: u64) -> Option<u64> {
    bytes
        .checked_next_multiple_of(ALIGNMENT as u64)?
        .checked_add(ALIGNMENT as u64)
        .filter(|n| *n <= isize::MAX as u64)
}

enum Storage {
    Empty,
    Heap { start: NonNull<u8>, layout: Layout },
    Mapped(MmapMut),
}

/// An owned buffer that starts at a multiple of [`ALIGNMENT`]; [`ALIGNMENT`] bytes past its end may be read.
pub struct AlignedBuffer {
    storage: Storage,
    len: usize,
}

// SAFETY: the buffer owns its memory alone, as a `Vec<u8>` does.
unsafe impl Send for AlignedBuffer {}
// SAFETY: a shared reference only reads.
unsafe impl Sync for AlignedBuffer {}

impl AlignedBuffer {
    /// A buffer of no bytes.
    pub const fn empty() -> AlignedBuffer {
        AlignedBuffer { storage: Storage::Empty, len: 0 }
    }

    /// A buffer of zeros. `purpose` names it in the error.
    ///
    /// # Errors
    /// [`RuntimeError::Memory`] when there is not so much memory.
    pub fn zeroed(bytes: u64, purpose: &str) -> Result<AlignedBuffer, RuntimeError> {
        let fail = |reason: String| RuntimeError::Memory { purpose: purpose.to_string(), bytes, reason };
        let whole = padded(bytes)
            .and_then(|n| usize::try_from(n).ok())
            .ok_or_else(|| fail("larger than the address space".into()))?;
        let len = bytes as usize;
        if whole >= MAPPED_FROM {
            let map = MmapMut::map_anon(whole).map_err(|e| fail(e.to_string()))?;
            #[cfg(target_os = "linux")]
            if whole >= HUGE_FROM {
                // Kernels without huge pages refuse the advice; small pages then do.
                let _ = map.advise(memmap2::Advice::HugePage);
            }
            return Ok(AlignedBuffer { storage: Storage::Mapped(map), len });
        }
        let layout = Layout::from_size_align(whole, ALIGNMENT).map_err(|e| fail(e.to_string()))?;
        // SAFETY: `whole` is at least `ALIGNMENT`, so the layout is not empty.
        let start =
            NonNull::new(unsafe { alloc_zeroed(layout) }).ok_or_else(|| fail("out of memory".into()))?;
        Ok(AlignedBuffer { storage: Storage::Heap { start, layout }, len })
    }

    /// A copy of some bytes.
    ///
    /// # Errors
    /// [`RuntimeError::Memory`] when there is not so much memory.
    pub fn copy_of(bytes: &[u8], purpose: &str) -> Result<AlignedBuffer, RuntimeError> {
        let mut buffer = AlignedBuffer::zeroed(bytes.len() as u64, purpose)?;
        buffer.copy_from_slice(bytes);
        Ok(buffer)
    }

    /// Makes room for so many bytes. What the buffer held is given back first and lost, unless it is large enough already.
    /// Returns whether the buffer moved.
    ///
    /// # Errors
    /// [`RuntimeError::Memory`] when there is not so much memory; the buffer is empty then.
    pub(crate) fn reserve(&mut self, bytes: u64, purpose: &str) -> Result<bool, RuntimeError> {
        if bytes <= self.len as u64 {
            return Ok(false);
        }
        *self = AlignedBuffer::empty();
        *self = AlignedBuffer::zeroed(bytes, purpose)?;
        Ok(true)
    }

    /// Makes every byte zero.
    pub(crate) fn clear(&mut self) {
        #[cfg(target_os = "linux")]
        if let Storage::Mapped(map) = &mut self.storage
            && map.len() >= HUGE_FROM
        {
            // SAFETY: the mapping is anonymous and private, so its pages come back as zeros.
            if unsafe { map.unchecked_advise(memmap2::UncheckedAdvice::DontNeed) }.is_ok() {
                return;
            }
        }
        self.fill(0);
    }

    /// Address of the first byte.
    pub(crate) fn address(&self) -> u64 {
        self.start() as u64
    }

    fn start(&self) -> *mut u8 {
        match &self.storage {
            Storage::Empty => ALIGNMENT as *mut u8,
            Storage::Heap { start, .. } => start.as_ptr(),
            Storage::Mapped(map) => map.as_ptr().cast_mut(),
        }
    }
}

impl std::ops::Deref for AlignedBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `start` is valid for `len` bytes, all initialised; when empty it is aligned and `len` is 0.
        unsafe { std::slice::from_raw_parts(self.start(), self.len) }
    }
}

impl std::ops::DerefMut for AlignedBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        let start = match &mut self.storage {
            Storage::Empty => ALIGNMENT as *mut u8,
            Storage::Heap { start, .. } => start.as_ptr(),
            Storage::Mapped(map) => map.as_mut_ptr(),
        };
        // SAFETY: as above, and the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(start, self.len) }
    }
}

impl Drop for AlignedBuffer {
    fn drop(&mut self) {
        if let Storage::Heap { start, layout } = self.storage {
            // SAFETY: allocated with this layout in `zeroed`, freed once.
            unsafe { dealloc(start.as_ptr(), layout) }
        }
    }
}

impl std::fmt::Debug for AlignedBuffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AlignedBuffer({} bytes)", self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aligned_zero_and_writable_at_every_size() {
        for bytes in [0, 1, 63, 64, 65, 4096, 300 << 10, 5 << 20] {
            let mut buffer = AlignedBuffer::zeroed(bytes, "a test").unwrap();
            assert_eq!(buffer.address() % ALIGNMENT as u64, 0);
            assert_eq!(buffer.len() as u64, bytes);
            assert!(buffer.iter().all(|&b| b == 0));
            buffer.fill(0xff);
            assert!(buffer.iter().all(|&b| b == 0xff));
            buffer.clear();
            assert!(buffer.iter().all(|&b| b == 0));
        }
    }

    #[test]
    fn impossible_sizes_are_errors() {
        for bytes in [u64::MAX, u64::MAX - 63, isize::MAX as u64, 1 << 60] {
            let error = AlignedBuffer::zeroed(bytes, "the arena").unwrap_err();
            assert!(error.to_string().contains("for the arena"), "{error}");
        }
    }
}
