//! A graph that walks backward by itself.
//!
//! Candle's backward pass clears a tensor for every gradient and adds to it; on a device each of these is a launch,
//! and small layers are nothing but launches. On a tape recorded operations know one another without Candle.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::{Tensor, TensorId};

use super::backward::{Backward, BackwardFn, InputGradients};
use super::deferred;
use super::gradients::{Gradients, Variables, add_up, gradients};
use super::output::Output;
use crate::device::arena::with_slabs;
use crate::{Error, Result, profile};

/// Records the operations of a computation in their order, and takes a gradient back through them.
///
/// Results and gradients are those of Candle's own backward pass. Operations of Candle may stand between recorded ones:
/// each stretch of them goes through Candle's backward pass.
///
/// ```
/// use candle_core::{Device, Tensor, Var};
/// use decalign_core::{nn, op::Tape};
///
/// let weight = Var::new(&[[2f64, 0.0], [1.0, 3.0]], &Device::Cpu)?;
/// let x = Tensor::new(&[[1f64, 2.0]], &Device::Cpu)?;
/// let tape = Tape::new();
/// let y = tape.run(|| nn::linear(&x, &weight, None))?;
/// let loss = y.sqr()?.sum_all()?;
/// let gradients = tape.backward(&loss)?;
/// assert_eq!(gradients.get(&weight).unwrap().to_vec2::<f64>()?, [[4.0, 8.0], [14.0, 28.0]]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Default)]
pub struct Tape {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    entries: Vec<Arc<Entry>>,
    /// Which output of which entry a tensor is.
    places: HashMap<TensorId, (usize, usize)>,
}

/// An operation on a tape.
struct Entry {
    kind: Kind,
    inputs: Vec<Tensor>,
    needed: Vec<bool>,
    sources: Vec<Source>,
    outputs: Vec<Tensor>,
}

enum Kind {
    Recorded {
        name: &'static str,
        phase: Option<&'static str>,
        backward: Box<BackwardFn>,
        /// Whether it adds two terms of its output's gradient itself.
        adds: bool,
    },
    /// A tensor that Candle's operations computed from variables and outputs of entries before.
    Candle(Tensor),
}

/// Where an input comes from.
enum Source {
    /// Nowhere that wants a gradient.
    Constant,
    Variable(TensorId),
    Output(usize, usize),
}

impl Source {
    fn is_variable(&self) -> bool {
        matches!(self, Self::Variable(_))
    }
}

thread_local! {
    static CURRENT: RefCell<Recording> = const { RefCell::new(Recording::Candle) };
}

/// Where this thread records its operations.
#[derive(Clone, Default)]
pub(super) enum Recording {
    #[default]
    Candle,
    Tape(Tape),
    Nowhere,
}

pub(super) fn current() -> Recording {
    CURRENT.with_borrow(Clone::clone)
}

/// Runs `f` without gradients: recorded operations keep nothing for a backward pass, whatever their inputs carry.
///
/// ```
/// use candle_core::{Device, Tensor, Var};
/// use decalign_core::{nn, op};
///
/// let weight = Var::new(&[[2f32]], &Device::Cpu)?;
/// let x = Tensor::new(&[[3f32]], &Device::Cpu)?;
/// let y = op::without_gradients(|| nn::linear(&x, &weight, None))?;
/// assert!(!y.track_op());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn without_gradients<T>(f: impl FnOnce() -> T) -> T {
    within(Recording::Nowhere, f)
}

impl Tape {
    /// An empty tape.
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs `f` with its recorded operations on this tape.
    ///
    /// # Errors
    /// Those of `f`.
    pub fn run<T, E>(
        &self,
        f: impl FnOnce() -> std::result::Result<T, E>,
    ) -> std::result::Result<T, E> {
        within(Recording::Tape(self.clone()), f)
    }

    /// The gradients of a scalar computed on this tape, with respect to all variables that it was computed from.
    ///
    /// # Errors
    /// When the scalar carries no gradient, or an operation's backward pass fails.
    pub fn backward(&self, loss: &Tensor) -> Result<Gradients> {
        deferred::scope(|| self.walk(loss))?.sum()
    }

    /// What each use of every variable says.
    fn walk(&self, loss: &Tensor) -> Result<Variables> {
        let source = self.lock().source(loss);
        let Source::Output(last, index) = source else {
            let remedy = "must be computed on this tape";
            return Err(Error::value("loss", "no gradient", remedy));
        };
        let entries = self.lock().entries.clone();
        let mut variables = Variables::default();
        let waits = |entry: &Arc<Entry>| vec![Vec::new(); entry.outputs.len().max(1)];
        let mut waiting: Vec<Vec<Vec<Tensor>>> = entries.iter().map(waits).collect();
        waiting[last][index].push(loss.ones_like()?.detach());
        for i in (0..=last).rev() {
            let mut given = std::mem::take(&mut waiting[i]);
            if given.iter().all(Vec::is_empty) {
                continue;
            }
            let rest = entries[i].rest(&mut given);
            let given = given.into_iter().map(add_up).collect::<Result<Vec<_>>>()?;
            let mut give = |source: &Source, gradient: Tensor| match source {
                Source::Constant => {}
                Source::Variable(id) => variables.push(*id, gradient),
                Source::Output(entry, index) => waiting[*entry][*index].push(gradient),
            };
            match &entries[i].kind {
                Kind::Candle(tensor) => {
                    for (id, gradient) in through_candle(tensor, &given)? {
                        let place = self.lock().places.get(&id).copied();
                        let source = match place {
                            Some((entry, index)) => Source::Output(entry, index),
                            None => Source::Variable(id),
                        };
                        give(&source, gradient);
                    }
                }
                Kind::Recorded { .. } => {
                    let found = entries[i].run(&given, rest.as_ref())?;
                    for (gradient, source) in found.into_iter().zip(&entries[i].sources) {
                        if let Some(gradient) = gradient {
                            give(source, gradient.detach());
                        }
                    }
                }
            }
        }
        Ok(variables)
    }

    /// The stretches of Candle's operations between recorded ones: each goes through Candle's backward pass, in many
    /// small launches.
    pub fn islands(&self) -> usize {
        let inner = self.lock();
        let islands = inner.entries.iter();
        islands
            .filter(|entry| matches!(entry.kind, Kind::Candle(_)))
            .count()
    }

    pub(super) fn record(
        &self,
        name: &'static str,
        inputs: &[&Tensor],
        outputs: Vec<Output>,
        (backward, adds): (Box<BackwardFn>, bool),
    ) -> Result<Vec<Tensor>> {
        let mut inner = self.lock();
        let sources = inputs.iter().map(|x| inner.source(x)).collect();
        let place = inner.entries.len();
        let outputs = outputs.into_iter().map(Output::into_variable);
        let outputs = outputs.collect::<Result<Vec<_>>>()?;
        for (index, output) in outputs.iter().enumerate() {
            inner.places.insert(output.id(), (place, index));
        }
        let entry = Entry {
            kind: Kind::Recorded {
                name,
                phase: profile::current(),
                backward,
                adds,
            },
            inputs: inputs.iter().map(|x| x.detach()).collect(),
            needed: inputs.iter().map(|x| x.track_op()).collect(),
            sources,
            outputs: outputs.iter().map(Tensor::detach).collect(),
        };
        inner.entries.push(Arc::new(entry));
        Ok(outputs)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Where a tensor comes from; one of Candle's operations gets an entry of its own.
    fn source(&mut self, x: &Tensor) -> Source {
        if let Some((entry, index)) = self.places.get(&x.id()) {
            return Source::Output(*entry, *index);
        }
        match (x.track_op(), x.is_variable()) {
            (false, _) => Source::Constant,
            (true, true) => Source::Variable(x.id()),
            (true, false) => {
                let place = self.entries.len();
                self.places.insert(x.id(), (place, 0));
                self.entries.push(Arc::new(Entry {
                    kind: Kind::Candle(x.clone()),
                    inputs: Vec::new(),
                    needed: Vec::new(),
                    sources: Vec::new(),
                    outputs: Vec::new(),
                }));
                Source::Output(place, 0)
            }
        }
    }
}

impl Entry {
    /// The last of several terms, where the operation adds it itself.
    fn rest(&self, given: &mut [Vec<Tensor>]) -> Option<Tensor> {
        match (&self.kind, given) {
            (Kind::Recorded { adds: true, .. }, [terms]) if terms.len() > 1 => terms.pop(),
            _ => None,
        }
    }

    fn run(&self, given: &[Option<Tensor>], rest: Option<&Tensor>) -> Result<InputGradients> {
        let Kind::Recorded {
            name,
            phase,
            backward,
            ..
        } = &self.kind
        else {
            return Ok(Vec::new());
        };
        let leaves: Vec<bool> = self.sources.iter().map(Source::is_variable).collect();
        let view = Backward {
            inputs: &self.inputs,
            outputs: &self.outputs,
            gradients: given,
            needed: &self.needed,
            rest,
            leaves: &leaves,
        };
        let run = || profile::backward(*phase, || backward(&view));
        let found = within(Recording::Candle, || with_slabs(run))?;
        if found.len() != self.inputs.len() {
            let remedy = format!("must be {}, one an input", self.inputs.len());
            return Err(Error::value(
                format!("gradients of {name}"),
                found.len(),
                remedy,
            ));
        }
        for (gradient, input) in found.iter().zip(&self.inputs) {
            if let Some(gradient) = gradient.as_ref().filter(|g| g.dims() != input.dims()) {
                let expected = format!("shape {:?}", input.dims());
                return Err(Error::tensor(
                    format!("gradient of {name}"),
                    expected,
                    gradient.shape(),
                ));
            }
        }
        Ok(found)
    }
}

/// Gradients of the variables that one of Candle's tensors was computed from.
fn through_candle(x: &Tensor, given: &[Option<Tensor>]) -> Result<Vec<(TensorId, Tensor)>> {
    let Some(Some(gradient)) = given.first() else {
        return Ok(Vec::new());
    };
    let store = within(Recording::Candle, || -> candle_core::Result<_> {
        (x * gradient)?.sum_all()?.backward()
    })?;
    Ok(gradients(&store).collect())
}

fn within<T>(recording: Recording, f: impl FnOnce() -> T) -> T {
    /// Puts back what was before, on a panic too.
    struct Before(Recording);
    impl Drop for Before {
        fn drop(&mut self) {
            CURRENT.set(std::mem::take(&mut self.0));
        }
    }
    let _before = Before(CURRENT.replace(recording));
    f()
}
