//! One problem of a batch with everything that its EM steps need.

use decalign_core::Real;
use decalign_core::parallel;

use super::settings::Em;
use crate::covariance::Covariance;
use crate::e_step::{self, Assignment};
use crate::m_step::MStep;
use crate::parameters::MixtureParameters;
use crate::samples::{SampleShape, Samples};
use crate::standardization::Standardization;
use crate::statistics::SecondMoment;

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

    /// The second moments that the M-step needs.
    pub(super) fn second_moment(&self) -> SecondMoment {
        match self.em.covariance {
            // See `MStep::scatter`.
            Covariance::Tied => SecondMoment::None,
            kind => SecondMoment::of(kind),
        }
    }

    pub(super) fn m_step<'b>(&'b self, before: &'b MixtureParameters) -> MStep<'b> {
        MStep {
            before,
            total: self.samples.total,
            regularisation: &self.regularisation,
            least_mass: self.samples.least_mass(),
            scatter: self.scatter.as_deref(),
        }
    }

    /// The Gaussian of all samples.
    pub(super) fn pooled(&self) -> MixtureParameters {
        let centre = self.zero_component();
        let second = self.second_moment();
        let statistics =
            e_step::assigned_statistics(&self.samples, &centre, second, &Assignment::Single);
        self.m_step(&centre).maximise(&statistics)
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
