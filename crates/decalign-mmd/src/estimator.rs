//! Biased or not.

/// How means over pairs within a sample are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Estimator {
    /// All n^2 pairs, each point with itself included (V-statistic): never negative.
    Biased,
    /// The n (n - 1) pairs of different points (U-statistic): right on average, may be negative.
    Unbiased,
}
