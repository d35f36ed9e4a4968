//! The form of the covariances.

/// The form of the covariances of a mixture of K Gaussians in d dimensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Covariance {
    /// A matrix for each component, (K, d, d).
    Full,
    /// One matrix for all components, (d, d).
    Tied,
    /// A variance for each component and dimension, (K, d).
    Diagonal,
    /// One variance for each component, (K).
    Spherical,
}

impl Covariance {
    /// The shape of the covariances.
    pub fn shape(self, components: usize, width: usize) -> Vec<usize> {
        match self {
            Self::Full => vec![components, width, width],
            Self::Tied => vec![width, width],
            Self::Diagonal => vec![components, width],
            Self::Spherical => vec![components],
        }
    }

    /// The number of free parameters of a mixture: weights, means and covariances.
    ///
    /// ```
    /// use decalign_gmm::Covariance;
    /// assert_eq!(Covariance::Full.parameters(3, 4), 2 + 12 + 30);
    /// ```
    pub fn parameters(self, components: usize, width: usize) -> usize {
        let matrix = width * (width + 1) / 2;
        let covariances = match self {
            Self::Full => components * matrix,
            Self::Tied => matrix,
            Self::Diagonal => components * width,
            Self::Spherical => components,
        };
        components - 1 + components * width + covariances
    }

    /// True if covariances are matrices, not diagonals.
    pub(crate) fn is_matrix(self) -> bool {
        matches!(self, Self::Full | Self::Tied)
    }

    pub(crate) fn size(self, components: usize, width: usize) -> usize {
        self.shape(components, width).iter().product()
    }

    /// The name in files, which is scikit-learn's `covariance_type`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Tied => "tied",
            Self::Diagonal => "diag",
            Self::Spherical => "spherical",
        }
    }

    pub(crate) const ALL: [Self; 4] = [Self::Full, Self::Tied, Self::Diagonal, Self::Spherical];
}
