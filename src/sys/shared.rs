//! Memory that a process shares with its children (mmap(2), `MAP_SHARED | MAP_ANONYMOUS`).

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno;

/// A row of numbers that this process and its children see alike.
#[derive(Debug)]
pub struct Words {
    memory: NonNull<AtomicU64>,
    count: usize,
}

impl Words {
    /// Maps `count` numbers, all zero. They stay mapped for the life of the process.
    pub fn new(count: usize) -> Result<Self, Errno> {
        let size = count.max(1) * size_of::<AtomicU64>();
        let (protection, flags) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping at an address of the kernel's choice touches nothing of ours.
        let memory = unsafe { libc::mmap(std::ptr::null_mut(), size, protection, flags, -1, 0) };
        if memory == libc::MAP_FAILED {
            return Err(Errno::last());
        }
        let memory = NonNull::new(memory.cast()).ok_or(Errno::ENOMEM)?;
        Ok(Words { memory, count })
    }

    fn word(&self, index: usize) -> Option<&AtomicU64> {
        // SAFETY: `count` aligned numbers are mapped there for the life of the process, and all
        // access to them is atomic.
        (index < self.count).then(|| unsafe { self.memory.add(index).as_ref() })
    }

    /// The number at `index`; 0 beyond the end.
    pub fn get(&self, index: usize) -> u64 {
        self.word(index).map_or(0, |word| word.load(Ordering::Acquire))
    }

    /// Sets the number at `index`; beyond the end nothing happens.
    pub fn set(&self, index: usize, value: u64) {
        if let Some(word) = self.word(index) {
            word.store(value, Ordering::Release);
        }
    }
}
