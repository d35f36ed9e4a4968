//! Tables of numbers: input checks, reading as f64, centring.

use candle_core::{Device, Tensor};
use decalign_core::analytic::{check_finite, record_scalar};
use decalign_core::gemm::Matrix;
use decalign_core::moments::{centre_columns, column_means};
use decalign_core::{Elements, Error, Real, Result, with_real};

/// Checks that `x` has the dtype and the device of `other`.
pub(crate) fn same_kind(name: &str, x: &Tensor, other: &Tensor) -> Result<()> {
    if x.dtype() != other.dtype() {
        return Err(Error::tensor(
            name,
            format!("dtype {:?}", other.dtype()),
            x.dtype(),
        ));
    }
    if !x.device().same_device(other.device()) {
        let expected = format!("device {:?}", other.device().location());
        return Err(Error::tensor(name, expected, x.device().location()));
    }
    Ok(())
}

/// [`check_finite`] of a tensor on any device; its rows are the first dimension.
pub(crate) fn finite_tensor(name: &str, x: &Tensor) -> Result<()> {
    let host = x.detach().to_device(&Device::Cpu)?;
    let width = (host.elem_count() / host.dims()[0].max(1)).max(1);
    with_real!(name, host, T => check_finite(name, &Elements::<T>::new(&host)?, width))
}

/// A matrix in f64, row after row.
#[derive(Clone)]
pub(crate) struct Table {
    pub(crate) data: Vec<f64>,
    pub(crate) width: usize,
}

impl Table {
    /// Reads an (n, d) tensor.
    pub(crate) fn read(name: &str, x: &Tensor) -> Result<Self> {
        let host = x.detach().to_device(&Device::Cpu)?;
        let width = host.dims()[1];
        with_real!(name, host, T => {
            let data = Elements::<T>::new(&host)?;
            check_finite(name, &data, width)?;
            let data = data.iter().map(|v| v.as_f64()).collect();
            Ok(Self { data, width })
        })
    }

    pub(crate) fn zeros(&self) -> Vec<f64> {
        vec![0.0; self.data.len()]
    }

    pub(crate) fn n(&self) -> usize {
        self.data.len() / self.width
    }

    pub(crate) fn rows(&self) -> std::slice::ChunksExact<'_, f64> {
        self.data.chunks_exact(self.width)
    }

    pub(crate) fn matrix(&self) -> Matrix<'_, f64> {
        Matrix::new(&self.data, self.n(), self.width)
    }

    /// The mean of every column, see [`column_means`].
    pub(crate) fn mean(&self) -> Vec<f64> {
        column_means(&self.data, self.width)
    }

    /// The rows without their mean; a constant column becomes exactly 0.
    pub(crate) fn centred(mut self) -> Self {
        centre_columns(&mut self.data, self.width);
        self
    }
}

/// Subtracts its column means from a gradient: the backward pass of centring.
pub(crate) fn without_mean(mut gradient: Vec<f64>, width: usize) -> Vec<f64> {
    centre_columns(&mut gradient, width);
    gradient
}

/// A scalar of (n, d) tensors with its gradients, both computed in f64.
///
/// `f` returns the value and one gradient an input; `reference` is the same in tensor operations, for devices
/// other than the CPU.
pub(crate) fn analytic(
    name: &'static str,
    inputs: &[(&str, &Tensor)],
    reference: impl FnOnce() -> Result<Tensor>,
    f: impl FnOnce(Vec<Table>) -> (f64, Vec<Vec<f64>>),
) -> Result<Tensor> {
    let tensors: Vec<&Tensor> = inputs.iter().map(|(_, x)| *x).collect();
    let read = inputs.iter().map(|(name, x)| Table::read(name, x));
    let tables = read.collect::<Result<Vec<_>>>()?;
    if !tensors[0].device().is_cpu() {
        return reference();
    }
    let (value, gradients) = f(tables);
    record_scalar(name, &tensors, value, gradients)
}
