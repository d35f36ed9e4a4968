//! Rows of numbers: checked at the door, read as f64, centred.

use candle_core::{Device, Tensor};
use decalign_core::gemm::Matrix;
use decalign_core::op::{Output, record_one};
use decalign_core::{Elements, Error, Real, Result, with_real};

/// What a measure asks of its two parts.
#[derive(Clone, Copy)]
pub(crate) struct Demand {
    /// The fewest rows of either part.
    pub(crate) least: usize,
    /// Whether row i of both is one sample, so that there are as many of both.
    pub(crate) paired: bool,
    /// Whether both have the same columns.
    pub(crate) same_width: bool,
}

const NAMES: [&str; 2] = ["the first part", "the second part"];

/// Checks shapes, dtypes and devices of two parts.
pub(crate) fn check(parts: [&Tensor; 2], demand: Demand) -> Result<()> {
    for (name, x) in NAMES.into_iter().zip(parts) {
        if x.rank() != 2 || x.dims()[1] == 0 {
            return Err(Error::tensor(name, "shape (n, d) with d >= 1", x.shape()));
        }
        if x.dims()[0] < demand.least {
            let got = format!("{} rows", x.dims()[0]);
            let remedy = format!(
                "at least {} are needed: take larger batches, or leave this one out",
                demand.least
            );
            return Err(Error::value(name, got, remedy));
        }
    }
    let [a, b] = parts;
    let (rows, columns) = (a.dims()[0], a.dims()[1]);
    if demand.paired && b.dims()[0] != rows {
        let expected = format!("{rows} rows, as the first part has");
        return Err(Error::tensor(NAMES[1], expected, b.shape()));
    }
    if demand.same_width && b.dims()[1] != columns {
        let expected = format!("{columns} columns, as the first part has");
        return Err(Error::tensor(NAMES[1], expected, b.shape()));
    }
    same_kind(NAMES[1], b, a)
}

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

/// An error that counts and locates what is not finite, in rows of `width`.
pub(crate) fn finite<T: Real>(name: &str, x: &[T], width: usize) -> Result<()> {
    let Some(first) = x.iter().position(|v| !v.is_finite()) else {
        return Ok(());
    };
    let count = x.iter().filter(|v| !v.is_finite()).count();
    let (row, column) = (first / width, first % width);
    let name = format!("{name} at row {row}, column {column}");
    let remedy = format!("must be finite ({count} entries are not)");
    Err(Error::value(name, x[first], remedy))
}

/// [`finite`] of a tensor on any device, its rows the first dimension.
pub(crate) fn finite_tensor(name: &str, x: &Tensor) -> Result<()> {
    let host = x.detach().to_device(&Device::Cpu)?;
    let width = (host.elem_count() / host.dims()[0].max(1)).max(1);
    with_real!(name, host, T => finite(name, &Elements::<T>::new(&host)?, width))
}

/// An error where a result is not finite though its input is.
pub(crate) fn in_range<T: Real>(name: &str, value: T) -> Result<()> {
    if value.is_finite() {
        return Ok(());
    }
    let remedy = "must be finite: sums overflow; scale the features down";
    Err(Error::value(name, value, remedy))
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
            finite(name, &data, width)?;
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

    /// The mean of every column.
    ///
    /// The first row is taken off before and added after: of equal numbers the mean is exact.
    pub(crate) fn mean(&self) -> Vec<f64> {
        let n = self.n() as f64;
        let first = &self.data[..self.width];
        let mut sums = vec![0.0; self.width];
        for row in self.rows() {
            for ((s, v), f) in sums.iter_mut().zip(row).zip(first) {
                *s += v - f;
            }
        }
        sums.iter().zip(first).map(|(s, f)| f + s / n).collect()
    }

    /// The rows without their mean: a constant column becomes exactly 0.
    pub(crate) fn centred(mut self) -> Self {
        let mean = self.mean();
        for row in self.data.chunks_exact_mut(self.width) {
            row.iter_mut().zip(&mean).for_each(|(v, m)| *v -= m);
        }
        self
    }
}

/// Takes its column means off a gradient: what centring does on the way back.
pub(crate) fn without_mean(gradient: Vec<f64>, width: usize) -> Vec<f64> {
    let table = Table {
        data: gradient,
        width,
    };
    table.centred().data
}

/// A scalar of some (n, d) tensors with its gradients, both computed in f64.
///
/// `f` gets the tables and returns the value and one gradient an input; `plain` is the same in tensor
/// operations, for devices other than the CPU.
pub(crate) fn analytic(
    name: &'static str,
    inputs: &[(&str, &Tensor)],
    plain: impl FnOnce() -> Result<Tensor>,
    f: impl FnOnce(Vec<Table>) -> (f64, Vec<Vec<f64>>),
) -> Result<Tensor> {
    let tensors: Vec<&Tensor> = inputs.iter().map(|(_, x)| *x).collect();
    let read = inputs.iter().map(|(name, x)| Table::read(name, x));
    let tables = read.collect::<Result<Vec<_>>>()?;
    if !tensors[0].device().is_cpu() {
        return plain();
    }
    with_real!(name, tensors[0], T => {
        let (value, gradients) = f(tables);
        in_range(name, T::of(value))?;
        record_one(name, &tensors, Output::new(vec![T::of(value)], ()), move |b| {
            let outer = b.gradient(0)?;
            let outer = Elements::<T>::new(&outer)?[0].as_f64();
            let each = gradients.iter().zip(b.inputs).map(|(g, x)| {
                let g: Vec<T> = g.iter().map(|v| T::of(v * outer)).collect();
                Ok(Some(Tensor::from_vec(g, x.dims(), x.device())?))
            });
            each.collect()
        })
    })
}

/// [`analytic`] of two parts that meet a demand.
pub(crate) fn between(
    name: &'static str,
    (a, b): (&Tensor, &Tensor),
    demand: Demand,
    plain: impl FnOnce() -> Result<Tensor>,
    f: impl FnOnce(Table, Table) -> (f64, [Vec<f64>; 2]),
) -> Result<Tensor> {
    check([a, b], demand)?;
    let inputs = [(NAMES[0], a), (NAMES[1], b)];
    analytic(name, &inputs, plain, |mut tables| {
        let b = tables.swap_remove(1);
        let (value, gradients) = f(tables.swap_remove(0), b);
        (value, gradients.into())
    })
}
