//! The graph of a computation, whichever keeps it, and the gradients it gives.

use std::collections::HashMap;

use candle_core::backprop::GradStore;
use candle_core::{Device, Tensor, TensorId};

use super::Tape;
use super::tape::scratch;
use crate::Result;
use crate::device::Backend;

/// The graph of a computation: Candle's own on the CPU, a [`Tape`] on a device.
///
/// ```
/// use candle_core::{Device, Var};
/// use decalign_core::op::Graph;
///
/// let x = Var::new(3f64, &Device::Cpu)?;
/// let graph = Graph::on(x.device());
/// let loss = graph.run(|| x.sqr())?;
/// assert_eq!(graph.backward(&loss)?.get(&x).unwrap().to_scalar::<f64>()?, 6.0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Graph {
    tape: Option<Tape>,
}

impl Graph {
    /// A new one, for tensors of a device.
    pub fn on(device: &Device) -> Self {
        Self {
            tape: (!device.is_cpu()).then(Tape::new),
        }
    }

    /// Runs `f`, whose operations belong to this graph.
    ///
    /// # Errors
    /// Those of `f`.
    pub fn run<T, E>(
        &self,
        f: impl FnOnce() -> std::result::Result<T, E>,
    ) -> std::result::Result<T, E> {
        match &self.tape {
            Some(tape) => tape.run(f),
            None => f(),
        }
    }

    /// The gradients of a scalar of this graph, with respect to all variables that it was computed from.
    ///
    /// # Errors
    /// When an operation's backward pass fails.
    pub fn backward(&self, loss: &Tensor) -> Result<Gradients> {
        match &self.tape {
            Some(tape) => tape.backward(loss),
            None => Ok(loss.backward()?.into()),
        }
    }
}

/// Gradients of variables.
#[derive(Debug, Default)]
pub struct Gradients {
    all: HashMap<TensorId, Tensor>,
}

impl Gradients {
    /// The gradient of a variable; `None` when the loss does not depend on it.
    pub fn get(&self, variable: &Tensor) -> Option<&Tensor> {
        self.all.get(&variable.id())
    }
}

impl From<GradStore> for Gradients {
    fn from(store: GradStore) -> Self {
        Self {
            all: gradients(&store).collect(),
        }
    }
}

/// All gradients of a store, by the numbers of their tensors.
pub(super) fn gradients(store: &GradStore) -> impl Iterator<Item = (TensorId, Tensor)> {
    let get = |id: &TensorId| store.get_id(*id).map(|g| (*id, g.detach()));
    store.get_ids().filter_map(get)
}

/// What was said of variables, in the order in which they came up.
#[derive(Default)]
pub(super) struct Variables {
    places: HashMap<TensorId, usize>,
    all: Vec<Vec<Tensor>>,
}

impl Variables {
    pub(super) fn push(&mut self, id: TensorId, gradient: Tensor) {
        let place = *self.places.entry(id).or_insert(self.all.len());
        match self.all.get_mut(place) {
            Some(all) => all.push(gradient),
            None => self.all.push(vec![gradient]),
        }
    }

    pub(super) fn sum(self) -> Result<Gradients> {
        let first = self.all.iter().flatten().next();
        let backend = first.map(Backend::of).transpose()?.flatten();
        let sums = match backend {
            Some(backend) => scratch(|| crate::device::sum::sums(&backend, self.all))?,
            None => self.all.into_iter().map(sum).collect::<Result<_>>()?,
        };
        let place = |(id, place): (TensorId, usize)| Some((id, sums[place].clone()?));
        Ok(Gradients {
            all: self.places.into_iter().filter_map(place).collect(),
        })
    }
}

/// The sum of what several uses say, in their order.
pub(super) fn sum(all: Vec<Tensor>) -> Result<Option<Tensor>> {
    if let Some(first) = all.first().filter(|_| all.len() > 1)
        && let Some(backend) = Backend::of(first)?
    {
        return scratch(|| crate::device::sum::sum(&backend, all));
    }
    let mut rest = all.into_iter();
    let Some(mut total) = rest.next() else {
        return Ok(None);
    };
    for gradient in rest {
        total = (total + gradient)?;
    }
    Ok(Some(total))
}
