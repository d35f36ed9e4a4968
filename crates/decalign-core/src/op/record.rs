//! Operations with a gradient.

use std::sync::Arc;

use candle_core::Tensor;

use super::backward::{Backward, InputGradients};
use super::output::Output;
use super::producer::{Operation, Producer};
use super::tape::{self, Recording};
use super::token::{chain, emit};
use crate::Result;

/// Turns `outputs`, computed from `inputs`, into tensors whose gradients `backward` computes.
///
/// `backward` gets the inputs, the outputs and the gradients of the outputs; what else it needs it
/// captures. It must return one entry an input. It runs once a backward pass, and its results carry
/// no gradients of their own: second derivatives are not available. After a backward pass that failed the graph must be
/// computed anew.
///
/// # Errors
/// When an output is neither f32 nor f64.
///
/// ```
/// use candle_core::{Device, Tensor, Var};
/// use decalign_core::{Elements, op};
///
/// // x -> x^2, on slices.
/// fn square(x: &Tensor) -> decalign_core::Result<Tensor> {
///     let squared = Elements::<f64>::new(x)?.iter().map(|v| v * v).collect();
///     let output = op::Output::new(squared, x.dims());
///     let mut y = op::record("square", &[x], vec![output], |b| {
///         Ok(vec![Some((b.gradient(0)? * (&b.inputs[0] * 2.0)?)?)])
///     })?;
///     Ok(y.remove(0))
/// }
///
/// let x = Var::new(&[1.0, 3.0], &Device::Cpu)?;
/// let gradients = square(&x)?.sum_all()?.backward()?;
/// assert_eq!(gradients.get(&x).unwrap().to_vec1::<f64>()?, [2.0, 6.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn record(
    name: &'static str,
    inputs: &[&Tensor],
    outputs: Vec<Output>,
    backward: impl Fn(&Backward) -> Result<InputGradients> + Send + Sync + 'static,
) -> Result<Vec<Tensor>> {
    if !inputs.iter().any(|x| x.track_op()) {
        return Ok(outputs.into_iter().map(Output::into_tensor).collect());
    }
    match tape::current() {
        Recording::Tape(tape) => {
            return tape.record(name, inputs, outputs, (Box::new(backward), false));
        }
        Recording::Nowhere => return Ok(outputs.into_iter().map(Output::into_tensor).collect()),
        Recording::Candle => {}
    }
    let operation = Arc::new(Operation::new(
        name,
        inputs,
        outputs.len(),
        Box::new(backward),
    ));
    let token = chain(&operation, inputs)?;
    let mut emitted = Vec::with_capacity(outputs.len());
    for (index, output) in outputs.into_iter().enumerate() {
        let producer = Producer::new(operation.clone(), token.clone(), index);
        let tensor = emit(&token, producer.clone(), output)?;
        producer.register(&tensor);
        emitted.push(tensor);
    }
    // Detached, so that the operation does not own the tensors that own it.
    operation.set_outputs(emitted.iter().map(Tensor::detach).collect());
    Ok(emitted)
}

/// Records an operation with one output.
///
/// # Errors
/// Those of [`record`].
pub fn record_one(
    name: &'static str,
    inputs: &[&Tensor],
    output: Output,
    backward: impl Fn(&Backward) -> Result<InputGradients> + Send + Sync + 'static,
) -> Result<Tensor> {
    Ok(record(name, inputs, vec![output], backward)?.swap_remove(0))
}

/// Records an operation with one output whose backward pass reads the gradient once and can add two terms of it on the way: [`Backward::rest`].
/// On a device that is a launch less.
///
/// # Errors
/// Those of [`record`].
pub fn record_adding(
    name: &'static str,
    inputs: &[&Tensor],
    output: Output,
    backward: impl Fn(&Backward) -> Result<InputGradients> + Send + Sync + 'static,
) -> Result<Tensor> {
    match tape::current() {
        Recording::Tape(tape) if inputs.iter().any(|x| x.track_op()) => {
            let backward = (Box::new(backward) as Box<_>, true);
            Ok(tape
                .record(name, inputs, vec![output], backward)?
                .swap_remove(0))
        }
        _ => record_one(name, inputs, output, backward),
    }
}
