//! What a thread hands to those that work for it.

use std::cell::Cell;

thread_local! {
    static CURRENT: Cell<Scope> = const { Cell::new(Scope { emulator_seed: None }) };
}

/// The emulator in force on this thread, to be taken along to others.
#[derive(Clone, Copy, Default)]
pub struct Scope {
    /// The seed of the order of lanes; `None` outside of `emulator::emulated`.
    emulator_seed: Option<u64>,
}

impl Scope {
    /// That of this thread.
    pub fn current() -> Self {
        CURRENT.get()
    }

    /// Runs `f` in it.
    pub fn enter<T>(&self, f: impl FnOnce() -> T) -> T {
        /// Puts back what was before, on a panic too.
        struct Before(Scope);
        impl Drop for Before {
            fn drop(&mut self) {
                CURRENT.set(self.0);
            }
        }
        let _before = Before(CURRENT.replace(*self));
        f()
    }

    // Used by the emulator, where this program is built with it.
    #[allow(dead_code)]
    pub(super) fn emulated(seed: u64) -> Self {
        Self {
            emulator_seed: Some(seed),
        }
    }

    #[allow(dead_code)]
    pub(super) fn emulator_seed(self) -> Option<u64> {
        self.emulator_seed
    }
}
