//! The cells of a plan as numbers: products, totals and the whole matrix, computed a few rows at a time.

use decalign_core::gemm::{Matrix, Store, matmul};
use decalign_core::{Real, Result, parallel};

use super::marginal::Totals;
use super::problem::{Precision, SolvedBatch};
use crate::geometry::{Cells, Costs, Geometry, PIECE, ROWS, padded};

/// The plan `P_ij = 2^(F_i + G_j - C_ij / (eps ln 2))` of scaled potentials F and G.
pub(super) struct PlanCells<'a> {
    geometry: &'a Geometry,
    index: usize,
    scaled: (&'a [f64], &'a [f64]),
    epsilon: f64,
    precision: Precision,
}

impl<'a> PlanCells<'a> {
    pub(super) fn of(solved: &'a SolvedBatch, i: usize) -> Self {
        let (f, g, epsilon) = solved.scaled_potentials(i);
        let precision = solved.each[i].precision;
        Self {
            precision,
            ..Self::new(solved.problem.geometry(), i, (f, g), epsilon)
        }
    }

    /// The plan of any potentials, in double precision.
    pub(super) fn new(
        geometry: &'a Geometry,
        index: usize,
        scaled: (&'a [f64], &'a [f64]),
        epsilon: f64,
    ) -> Self {
        Self {
            geometry,
            index,
            scaled,
            epsilon,
            precision: Precision::Double,
        }
    }

    /// `P v` or `P^T v`, for a matrix v of k columns.
    pub(super) fn apply(&self, v: &[f64], k: usize, transposed: bool) -> Result<Vec<f64>> {
        match self.precision {
            Precision::Double => self.product::<f64>(v, k, transposed),
            Precision::Single => self.product::<f32>(v, k, transposed),
        }
    }

    fn product<T: Real>(&self, v: &[f64], k: usize, transposed: bool) -> Result<Vec<f64>> {
        let (f, g) = (narrow::<T>(self.scaled.0), narrow::<T>(self.scaled.1));
        let v = narrow::<T>(v);
        let inverse = T::of(std::f64::consts::LOG2_E / self.epsilon);
        let geometry;
        let (geometry, f, g) = match transposed {
            false => (self.geometry, f, g),
            true => {
                geometry = self.geometry.transpose()?;
                (&geometry, g, f)
            }
        };
        let costs = geometry.read::<T>(self.index)?;
        let out = match &costs {
            Costs::Grid(grid) => signed(&v, k, f.len(), |logs| {
                let g: Vec<T> = g.iter().zip(logs).map(|(g, l)| *g + *l).collect();
                let logs = grid.log_sums(&g, inverse, false);
                f.iter().zip(logs).map(|(f, l)| (*f + l).exp2()).collect()
            }),
            _ => apply(&costs, (&f, g), v, k, inverse),
        };
        Ok(out.into_iter().map(|v| v.as_f64()).collect())
    }

    /// `<P, C>`, the row sums and the column sums.
    pub(super) fn totals(&self) -> Result<Totals> {
        match self.precision {
            Precision::Double => self.sums::<f64>(),
            Precision::Single => self.sums::<f32>(),
        }
    }

    fn sums<T: Real>(&self) -> Result<Totals> {
        let costs = self.geometry.read::<T>(self.index)?;
        let (f, g) = (narrow::<T>(self.scaled.0), narrow::<T>(self.scaled.1));
        Ok(Totals::of(
            &costs,
            &f,
            &g,
            T::of(std::f64::consts::LOG2_E / self.epsilon),
        ))
    }

    /// The plan as a matrix, rows one after the other.
    pub(super) fn matrix(&self) -> Result<Vec<f64>> {
        match self.precision {
            Precision::Double => self.written::<f64>(),
            Precision::Single => self.written::<f32>(),
        }
    }

    fn written<T: Real>(&self) -> Result<Vec<f64>> {
        let geometry = self.geometry.get(if self.geometry.batch().is_some() {
            self.index
        } else {
            0
        })?;
        let costs = geometry.stored()?.read::<T>(0)?;
        let (f, mut g) = (narrow::<T>(self.scaled.0), narrow::<T>(self.scaled.1));
        let (m, inverse) = (g.len(), T::of(std::f64::consts::LOG2_E / self.epsilon));
        g.resize(padded(m), T::neg_infinity());
        let mut out = vec![0.0; f.len() * m];
        parallel::for_each_chunk(&mut out, PIECE * m, f.len() * m * 10, |piece, out| {
            let mut cells = Cells::default();
            for (block, out) in out.chunks_mut(ROWS * m).enumerate() {
                let first = piece * PIECE + block * ROWS;
                costs.exponentials(
                    (first, &f[first..][..out.len() / m]),
                    &g,
                    inverse,
                    &mut cells,
                );
                for (r, out) in out.chunks_exact_mut(m).enumerate() {
                    out.iter_mut()
                        .zip(cells.row(r))
                        .for_each(|(o, p)| *o = p.as_f64());
                }
            }
        });
        Ok(out)
    }
}

fn narrow<T: Real>(x: &[f64]) -> Vec<T> {
    x.iter().map(|v| T::of(*v)).collect()
}

/// A product with a plan that is known by log-sums only: these take positive factors, so that the positive and the negative entries
/// of v are summed apart. `part` returns `P exp2(logs)`.
fn signed<T: Real>(v: &[T], k: usize, n: usize, part: impl Fn(&[T]) -> Vec<T>) -> Vec<T> {
    let mut out = vec![T::zero(); n * k];
    for c in 0..k {
        for sign in [T::one(), -T::one()] {
            let column = v.iter().skip(c).step_by(k).map(|v| sign * *v);
            let logs: Vec<T> = column
                .map(|v| {
                    if v > T::zero() {
                        v.log2()
                    } else {
                        T::neg_infinity()
                    }
                })
                .collect();
            if logs.iter().any(|v| v.is_finite()) {
                let sums = part(&logs);
                out.iter_mut()
                    .skip(c)
                    .step_by(k)
                    .zip(sums)
                    .for_each(|(o, s)| *o += sign * s);
            }
        }
    }
    out
}

fn apply<T: Real>(
    costs: &Costs<T>,
    (f, mut g): (&[T], Vec<T>),
    mut v: Vec<T>,
    k: usize,
    inverse: T,
) -> Vec<T> {
    let m = padded(g.len());
    // The padding has no mass.
    g.resize(m, T::neg_infinity());
    v.resize(m * k, T::zero());
    let mut out = vec![T::zero(); f.len() * k];
    parallel::for_each_chunk(
        &mut out,
        PIECE * k,
        f.len() * m * (8 + 2 * k),
        |piece, out| {
            let mut cells = Cells::default();
            for (block, out) in out.chunks_mut(ROWS * k).enumerate() {
                let (first, rows) = (piece * PIECE + block * ROWS, out.len() / k);
                costs.exponentials((first, &f[first..][..rows]), &g, inverse, &mut cells);
                let plan = Matrix::new(&cells.values, rows, m);
                matmul(out, k, plan, Matrix::new(&v, m, k), Store::Write);
            }
        },
    );
    out
}
