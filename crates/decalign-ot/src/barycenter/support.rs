//! The points that a barycentre starts from, and what each of them weighs.

use candle_core::Tensor;
use decalign_core::random::Stream;
use decalign_core::{Error, Result};

use super::free::check_measures;
use crate::tensor_convert::{read, tensor};
use crate::validate;

/// Points of a barycentre before they are moved, with their weights.
#[derive(Clone, Debug)]
pub struct Support {
    pub(super) points: Tensor,
    pub(super) weights: Option<Tensor>,
}

impl Support {
    /// These points, each of the same weight.
    ///
    /// # Shapes
    /// `points` (m, d), in f32 or f64, finite.
    ///
    /// # Errors
    /// When the shape or dtype is another, or an entry is NaN or infinite.
    pub fn new(points: &Tensor) -> Result<Self> {
        let dtype = validate::real("support", points)?;
        validate::matrix("support", points, (None, None), dtype)?;
        Ok(Self {
            points: points.clone(),
            weights: None,
        })
    }

    /// `count` points drawn from a normal distribution with the mean and, in every dimension, the
    /// variance of all measures together. The same seed draws the same points.
    ///
    /// # Shapes
    /// As in [`crate::FreeSupportBarycenter::solve`].
    ///
    /// # Errors
    /// When `count` is 0, or as there.
    pub fn drawn(
        measures: &[(Tensor, Tensor)],
        weights: &[f64],
        count: usize,
        seed: u64,
    ) -> Result<Self> {
        validate::at_least_one("number of support points", count)?;
        let (shares, d) = check_measures(measures, weights)?;
        let (mean, deviation) = moments(measures, &shares, d)?;
        let mut points = Stream::new(seed, 0).normal(count * d);
        for (i, v) in points.iter_mut().enumerate() {
            *v = mean[i % d] + deviation[i % d] * *v;
        }
        Self::new(&tensor(&points, (count, d), &measures[0].0)?)
    }

    /// Other weights than equal ones.
    ///
    /// # Shapes
    /// (m), positive, of the type of the points; their total is that of the measures.
    ///
    /// # Errors
    /// When the shape or dtype is another, or a weight is not positive and finite.
    pub fn weighted(self, weights: &Tensor) -> Result<Self> {
        let name = "weights of the support";
        let (m, dtype) = (self.points.dim(0)?, self.points.dtype());
        validate::mass(name, weights, m, dtype)?;
        if let Some(i) = read::<f64>(weights)?.iter().position(|w| *w == 0.0) {
            let remedy = "must be positive: leave the point out";
            return Err(Error::value(format!("{name}[{i}]"), 0, remedy));
        }
        Ok(Self {
            weights: Some(weights.clone()),
            ..self
        })
    }
}

/// The mean and the standard deviations of all measures together.
pub(super) fn moments(
    measures: &[(Tensor, Tensor)],
    shares: &[f64],
    d: usize,
) -> Result<(Vec<f64>, Vec<f64>)> {
    let (mut mean, mut variance) = (vec![0.0; d], vec![0.0; d]);
    let mut weighted = Vec::new();
    for ((x, a), share) in measures.iter().zip(shares) {
        let (x, a) = (read::<f64>(x)?, read::<f64>(a)?);
        let total: f64 = a.iter().sum();
        let a: Vec<f64> = a.iter().map(|a| share * a / total).collect();
        weighted.push((x, a));
    }
    for (x, a) in &weighted {
        for (x, a) in x.chunks_exact(d).zip(a) {
            mean.iter_mut().zip(x).for_each(|(m, x)| *m += a * x);
        }
    }
    for (x, a) in &weighted {
        for (x, a) in x.chunks_exact(d).zip(a) {
            for ((v, x), m) in variance.iter_mut().zip(x).zip(&mean) {
                *v += a * (x - m).powi(2);
            }
        }
    }
    Ok((mean, variance.into_iter().map(f64::sqrt).collect()))
}
