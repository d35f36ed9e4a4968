//! The tokens that tie inputs to outputs in Candle's graph.

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::backend::{BackendDevice, BackendStorage};
use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, CustomOp3, DType, Device, Layout, MetalStorage, Shape,
    Storage, Tensor,
};

use super::output::Output;
use super::producer::{Operation, Producer};
use crate::Result;

/// Ties up to three tensors, among them the token before, to a new token.
struct Token {
    operation: Arc<Operation>,
    /// Which input of the operation each argument is; `None` for tokens and padding.
    inputs: [Option<usize>; 3],
    /// True for the token nearest the outputs, which runs the backward pass.
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
        let (storage, shape) = output.into_parts().map_err(candle_core::Error::wrap)?;
        match at(storage) {
            Some(storage) => Ok((storage, shape)),
            None => candle_core::bail!("{name}: an output is on another device than the inputs"),
        }
    }
}

/// An output as a tensor behind the last token.
pub(super) fn emit(token: &Tensor, producer: Arc<Producer>, output: Output) -> Result<Tensor> {
    let output = Mutex::new(Some(output));
    Ok(token.apply_op1(Emit { producer, output })?)
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

/// The token that depends on every input that carries a gradient.
pub(super) fn chain(operation: &Arc<Operation>, inputs: &[&Tensor]) -> Result<Tensor> {
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
