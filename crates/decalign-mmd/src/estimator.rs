//! Biased or not.

/// How means over pairs within a sample are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Estimator {
    /// All n^2 pairs, each point with itself included (V-statistic): never negative. With weights
    /// `sum w_i w_j k_ij / (sum w)^2`.
    Biased,
    /// The n (n - 1) pairs of different points (U-statistic): right on average, may be negative. With
    /// weights `sum_(i != j) w_i w_j k_ij / ((sum w)^2 - sum w^2)`.
    Unbiased,
}
