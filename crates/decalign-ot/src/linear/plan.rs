//! The plan, computed as it is needed.

use candle_core::{Device, Tensor};
use decalign_core::gemm::{Matrix, Store, matmul};
use decalign_core::simd::{self, Isa, Kernel};
use decalign_core::{Error, Real, Result, parallel, with_real};

use super::sweep::exponentials;
use crate::geometry::{Costs, Geometry, padded, read};

/// A coupling `P = exp(F + G - C / eps)` of n points and m points, never stored: memory is O(n + m)
/// and that of its geometry. Nothing here carries gradients.
#[derive(Clone, Debug)]
pub struct Plan {
    geometry: Geometry,
    f: Vec<f64>,
    g: Vec<f64>,
    epsilon: f64,
    /// Whether cells are computed in f64.
    double: bool,
}

/// Rows of one piece of work.
const PIECE: usize = 64;
/// Rows whose cells are held at once.
const BLOCK: usize = 8;

impl Plan {
    pub(super) fn new<T: Real>(geometry: &Geometry, f: &[T], g: &[T], epsilon: f64) -> Self {
        let wide = |x: &[T]| x.iter().map(|v| v.as_f64()).collect();
        let double = size_of::<T>() == size_of::<f64>();
        Self {
            geometry: geometry.clone(),
            f: wide(f),
            g: wide(g),
            epsilon,
            double,
        }
    }

    /// `P v`.
    ///
    /// # Shapes
    /// `v` (m, k); the result is (n, k) of its type.
    ///
    /// # Errors
    /// When the shape or dtype is another.
    pub fn apply(&self, v: &Tensor) -> Result<Tensor> {
        let (n, m) = self.geometry.size();
        self.product(&self.geometry, (&self.f, &self.g), v, (n, m))
    }

    /// `P^T v`.
    ///
    /// # Shapes
    /// `v` (n, k); the result is (m, k) of its type.
    ///
    /// # Errors
    /// When the shape or dtype is another.
    pub fn apply_transposed(&self, v: &Tensor) -> Result<Tensor> {
        let (n, m) = self.geometry.size();
        self.product(&self.geometry.transpose()?, (&self.g, &self.f), v, (m, n))
    }

    /// The mean of the points that each source point is sent to: `P y / (P 1)`, zeros where a
    /// point has no mass.
    ///
    /// # Shapes
    /// `y` (m, d); the result is (n, d).
    ///
    /// # Errors
    /// When the shape or dtype is another.
    pub fn barycentric_projection(&self, y: &Tensor) -> Result<Tensor> {
        let mass = self.apply(&Tensor::ones((y.dim(0)?, 1), y.dtype(), y.device())?)?;
        let some = mass.gt(0.0)?.to_dtype(y.dtype())?;
        // Where there is no mass: 0 / 1.
        let divisor = (&mass + (1.0 - &some)?)?;
        Ok(self.apply(y)?.broadcast_div(&divisor)?)
    }

    /// The sums over columns, (n), and over rows, (m).
    ///
    /// # Errors
    /// When memory runs out.
    pub fn marginals(&self) -> Result<(Tensor, Tensor)> {
        let (n, m) = self.geometry.size();
        let ones = |k: usize| Tensor::ones((k, 1), self.geometry.dtype(), &Device::Cpu);
        let rows = self.apply(&ones(m)?)?.reshape(n)?;
        Ok((rows, self.apply_transposed(&ones(n)?)?.reshape(m)?))
    }

    /// The whole plan, (n, m).
    ///
    /// # Errors
    /// When memory runs out.
    pub fn to_tensor(&self) -> Result<Tensor> {
        let m = self.geometry.size().1;
        self.apply(&Tensor::eye(m, self.geometry.dtype(), &Device::Cpu)?)
    }

    fn product(
        &self,
        geometry: &Geometry,
        (f, g): (&[f64], &[f64]),
        v: &Tensor,
        (n, m): (usize, usize),
    ) -> Result<Tensor> {
        let k = match v.dims() {
            [rows, k] if *rows == m => *k,
            _ => return Err(Error::tensor("v", format!("shape ({m}, k)"), v.shape())),
        };
        let numbers = match self.double {
            true => self.numbers::<f64>(geometry, (f, g), v, k)?,
            false => self.numbers::<f32>(geometry, (f, g), v, k)?,
        };
        with_real!("v", v, T => {
            let numbers: Vec<T> = numbers.into_iter().map(T::of).collect();
            Ok(Tensor::from_vec(numbers, (n, k), v.device())?)
        })
    }

    fn numbers<T: Real>(
        &self,
        geometry: &Geometry,
        (f, g): (&[f64], &[f64]),
        v: &Tensor,
        k: usize,
    ) -> Result<Vec<f64>> {
        let narrow = |x: &[f64]| x.iter().map(|v| T::of(*v)).collect::<Vec<T>>();
        let costs = geometry.read::<T>()?;
        let (f, inverse) = (narrow(f), T::of(1.0 / self.epsilon));
        let cells = Cells::new(&costs, &f, &narrow(g), inverse);
        let mut v = read::<T>(v)?;
        v.resize(cells.g.len() * k, T::zero());
        let out = cells.apply(&v, k);
        Ok(out.into_iter().map(|v| v.as_f64()).collect())
    }
}

/// The numbers that a plan is computed from.
pub(super) struct Cells<'a, T> {
    costs: &'a Costs<T>,
    f: &'a [T],
    /// -inf behind the end, as costs are padded.
    g: Vec<T>,
    inverse: T,
}

impl<'a, T: Real> Cells<'a, T> {
    pub(super) fn new(costs: &'a Costs<T>, f: &'a [T], g: &[T], inverse: T) -> Self {
        let mut g = g.to_vec();
        g.resize(padded(g.len()), T::neg_infinity());
        Self {
            costs,
            f,
            g,
            inverse,
        }
    }

    /// `P v` of a matrix of `k` columns.
    pub(super) fn apply(&self, v: &[T], k: usize) -> Vec<T> {
        let (n, m) = (self.f.len(), self.g.len());
        let mut out = vec![T::zero(); n * k];
        parallel::for_each_chunk(&mut out, PIECE * k, n * m * (8 + 2 * k), |piece, out| {
            simd::dispatch(Product {
                cells: self,
                start: piece * PIECE,
                v,
                k,
                out,
            });
        });
        out
    }
}

struct Product<'a, 'b, T> {
    cells: &'a Cells<'b, T>,
    start: usize,
    v: &'a [T],
    k: usize,
    out: &'a mut [T],
}

impl<T: Real> Kernel for Product<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let Self {
            cells,
            start,
            v,
            k,
            out,
        } = self;
        let m = cells.g.len();
        let (mut buffer, mut plan) = (Vec::new(), vec![T::zero(); BLOCK * m]);
        for (block, out) in out.chunks_mut(BLOCK * k).enumerate() {
            let (first, rows) = (start + block * BLOCK, out.len() / k);
            let costs = cells.costs.rows(isa, first, rows, &mut buffer);
            for (i, e) in plan.chunks_exact_mut(m).take(rows).enumerate() {
                let costs = &costs[i * m..][..m];
                exponentials(isa, cells.f[first + i], &cells.g, costs, cells.inverse, e);
            }
            let plan = Matrix::new(&plan, rows, m);
            matmul(out, k, plan, Matrix::new(v, m, k), Store::Write);
        }
    }
}

/// `<P, C>`, the row sums and the column sums.
pub(super) struct Totals<T> {
    pub(super) cost: f64,
    pub(super) rows: Vec<T>,
    pub(super) columns: Vec<T>,
}

impl<T: Real> Cells<'_, T> {
    pub(super) fn totals(&self) -> Totals<T> {
        let (n, m) = (self.f.len(), self.g.len());
        let pieces = parallel::map(n.div_ceil(PIECE), 12 * n * m, |piece| {
            let start = piece * PIECE;
            let rows = PIECE.min(n - start);
            simd::dispatch(Sums {
                cells: self,
                start,
                rows,
            })
        });
        let mut all = Totals {
            cost: 0.0,
            rows: Vec::with_capacity(n),
            columns: vec![T::zero(); m],
        };
        for piece in pieces {
            all.cost += piece.cost;
            all.rows.extend(piece.rows);
            all.columns
                .iter_mut()
                .zip(piece.columns)
                .for_each(|(sum, v)| *sum += v);
        }
        all
    }
}

struct Sums<'a, 'b, T> {
    cells: &'a Cells<'b, T>,
    start: usize,
    rows: usize,
}

impl<T: Real> Kernel for Sums<'_, '_, T> {
    type Output = Totals<T>;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> Totals<T> {
        let Self { cells, start, rows } = self;
        let m = cells.g.len();
        let mut totals = Totals {
            cost: 0.0,
            rows: Vec::new(),
            columns: vec![T::zero(); m],
        };
        let (mut buffer, mut e) = (Vec::new(), vec![T::zero(); m]);
        for first in (start..start + rows).step_by(BLOCK) {
            let count = BLOCK.min(start + rows - first);
            let costs = cells.costs.rows(isa, first, count, &mut buffer);
            for (i, costs) in costs.chunks_exact(m).enumerate() {
                let f = cells.f[first + i];
                totals
                    .rows
                    .push(exponentials(isa, f, &cells.g, costs, cells.inverse, &mut e));
                totals.cost += simd::dot(&e, costs).as_f64();
                totals
                    .columns
                    .iter_mut()
                    .zip(&e)
                    .for_each(|(sum, v)| *sum += *v);
            }
        }
        totals
    }
}
