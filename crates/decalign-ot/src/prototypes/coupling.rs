//! The cost of a coupling that is given.

use candle_core::Tensor;
use decalign_core::device::Backend;
use decalign_core::op::{Backward, InputGradients, Output, record_one};
use decalign_core::simd::{self, Isa, Kernel, LANES};
use decalign_core::{Elements, Error, Real, Result, for_blocks, with_real};

use super::device;
use crate::reduction::Reduction;
use crate::validate::same_dtype;

/// The transport cost of coupling points to prototypes by their responsibilities:
/// `mean_b sum_k gamma[b, k] sum_d (x_bd - mu_kd)^2`, or with the mean over dimensions.
///
/// With variances each squared difference is divided by `max(var_kd, floor)` (Mahalanobis); their
/// gradient passes where `var >= floor`.
///
/// # Shapes
/// `points` (B, d), `responsibilities` (B, K), `means` and the variances (K, d); the result is a
/// scalar.
///
/// # Errors
/// When shapes or dtypes do not fit, or the floor is not positive.
pub fn coupling_cost(
    points: &Tensor,
    responsibilities: &Tensor,
    means: &Tensor,
    variances: Option<(&Tensor, f64)>,
    reduction: Reduction,
) -> Result<Tensor> {
    let fits = match (points.dims(), responsibilities.dims(), means.dims()) {
        ([b, d], [b2, k], [k2, d2]) => b == b2 && k == k2 && d == d2 && b * k * d > 0,
        _ => false,
    };
    if !fits || variances.is_some_and(|(v, _)| v.dims() != means.dims()) {
        let got = (points.shape(), responsibilities.shape(), means.shape());
        return Err(Error::tensor(
            "coupling",
            "points (B, d), coupling (B, K), means (K, d)",
            got,
        ));
    }
    if let Some((_, floor)) = variances
        && !(floor > 0.0 && floor.is_finite())
    {
        return Err(Error::value(
            "variance floor",
            floor,
            "must be positive and finite",
        ));
    }
    let inputs: Vec<&Tensor> = [points, responsibilities, means]
        .into_iter()
        .chain(variances.map(|(v, _)| v))
        .collect();
    let floor = variances.map_or(1.0, |(_, floor)| floor);
    if let Some(backend) = Backend::of(points)? {
        for x in &inputs {
            same_dtype("coupling", x, points)?;
        }
        let (batch, width) = points.dims2()?;
        let factor = reduction.factor(width) / batch as f64;
        return device::coupling_cost(&backend, &inputs, floor, factor);
    }
    with_real!("points", points, T => fused::<T>(&inputs, floor, reduction))
}

fn fused<T: Real>(inputs: &[&Tensor], floor: f64, reduction: Reduction) -> Result<Tensor> {
    let (batch, width) = inputs[0].dims2()?;
    let factor = T::of(reduction.factor(width) / batch as f64);
    let floor = T::of(floor);
    let value = factor * simd::dispatch(Value(&Data::<T>::read(inputs, floor)?));
    record_one(
        "coupling_cost",
        inputs,
        Output::new(vec![value], ()),
        move |b| backward::<T>(b, floor, factor),
    )
}

/// The inputs as rows.
struct Data<T> {
    x: Vec<T>,
    gamma: Vec<T>,
    means: Vec<T>,
    /// `1 / max(var, floor)`, or ones.
    precisions: Vec<T>,
    width: usize,
}

impl<T: Real> Data<T> {
    fn read(inputs: &[&Tensor], floor: T) -> Result<Self> {
        let read = |x: &Tensor| -> Result<Vec<T>> { Ok(Elements::<T>::new(x)?.to_vec()) };
        let means = read(inputs[2])?;
        let precisions = match inputs.get(3) {
            Some(v) => read(v)?
                .iter()
                .map(|v| if *v >= floor { *v } else { floor }.recip())
                .collect(),
            None => vec![T::one(); means.len()],
        };
        let width = inputs[0].dims()[1];
        Ok(Self {
            x: read(inputs[0])?,
            gamma: read(inputs[1])?,
            means,
            precisions,
            width,
        })
    }

    fn components(&self) -> usize {
        self.means.len() / self.width
    }

    /// Every point with every prototype: point, component.
    fn cells(&self) -> impl Iterator<Item = (usize, usize)> {
        let components = self.components();
        (0..self.gamma.len()).map(move |cell| (cell / components, cell % components))
    }

    /// Row `i` of `x`, a matrix of this width.
    fn row<'a>(&self, x: &'a [T], i: usize) -> &'a [T] {
        &x[i * self.width..][..self.width]
    }
}

/// The sum over points and prototypes.
struct Value<'a, T>(&'a Data<T>);

impl<T: Real> Kernel for Value<'_, T> {
    type Output = T;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> T {
        let (mut total, data) = (T::zero(), self.0);
        for ((b, k), gamma) in data.cells().zip(&data.gamma) {
            let (x, mean) = (data.row(&data.x, b), data.row(&data.means, k));
            let precision = data.row(&data.precisions, k);
            let mut sums = [T::zero(); LANES];
            for_blocks!(at in data.width, {
                let (x, m, p) = (at.load(x), at.load(mean), at.load(precision));
                for i in 0..LANES {
                    let e = x[i] - m[i];
                    sums[i] = isa.mul_add(e * e, p[i], sums[i]);
                }
            });
            total += *gamma * simd::total(sums);
        }
        total
    }
}

/// The gradients with respect to points, responsibilities, means and variances.
struct Gradient<'a, T> {
    data: &'a Data<T>,
    outer: T,
}

impl<T: Real> Kernel for Gradient<'_, T> {
    type Output = [Vec<T>; 4];

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> [Vec<T>; 4] {
        let Self { data, outer } = self;
        let width = data.width;
        let mut dx = vec![T::zero(); data.x.len()];
        let mut dgamma = Vec::with_capacity(data.gamma.len());
        let mut dmeans = vec![T::zero(); data.means.len()];
        let mut dvariances = vec![T::zero(); data.means.len()];
        for ((b, k), gamma) in data.cells().zip(&data.gamma) {
            let (x, mean) = (data.row(&data.x, b), data.row(&data.means, k));
            let precision = data.row(&data.precisions, k);
            let dx = &mut dx[b * width..][..width];
            let dm = &mut dmeans[k * width..][..width];
            let dv = &mut dvariances[k * width..][..width];
            let scale = outer * *gamma;
            let mut sums = [T::zero(); LANES];
            for_blocks!(at in data.width, {
                let (x, m, p) = (at.load(x), at.load(mean), at.load(precision));
                let (mut to_x, mut to_m, mut to_v) = (at.load(dx), at.load(dm), at.load(dv));
                for i in 0..LANES {
                    let e = x[i] - m[i];
                    let weighted = e * p[i];
                    let slope = T::of(2.0) * scale * weighted;
                    to_x[i] += slope;
                    to_m[i] -= slope;
                    to_v[i] = isa.mul_add(-scale * weighted, weighted, to_v[i]);
                    sums[i] = isa.mul_add(weighted, e, sums[i]);
                }
                at.store(to_x, dx);
                at.store(to_m, dm);
                at.store(to_v, dv);
            });
            dgamma.push(outer * simd::total(sums));
        }
        [dx, dgamma, dmeans, dvariances]
    }
}

fn backward<T: Real>(b: &Backward, floor: T, factor: T) -> Result<InputGradients> {
    let outer = b.gradient(0)?;
    let outer = Elements::<T>::new(&outer)?[0] * factor;
    let inputs: Vec<&Tensor> = b.inputs.iter().collect();
    let data = Data::<T>::read(&inputs, floor)?;
    let [dx, dgamma, dmeans, mut dvariances] = simd::dispatch(Gradient { data: &data, outer });
    let mut all = vec![dx, dgamma, dmeans];
    if let Some(v) = b.inputs.get(3) {
        for (d, v) in dvariances.iter_mut().zip(Elements::<T>::new(v)?.iter()) {
            if *v < floor {
                *d = T::zero();
            }
        }
        all.push(dvariances);
    }
    let gradients = all
        .into_iter()
        .zip(b.inputs)
        .map(|(d, x)| Ok(Some(Tensor::from_vec(d, x.dims(), x.device())?)));
    gradients.collect()
}
