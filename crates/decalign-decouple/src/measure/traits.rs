//! The interface of measures.

use candle_core::Tensor;
use decalign_core::{Error, Result};

use crate::table::{Table, analytic, same_kind};

/// A number between two parts of the same samples, to be minimised.
///
/// [`PairwiseLoss`](crate::PairwiseLoss) makes an objective of it. The measures of this crate compute value and
/// gradients in one loop on the CPU, in f64 whatever the dtype ([`CosineSquared`](crate::CosineSquared) in the dtype
/// itself); tests compare them with [`Measure::reference`].
pub trait Measure: std::fmt::Debug + Send + Sync {
    /// A name for reports.
    fn name(&self) -> &'static str;

    /// The measure of `a` and `b`.
    ///
    /// # Shapes
    /// `a` (n, d), `b` (m, e); the measure says whether n = m and d = e must hold. The result is a scalar.
    ///
    /// # Errors
    /// When shapes or dtypes differ, there are too few rows, or an entry is not finite.
    fn between(&self, a: &Tensor, b: &Tensor) -> Result<Tensor>;

    /// The measure in plain tensor operations, for tests and for devices; by default [`Measure::between`].
    ///
    /// # Errors
    /// When the shapes do not fit.
    fn reference(&self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        self.between(a, b)
    }
}

/// A measure whose value and gradients one loop computes on the CPU, in f64. It implements [`Measure`].
pub(crate) trait Fused: std::fmt::Debug + Send + Sync {
    const NAME: &'static str;

    /// Shapes that the parts must have.
    fn requirements(&self) -> Requirements;

    /// The value and the gradients of both parts.
    fn evaluate(&self, a: Table, b: Table) -> (f64, [Vec<f64>; 2]);

    /// The measure in plain tensor operations, of parts that were checked.
    fn tensor_operations(&self, a: &Tensor, b: &Tensor) -> Result<Tensor>;
}

impl<M: Fused> Measure for M {
    fn name(&self) -> &'static str {
        M::NAME
    }

    fn between(&self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        self.requirements().check(a, b)?;
        let inputs = [(NAMES[0], a), (NAMES[1], b)];
        let reference = || self.tensor_operations(a, b);
        analytic(M::NAME, &inputs, reference, |mut tables| {
            let b = tables.swap_remove(1);
            let (value, gradients) = self.evaluate(tables.swap_remove(0), b);
            (value, gradients.into())
        })
    }

    fn reference(&self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        self.requirements().check(a, b)?;
        self.tensor_operations(a, b)
    }
}

const NAMES: [&str; 2] = ["the first part", "the second part"];

/// Shapes of two parts, (n, d) and (m, e).
#[derive(Clone, Copy)]
pub(crate) struct Requirements {
    min_rows: usize,
    paired: bool,
    same_width: bool,
}

impl Requirements {
    /// At least `min_rows` rows in either part.
    pub(crate) fn rows(min_rows: usize) -> Self {
        Self {
            min_rows,
            paired: false,
            same_width: false,
        }
    }

    /// Row i of both is one sample: n = m.
    pub(crate) fn paired(self) -> Self {
        Self {
            paired: true,
            ..self
        }
    }

    /// Both have the same columns: d = e.
    pub(crate) fn same_width(self) -> Self {
        Self {
            same_width: true,
            ..self
        }
    }

    /// Checks shapes, dtypes and devices of two parts.
    pub(crate) fn check(self, a: &Tensor, b: &Tensor) -> Result<()> {
        for (name, x) in NAMES.into_iter().zip([a, b]) {
            if x.rank() != 2 || x.dims()[1] == 0 {
                return Err(Error::tensor(name, "shape (n, d) with d >= 1", x.shape()));
            }
            if x.dims()[0] < self.min_rows {
                let got = format!("{} rows", x.dims()[0]);
                let remedy = format!(
                    "at least {} are needed: take larger batches, or leave this one out",
                    self.min_rows
                );
                return Err(Error::value(name, got, remedy));
            }
        }
        let (rows, columns) = (a.dims()[0], a.dims()[1]);
        if self.paired && b.dims()[0] != rows {
            let expected = format!("{rows} rows, as the first part has");
            return Err(Error::tensor(NAMES[1], expected, b.shape()));
        }
        if self.same_width && b.dims()[1] != columns {
            let expected = format!("{columns} columns, as the first part has");
            return Err(Error::tensor(NAMES[1], expected, b.shape()));
        }
        same_kind(NAMES[1], b, a)
    }

    /// Both parts as tables, once they fit.
    pub(crate) fn read(self, a: &Tensor, b: &Tensor) -> Result<(Table, Table)> {
        self.check(a, b)?;
        Ok((Table::read(NAMES[0], a)?, Table::read(NAMES[1], b)?))
    }
}
