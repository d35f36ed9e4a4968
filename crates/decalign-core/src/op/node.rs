//! A recorded operation: its inputs, its outputs, and the gradients that wait.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use candle_core::Tensor;

use super::origin::Origin;
use super::{Backward, InputGradients};
use crate::{Result, profile};

type BackwardFn = dyn Fn(&Backward) -> Result<InputGradients> + Send + Sync;

pub(super) struct Node {
    name: &'static str,
    phase: Option<&'static str>,
    backward: Box<BackwardFn>,
    inputs: Vec<Tensor>,
    needed: Vec<bool>,
    /// The operations that gave the inputs.
    origins: Vec<Option<Arc<Origin>>>,
    outputs: OnceLock<Vec<Tensor>>,
    output_gradients: Mutex<Vec<Option<Tensor>>>,
    input_gradients: Mutex<InputGradients>,
}

impl Node {
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
            origins: inputs.iter().map(|x| Origin::of(x)).collect(),
            outputs: OnceLock::new(),
            output_gradients: Mutex::new(vec![None; outputs]),
            input_gradients: Mutex::new(Vec::new()),
        }
    }

    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    /// Where input `i` came out of.
    pub(super) fn origin(&self, i: usize) -> Option<&Origin> {
        self.origins[i].as_deref()
    }

    pub(super) fn set_outputs(&self, outputs: Vec<Tensor>) {
        let _ = self.outputs.set(outputs);
    }

    /// Adds to the gradient of output `i`.
    pub(super) fn receive(&self, i: usize, gradient: Tensor) -> candle_core::Result<()> {
        let mut slots = lock(&self.output_gradients);
        let sum = match &slots[i] {
            Some(before) => before.add(&gradient)?,
            None => gradient,
        };
        slots[i] = Some(sum.detach());
        Ok(())
    }

    /// Computes the gradients of all inputs from those gathered of the outputs.
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
            last: &[],
        };
        let mut inputs = profile::backward(self.phase, || (self.backward)(&view))?;
        if inputs.len() != self.inputs.len() {
            candle_core::bail!("{}: one gradient an input is due", self.name);
        }
        for ((gradient, origin), input) in inputs.iter_mut().zip(&self.origins).zip(&self.inputs) {
            let Some(origin) = origin else { continue };
            let Some(gradient) = gradient.take() else {
                continue;
            };
            if gradient.shape() != input.shape() {
                let (got, want) = (gradient.shape(), input.shape());
                candle_core::bail!(
                    "{}: a gradient is {got:?} where the input is {want:?}",
                    self.name
                );
            }
            origin.receive(gradient)?;
        }
        *lock(&self.input_gradients) = inputs;
        Ok(())
    }

    /// The gradient of an input that goes through Candle.
    pub(super) fn take(&self, input: Option<usize>) -> Option<Tensor> {
        lock(&self.input_gradients).get_mut(input?)?.take()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
