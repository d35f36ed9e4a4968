//! The mixture that the first EM step starts from.

use decalign_core::random::Stream;
use decalign_core::{Error, Real, Result};

use super::problem::Problem;
use crate::e_step::{self, Assignment};
use crate::kmeans;
use crate::mixture::Mixture;
use crate::parameters::{MixtureParameters, factor};
use crate::statistics::SecondMoment;

/// The mixture that the first EM step starts from.
///
/// Means at rows get equal weights and the covariance of all samples; clusters get their own weights, means and covariances (that
/// of all samples where a cluster is too small for one).
#[derive(Clone, Debug, Default)]
pub enum Initialization {
    /// Clusters by Lloyd's iteration from k-means++ seeds; distances in units of each column's deviation.
    #[default]
    KMeans,
    /// Rows by k-means++.
    KMeansPlusPlus,
    /// Random responsibilities: uniform numbers divided by their sum, as scikit-learn's `init_params="random"` draws them. All
    /// means start near that of the data, so the first steps are slow.
    Random,
    /// The rows `round(linspace(0, n - 1, K))`, halves to even; with n < K the rows repeat.
    EvenRows,
    /// The rows with these indices, one a component.
    Rows(Vec<usize>),
    /// A mixture of the same form: an earlier fit (warm start), or given parameters.
    Mixture(Box<Mixture>),
}

/// The source of an initial mixture, for the backward pass.
#[derive(Clone, Debug)]
pub(super) enum Origin {
    Rows(Vec<usize>),
    /// The assignment, and which components took the covariance of all samples.
    Assignment(Assignment, Vec<bool>),
    Given,
}

impl Initialization {
    /// True if it depends on the seed.
    pub(super) fn is_random(&self) -> bool {
        matches!(self, Self::KMeans | Self::KMeansPlusPlus | Self::Random)
    }
}

impl<T: Real> Problem<'_, T> {
    /// Initialization number `number` of problem `problem`, in the frame's coordinates.
    pub(super) fn initialize(&self, restart: usize) -> Result<(MixtureParameters, Origin)> {
        let (k, rows) = (self.em.components, self.samples.rows());
        let pooled = self.pooled();
        let deviations = || -> Vec<f64> {
            let spread = |j: usize| pooled.variance(0, j).max(0.0).sqrt();
            // A constant column separates no samples; any unit will do.
            let unit = |v: f64| if v > 0.0 { v } else { 1.0 };
            (0..pooled.width).map(|j| unit(spread(j))).collect()
        };
        let stream = Stream::new(self.em.seed, restart as u64);
        match &self.em.initialization {
            Initialization::Mixture(mixture) => Ok((self.warm_start(mixture)?, Origin::Given)),
            Initialization::KMeansPlusPlus => {
                let rows = kmeans::seeds(&self.samples, &deviations(), k, stream);
                Ok(self.means_at_rows(&pooled, rows))
            }
            Initialization::EvenRows => Ok(self.means_at_rows(&pooled, even_rows(rows, k))),
            Initialization::Rows(given) => {
                check_rows(given, k, rows)?;
                Ok(self.means_at_rows(&pooled, given.clone()))
            }
            // Restarts differ in kind, as the best fit of some data is reached from one kind only.
            Initialization::KMeans if restart % 2 == 1 => {
                let rows = kmeans::seeds(&self.samples, &deviations(), k, stream);
                Ok(self.means_at_rows(&pooled, rows))
            }
            Initialization::KMeans => {
                let labels = kmeans::labels(&self.samples, &deviations(), k, stream);
                Ok(self.components_of(&pooled, Assignment::Labels(labels)))
            }
            Initialization::Random => Ok(self.components_of(&pooled, Assignment::Random(stream))),
        }
    }

    fn means_at_rows(
        &self,
        pooled: &MixtureParameters,
        rows: Vec<usize>,
    ) -> (MixtureParameters, Origin) {
        let k = rows.len();
        let mut start = MixtureParameters::zeros(pooled.kind, k, pooled.width);
        start.weights.fill(1.0 / k as f64);
        start.means = rows.iter().flat_map(|i| self.samples.row(*i)).collect();
        let matrix = pooled.matrix(0);
        (0..start.matrices()).for_each(|k| start.set_matrix(k, &matrix));
        (start, Origin::Rows(rows))
    }

    fn components_of(
        &self,
        pooled: &MixtureParameters,
        assignment: Assignment,
    ) -> (MixtureParameters, Origin) {
        let (kind, d) = (pooled.kind, pooled.width);
        let (centres, _) = self.assigned_means(&assignment);
        let second = self.second_moment(true);
        let statistics = e_step::assigned_statistics(&self.samples, &centres, second, &assignment);
        let mut start = self.m_step(&centres, true).maximise(&statistics);
        let matrix = pooled.matrix(0);
        let mut borrowed = vec![false; self.em.components];
        for k in 0..start.matrices() {
            let own = start.matrix(k);
            if factor(&own, d, kind.is_matrix(), T::epsilon().as_f64()).is_err() {
                start.set_matrix(k, &matrix);
                borrowed[k] = true;
            }
        }
        // An empty cluster would stay empty: give it a small weight.
        let least = 1.0 / (self.samples.counted * self.em.components) as f64;
        for k in 0..self.em.components {
            if start.weights[k] == 0.0 {
                start.weights[k] = least;
            }
        }
        let total: f64 = start.weights.iter().sum();
        start.weights.iter_mut().for_each(|w| *w /= total);
        (start, Origin::Assignment(assignment, borrowed))
    }

    /// The means under an assignment (0 of a component without mass) and the mass of each component. Second moments about these
    /// means keep the digits of clusters that are small beside their distances.
    pub(super) fn assigned_means(&self, assignment: &Assignment) -> (MixtureParameters, Vec<f64>) {
        let (k, d) = (self.em.components, self.samples.width);
        let mut means = MixtureParameters::zeros(self.em.covariance, k, d);
        let sums =
            e_step::assigned_statistics(&self.samples, &means, SecondMoment::None, assignment);
        for (k, mean) in means.means.chunks_exact_mut(d).enumerate() {
            if sums.s0[k] >= self.samples.least_mass() {
                let s1 = &sums.s1[k * d..][..d];
                mean.iter_mut()
                    .zip(s1)
                    .for_each(|(m, v)| *m = v / sums.s0[k]);
            }
        }
        (means, sums.s0)
    }

    fn warm_start(&self, mixture: &Mixture) -> Result<MixtureParameters> {
        let (k, d, kind) = (self.em.components, self.samples.width, self.em.covariance);
        let own = (mixture.components(), mixture.width(), mixture.covariance());
        if own != (k, d, kind) {
            return Err(Error::value(
                "the initial mixture",
                format!(
                    "of {} components in {} dimensions ({:?})",
                    own.0, own.1, own.2
                ),
                format!("must be of {k} components in {d} dimensions ({kind:?}), as the fit"),
            ));
        }
        match mixture.batch() {
            Some(batch) if self.index >= batch => {
                let remedy = "must have one for each problem, or no batch dimension";
                Err(Error::value("initial mixtures", batch, remedy))
            }
            Some(_) => Ok(self
                .samples
                .standardization
                .standardize(&mixture.parameters(self.index)?)),
            None => Ok(self
                .samples
                .standardization
                .standardize(&mixture.parameters(0)?)),
        }
    }
}

/// The rows of [`Initialization::EvenRows`]: `round(linspace(0, rows - 1, k))`, or cyclic if there are fewer rows.
pub(crate) fn even_rows(rows: usize, k: usize) -> Vec<usize> {
    if rows < k {
        return (0..k).map(|i| i % rows).collect();
    }
    let step = (rows - 1) as f64 / (k.max(2) - 1) as f64;
    (0..k)
        .map(|i| ((i as f64 * step).round_ties_even() as usize).min(rows - 1))
        .collect()
}

fn check_rows(given: &[usize], k: usize, rows: usize) -> Result<()> {
    if given.len() != k {
        let remedy = format!("must be {k}, one a component");
        return Err(Error::value("number of initial rows", given.len(), remedy));
    }
    match given.iter().find(|i| **i >= rows) {
        None => Ok(()),
        Some(i) => {
            let remedy = format!("must be below the number of rows, {rows}");
            Err(Error::value("initial row", i, remedy))
        }
    }
}
