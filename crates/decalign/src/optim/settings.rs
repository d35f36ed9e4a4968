//! The settings of Adam.

/// The settings of [`Adam`](super::Adam) that are constant during training.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct AdamSettings {
    /// Decay of the mean and of the mean square of gradients.
    pub betas: (f64, f64),
    /// Added to the root of the mean square.
    pub epsilon: f64,
    /// `weight_decay * parameter` is added to each gradient (L2, not decoupled).
    pub weight_decay: f64,
    /// The norm of all gradients together is clipped to this; infinite for none.
    pub clip: f64,
}

impl AdamSettings {
    /// PyTorch's betas and epsilon with the given decay and clip.
    pub fn new(weight_decay: f64, clip: f64) -> Self {
        Self {
            betas: (0.9, 0.999),
            epsilon: 1e-8,
            weight_decay,
            clip,
        }
    }
}
