//! Gradients of variables that a backward pass computes at its end, several in one launch.

use std::any::Any;
use std::cell::RefCell;

use crate::Result;

/// Gradients of one kind that are deferred to the end of a backward pass.
pub(crate) trait DeferredGradient: Any + Default {
    /// Computes all of them.
    fn finish(&mut self) -> Result<()>;
}

/// [`DeferredGradient`] without its type.
trait AnyDeferred: Any {
    fn finish(&mut self) -> Result<()>;
}

impl<D: DeferredGradient> AnyDeferred for D {
    fn finish(&mut self) -> Result<()> {
        DeferredGradient::finish(self)
    }
}

thread_local! {
    /// The deferred gradients of this thread's backward pass; `None` outside of one.
    static OPEN: RefCell<Option<Vec<Box<dyn AnyDeferred>>>> = const { RefCell::new(None) };
}

/// Runs a backward pass, then computes the gradients that it deferred.
pub(super) fn scope<T>(f: impl FnOnce() -> Result<T>) -> Result<T> {
    /// Restores the enclosing scope, on a panic too.
    struct Before(Option<Vec<Box<dyn AnyDeferred>>>);
    impl Drop for Before {
        fn drop(&mut self) {
            OPEN.set(self.0.take());
        }
    }
    let _before = Before(OPEN.replace(Some(Vec::new())));
    let found = f()?;
    for mut deferred in OPEN.take().into_iter().flatten() {
        deferred.finish()?;
    }
    Ok(found)
}

/// Lets `f` add to the deferred gradients of kind `D`; `None` where nothing may be deferred. `f` starts no operation.
pub(crate) fn defer<D: DeferredGradient, R>(f: impl FnOnce(&mut D) -> R) -> Option<R> {
    OPEN.with_borrow_mut(|open| {
        let all = open.as_mut()?;
        let own = |w: &dyn AnyDeferred| (w as &dyn Any).is::<D>();
        let place = all
            .iter()
            .position(|w| own(w.as_ref()))
            .unwrap_or(all.len());
        if place == all.len() {
            all.push(Box::new(D::default()));
        }
        let found = all[place].as_mut() as &mut dyn Any;
        found.downcast_mut().map(f)
    })
}

/// Items gathered into batches by key.
pub(crate) struct BatchQueue<K, T> {
    batches: Vec<(K, Vec<T>)>,
}

impl<K, T> Default for BatchQueue<K, T> {
    fn default() -> Self {
        Self {
            batches: Vec::new(),
        }
    }
}

impl<K: PartialEq, T> BatchQueue<K, T> {
    /// Adds an item; gives the batch back once it holds `full` of them.
    pub(crate) fn push(&mut self, key: K, item: T, full: usize) -> Option<(K, Vec<T>)> {
        let found = self.batches.iter().position(|(k, _)| *k == key);
        let place = found.unwrap_or_else(|| {
            self.batches.push((key, Vec::with_capacity(full)));
            self.batches.len() - 1
        });
        self.batches[place].1.push(item);
        (self.batches[place].1.len() == full).then(|| self.batches.swap_remove(place))
    }

    /// The batches that are not full.
    pub(crate) fn take(&mut self) -> Vec<(K, Vec<T>)> {
        std::mem::take(&mut self.batches)
    }
}
