//! Estimators of kernel means.

/// How the mean over pairs within a sample is estimated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Estimator {
    /// The mean over all n^2 pairs, each point with itself included (V-statistic): never negative. With weights
    /// `sum w_i w_j k_ij / (sum w)^2`.
    Biased,
    /// The mean over the n (n - 1) pairs of different points (U-statistic): unbiased, so it may be negative. With
    /// weights `sum_(i != j) w_i w_j k_ij / ((sum w)^2 - sum w^2)`.
    Unbiased,
}

impl Estimator {
    /// The fewest points that it takes.
    pub(crate) fn min_points(self) -> usize {
        match self {
            Self::Biased => 1,
            Self::Unbiased => 2,
        }
    }
}
