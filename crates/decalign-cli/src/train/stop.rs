//! Ctrl-C: the step is finished and the state saved; a second one stops at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::output::STOPPED;

/// Whether a run is to pause.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Set by Ctrl-C, and by a request to terminate.
    pub(crate) fn on_ctrl_c() -> Self {
        let stop = Self::default();
        let told = stop.clone();
        let handler = move || {
            if told.0.swap(true, Ordering::SeqCst) {
                std::process::exit(i32::from(STOPPED));
            }
            eprintln!("stopping after this step; again to stop at once");
        };
        // Without a handler Ctrl-C ends the process at once, and what was saved last is there.
        let _ = ctrlc::set_handler(handler);
        stop
    }

    /// Pauses every run that looks.
    pub(crate) fn now(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}
