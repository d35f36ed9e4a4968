//! The sufficient statistics of a Gaussian mixture.

use crate::covariance::Covariance;

/// Weighted sums over samples, about a centre a component.
///
/// ```text
/// s0 = sum c,  s1 = sum c (x - m),  s2 = sum c (x - m)(x - m)^T
/// ```
#[derive(Clone, Debug)]
pub(crate) struct SufficientStatistics {
    pub(crate) s0: Vec<f64>,
    /// (K, d).
    pub(crate) s1: Vec<f64>,
    /// As [`SecondMoment`] says: (K, d), (K, d, d) of which the lower triangle counts, or empty.
    pub(crate) s2: Vec<f64>,
}

impl SufficientStatistics {
    pub(crate) fn zeros(components: usize, width: usize, second: SecondMoment) -> Self {
        let size = match second {
            SecondMoment::Matrix => components * width * width,
            SecondMoment::Diagonal => components * width,
            SecondMoment::None => 0,
        };
        Self {
            s0: vec![0.0; components],
            s1: vec![0.0; components * width],
            s2: vec![0.0; size],
        }
    }

    pub(crate) fn add(&mut self, other: &Self) {
        let to = [&mut self.s0, &mut self.s1, &mut self.s2];
        for (to, from) in to.into_iter().zip([&other.s0, &other.s1, &other.s2]) {
            to.iter_mut().zip(from).for_each(|(t, f)| *t += f);
        }
    }

    /// Copies lower triangles to upper ones.
    pub(crate) fn fill_upper(&mut self, d: usize) {
        for matrix in self.s2.chunks_exact_mut(d * d) {
            for i in 0..d {
                for j in 0..i {
                    matrix[j * d + i] = matrix[i * d + j];
                }
            }
        }
    }
}

/// Which second moments are summed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SecondMoment {
    Matrix,
    Diagonal,
    None,
}

impl SecondMoment {
    /// Those from which covariances of this form follow.
    pub(crate) fn of(kind: Covariance) -> Self {
        match kind.is_matrix() {
            true => Self::Matrix,
            false => Self::Diagonal,
        }
    }
}
