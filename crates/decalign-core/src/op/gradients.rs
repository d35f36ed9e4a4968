//! The gradients of variables.

use std::collections::HashMap;

use candle_core::backprop::GradStore;
use candle_core::{Tensor, TensorId};

use crate::Result;
use crate::device::arena::with_slabs;
use crate::device::{Backend, sum};

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

/// The gradients of variables, in the order in which they came up.
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
        let totals = match backend {
            Some(backend) => with_slabs(|| sum::sums(&backend, self.all))?,
            None => self.all.into_iter().map(add_up).collect::<Result<_>>()?,
        };
        let place = |(id, place): (TensorId, usize)| Some((id, totals[place].clone()?));
        Ok(Gradients {
            all: self.places.into_iter().filter_map(place).collect(),
        })
    }
}

/// The sum of what several uses say, in their order.
pub(super) fn add_up(all: Vec<Tensor>) -> Result<Option<Tensor>> {
    if let Some(first) = all.first().filter(|_| all.len() > 1)
        && let Some(backend) = Backend::of(first)?
    {
        return with_slabs(|| sum::sum(&backend, all));
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
