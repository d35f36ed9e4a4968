//! Differentiable operations with any number of inputs and outputs.
//!
//! Candle's own custom operations take at most three inputs and give one output. [`record`] lifts
//! both limits: a chain of scalar *tokens* ties any number of inputs to any number of outputs, and
//! the gradient of the whole operation is computed once, when the first token is reached:
//!
//! ```text
//!  x0 x1 x2        x3 x4
//!    \ | /          | /
//!    token  --->  token  ---> y0, y1, ...
//! ```
//!
//! Only inputs that carry gradients enter the chain; without any, the outputs are plain tensors.
//!
//! Candle clears a tensor for every gradient and adds to it, even where it is the only one. From one recorded operation
//! to the next gradients therefore go directly, and what Candle walks over are tokens.
//!
//! [`parallel()`] runs whole parts of a graph at the same time, forward and backward; a [`Tape`] does without Candle's
//! backward pass, for devices, where every touch of a token is a launch.

mod branches;
pub(crate) mod deferred;
mod graph;
mod producer;
mod split;
mod tape;

pub use branches::{Branch, parallel};
pub use graph::{Gradients, Graph};
pub use split::split;
pub use tape::{Tape, without_gradients};

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::backend::{BackendDevice, BackendStorage};
use candle_core::op::BackpropOp;
use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, CustomOp3, DType, Device, Layout, MetalStorage, Shape,
    Storage, Tensor,
};

use crate::device::Memory;
use crate::{Real, Result};
use producer::{Operation, Producer};
use tape::Recording;

/// A result of an operation before it becomes a tensor.
pub struct Output {
    memory: Memory,
}

impl From<Memory> for Output {
    fn from(memory: Memory) -> Self {
        Self { memory }
    }
}

impl Output {
    /// `data` in row-major order.
    pub fn new<T: Real>(data: Vec<T>, shape: impl Into<Shape>) -> Self {
        let storage = Storage::Cpu(T::to_cpu_storage_owned(data));
        Memory::from_parts(storage, shape.into()).into()
    }

    fn into_tensor(self) -> Tensor {
        self.memory.into_tensor()
    }

    /// A tensor that Candle takes for a variable: what it computes from it carries gradients.
    fn into_variable(self) -> Result<Tensor> {
        let (storage, shape) = self.memory.into_parts()?;
        Ok(Tensor::from_storage(
            storage,
            shape,
            BackpropOp::none(),
            true,
        ))
    }
}

/// What a backward pass sees.
pub struct Backward<'a> {
    /// The inputs, as given to [`record`].
    pub inputs: &'a [Tensor],
    /// The outputs.
    pub outputs: &'a [Tensor],
    /// The gradient of each output; `None` where the loss does not depend on it.
    pub gradients: &'a [Option<Tensor>],
    /// Whether the gradient of each input is wanted.
    pub needed: &'a [bool],
    /// A term that is still to be added to the gradient of the output; for operations of [`record_adding`] only.
    pub rest: Option<&'a Tensor>,
    /// True for each input that is a variable: nothing else reads its gradient.
    pub(crate) leaves: &'a [bool],
}

impl Backward<'_> {
    /// True if nothing reads the gradient of input `i` before the end of the backward pass: its computation may be deferred until then.
    pub fn deferrable(&self, i: usize) -> bool {
        self.leaves.get(i).copied().unwrap_or(false)
    }

    /// The gradient of output `i`, zeros where the loss does not depend on it.
    pub fn gradient(&self, i: usize) -> Result<Tensor> {
        match &self.gradients[i] {
            Some(gradient) => Ok(gradient.clone()),
            None => Ok(self.outputs[i].zeros_like()?),
        }
    }
}

/// The gradients of the inputs, in order; those not needed may be `None`.
pub type InputGradients = Vec<Option<Tensor>>;

/// Ties up to three tensors, among them the token before, to a new token.
struct Token {
    operation: Arc<Operation>,
    /// Which input of the operation each argument is; `None` for tokens and padding.
    inputs: [Option<usize>; 3],
    /// Whether this is the token nearest the outputs, which runs the backward pass.
    last: bool,
}

impl CustomOp3 for Token {
    fn name(&self) -> &'static str {
        self.operation.name()
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        Ok((CpuStorage::F32(vec![0.0]), Shape::from(1)))
    }

    fn cuda_fwd(
        &self,
        token: &CudaStorage,
        _: &Layout,
        _: &CudaStorage,
        _: &Layout,
        _: &CudaStorage,
        _: &Layout,
    ) -> candle_core::Result<(CudaStorage, Shape)> {
        blank(token)
    }

    fn metal_fwd(
        &self,
        token: &MetalStorage,
        _: &Layout,
        _: &MetalStorage,
        _: &Layout,
        _: &MetalStorage,
        _: &Layout,
    ) -> candle_core::Result<(MetalStorage, Shape)> {
        blank(token)
    }

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        c: &Tensor,
        _: &Tensor,
        _: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        if self.last {
            self.operation.run()?;
        }
        let gradient = |i: usize, x: &Tensor| -> candle_core::Result<Option<Tensor>> {
            match self.inputs[i] {
                // Tokens must be reached too.
                None if x.track_op() => Ok(Some(x.zeros_like()?)),
                input => Ok(self.operation.take(input)),
            }
        };
        Ok((gradient(0, a)?, gradient(1, b)?, gradient(2, c)?))
    }
}

/// A token on the device of another.
fn blank<S>(token: &S) -> candle_core::Result<(S, Shape)>
where
    S: BackendStorage,
    S::Device: BackendDevice<Storage = S>,
{
    let shape = Shape::from(1);
    let storage = token.device().zeros_impl(&shape, DType::F32)?;
    Ok((storage, shape))
}

/// Turns the last token into an output.
struct Emit {
    producer: Arc<Producer>,
    output: Mutex<Option<Output>>,
}

impl Emit {
    /// The output, which lies where its inputs do.
    fn emit<S>(&self, at: impl FnOnce(Storage) -> Option<S>) -> candle_core::Result<(S, Shape)> {
        let output = self
            .output
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let name = self.producer.name();
        let Some(output) = output else {
            candle_core::bail!("{name}: an output is emitted once");
        };
        let (storage, shape) = output
            .memory
            .into_parts()
            .map_err(candle_core::Error::wrap)?;
        match at(storage) {
            Some(storage) => Ok((storage, shape)),
            None => candle_core::bail!("{name}: an output is on another device than the inputs"),
        }
    }
}

impl CustomOp1 for Emit {
    fn name(&self) -> &'static str {
        self.producer.name()
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        self.emit(|storage| match storage {
            Storage::Cpu(storage) => Some(storage),
            _ => None,
        })
    }

    fn cuda_fwd(&self, _: &CudaStorage, _: &Layout) -> candle_core::Result<(CudaStorage, Shape)> {
        self.emit(|storage| match storage {
            Storage::Cuda(storage) => Some(storage),
            _ => None,
        })
    }

    fn metal_fwd(
        &self,
        _: &MetalStorage,
        _: &Layout,
    ) -> candle_core::Result<(MetalStorage, Shape)> {
        self.emit(|storage| match storage {
            Storage::Metal(storage) => Some(storage),
            _ => None,
        })
    }

    fn bwd(
        &self,
        token: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> candle_core::Result<Option<Tensor>> {
        self.producer.receive(grad.clone())?;
        Ok(Some(token.zeros_like()?))
    }
}

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
        let tensor = token.apply_op1(Emit {
            producer: producer.clone(),
            output: Mutex::new(Some(output)),
        })?;
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

/// The token that depends on every input that carries a gradient.
fn chain(operation: &Arc<Operation>, inputs: &[&Tensor]) -> Result<Tensor> {
    let device = inputs.first().map_or(&Device::Cpu, |x| x.device());
    let blank = Tensor::zeros(1, DType::F32, device)?;
    let mut tracked = (0..inputs.len())
        .filter(|i| inputs[*i].track_op())
        .peekable();
    let mut token = blank.clone();
    loop {
        let (first, second) = (tracked.next(), tracked.next());
        let last = tracked.peek().is_none();
        // An input with a producer is represented by that operation's token: its gradient bypasses this chain.
        let argument = |i: Option<usize>| match i {
            Some(i) => operation.producer(i).map_or(inputs[i], Producer::token),
            None => &blank,
        };
        let passes = |i: Option<usize>| i.filter(|i| operation.producer(*i).is_none());
        token = token.apply_op3(
            argument(first),
            argument(second),
            Token {
                operation: operation.clone(),
                inputs: [None, passes(first), passes(second)],
                last,
            },
        )?;
        if last {
            return Ok(token);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Var;

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
