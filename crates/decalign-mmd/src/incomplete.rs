//! Estimates from some of the pairs: blocks, and incomplete U-statistics.

use candle_core::Tensor;
use decalign_core::op::{Output, record_one};
use decalign_core::pairs::{CHUNK, STRIP};
use decalign_core::{Elements, Error, Real, Result, with_real};

use crate::estimator::Estimator;
use crate::kernel::{Buffer, Feature, Kernel, buffer};
use crate::mmd::{Mmd, evaluate};
use crate::pairwise::{Inputs, KernelPlan};
use crate::sample::{self, Sample};
use crate::statistic::{Functional, Statistic, bandwidth_gradients};
use crate::variance::Estimate;

impl Mmd {
    /// The mean of the unbiased `MMD^2` of blocks of `size` points of both samples, in their order:
    /// O(n size d), and asymptotically normal. Points that do not fill a block are left out; the estimator of the
    /// [`Mmd`] is not used. Blocks have equal weights, whatever the weights of their points add up to.
    ///
    /// # Shapes
    /// As [`Mmd::squared`].
    ///
    /// # Errors
    /// As [`Mmd::squared`], when `size` is below 2 or above n or m, and when fewer than two points of a block
    /// have positive weight.
    ///
    /// Source: Zaremba, Gretton and Blaschko, B-tests (2013).
    pub fn blocks(
        &self,
        x: impl Into<Sample>,
        y: impl Into<Sample>,
        size: usize,
    ) -> Result<Tensor> {
        let given = [x.into(), y.into()];
        sample::check_with_weights(&given, 2, 2)?;
        let [x, y] = &given;
        let count = x.points.dims()[0].min(y.points.dims()[0]) / size.max(1);
        if size < 2 || count == 0 {
            let remedy = "must be between 2 and the size of both samples";
            return Err(Error::value("block size", size, remedy));
        }
        let mut functional = Functional::default();
        let mut samples = Vec::with_capacity(2 * count);
        for b in 0..count {
            samples.push(x.rows(b * size, size)?);
            samples.push(y.rows(b * size, size)?);
            let one = Functional::mmd(2 * b, 2 * b + 1, (count as f64).recip());
            functional.within.extend(one.within);
            functional.across.extend(one.across);
        }
        let statistic = Statistic {
            kernels: vec![self.kernel().clone()],
            estimator: Estimator::Unbiased,
            functionals: vec![functional],
            squares: false,
            scalar: true,
        };
        evaluate(statistic, &samples)
    }

    /// The linear-time estimate: the mean over i of `h(z_2i, z_2i+1)`, where
    ///
    /// ```text
    /// h((x, y), (x', y')) = k(x, x') + k(y, y') - k(x, y') - k(x', y)
    /// ```
    ///
    /// # Shapes
    /// `x` and `y` (n, d), n >= 2; an odd last point is left out.
    ///
    /// # Errors
    /// As [`Mmd::squared`], and when the samples differ in size.
    ///
    /// Source: Gretton and others (2012), section 6.
    pub fn linear_time(&self, x: &Tensor, y: &Tensor) -> Result<Estimate> {
        let n = x.dims().first().copied().unwrap_or(0) as u32;
        let first = (0..n / 2).map(|i| 2 * i).collect::<Vec<_>>();
        let second = first.iter().map(|i| i + 1).collect::<Vec<_>>();
        let h = self.differences(x, y, &first, &second)?;
        let (count, mean) = (first.len() as f64, h.mean_all()?);
        let spread = h.broadcast_sub(&mean)?.sqr()?.sum_all()?;
        Ok(Estimate {
            variance: (spread / (count * (count - 1.0).max(1.0)))?,
            squared: mean,
        })
    }

    /// The incomplete U-statistic over the pairs (i, i + r modulo n), r = 1..=`diagonals`: the mean of
    /// `h(z_i, z_j)` of [`Mmd::linear_time`] over n `diagonals` pairs. With n / 2 of odd n it is
    /// the complete one.
    ///
    /// # Shapes
    /// `x` and `y` (n, d), n >= 2.
    ///
    /// # Errors
    /// As [`Mmd::linear_time`], and when `diagonals` is not in 1..n.
    ///
    /// Source: Schrab and others, Efficient aggregated kernel tests using incomplete U-statistics (2022).
    pub fn incomplete(&self, x: &Tensor, y: &Tensor, diagonals: usize) -> Result<Tensor> {
        let n = x.dims().first().copied().unwrap_or(0);
        if !(1..n.max(1)).contains(&diagonals) {
            let remedy = format!("must be between 1 and {}", n.saturating_sub(1));
            return Err(Error::value("diagonals", diagonals, remedy));
        }
        let pairs =
            (1..=diagonals).flat_map(|r| (0..n).map(move |i| (i as u32, ((i + r) % n) as u32)));
        let (first, second): (Vec<u32>, Vec<u32>) = pairs.unzip();
        Ok(self.differences(x, y, &first, &second)?.mean_all()?)
    }

    /// `h(z_i, z_j)` of given pairs.
    fn differences(&self, x: &Tensor, y: &Tensor, first: &[u32], second: &[u32]) -> Result<Tensor> {
        sample::check_points(&[x, y], 2, 2)?;
        if x.dims() != y.dims() {
            return Err(Error::tensor(
                "sample 1",
                format!("shape {:?}", x.dims()),
                y.dims(),
            ));
        }
        let k = |a: &Tensor, b: &Tensor| kernel_of_pairs(self.kernel(), a, b, first, second);
        Ok(((k(x, x)? + k(y, y)?)? - (k(x, y)? + k(y, x)?)?)?)
    }
}

/// `k(x_i, y_j)` of given pairs (i, j), with gradients to points and learned bandwidths.
pub(crate) fn kernel_of_pairs(
    kernel: &Kernel,
    x: &Tensor,
    y: &Tensor,
    first: &[u32],
    second: &[u32],
) -> Result<Tensor> {
    let plan = KernelPlan::new(std::slice::from_ref(kernel), false);
    let samples = [Sample::from(x), Sample::from(y)];
    let inputs = Inputs::new(&samples, &plan, (2, 1))?;
    let pairs: Vec<(usize, usize)> = {
        let pairs = first.iter().zip(second);
        pairs.map(|(i, j)| (*i as usize, *j as usize)).collect()
    };
    with_real!("samples", inputs.points[0], T => of_pairs::<T>(kernel, &inputs, plan, pairs))
}

fn of_pairs<T: Real>(
    kernel: &Kernel,
    inputs: &Inputs,
    plan: KernelPlan,
    pairs: Vec<(usize, usize)>,
) -> Result<Tensor> {
    let kernels = vec![kernel.clone()];
    let all: Vec<Tensor> = inputs.all(&kernels).into_iter().cloned().collect();
    let references: Vec<&Tensor> = all.iter().collect();
    let d = inputs.width;
    let mut points = Vec::new();
    for (i, x) in inputs.points.iter().chain(&inputs.directions).enumerate() {
        let x = Elements::<T>::new(x)?;
        sample::check_finite(i % 2, &x, d)?;
        points.push(x.to_vec());
    }
    let list = PairList {
        plan,
        points,
        pairs,
        d,
    };
    let mut values = vec![T::zero(); list.pairs.len()];
    list.run(None, &mut values, &mut [], &mut []);
    let count = values.len();
    record_one(
        "kernel_of_pairs",
        &references,
        Output::new(values, count),
        move |b| {
            let outer = b.gradient(0)?;
            let outer = Elements::<T>::new(&outer)?;
            let mut gradients: Vec<Vec<T>> = list
                .points
                .iter()
                .map(|x| vec![T::zero(); x.len()])
                .collect();
            let mut bandwidths = vec![0.0; list.plan.leaves.len()];
            let mut values = vec![T::zero(); count];
            list.run(Some(&outer), &mut values, &mut gradients, &mut bandwidths);
            let rows = gradients.into_iter().zip(b.inputs);
            let rows = rows.map(|(g, x)| Ok(Some(Tensor::from_vec(g, x.dims(), x.device())?)));
            let mut all = rows.collect::<Result<Vec<_>>>()?;
            all.extend(bandwidth_gradients(&kernels, &bandwidths, 1.0)?);
            Ok(all)
        },
    )
}

/// Pairs of points.
struct PairList<T> {
    plan: KernelPlan,
    /// Two sets of points, and of directions where they are needed.
    points: Vec<Vec<T>>,
    pairs: Vec<(usize, usize)>,
    d: usize,
}

impl<T: Real> PairList<T> {
    /// Values, and with an outer gradient the gradients, a buffer of pairs at a time.
    fn run(
        &self,
        outer: Option<&[T]>,
        values: &mut [T],
        gradients: &mut [Vec<T>],
        bandwidths: &mut [f64],
    ) {
        let (mut u, mut k, mut slopes) = (buffer(), buffer(), buffer());
        for start in (0..self.pairs.len()).step_by(STRIP * CHUNK) {
            let pairs = &self.pairs[start..self.pairs.len().min(start + STRIP * CHUNK)];
            let size = (pairs.len().div_ceil(CHUNK), CHUNK);
            let values = &mut values[start..][..pairs.len()];
            for term in &self.plan.kernels[0] {
                let mut product = vec![T::of(term.factor); pairs.len()];
                for l in &term.leaves {
                    self.features(*l, pairs, &mut u);
                    self.plan.leaves[*l].profile.map(&u, size, &mut k, None);
                    product.iter_mut().zip(&*k).for_each(|(p, k)| *p *= *k);
                }
                values.iter_mut().zip(&product).for_each(|(v, p)| *v += *p);
                let Some(outer) = outer else { continue };
                for (i, l) in term.leaves.iter().enumerate() {
                    let mut w: Vec<T> = outer[start..][..pairs.len()].to_vec();
                    w.iter_mut().for_each(|w| *w *= T::of(term.factor));
                    for (_, other) in term.leaves.iter().enumerate().filter(|(j, _)| *j != i) {
                        self.features(*other, pairs, &mut u);
                        self.plan.leaves[*other].profile.map(&u, size, &mut k, None);
                        w.iter_mut().zip(&*k).for_each(|(w, k)| *w *= *k);
                    }
                    self.features(*l, pairs, &mut u);
                    self.plan.leaves[*l]
                        .profile
                        .map(&u, size, &mut k, Some(&mut slopes));
                    w.iter_mut().zip(&*slopes).for_each(|(w, s)| *w *= *s);
                    let learned = w.iter().zip(&*u).map(|(w, u)| w.as_f64() * u.as_f64());
                    bandwidths[*l] += learned.sum::<f64>();
                    self.backward(*l, pairs, &w, gradients);
                }
            }
        }
    }

    fn rows(&self, l: usize, (i, j): (usize, usize)) -> (Feature, usize, &[T], &[T]) {
        let feature = self.plan.features[self.plan.leaves[l].field];
        let first = if feature == Feature::Cosine { 2 } else { 0 };
        let x = &self.points[first][i * self.d..][..self.d];
        (
            feature,
            first,
            x,
            &self.points[first + 1][j * self.d..][..self.d],
        )
    }

    fn features(&self, l: usize, pairs: &[(usize, usize)], u: &mut Buffer<T>) {
        for (u, pair) in u.iter_mut().zip(pairs) {
            let (feature, _, x, y) = self.rows(l, *pair);
            let both = x.iter().zip(y);
            *u = match feature {
                Feature::Squared | Feature::SquaredExact => {
                    both.map(|(a, b)| (*a - *b) * (*a - *b)).sum()
                }
                Feature::CityBlock => both.map(|(a, b)| (*a - *b).abs()).sum(),
                Feature::Dot | Feature::CentredDot | Feature::Cosine => {
                    both.map(|(a, b)| *a * *b).sum()
                }
            };
        }
    }

    fn backward(&self, l: usize, pairs: &[(usize, usize)], w: &[T], gradients: &mut [Vec<T>]) {
        let two = T::of(2.0);
        for ((i, j), w) in pairs.iter().zip(w) {
            let (feature, first, x, y) = self.rows(l, (*i, *j));
            for k in 0..self.d {
                let e = x[k] - y[k];
                let (a, b) = match feature {
                    Feature::Squared | Feature::SquaredExact => (two * e, -two * e),
                    Feature::CityBlock if e == T::zero() => (e, e),
                    Feature::CityBlock => (e.signum(), -e.signum()),
                    Feature::Dot | Feature::CentredDot | Feature::Cosine => (y[k], x[k]),
                };
                gradients[first][i * self.d + k] += *w * a;
                gradients[first + 1][j * self.d + k] += *w * b;
            }
        }
    }
}
