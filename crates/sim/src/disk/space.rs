//! How much a virtual disk holds. Contents take their length; names take nothing.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use super::VirtualDisk;

/// Bytes there are, and bytes that are taken.
#[derive(Debug)]
pub(super) struct Space {
    capacity: AtomicU64,
    used: AtomicU64,
}

impl Default for Space {
    fn default() -> Self {
        Self { capacity: AtomicU64::new(1 << 40), used: AtomicU64::new(0) }
    }
}

impl Space {
    pub(super) fn capacity(&self) -> u64 {
        self.capacity.load(Ordering::Relaxed)
    }

    pub(super) fn free(&self) -> u64 {
        self.capacity().saturating_sub(self.used.load(Ordering::Relaxed))
    }
}

/// What one file takes, until the last that holds it lets go.
#[derive(Debug)]
pub(super) struct Used {
    space: Arc<Space>,
    bytes: u64,
}

impl Used {
    pub(super) fn new(space: &Arc<Space>, bytes: u64) -> Self {
        space.used.fetch_add(bytes, Ordering::Relaxed);
        Self { space: Arc::clone(space), bytes }
    }

    /// The file has this length now.
    pub(super) fn set(&mut self, bytes: u64) {
        self.space.used.fetch_add(bytes, Ordering::Relaxed);
        self.space.used.fetch_sub(self.bytes, Ordering::Relaxed);
        self.bytes = bytes;
    }

    /// As [`Used::set`] for what the engine writes, which may find the disk full.
    pub(super) fn check(&self, bytes: u64) -> io::Result<()> {
        if bytes.saturating_sub(self.bytes) > self.space.free() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }
}

impl Drop for Used {
    fn drop(&mut self) {
        self.space.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl VirtualDisk {
    /// Sets how many bytes the disk holds in all, and returns how many of them are free then. What a user
    /// writes is not held back.
    pub fn set_capacity(&self, bytes: u64) -> u64 {
        self.meter.space.capacity.store(bytes, Ordering::Relaxed);
        self.meter.space.free()
    }

    /// Bytes that all contents take together.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.meter.space.used.load(Ordering::Relaxed)
    }
}
