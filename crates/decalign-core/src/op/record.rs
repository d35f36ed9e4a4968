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

/// As [`record`], for an operation with one output.
///
/// # Errors
/// As [`record`].
pub fn record_one(
    name: &'static str,
    inputs: &[&Tensor],
    output: Output,
    backward: impl Fn(&Backward) -> Result<InputGradients> + Send + Sync + 'static,
) -> Result<Tensor> {
    Ok(record(name, inputs, vec![output], backward)?.swap_remove(0))
}

/// As [`record_one`], for an operation whose backward pass reads the gradient once and can add two terms of it on the way: [`Backward::rest`].
/// On a device that is a launch less.
///
/// # Errors
/// As [`record`].
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

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    use crate::op::producer;

    /// (a, b, c, d, e) -> (a + 2 b + 3 c + 4 d + 5 e, a b), elementwise.
    fn mix(x: &[&Tensor]) -> Result<Vec<Tensor>> {
        let rows: Vec<Vec<f64>> = x
            .iter()
            .map(|t| t.to_vec1())
            .collect::<candle_core::Result<_>>()?;
        let n = rows[0].len();
        let sum = (0..n)
            .map(|i| (0..x.len()).map(|j| (j + 1) as f64 * rows[j][i]).sum())
            .collect();
        let product = (0..n).map(|i| rows[0][i] * rows[1][i]).collect();
        let outputs = vec![Output::new::<f64>(sum, n), Output::new::<f64>(product, n)];
        record("mix", x, outputs, |b| {
            let (sum, product) = (b.gradient(0)?, b.gradient(1)?);
            let mut gradients = Vec::new();
            for (j, needed) in b.needed.iter().enumerate() {
                let mut g = (&sum * (j + 1) as f64)?;
                if j < 2 {
                    g = (g + (&product * &b.inputs[1 - j])?)?;
                }
                gradients.push(needed.then_some(g));
            }
            Ok(gradients)
        })
    }

    #[test]
    fn gradients_reach_every_input() -> Result<()> {
        let vars: Vec<Var> = (0..5)
            .map(|i| Var::new(&[1.0 + f64::from(i), 2.0], &Device::Cpu))
            .collect::<candle_core::Result<_>>()?;
        // The third input carries no gradient.
        let constant = vars[2].as_tensor().detach();
        let inputs = [vars[0].as_tensor(), &vars[1], &constant, &vars[3], &vars[4]];
        let y = mix(&inputs)?;
        for (loss, product) in [(&y[0] + &y[1])?, y[0].clone(), y[1].clone()]
            .iter()
            .zip([true, false, true])
        {
            // Twice: a graph may be run again.
            for _ in 0..2 {
                let gradients = loss.sum_all()?.backward()?;
                assert!(gradients.get(&constant).is_none());
                let sum = loss.id() != y[1].id();
                let want = f64::from(u8::from(sum)) + if product { 2.0 } else { 0.0 };
                let g = gradients.get(&vars[0]).unwrap().to_vec1::<f64>()?;
                assert_eq!(g[1], want);
                let g = gradients
                    .get(&vars[4])
                    .map(|g| g.to_vec1::<f64>())
                    .transpose()?;
                assert_eq!(g.unwrap()[0], if sum { 5.0 } else { 0.0 });
            }
        }
        Ok(())
    }

    #[test]
    fn a_used_input_feeds_on() -> Result<()> {
        // The same variable twice, and an output that is the input of the next operation.
        let x = Var::new(&[3.0f64], &Device::Cpu)?;
        let y = mix(&[&x, &x])?;
        let z = mix(&[&y[0], &y[1]])?;
        // z1 = (x + 2x) x^2 = 3 x^3.
        let gradients = z[1].sum_all()?.backward()?;
        assert_eq!(gradients.get(&x).unwrap().to_vec1::<f64>()?, [81.0]);
        Ok(())
    }

    #[test]
    fn gradients_of_all_uses_add_up() -> Result<()> {
        let x = Var::new(&[3.0f64, -1.0], &Device::Cpu)?;
        let y = mix(&[&x, &x])?;
        // By two recorded operations, and by Candle's own.
        let (a, b) = (mix(&[&y[0], &y[1]])?, mix(&[&y[1], &y[0]])?);
        let loss = ((&a[0] + &b[1])? + (&y[0] * 7.0)?)?.sum_all()?;
        for _ in 0..2 {
            // 3x + 2 x^2 + 3x x^2 + 21 x
            let got = loss.backward()?.get(&x).unwrap().to_vec1::<f64>()?;
            assert_eq!(got, [3.0f64, -1.0].map(|x| 24.0 + 4.0 * x + 9.0 * x * x));
        }
        Ok(())
    }

    #[test]
    fn dropped_tensors_leave_the_registry() -> Result<()> {
        let x = Var::new(&[3.0f64], &Device::Cpu)?;
        let y = mix(&[&x, &x])?;
        assert!(Producer::of(&y[1]).is_some() && Producer::of(&x).is_none());
        let (id, copy) = (y[1].id(), y[1].clone());
        drop(y);
        assert!(Producer::of(&copy).is_some());
        drop(copy);
        assert!(!producer::is_registered(id));
        Ok(())
    }
}
