//! One problem of a batch with everything that its EM steps need.

use decalign_core::Real;
use decalign_core::parallel;

use super::settings::Em;
use crate::covariance::Covariance;
use crate::e_step::{self, Assignment};
use crate::m_step::MStep;
use crate::parameters::{MixtureParameters, factor};
use crate::samples::{SampleShape, Samples};
use crate::standardization::Standardization;
use crate::statistics::SecondMoment;

/// Relative error of a tied covariance beyond which its scatters are summed about the means.
const CANCELLATION: f64 = 1e-4;

pub(super) struct Problem<'a, T> {
    pub(super) em: &'a Em,
    pub(super) samples: Samples<'a, T>,
    /// Its index in the batch.
    pub(super) index: usize,
    /// The regularisation of each standardised column.
    regularisation: Vec<f64>,
    /// See [`MStep::scatter`].
    scatter: Option<Vec<f64>>,
}

impl<'a, T: Real> Problem<'a, T> {
    /// Problem `index` of a batch.
    pub(super) fn new(
        em: &'a Em,
        x: &'a [T],
        shape: &SampleShape,
        weights: Option<&[T]>,
        index: usize,
    ) -> Self {
        let (n, d) = (shape.rows, shape.width);
        let weights = weights.map(|w| &w[index * n..(index + 1) * n]);
        let x = &x[index * n * d..(index + 1) * n * d];
        let standardization = Standardization::of_rows(x, d, em.covariance);
        let regularisation = standardization.variance(em.regularisation);
        let samples = Samples::new(x, d, standardization, weights);
        let scatter = (em.covariance == Covariance::Tied).then(|| scatter(&samples));
        Self {
            em,
            samples,
            index,
            regularisation,
            scatter,
        }
    }

    /// The second moments that the M-step needs; `centred` as in [`Problem::m_step`].
    pub(super) fn second_moment(&self, centred: bool) -> SecondMoment {
        match self.em.covariance {
            Covariance::Tied if !centred => SecondMoment::None,
            kind => SecondMoment::of(kind),
        }
    }

    /// The M-step after `before`. A tied covariance is the total scatter less that between components, which needs no second
    /// moments of them, or the sum of their own (`centred`), which keeps its digits however far components are apart.
    pub(super) fn m_step<'b>(&'b self, before: &'b MixtureParameters, centred: bool) -> MStep<'b> {
        MStep {
            before,
            total: self.samples.total,
            regularisation: &self.regularisation,
            least_mass: self.samples.least_mass(),
            scatter: self.scatter.as_deref().filter(|_| !centred),
        }
    }

    /// True if the difference from the total scatter lost digits of a tied covariance.
    ///
    /// The trace of `W^-1 B`, W within and B between components, bounds the largest ratio of total to within-component variance
    /// in any direction, and the difference multiplies rounding by that ratio.
    pub(super) fn cancelled(&self, after: &MixtureParameters) -> bool {
        if self.em.covariance != Covariance::Tied || after.components() == 1 {
            return false;
        }
        let (d, epsilon) = (after.width, T::epsilon().as_f64());
        let Ok((inverse, _)) = factor(&after.matrix(0), d, true, epsilon) else {
            return true;
        };
        let quotient = |mean: &[f64]| -> f64 {
            let rows = inverse.chunks_exact(d);
            rows.map(|row| {
                row.iter()
                    .zip(mean)
                    .map(|(l, m)| l * m)
                    .sum::<f64>()
                    .powi(2)
            })
            .sum()
        };
        let means = after.weights.iter().zip(after.means.chunks_exact(d));
        let trace: f64 = means.map(|(weight, mean)| weight * quotient(mean)).sum();
        trace * epsilon > CANCELLATION
    }

    /// The Gaussian of all samples.
    pub(super) fn pooled(&self) -> MixtureParameters {
        let centre = self.zero_component();
        let second = self.second_moment(false);
        let statistics =
            e_step::assigned_statistics(&self.samples, &centre, second, &Assignment::Single);
        self.m_step(&centre, false).maximise(&statistics)
    }

    /// One component, all its parameters 0.
    pub(super) fn zero_component(&self) -> MixtureParameters {
        MixtureParameters::zeros(self.em.covariance, 1, self.samples.width)
    }
}

/// `sum w x x^T`, in f64 because the within-component scatter is a difference from it.
fn scatter<T: Real>(samples: &Samples<T>) -> Vec<f64> {
    let d = samples.width;
    let jobs = parallel::map(samples.jobs(), samples.rows() * d * d, |job| {
        let mut sum = vec![0.0; d * d];
        for i in samples.job(job) {
            let (row, w) = (samples.row(i), samples.weight(i));
            for (to, a) in sum.chunks_exact_mut(d).zip(&row) {
                to.iter_mut().zip(&row).for_each(|(t, b)| *t += w * a * b);
            }
        }
        sum
    });
    let mut total = vec![0.0; d * d];
    for job in jobs {
        total.iter_mut().zip(job).for_each(|(t, v)| *t += v);
    }
    total
}
