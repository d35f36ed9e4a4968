//! What a backward pass puts off until its end: gradients of variables, of which several are one launch.

use std::any::Any;
use std::cell::RefCell;

use crate::Result;

/// Work that waits for the end of a backward pass.
pub(crate) trait Pending: Any + Default {
    /// Does all of it.
    fn settle(&mut self) -> Result<()>;
}

/// [`Pending`] of any kind.
trait Waiting: Any {
    fn settle(&mut self) -> Result<()>;
}

impl<P: Pending> Waiting for P {
    fn settle(&mut self) -> Result<()> {
        Pending::settle(self)
    }
}

thread_local! {
    /// Of the backward pass of this thread, outside of which nothing waits.
    static OPEN: RefCell<Option<Vec<Box<dyn Waiting>>>> = const { RefCell::new(None) };
}

/// Runs a backward pass, and then what it put off.
pub(super) fn scope<T>(f: impl FnOnce() -> Result<T>) -> Result<T> {
    /// Opens again what was open, on a panic too.
    struct Before(Option<Vec<Box<dyn Waiting>>>);
    impl Drop for Before {
        fn drop(&mut self) {
            OPEN.set(self.0.take());
        }
    }
    let _before = Before(OPEN.replace(Some(Vec::new())));
    let found = f()?;
    for mut waiting in OPEN.take().into_iter().flatten() {
        waiting.settle()?;
    }
    Ok(found)
}

/// Puts off what `f` adds to the work of its kind; `None` where nothing may wait. `f` starts no operation.
pub(crate) fn wait<P: Pending, R>(f: impl FnOnce(&mut P) -> R) -> Option<R> {
    OPEN.with_borrow_mut(|open| {
        let all = open.as_mut()?;
        let own = |w: &dyn Waiting| (w as &dyn Any).is::<P>();
        let place = all
            .iter()
            .position(|w| own(w.as_ref()))
            .unwrap_or(all.len());
        if place == all.len() {
            all.push(Box::new(P::default()));
        }
        let found = all[place].as_mut() as &mut dyn Any;
        found.downcast_mut().map(f)
    })
}

/// What waits for others of its kind.
pub(crate) struct Queue<K, T> {
    batches: Vec<(K, Vec<T>)>,
}

impl<K, T> Default for Queue<K, T> {
    fn default() -> Self {
        Self {
            batches: Vec::new(),
        }
    }
}

impl<K: PartialEq, T> Queue<K, T> {
    /// A batch that is full, `full` of them, with this one.
    pub(crate) fn push(&mut self, kind: K, one: T, full: usize) -> Option<(K, Vec<T>)> {
        let found = self.batches.iter().position(|(k, _)| *k == kind);
        let place = found.unwrap_or_else(|| {
            self.batches.push((kind, Vec::with_capacity(full)));
            self.batches.len() - 1
        });
        self.batches[place].1.push(one);
        (self.batches[place].1.len() == full).then(|| self.batches.swap_remove(place))
    }

    /// All that are not full.
    pub(crate) fn take(&mut self) -> Vec<(K, Vec<T>)> {
        std::mem::take(&mut self.batches)
    }
}
