//! What a thread hands to those that work for it.

/// The emulator in force on this thread, to be taken along to others.
#[derive(Clone, Default)]
pub struct Scope {
    #[cfg(feature = "emulator")]
    emulator: Option<super::emulator::Emulator>,
}

impl Scope {
    /// That of this thread.
    pub fn current() -> Self {
        Self {
            #[cfg(feature = "emulator")]
            emulator: super::emulator::current(),
        }
    }

    /// Runs `f` in it.
    pub fn enter<T>(&self, f: impl FnOnce() -> T) -> T {
        #[cfg(feature = "emulator")]
        return super::emulator::within(self.emulator.clone(), f);
        #[cfg(not(feature = "emulator"))]
        f()
    }
}
