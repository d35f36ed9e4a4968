//! The HSIC test of independence.

use std::ops::Range;

use candle_core::Tensor;
use decalign_core::pairs::{CHUNK, Panels, fill, rows_of_slabs};
use decalign_core::random::Stream;
use decalign_core::simd::{self, Isa, LANES};
use decalign_core::{Error, Real, Result, parallel, with_real};

use super::label_vectors::{LabelVectors, PaddedLayout};
use super::outcome::{self, Batch, Outcome, Resampling, Stopping};
use super::quadratic_forms::{CountedPairs, clear_padding, quadratic_forms};
use super::relabelling::choose;
use super::two_samples::on_cpu;
use crate::estimator::Estimator;
use crate::kernel::{Buffer, Kernel};
use crate::pairwise::{Inputs, KernelPlan, PooledSamples, Task, Tile, TileRange, mask};
use crate::sample::Sample;

/// Tests whether two variables, observed together n times, are independent: the Hilbert-Schmidt independence
/// criterion against its values under random permutations of the second.
///
/// ```text
/// HSIC = trace(K H L H) / n^2,   H = I - 1 1^T / n          (biased, never negative)
/// HSIC = sum_(i != j) A_ij L_ij / (n (n - 3)),   A = K U-centred         (unbiased)
/// ```
///
/// K and L are the kernel matrices of the two variables. With [`Kernel::energy`] for both it is the squared
/// distance covariance, see [`HsicTest::distance_covariance`]. A tile of A is computed once for many
/// permutations, and the tile of L for each of them: memory is O(n).
///
/// ```
/// use candle_core::{Device, Tensor};
/// use decalign_mmd::{Estimator, HsicTest, Kernel, Resampling};
/// let x = Tensor::arange(-10f64, 11.0, &Device::Cpu)?.reshape((21, 1))?;
/// let y = x.sqr()?;
/// let (k, l) = (Kernel::gaussian_length_scale(3.0)?, Kernel::gaussian_length_scale(10.0)?);
/// let test = HsicTest::new(k, l, Estimator::Biased, Resampling::seeded(1));
/// // Dependent, though not correlated.
/// assert!(test.test(&x, &y)?.rejected);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Source: Gretton and others, A kernel statistical test of independence, NeurIPS 2007; unbiased: Song and
/// others, JMLR 2012; distances: Szekely and Rizzo (2009), Sejdinovic and others (2013).
#[derive(Clone, Debug)]
pub struct HsicTest {
    kernels: (Kernel, Kernel),
    estimator: Estimator,
    resampling: Resampling,
    stopping: Stopping,
}

impl HsicTest {
    /// With a kernel for either variable; all draws are made.
    pub fn new(x: Kernel, y: Kernel, estimator: Estimator, resampling: Resampling) -> Self {
        Self {
            kernels: (x, y),
            estimator,
            resampling,
            stopping: Stopping::Never,
        }
    }

    /// The squared distance covariance of Szekely and Rizzo: 0 only for independent variables, without a
    /// bandwidth. Unbiased it is their bias-corrected one.
    pub fn distance_covariance(estimator: Estimator, resampling: Resampling) -> Self {
        Self::new(Kernel::energy(), Kernel::energy(), estimator, resampling)
    }

    /// Stops drawing early, see [`Stopping`].
    #[must_use]
    pub fn stopping(self, stopping: Stopping) -> Self {
        Self { stopping, ..self }
    }

    /// The criterion itself; it carries no gradients.
    ///
    /// # Shapes
    /// As [`HsicTest::test`].
    ///
    /// # Errors
    /// As [`HsicTest::test`].
    pub fn value(&self, x: &Tensor, y: &Tensor) -> Result<f64> {
        with_real!("x", x, T => Ok(Joint::<T>::new(self, (x, y))?.values(0, 0..1)?.values[0]))
    }

    /// Tests two variables.
    ///
    /// # Shapes
    /// `x` (n, d), `y` (n, e) in f32 or f64, row i of both observed together; n >= 2, or 4 for the
    /// unbiased estimator.
    ///
    /// # Errors
    /// When shapes or dtypes differ, an entry is not finite, sums overflow, or a setting is out of
    /// range.
    pub fn test(&self, x: &Tensor, y: &Tensor) -> Result<Outcome> {
        with_real!("x", x, T => {
            let joint = Joint::<T>::new(self, (x, y))?;
            outcome::run(&self.resampling, self.stopping, joint.limit(), |range| {
                joint.values(self.resampling.seed, range)
            })
        })
    }
}

/// The random stream of permutations.
const STREAM: u64 = 0x6873_6963;

/// The rounding error of a sum of products in units of rms times rms, see [`Joint::values`].
const ROUNDINGS: f64 = 128.0;

/// Both variables, and the shifts that centre the first.
struct Joint<T> {
    x: PooledSamples<T>,
    y: PooledSamples<T>,
    layout: PaddedLayout,
    n: usize,
    estimator: Estimator,
    /// A_ij is K_ij minus the shifts of i and of j; in the order of the layout.
    shifts: Vec<T>,
    /// The points of every field of y, row after row.
    rows: Vec<Vec<T>>,
    /// The root mean square of K times that of L.
    scale: f64,
}

impl<T: Real> Joint<T> {
    fn new(test: &HsicTest, (x, y): (&Tensor, &Tensor)) -> Result<Self> {
        let least = match test.estimator {
            Estimator::Biased => 2,
            Estimator::Unbiased => 4,
        };
        let pool = |name: &str, kernel: &Kernel, x: &Tensor| {
            if x.rank() != 2 || x.dtype() != T::DTYPE {
                let expected = format!("shape (n, d) of {:?}", T::DTYPE);
                return Err(Error::tensor(name, expected, (x.shape(), x.dtype())));
            }
            let plan = KernelPlan::new(std::slice::from_ref(kernel), true);
            let inputs = Inputs::new(&[Sample::from(&on_cpu(x)?)], &plan, (1, least))?;
            PooledSamples::<T>::new(&inputs, plan, true)
        };
        let (x_pool, y_pool) = (
            pool("x", &test.kernels.0, x)?,
            pool("y", &test.kernels.1, y)?,
        );
        let n = x.dims()[0];
        if y.dims()[0] != n {
            let remedy = format!("must be {n}, that of x: rows are observed together");
            return Err(Error::value("number of rows of y", y.dims()[0], remedy));
        }
        let layout = PaddedLayout::new(&x_pool);
        let biased = test.estimator == Estimator::Biased;
        let (k, sums) = row_sums(&x_pool, &layout, biased)?;
        let (l, _) = row_sums(&y_pool, &layout, biased)?;
        let total: f64 = sums.iter().sum();
        let n_real = n as f64;
        let (by, of_total) = match test.estimator {
            Estimator::Biased => (n_real, n_real * n_real),
            Estimator::Unbiased => (n_real - 2.0, (n_real - 1.0) * (n_real - 2.0)),
        };
        let shifts: Vec<T> = sums
            .iter()
            .map(|s| T::of(s / by - 0.5 * total / of_total))
            .collect();
        let rows = y_pool.fields.iter().map(|field| {
            let blocks = field.panels.iter();
            blocks
                .flat_map(|p| rows_of_slabs(p.slabs(), p.padded(), p.len(), p.width()))
                .collect()
        });
        Ok(Self {
            rows: rows.collect(),
            shifts: layout.spread(&shifts),
            scale: k * l,
            x: x_pool,
            y: y_pool,
            layout,
            n,
            estimator: test.estimator,
        })
    }

    /// The number of permutations of a pass: their points fill about 64 MB, and they are at least 16.
    fn limit(&self) -> usize {
        let each = 2 * self.layout.padded * (self.y.width + 1) * self.rows.len() * size_of::<T>();
        ((64 << 20) / each).max(16)
    }

    /// The criterion of permutations of y; number 0 is the identity.
    fn values(&self, seed: u64, range: Range<usize>) -> Result<Batch> {
        let work = self.n * self.rows.len() * self.y.width * range.len();
        let orders = parallel::map(range.len(), 8 * work, |i| self.order(seed, range.start + i));
        let tasks = self.x.tasks(&[(0, 0)]);
        let work = self.x.work(&tasks) + self.y.work(&tasks).saturating_mul(range.len());
        let parts = parallel::map(tasks.len(), work, |t| self.task(tasks[t], &orders));
        let mut sums = vec![0.0; range.len()];
        for part in parts {
            sums.iter_mut().zip(part?).for_each(|(sum, v)| *sum += v);
        }
        let n = self.n as f64;
        let value = |sum: f64| match self.estimator {
            Estimator::Biased => (2.0 * sum / (n * n)).max(0.0),
            Estimator::Unbiased => 2.0 * sum / (n * (n - 3.0)),
        };
        let values: Vec<f64> = sums.into_iter().map(value).collect();
        if let Some(bad) = values.iter().find(|v| !v.is_finite()) {
            let remedy = "must be finite: distances or powers overflow; scale the variables down";
            return Err(Error::value("a sum of kernel products", bad, remedy));
        }
        // Rounding errors of n^2 products are nearly independent: their sum grows as n.
        let tolerance = ROUNDINGS * T::epsilon().as_f64() * self.scale / n;
        Ok(Batch { values, tolerance })
    }

    /// The permuted points of y, for every field and block.
    fn order(&self, seed: u64, number: usize) -> Vec<Vec<Panels<T>>> {
        let width = self.y.width;
        let stream = Stream::new(seed, STREAM).child(number as u64);
        let order = match number {
            0 => (0..self.n).collect(),
            _ => choose(self.n, self.n, stream),
        };
        let permuted = |rows: &Vec<T>| {
            let moved = order.iter().flat_map(|i| &rows[i * width..][..width]);
            let moved: Vec<T> = moved.copied().collect();
            let blocks = self.y.blocks.iter();
            let of = |first: usize, len: usize| &moved[first * width..][..len * width];
            blocks
                .map(|b| Panels::new(of(b.first, b.len), width))
                .collect()
        };
        self.rows.iter().map(permuted).collect()
    }

    /// `sum_ij A_ij L_ij` of a pair of blocks, for every permutation.
    fn task(&self, task: Task, orders: &[Vec<Vec<Panels<T>>>]) -> Result<Vec<f64>> {
        let mut sums = vec![0.0; orders.len()];
        let mut other = Tile::new(&self.y);
        self.x.tiles(task, &mut Tile::new(&self.x), |tile, range| {
            tile.evaluate(&self.x, 0, range.size());
            self.centre(&mut tile.values, task, range);
            for (sum, order) in sums.iter_mut().zip(orders) {
                let fields = self.y.fields.iter().zip(order);
                for ((field, panels), out) in fields.zip(&mut other.features) {
                    let (x, y) = (&panels[task.rows], &panels[task.columns]);
                    fill(field.measure, (x, range.rows), (y, range.columns), out);
                }
                other.evaluate(&self.y, 0, range.size());
                *sum += simd::dispatch(Products {
                    a: &tile.values,
                    b: &other.values,
                    size: range.size(),
                });
            }
            Ok(())
        })?;
        Ok(sums)
    }

    fn centre(&self, values: &mut Buffer<T>, task: Task, range: TileRange) {
        let (row, column) = (
            self.layout.starts[task.rows] + range.rows.first,
            self.layout.starts[task.columns] + range.columns.first,
        );
        let rows = values.as_chunks_mut::<CHUNK>().0.iter_mut();
        for (row, shift) in rows.zip(&self.shifts[row..]).take(range.rows.len) {
            let others = &self.shifts[column..][..range.columns.len];
            for (v, other) in row.iter_mut().zip(others) {
                *v = *v - *shift - *other;
            }
        }
        if range.diagonal {
            let half = match self.estimator {
                Estimator::Biased => T::of(0.5),
                Estimator::Unbiased => T::zero(),
            };
            mask(values, range.rows.len, T::one(), half);
        }
        clear_padding(values, range.size());
    }
}

/// The root mean square of kernel values, and their row sums.
fn row_sums<T: Real>(
    pool: &PooledSamples<T>,
    layout: &PaddedLayout,
    diagonal: bool,
) -> Result<(f64, Vec<f64>)> {
    let ones = layout.spread(&vec![T::one(); layout.points()]);
    let none = LabelVectors::new(layout, 0, |_| Vec::new());
    let pairs = CountedPairs {
        diagonal,
        exclude_paired: false,
    };
    let mut found = quadratic_forms(pool, layout, &none, &ones, pairs)?;
    let size = found.squares[0].sqrt() / layout.points() as f64;
    Ok((size, found.rows.swap_remove(0)))
}

/// The sum of products of two buffers; the padding of the first is 0.
struct Products<'a, T> {
    a: &'a Buffer<T>,
    b: &'a Buffer<T>,
    size: (usize, usize),
}

impl<T: Real> simd::Kernel for Products<'_, T> {
    type Output = f64;
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> f64 {
        let (rows, columns) = self.size;
        let count = columns.div_ceil(LANES);
        let mut sums = [T::zero(); LANES];
        let (a, b) = (self.a.as_chunks::<CHUNK>().0, self.b.as_chunks::<CHUNK>().0);
        for (a, b) in a.iter().zip(b).take(rows) {
            let (a, b) = (a.as_chunks::<LANES>().0, b.as_chunks::<LANES>().0);
            for (a, b) in a.iter().zip(b).take(count) {
                for i in 0..LANES {
                    sums[i] = isa.mul_add(a[i], b[i], sums[i]);
                }
            }
        }
        simd::total(sums).as_f64()
    }
}
