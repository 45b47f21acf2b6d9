//! Runs a check of crate `checks` on what libFuzzer invents, and counts the memory it takes.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::{
        LazyLock,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use checks::Check;
pub use libfuzzer_sys::fuzz_target;

/// The system's allocator, with a count of what is held now and what was held at most.
struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

fn took(bytes: usize) {
    MOST.fetch_max(HELD.fetch_add(bytes, Relaxed) + bytes, Relaxed);
}

// SAFETY: everything is passed on as it is to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        took(layout.size());
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// `KIN_FUZZ_MEMORY=1` says each new greatest share of what a check may take.
static SAY: LazyLock<bool> = LazyLock::new(|| std::env::var_os("KIN_FUZZ_MEMORY").is_some());
static GREATEST: AtomicUsize = AtomicUsize::new(0);

/// Runs the check.
///
/// # Panics
/// If a property does not hold, or more memory is held at once than the check may take.
pub fn run(check: &Check, data: &[u8]) {
    let before = HELD.load(Relaxed);
    MOST.store(before, Relaxed);
    (check.run)(data);
    let taken = MOST.load(Relaxed) - before;
    if *SAY && GREATEST.fetch_max(taken, Relaxed) < taken {
        eprintln!("{}: {taken} bytes for {}", check.name, data.len());
    }
    let most = check.factor * data.len() + check.constant;
    assert!(taken <= most, "{} held {taken} bytes for {}, at most {most}", check.name, data.len());
}

/// The fuzz target of the check of that name.
#[macro_export]
macro_rules! target {
    ($name:literal) => {
        static CHECK: std::sync::LazyLock<checks::Check> =
            std::sync::LazyLock::new(|| checks::named($name));
        $crate::fuzz_target!(|data: &[u8]| $crate::run(&CHECK, data));
    };
}
