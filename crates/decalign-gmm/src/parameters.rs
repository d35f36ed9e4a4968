//! The parameters of a mixture and the factors of its covariances. They are few, so they are kept in f64.

use decalign_core::{Error, Result, cholesky};

use crate::covariance::Covariance;

/// Weights, means and covariances; also gradients with respect to them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct MixtureParameters {
    pub(crate) kind: Covariance,
    pub(crate) width: usize,
    pub(crate) weights: Vec<f64>,
    /// Row after row.
    pub(crate) means: Vec<f64>,
    /// In the order of [`Covariance::shape`].
    pub(crate) covariances: Vec<f64>,
}

/// Inverse factors of the covariances, from which densities are computed.
pub(crate) struct Factors {
    /// `L^-1` of a matrix a component (one if tied), or a reciprocal deviation a dimension.
    pub(crate) inverse: Vec<f64>,
    /// `log det` of each component's covariance.
    pub(crate) log_determinants: Vec<f64>,
}

impl MixtureParameters {
    pub(crate) fn zeros(kind: Covariance, components: usize, width: usize) -> Self {
        Self {
            kind,
            width,
            weights: vec![0.0; components],
            means: vec![0.0; components * width],
            covariances: vec![0.0; kind.size(components, width)],
        }
    }

    pub(crate) fn components(&self) -> usize {
        self.weights.len()
    }

    /// Weights, means and covariances.
    pub(crate) fn parts(&self) -> [&[f64]; 3] {
        [&self.weights, &self.means, &self.covariances]
    }

    pub(crate) fn parts_mut(&mut self) -> [&mut [f64]; 3] {
        [&mut self.weights, &mut self.means, &mut self.covariances]
    }

    /// Adds `factor` times `other`.
    pub(crate) fn add(&mut self, factor: f64, other: &Self) {
        for (to, from) in self.parts_mut().into_iter().zip(other.parts()) {
            to.iter_mut().zip(from).for_each(|(t, f)| *t += factor * f);
        }
    }

    pub(crate) fn is_finite(&self) -> bool {
        self.parts().into_iter().flatten().all(|v| v.is_finite())
    }

    /// The variance of a dimension of a component.
    pub(crate) fn variance(&self, k: usize, j: usize) -> f64 {
        let d = self.width;
        match self.kind {
            Covariance::Full => self.covariances[(k * d + j) * d + j],
            Covariance::Tied => self.covariances[j * d + j],
            Covariance::Diagonal => self.covariances[k * d + j],
            Covariance::Spherical => self.covariances[k],
        }
    }

    /// The symmetrised covariance matrix of a component, or its diagonal for the diagonal forms.
    pub(crate) fn matrix(&self, k: usize) -> Vec<f64> {
        let d = self.width;
        match self.kind {
            Covariance::Full => symmetric(&self.covariances[k * d * d..][..d * d], d),
            Covariance::Tied => symmetric(&self.covariances, d),
            Covariance::Diagonal => self.covariances[k * d..][..d].to_vec(),
            Covariance::Spherical => vec![self.covariances[k]; d],
        }
    }

    /// Replaces the covariance of a component; a tied covariance is that of all components.
    pub(crate) fn set_matrix(&mut self, k: usize, from: &[f64]) {
        let d = self.width;
        match self.kind {
            Covariance::Full => self.covariances[k * d * d..][..d * d].copy_from_slice(from),
            Covariance::Tied => self.covariances.copy_from_slice(from),
            Covariance::Diagonal => self.covariances[k * d..][..d].copy_from_slice(from),
            Covariance::Spherical => self.covariances[k] = from[0],
        }
    }

    /// The number of distinct covariances.
    pub(crate) fn matrices(&self) -> usize {
        match self.kind {
            Covariance::Tied => 1,
            _ => self.components(),
        }
    }

    /// Factors of the covariances. Standardised data has size 1, so a variance within the rounding of squares counts as 0;
    /// `epsilon` is that of the data's type.
    pub(crate) fn factors(&self, epsilon: f64) -> Result<Factors> {
        let d = self.width;
        let mut factors = Factors {
            inverse: Vec::new(),
            log_determinants: Vec::new(),
        };
        for k in 0..self.matrices() {
            let matrix = self.matrix(k);
            let log = match factor(&matrix, d, self.kind.is_matrix(), epsilon) {
                Ok((inverse, log)) => {
                    factors.inverse.extend(inverse);
                    log
                }
                Err(j) => return Err(self.singular(k, j)),
            };
            factors.log_determinants.push(log);
        }
        if self.kind == Covariance::Tied {
            let log = factors.log_determinants[0];
            factors.log_determinants = vec![log; self.components()];
        }
        Ok(factors)
    }

    fn singular(&self, k: usize, j: usize) -> Error {
        let name = match self.kind {
            Covariance::Tied => "the tied covariance".to_owned(),
            _ => format!("the covariance of component {k}"),
        };
        let remedy = format!(
            "singular in dimension {j} to the data's precision (its variance is {:e} of the data's range \
             squared): raise the regularisation, take fewer components, or another covariance",
            self.variance(k, j)
        );
        Error::value(name, "not positive definite", remedy)
    }
}

/// `L^-1` (or reciprocal deviations) and `log det`, or the dimension where there is none.
pub(crate) fn factor(
    matrix: &[f64],
    d: usize,
    full: bool,
    epsilon: f64,
) -> std::result::Result<(Vec<f64>, f64), usize> {
    let least = 16.0 * epsilon * epsilon;
    let variance = |j: usize| if full { matrix[j * d + j] } else { matrix[j] };
    if let Some(j) = (0..d).find(|j| !(variance(*j) > least && variance(*j).is_finite())) {
        return Err(j);
    }
    if !full {
        let log = matrix.iter().map(|v| v.ln()).sum();
        return Ok((matrix.iter().map(|v| v.sqrt().recip()).collect(), log));
    }
    let mut l = matrix.to_vec();
    cholesky::factor(&mut l, d, 10.0 * epsilon)?;
    Ok((cholesky::inverse(&l, d), cholesky::log_determinant(&l, d)))
}

pub(crate) fn symmetric(a: &[f64], d: usize) -> Vec<f64> {
    (0..d * d)
        .map(|at| 0.5 * (a[at] + a[at % d * d + at / d]))
        .collect()
}
