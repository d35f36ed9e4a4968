//! The graph of a computation, whichever keeps it.

use candle_core::{Device, Tensor};

use super::gradients::Gradients;
use super::tape::Tape;
use crate::Result;

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
