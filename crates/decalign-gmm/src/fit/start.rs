//! Where a fit starts.

use decalign_core::random::Stream;
use decalign_core::{Error, Real, Result};

use super::context::Context;
use crate::kmeans;
use crate::mixture::Mixture;
use crate::parameters::{Parameters, factor};
use crate::pass::{self, Assigned};

/// Where the first step starts.
///
/// Starts from rows have equal weights and the covariance of all data; starts from clusters have the
/// clusters' own weights, means and covariances (the data's, where a cluster is too small for one).
#[derive(Clone, Debug, Default)]
pub enum Start {
    /// Clusters by Lloyd's iteration from k-means++ seeds; distances in units of each column's deviation.
    #[default]
    KMeans,
    /// Rows by k-means++.
    KMeansPlusPlus,
    /// Every sample in part of every component: uniform random numbers divided by their sum are its
    /// responsibilities, as scikit-learn's `init_params="random"` draws them. Means start near that of all
    /// data, so that the first steps are slow.
    Random,
    /// The rows `round(linspace(0, n - 1, K))`, halves to even; with n < K the rows repeat.
    EvenRows,
    /// The rows with these indices, one a component.
    Rows(Vec<usize>),
    /// A mixture of the same form: warm from an earlier fit, or given parameters.
    Mixture(Box<Mixture>),
}

/// How a start came about, for the way back.
#[derive(Clone, Debug)]
pub(super) enum Origin {
    Rows(Vec<usize>),
    /// Whose the samples are, and which components took the data's covariance.
    Assigned(Assigned, Vec<bool>),
    Given,
}

impl Start {
    /// Whether another seed gives another start.
    pub(super) fn is_random(&self) -> bool {
        matches!(self, Self::KMeans | Self::KMeansPlusPlus | Self::Random)
    }
}

impl<T: Real> Context<'_, T> {
    /// Start number `number` of problem `problem`, in the frame's coordinates.
    pub(super) fn start(&self, number: usize) -> Result<(Parameters, Origin)> {
        let (k, rows) = (self.em.components, self.data.rows());
        let all = self.all();
        let deviations = || -> Vec<f64> {
            let spread = |j: usize| all.variance(0, j).max(0.0).sqrt();
            // A column that does not vary tells nothing apart, whatever its unit.
            let unit = |v: f64| if v > 0.0 { v } else { 1.0 };
            (0..all.width).map(|j| unit(spread(j))).collect()
        };
        let stream = Stream::new(self.em.seed, number as u64);
        match &self.em.start {
            Start::Mixture(mixture) => Ok((self.given(mixture)?, Origin::Given)),
            Start::KMeansPlusPlus => {
                let rows = kmeans::seeds(&self.data, &deviations(), k, stream);
                Ok(self.of_rows(&all, rows))
            }
            Start::EvenRows => Ok(self.of_rows(&all, even_rows(rows, k))),
            Start::Rows(given) => {
                check_rows(given, k, rows)?;
                Ok(self.of_rows(&all, given.clone()))
            }
            Start::KMeans => {
                let labels = kmeans::labels(&self.data, &deviations(), k, stream);
                Ok(self.assigned(&all, Assigned::Labels(labels)))
            }
            Start::Random => Ok(self.assigned(&all, Assigned::Random(stream))),
        }
    }

    fn of_rows(&self, all: &Parameters, rows: Vec<usize>) -> (Parameters, Origin) {
        let k = rows.len();
        let mut start = Parameters::zeros(all.kind, k, all.width);
        start.weights.fill(1.0 / k as f64);
        start.means = rows.iter().flat_map(|i| self.data.row(*i)).collect();
        let matrix = all.matrix(0);
        (0..start.matrices()).for_each(|k| start.set_matrix(k, &matrix));
        (start, Origin::Rows(rows))
    }

    fn assigned(&self, all: &Parameters, assigned: Assigned) -> (Parameters, Origin) {
        let (kind, d) = (all.kind, all.width);
        let centres = Parameters::zeros(kind, self.em.components, d);
        let moments = pass::assigned(&self.data, &centres, self.second(), &assigned);
        let mut start = self.step(&centres).maximise(&moments);
        let matrix = all.matrix(0);
        let mut borrowed = vec![false; self.em.components];
        for k in 0..start.matrices() {
            let own = start.matrix(k);
            if factor(&own, d, kind.is_matrix(), self.epsilon()).is_err() {
                start.set_matrix(k, &matrix);
                borrowed[k] = true;
            }
        }
        // A cluster without samples would never get any.
        let least = 1.0 / (self.data.counted * self.em.components) as f64;
        for k in 0..self.em.components {
            if start.weights[k] == 0.0 {
                start.weights[k] = least;
            }
        }
        let total: f64 = start.weights.iter().sum();
        start.weights.iter_mut().for_each(|w| *w /= total);
        (start, Origin::Assigned(assigned, borrowed))
    }

    fn given(&self, mixture: &Mixture) -> Result<Parameters> {
        let (k, d, kind) = (self.em.components, self.data.width, self.em.covariance);
        let own = (mixture.components(), mixture.width(), mixture.covariance());
        if own != (k, d, kind) {
            return Err(Error::value(
                "the mixture to start from",
                format!(
                    "of {} components in {} dimensions ({:?})",
                    own.0, own.1, own.2
                ),
                format!("must be of {k} components in {d} dimensions ({kind:?}), as the fit"),
            ));
        }
        match mixture.batch() {
            Some(batch) if self.problem >= batch => {
                let remedy = "must have one for each problem, or no batch dimension";
                Err(Error::value("mixtures to start from", batch, remedy))
            }
            Some(_) => Ok(self.data.frame.enter(&mixture.parameters(self.problem)?)),
            None => Ok(self.data.frame.enter(&mixture.parameters(0)?)),
        }
    }
}

/// The rows of [`Start::EvenRows`].
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
        return Err(Error::value(
            "number of rows to start from",
            given.len(),
            remedy,
        ));
    }
    match given.iter().find(|i| **i >= rows) {
        None => Ok(()),
        Some(i) => {
            let remedy = format!("must be below the number of rows, {rows}");
            Err(Error::value("row to start from", i, remedy))
        }
    }
}
