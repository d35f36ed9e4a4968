//! Where the time of a computation goes, by named phases, forward and backward.
//!
//! A phase is a stretch of code ([`phase`]). Operations of [`crate::op`] remember the phase in which they
//! were recorded, so that their share of the backward pass counts for the same name. Outside of [`measure`]
//! nothing is measured, and a phase costs a comparison.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Time of one phase, added up over all threads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Phase {
    /// Inside of [`phase`].
    pub forward: Duration,
    /// In the backward passes of the operations recorded there.
    pub backward: Duration,
}

/// What was measured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    /// By name.
    pub phases: BTreeMap<&'static str, Phase>,
    /// Floating-point operations of matrix products, in phases or not.
    pub product_flops: u64,
}

static MEASURING: AtomicBool = AtomicBool::new(false);
static FLOPS: AtomicU64 = AtomicU64::new(0);
static PHASES: Mutex<BTreeMap<&'static str, Phase>> = Mutex::new(BTreeMap::new());
/// Held by whoever measures.
static ONE: Mutex<()> = Mutex::new(());

thread_local! {
    static CURRENT: Cell<Option<&'static str>> = const { Cell::new(None) };
}

/// Runs `f` as part of a phase. A phase inside of another counts for itself alone by name, and its time for
/// both.
pub fn phase<R>(name: &'static str, f: impl FnOnce() -> R) -> R {
    if !MEASURING.load(Ordering::Relaxed) {
        return f();
    }
    let before = CURRENT.replace(Some(name));
    let start = Instant::now();
    let result = f();
    add(name, |phase| phase.forward += start.elapsed());
    CURRENT.set(before);
    result
}

/// What `f` gives, and where its time went; one measurement at a time in a process.
///
/// Phases are added up over threads, and a thread that waits may do work of another phase: measure on one
/// thread.
///
/// ```
/// use decalign_core::profile;
/// let (sum, profile) = profile::measure(|| profile::phase("sum", || (0..100).sum::<u32>()));
/// assert_eq!(sum, 4950);
/// assert!(profile.phases.contains_key("sum"));
/// ```
pub fn measure<R>(f: impl FnOnce() -> R) -> (R, Profile) {
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    phases().clear();
    FLOPS.store(0, Ordering::Relaxed);
    MEASURING.store(true, Ordering::Relaxed);
    let result = f();
    MEASURING.store(false, Ordering::Relaxed);
    let profile = Profile {
        phases: std::mem::take(&mut *phases()),
        product_flops: FLOPS.load(Ordering::Relaxed),
    };
    (result, profile)
}

/// The phase that an operation recorded now belongs to.
pub(crate) fn current() -> Option<&'static str> {
    CURRENT.get()
}

/// Runs the backward pass of an operation of a phase.
pub(crate) fn backward<R>(name: Option<&'static str>, f: impl FnOnce() -> R) -> R {
    let Some(name) = name.filter(|_| MEASURING.load(Ordering::Relaxed)) else {
        return f();
    };
    let start = Instant::now();
    let result = f();
    add(name, |phase| phase.backward += start.elapsed());
    result
}

/// Counts the operations of a matrix product.
pub(crate) fn count(flops: usize) {
    if MEASURING.load(Ordering::Relaxed) {
        FLOPS.fetch_add(flops as u64, Ordering::Relaxed);
    }
}

fn add(name: &'static str, f: impl FnOnce(&mut Phase)) {
    f(phases().entry(name).or_default());
}

fn phases() -> std::sync::MutexGuard<'static, BTreeMap<&'static str, Phase>> {
    PHASES.lock().unwrap_or_else(PoisonError::into_inner)
}
