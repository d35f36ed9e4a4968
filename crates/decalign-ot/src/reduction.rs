//! From dimensions to a cost.

/// How a cost gathers its dimensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reduction {
    /// The mean: costs do not grow with the width.
    Mean,
    /// The sum: the distance itself.
    Sum,
}

impl Reduction {
    /// What a sum over `width` dimensions is multiplied by.
    pub(crate) fn factor(self, width: usize) -> f64 {
        match self {
            Self::Mean => 1.0 / width as f64,
            Self::Sum => 1.0,
        }
    }
}
