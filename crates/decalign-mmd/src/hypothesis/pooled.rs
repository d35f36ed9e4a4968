//! Two samples, pooled, and MMD^2 of many relabellings of them.

use candle_core::{Device, Tensor};
use decalign_core::{Error, Real, Result};

use super::forms::{Rule, forms};
use super::scheme::{Scheme, other};
use super::vectors::{Layout, Vectors};
use crate::estimator::Estimator;
use crate::kernel::Kernel;
use crate::pass::{Inputs, Pool, Program};
use crate::sample::Sample;

pub(crate) struct Pooled<T> {
    pub(crate) pool: Pool<T>,
    pub(crate) layout: Layout,
    pub(crate) sizes: (usize, usize),
    estimator: Estimator,
}

/// Of every kernel.
pub(crate) struct Statistics {
    /// Of every vector.
    pub(crate) values: Vec<Vec<f64>>,
    /// What rounding may change of them.
    pub(crate) tolerances: Vec<f64>,
    /// The sum of squares of the kernel matrix without its diagonal.
    pub(crate) squares: Vec<f64>,
}

/// How many roundings of a kernel value a statistic may be off by, times (1/n + 1/m).
const ROUNDINGS: f64 = 128.0;

impl<T: Real> Pooled<T> {
    pub(crate) fn new(
        kernels: &[Kernel],
        estimator: Estimator,
        (x, y): (&Tensor, &Tensor),
    ) -> Result<Self> {
        if kernels.is_empty() {
            let remedy = "at least one is needed";
            return Err(Error::value("number of kernels", 0, remedy));
        }
        let least = match estimator {
            Estimator::Biased => 1,
            Estimator::Unbiased => 2,
        };
        let program = Program::new(kernels, true);
        let samples = [Sample::from(&on_cpu(x)?), Sample::from(&on_cpu(y)?)];
        let inputs = Inputs::new(&samples, &program, (2, least))?;
        let pool = Pool::new(&inputs, program, false)?;
        Ok(Self {
            layout: Layout::new(&pool),
            pool,
            sizes: (x.dims()[0], y.dims()[0]),
            estimator,
        })
    }

    /// MMD^2 of `count` vectors of a scheme, in one pass.
    pub(crate) fn statistics(
        &self,
        scheme: Scheme,
        count: usize,
        vector: impl Fn(usize) -> Vec<T> + Sync + Send,
    ) -> Result<Statistics> {
        let vectors = Vectors::new(&self.layout, count, vector);
        let rule = Rule {
            diagonal: self.estimator == Estimator::Biased,
            paired: self.estimator == Estimator::Unbiased && scheme != Scheme::Permutations,
        };
        let ones = self.layout.spread(&vec![T::one(); self.layout.points()]);
        let found = forms(&self.pool, &self.layout, &vectors, &ones, rule)?;
        let (n, m) = (self.sizes.0 as f64, self.sizes.1 as f64);
        let mut statistics = Statistics {
            values: Vec::new(),
            tolerances: Vec::new(),
            squares: found.squares,
        };
        for (q, forms) in found.values.into_iter().enumerate() {
            let values = match (self.estimator, scheme) {
                (Estimator::Biased, _) => forms.iter().map(|f| (f / (n * n)).max(0.0)).collect(),
                (Estimator::Unbiased, Scheme::Permutations) => {
                    self.unbiased(&forms, &vectors, &found.rows[q])
                }
                (Estimator::Unbiased, _) => forms.iter().map(|f| f / (n * (n - 1.0))).collect(),
            };
            statistics.values.push(values);
            let size = statistics.squares[q].sqrt() / (n + m);
            let eps = T::epsilon().as_f64();
            let tolerance = ROUNDINGS * eps * size * (1.0 / n + 1.0 / m);
            statistics.tolerances.push(tolerance);
        }
        Ok(statistics)
    }

    /// Given F = v^T K v and u = K 1, K without its diagonal: with A, C the sums of K within the first
    /// and the second sample and B between them, r = n / m,
    ///
    /// ```text
    /// F = A + r^2 C - 2 r B,   sum_(i in first) u_i = A + B,   sum_(i in second) u_i = C + B.
    /// ```
    fn unbiased(&self, forms: &[f64], vectors: &Vectors<T>, u: &[f64]) -> Vec<f64> {
        let (n, m) = (self.sizes.0 as f64, self.sizes.1 as f64);
        let r = -other::<T>(self.sizes).as_f64();
        let total: f64 = u.iter().sum();
        let within = |f: f64, first: f64| {
            let second = total - first;
            let between = (first + r * r * second - f) / ((1.0 + r) * (1.0 + r));
            let (a, c) = (first - between, second - between);
            f / (n * n) + a / (n * n * (n - 1.0)) + c / (m * m * (m - 1.0))
        };
        // Of equal sizes only A + C counts, which F and the total give.
        if self.sizes.0 == self.sizes.1 {
            return forms.iter().map(|f| within(*f, total / 2.0)).collect();
        }
        let dots = vectors.dots(&self.layout, u);
        let firsts = dots.iter().map(|dot| (dot + r * total) / (1.0 + r));
        forms
            .iter()
            .zip(firsts)
            .map(|(f, l)| within(*f, l))
            .collect()
    }
}

/// Tests carry no gradients, and are computed on the CPU.
pub(crate) fn on_cpu(x: &Tensor) -> Result<Tensor> {
    Ok(x.detach().to_device(&Device::Cpu)?)
}

/// An error unless the samples are of one size.
pub(crate) fn check_paired(x: &Tensor, y: &Tensor) -> Result<()> {
    match (x.dims(), y.dims()) {
        ([n, _], [m, _]) if n != m => {
            let remedy = format!("must be {n}, that of the first: here points come in pairs");
            Err(Error::value(
                "number of points of the second sample",
                m,
                remedy,
            ))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use decalign_core::random::Stream;
    use decalign_core::{Elements, Result};

    use super::*;
    use crate::reference;

    fn kernels() -> Result<Vec<Kernel>> {
        Ok(vec![
            Kernel::gaussian_length_scale(1.3)?,
            Kernel::laplace(2.0)? + Kernel::energy(),
            Kernel::linear(),
            (Kernel::polynomial(2, 0.3, 1.0)? * Kernel::cosine())?,
        ])
    }

    fn points(n: usize, number: u64) -> Result<Tensor> {
        Stream::new(8, number).normal_tensor((n, 3))
    }

    /// MMD^2 of the points that a vector puts together.
    fn relabelled(
        kernel: &Kernel,
        estimator: Estimator,
        pooled: &Tensor,
        vector: &[f64],
    ) -> Result<f64> {
        let side = |first: bool| {
            let of = (0u32..).zip(vector).filter(|(_, v)| (**v > 0.0) == first);
            let of: Vec<u32> = of.map(|(i, _)| i).collect();
            let count = of.len();
            pooled.index_select(&Tensor::from_vec(of, count, &Device::Cpu)?, 0)
        };
        let value = reference::squared(kernel, estimator, &side(true)?, &side(false)?)?;
        Ok(Elements::<f64>::new(&value)?[0])
    }

    #[test]
    fn one_pass_equals_a_loop_over_relabellings() -> Result<()> {
        // One block, and several in either sample.
        for sizes in [(5, 3), (3, 5), (6, 6), (230, 190), (200, 200)] {
            let (x, y) = (points(sizes.0, 0)?, points(sizes.1, 1)?);
            let all = Tensor::cat(&[&x, &y], 0)?;
            for estimator in [Estimator::Biased, Estimator::Unbiased] {
                let kernels = kernels()?;
                let count = if sizes.0 > 100 { 3 } else { 20 };
                let vector = |i| Scheme::Permutations.vector(sizes, 4, i);
                let pooled = Pooled::<f64>::new(&kernels, estimator, (&x, &y))?;
                let found = pooled.statistics(Scheme::Permutations, count, vector)?;
                let single = |x: &Tensor| x.to_dtype(candle_core::DType::F32);
                let narrow = Pooled::<f32>::new(&kernels, estimator, (&single(&x)?, &single(&y)?))?;
                let rough = narrow.statistics(Scheme::Permutations, count, |i| {
                    Scheme::Permutations.vector(sizes, 4, i)
                })?;
                for (q, kernel) in kernels.iter().enumerate() {
                    for i in 0..count {
                        let want = relabelled(kernel, estimator, &all, &vector(i))?;
                        let (wide, single) = (found.values[q][i], rough.values[q][i]);
                        assert!((wide - want).abs() < 1e-11, "{sizes:?} {q}: {wide} {want}");
                        assert!(
                            (single - want).abs() < 2e-5,
                            "{sizes:?} {q}: {single} {want}"
                        );
                        assert!((wide - single).abs() < rough.tolerances[q].max(1e-6));
                    }
                }
            }
        }
        Ok(())
    }

    #[test]
    fn one_pass_equals_a_loop_over_signs() -> Result<()> {
        for n in [2, 7, 200] {
            let (x, y) = (points(n, 0)?, points(n, 1)?);
            for estimator in [Estimator::Biased, Estimator::Unbiased] {
                for scheme in [Scheme::Signs, Scheme::Process { lag: 3.0 }] {
                    let kernels = kernels()?;
                    let vector = |i| scheme.vector((n, n), 4, i);
                    let pooled = Pooled::<f64>::new(&kernels, estimator, (&x, &y))?;
                    let found = pooled.statistics(scheme, 4, vector)?;
                    for (q, kernel) in kernels.iter().enumerate() {
                        let matrix = |a: &Tensor, b: &Tensor| {
                            Elements::<f64>::new(&reference::kernel_matrix(kernel, a, b)?)
                                .map(|k| k.to_vec())
                        };
                        let (xx, yy, xy) = (matrix(&x, &x)?, matrix(&y, &y)?, matrix(&x, &y)?);
                        for i in 0..4 {
                            let w: Vec<f64> = vector(i);
                            let mut sum = 0.0;
                            for a in 0..n {
                                for b in 0..n {
                                    let (to, from) = (a * n + b, b * n + a);
                                    let h = xx[to] + yy[to] - xy[to] - xy[from];
                                    if a != b || estimator == Estimator::Biased {
                                        sum += w[a] * w[b] * h;
                                    }
                                }
                            }
                            let n = n as f64;
                            let want = match estimator {
                                Estimator::Biased => sum / (n * n),
                                Estimator::Unbiased => sum / (n * (n - 1.0)),
                            };
                            let got = found.values[q][i];
                            assert!((got - want).abs() < 1e-11, "{n} {q} {i}: {got} {want}");
                        }
                    }
                }
            }
        }
        Ok(())
    }
}
