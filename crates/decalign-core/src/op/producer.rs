//! The operation that produced a tensor: what PyTorch calls `grad_fn`.
//!
//! Candle does not expose the operation of a tensor, so outputs of recorded operations are looked up by their ids. An
//! entry goes away with the last clone of its tensor.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use candle_core::{Tensor, TensorId};

use super::backward::{Backward, BackwardFn, InputGradients};
use crate::profile;

/// A recorded operation: its inputs, its outputs, and the gradients that have arrived.
pub(super) struct Operation {
    name: &'static str,
    phase: Option<&'static str>,
    backward: Box<BackwardFn>,
    inputs: Vec<Tensor>,
    needed: Vec<bool>,
    /// The producers of the inputs.
    producers: Vec<Option<Arc<Producer>>>,
    outputs: OnceLock<Vec<Tensor>>,
    output_gradients: Mutex<Vec<Option<Tensor>>>,
    input_gradients: Mutex<InputGradients>,
}

impl Operation {
    pub(super) fn new(
        name: &'static str,
        inputs: &[&Tensor],
        outputs: usize,
        backward: Box<BackwardFn>,
    ) -> Self {
        Self {
            name,
            phase: profile::current(),
            backward,
            inputs: inputs.iter().map(|x| x.detach()).collect(),
            needed: inputs.iter().map(|x| x.track_op()).collect(),
            producers: inputs.iter().map(|x| Producer::of(x)).collect(),
            outputs: OnceLock::new(),
            output_gradients: Mutex::new(vec![None; outputs]),
            input_gradients: Mutex::new(Vec::new()),
        }
    }

    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    /// The producer of input `i`.
    pub(super) fn producer(&self, i: usize) -> Option<&Producer> {
        self.producers[i].as_deref()
    }

    pub(super) fn set_outputs(&self, outputs: Vec<Tensor>) {
        let _ = self.outputs.set(outputs);
    }

    /// Adds to the gradient of output `i`.
    fn receive(&self, i: usize, gradient: Tensor) -> candle_core::Result<()> {
        let mut slots = lock(&self.output_gradients);
        let sum = match &slots[i] {
            Some(before) => before.add(&gradient)?,
            None => gradient,
        };
        slots[i] = Some(sum.detach());
        Ok(())
    }

    /// Computes the gradients of all inputs from the gathered gradients of the outputs.
    pub(super) fn run(&self) -> candle_core::Result<()> {
        let gradients = {
            let mut slots = lock(&self.output_gradients);
            let empty = vec![None; slots.len()];
            std::mem::replace(&mut *slots, empty)
        };
        let view = Backward {
            inputs: &self.inputs,
            outputs: self.outputs.get().map_or(&[], Vec::as_slice),
            gradients: &gradients,
            needed: &self.needed,
            rest: None,
            leaves: &[],
        };
        let mut inputs = profile::backward(self.phase, || (self.backward)(&view))?;
        if inputs.len() != self.inputs.len() {
            let (got, want) = (inputs.len(), self.inputs.len());
            candle_core::bail!("{}: {got} gradients for {want} inputs", self.name);
        }
        let links = self.producers.iter().zip(&self.inputs);
        for (gradient, (producer, input)) in inputs.iter_mut().zip(links) {
            let Some(producer) = producer else { continue };
            let Some(gradient) = gradient.take() else {
                continue;
            };
            if gradient.shape() != input.shape() {
                let (got, want) = (gradient.shape(), input.shape());
                candle_core::bail!(
                    "{}: a gradient has shape {got:?}, its input {want:?}",
                    self.name
                );
            }
            producer.receive(gradient)?;
        }
        *lock(&self.input_gradients) = inputs;
        Ok(())
    }

    /// The gradient of an input that goes through Candle.
    pub(super) fn take(&self, input: Option<usize>) -> Option<Tensor> {
        lock(&self.input_gradients).get_mut(input?)?.take()
    }
}

/// An output of an operation.
pub(super) struct Producer {
    operation: Arc<Operation>,
    /// The operation's last token: a backward pass reaches it after every use of the output.
    token: Tensor,
    index: usize,
    tensor: OnceLock<TensorId>,
}

type Registry = HashMap<TensorId, Weak<Producer>>;

static REGISTRY: LazyLock<Mutex<Registry>> = LazyLock::new(Mutex::default);

impl Producer {
    pub(super) fn new(operation: Arc<Operation>, token: Tensor, index: usize) -> Arc<Self> {
        Arc::new(Self {
            operation,
            token,
            index,
            tensor: OnceLock::new(),
        })
    }

    /// Makes this the producer of a tensor, which owns it from now on.
    pub(super) fn register(self: Arc<Self>, tensor: &Tensor) {
        if self.tensor.set(tensor.id()).is_ok() {
            lock(&REGISTRY).insert(tensor.id(), Arc::downgrade(&self));
        }
    }

    /// The producer of a tensor; `None` unless a recorded operation gave it and it carries a gradient.
    pub(super) fn of(tensor: &Tensor) -> Option<Arc<Self>> {
        lock(&REGISTRY).get(&tensor.id())?.upgrade()
    }

    pub(super) fn name(&self) -> &'static str {
        self.operation.name()
    }

    pub(super) fn token(&self) -> &Tensor {
        &self.token
    }

    /// Adds to the gradient of the tensor.
    pub(super) fn receive(&self, gradient: Tensor) -> candle_core::Result<()> {
        self.operation.receive(self.index, gradient)
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        if let Some(id) = self.tensor.get() {
            lock(&REGISTRY).remove(id);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;
    use crate::Result;
    use crate::nn::softmax;

    #[test]
    fn dropped_tensors_leave_the_registry() -> Result<()> {
        let x = Var::new(&[3.0f64], &Device::Cpu)?;
        let y = softmax(&x)?;
        assert!(Producer::of(&y).is_some() && Producer::of(&x).is_none());
        let (id, copy) = (y.id(), y.clone());
        drop(y);
        assert!(Producer::of(&copy).is_some());
        drop(copy);
        assert!(!lock(&REGISTRY).contains_key(&id));
        Ok(())
    }
}
