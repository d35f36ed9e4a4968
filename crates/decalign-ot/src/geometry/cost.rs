//! A geometry: costs between two sets of points, stored or computed on request.

use candle_core::{DType, Device, Tensor};
use decalign_core::simd::Aligned;
use decalign_core::{Elements, Error, Real, Result, with_real};

use super::costs::{Costs, Weights};
use super::grid::Grid;
use super::metric::{Metric, PointMetric, Points, padded, with_metric};
use crate::tensor_convert::{matrices, ranged, read, select};

/// The costs `C[i, j]` between n points and m points, of one problem or of a batch of B.
///
/// | constructor | costs | memory |
/// |---|---|---|
/// | [`Geometry::dense`] | given | O(n m) |
/// | [`Geometry::squared_euclidean`] | `sum_k (x_ik - y_jk)^2` | O((n + m) d) |
/// | [`Geometry::euclidean`] | its root | O((n + m) d) |
/// | [`Geometry::lp`] | `(sum_k abs(x_ik - y_jk)^p)^(1/p)` | O((n + m) d) |
/// | [`Geometry::cosine`] | `1 - x_i . y_j / (norm(x_i) norm(y_j))` | O((n + m) d) |
/// | [`Geometry::diagonal_gaussians`] | squared 2-Wasserstein distances | O((n + m) d) |
/// | [`Geometry::grid`] | `sum_k C_k[i_k, j_k]`: separable | O(sum of axes) |
///
/// Every kind carries gradients to the tensors it was made of.
#[derive(Clone, Debug)]
pub struct Geometry {
    kind: Kind,
    size: (usize, usize),
    batch: Option<usize>,
    /// A bound on `max C - min C`.
    spread: f64,
}

#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Dense(Tensor),
    Points(Tensor, Tensor, Metric),
    Grid(Vec<Tensor>),
}

impl Geometry {
    /// Costs as a matrix.
    ///
    /// # Shapes
    /// `cost` (n, m) or (B, n, m) in f32 or f64, finite; it may be negative.
    ///
    /// # Errors
    /// When the shape or dtype is another or an entry is NaN or infinite; the message has its
    /// place.
    pub fn dense(cost: &Tensor) -> Result<Self> {
        let ((batch, n, m), (low, high)) = ranged("cost", cost)?;
        Ok(Self {
            kind: Kind::Dense(cost.clone()),
            size: (n, m),
            batch,
            spread: high - low,
        })
    }

    /// Separable costs between the points of two grids, `C[i, j] = sum_k C_k[i_k, j_k]`; a sweep
    /// costs n times the sum of the axes' sizes instead of n m.
    ///
    /// Points are in row-major order: the last axis varies fastest.
    ///
    /// # Shapes
    /// `axes`: one (n_k, m_k) for every axis, all f32 or all f64, finite; n and m are the products.
    ///
    /// # Errors
    /// When there is no axis, a shape or dtype does not fit or an entry is NaN or infinite.
    ///
    /// Source: Solomon and others (2015), convolutional Wasserstein distances.
    pub fn grid(axes: &[Tensor]) -> Result<Self> {
        let Some(first) = axes.first() else {
            return Err(Error::value("number of axes", 0, "a grid has at least one"));
        };
        let mut size = (1, 1);
        for (k, axis) in axes.iter().enumerate() {
            let name = format!("axis {k}");
            let (batch, n, m) = matrices(&name, axis)?;
            if batch.is_some() || axis.dtype() != first.dtype() {
                let expected = format!("two dimensions of {:?}", first.dtype());
                return Err(Error::tensor(name, expected, (axis.shape(), axis.dtype())));
            }
            size = match (usize::checked_mul(size.0, n), usize::checked_mul(size.1, m)) {
                (Some(n), Some(m)) => (n, m),
                _ => {
                    let remedy = "the grid has more points than can be counted";
                    return Err(Error::value(
                        format!("axis {k}"),
                        format!("{n} x {m}"),
                        remedy,
                    ));
                }
            };
        }
        Ok(Self {
            kind: Kind::Grid(axes.to_vec()),
            size,
            batch: None,
            spread: f64::INFINITY,
        })
    }

    /// Costs of points by a metric.
    pub(super) fn points(x: &Tensor, y: &Tensor, metric: Metric) -> Result<Self> {
        let ((batch, n, d), of_x) = ranged("x", x)?;
        let ((batch2, m, width), of_y) = ranged("y", y)?;
        if !x.device().same_device(y.device()) {
            return Err(Error::tensor(
                "y",
                format!("on {:?}, as x", x.device().location()),
                y.device().location(),
            ));
        }
        if d != width || x.dtype() != y.dtype() || batch != batch2 {
            let mut shape = x.dims().to_vec();
            let rank = shape.len();
            shape[rank - 2] = m;
            let expected = format!("shape {shape:?} of {:?}, as x", x.dtype());
            return Err(Error::tensor("y", expected, (y.shape(), y.dtype())));
        }
        let side = of_x.1.max(of_y.1) - of_x.0.min(of_y.0);
        Ok(Self {
            kind: Kind::Points(x.clone(), y.clone(), metric),
            size: (n, m),
            batch,
            spread: with_metric!(metric, metric => metric.extent(side, d as f64)),
        })
    }

    /// n and m.
    pub fn size(&self) -> (usize, usize) {
        self.size
    }

    /// How many problems there are, `None` without a batch dimension.
    pub fn batch(&self) -> Option<usize> {
        self.batch
    }

    /// Problem `i` of a batch, with gradients; without a batch there is one.
    ///
    /// # Errors
    /// When there are not as many.
    pub fn get(&self, i: usize) -> Result<Self> {
        let Some(batch) = self.batch else {
            return match i {
                0 => Ok(self.clone()),
                _ => Err(Error::value("problem", i, "there is one, problem 0")),
            };
        };
        if i >= batch {
            return Err(Error::value(
                "problem",
                i,
                format!("must be below the batch, {batch}"),
            ));
        }
        let kind = match &self.kind {
            Kind::Dense(cost) => Kind::Dense(cost.get(i)?),
            Kind::Points(x, y, metric) => Kind::Points(x.get(i)?, y.get(i)?, *metric),
            Kind::Grid(axes) => Kind::Grid(axes.clone()),
        };
        Ok(Self {
            kind,
            size: self.size,
            batch: None,
            spread: self.spread,
        })
    }

    /// A bound on `max C - min C`; infinite where none is known.
    pub(crate) fn spread(&self) -> f64 {
        self.spread
    }

    pub(crate) fn kind(&self) -> &Kind {
        &self.kind
    }

    /// Rows and columns exchanged; without gradients.
    pub(crate) fn transpose(&self) -> Result<Self> {
        let kind = match &self.kind {
            Kind::Dense(cost) => Kind::Dense(cost.detach().t()?),
            Kind::Points(x, y, metric) => Kind::Points(y.detach(), x.detach(), *metric),
            Kind::Grid(axes) => {
                let turned = axes.iter().map(|axis| axis.detach().t());
                Kind::Grid(turned.collect::<candle_core::Result<_>>()?)
            }
        };
        Ok(Self {
            kind,
            size: (self.size.1, self.size.0),
            batch: self.batch,
            spread: self.spread,
        })
    }

    /// The costs of the first points among themselves and of the second; `None` where they are not
    /// known from the points.
    pub(crate) fn own(&self) -> Option<(Self, Self)> {
        let Kind::Points(x, y, metric) = &self.kind else {
            return None;
        };
        let of = |x: &Tensor, n: usize| Self {
            kind: Kind::Points(x.clone(), x.clone(), *metric),
            size: (n, n),
            batch: self.batch,
            spread: self.spread,
        };
        Some((of(x, self.size.0), of(y, self.size.1)))
    }

    pub(crate) fn dtype(&self) -> DType {
        self.inputs()[0].dtype()
    }

    /// The tensors that costs are computed from.
    pub(crate) fn inputs(&self) -> Vec<&Tensor> {
        match &self.kind {
            Kind::Dense(cost) => vec![cost],
            Kind::Points(x, y, _) => vec![x, y],
            Kind::Grid(axes) => axes.iter().collect(),
        }
    }

    /// The numbers of problem `i`, in type `T` whatever the tensors hold.
    pub(crate) fn read<T: Real>(&self, i: usize) -> Result<Costs<T>> {
        Ok(match &self.kind {
            Kind::Dense(cost) => dense(&select(cost, 2, i)?, self.size.1)?,
            Kind::Points(x, y, metric) => {
                let (x, y) = (select(x, 2, i)?, select(y, 2, i)?);
                Costs::Points(Points::new(read(&x)?, read(&y)?, x.dims()[1], *metric))
            }
            Kind::Grid(axes) => Costs::Grid(Grid::read(axes)?),
        })
    }

    /// The gradients of `sum_ij W_ij C_ij` of problem `i` with respect to the tensors of [`Geometry::inputs`], where they are
    /// `needed`, each in the shape of the tensor without its batch.
    pub(crate) fn backward<T: Real>(
        &self,
        i: usize,
        weights: &Weights<T>,
        needed: &[bool],
    ) -> Result<Vec<Option<Vec<f64>>>> {
        let m = self.size.1;
        let rows = |geometry: &Self, weights: Weights<T>| -> Result<Vec<f64>> {
            Ok(geometry.read::<T>(i)?.backward(&weights.pad(), m))
        };
        Ok(match &self.kind {
            Kind::Grid(axes) => {
                let grid = Grid::read(axes)?;
                let (parts, scale) = weights.parts();
                let axis = |k: usize| needed[k].then(|| grid.backward(parts, scale, k));
                (0..needed.len()).map(axis).collect()
            }
            Kind::Dense(_) => {
                vec![needed[0].then(|| rows(self, weights.clone())).transpose()?]
            }
            Kind::Points(..) => {
                let x = needed[0].then(|| rows(self, weights.clone()));
                let y = needed[1].then(|| rows(&self.transpose()?, weights.transpose()));
                vec![x.transpose()?, y.transpose()?]
            }
        })
    }
}

/// A stored matrix of rows of `m` costs, padded.
fn dense<T: Real>(cost: &Tensor, m: usize) -> Result<Costs<T>> {
    let x = cost.to_device(&Device::Cpu)?;
    let columns = padded(m);
    let mut cost = Aligned::zeros(x.elem_count() / m * columns);
    with_real!("cost", x, S => {
        let rows = cost.chunks_exact_mut(columns);
        for (to, from) in rows.zip(Elements::<S>::new(&x)?.chunks_exact(m)) {
            to.iter_mut().zip(from).for_each(|(to, v)| *to = T::of(v.as_f64()));
        }
        Ok(Costs::Dense { cost, columns })
    })
}
