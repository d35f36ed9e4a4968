//! Ctrl-C: the current step is finished and the state saved; a second one ends the program at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::output::STOPPED;

/// Tells runs to pause.
#[derive(Clone, Debug, Default)]
pub(crate) struct StopSignal(Arc<AtomicBool>);

impl StopSignal {
    /// Set by Ctrl-C and by a request to terminate.
    pub(crate) fn on_ctrl_c() -> Self {
        let signal = Self::default();
        let handled = signal.clone();
        let handler = move || {
            if handled.0.swap(true, Ordering::SeqCst) {
                std::process::exit(i32::from(STOPPED));
            }
            eprintln!("stopping after this step; again to stop at once");
        };
        // Without a handler Ctrl-C ends the process at once; the last saved state remains.
        let _ = ctrlc::set_handler(handler);
        signal
    }

    /// Makes every run pause.
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}
