//! The activation and dropout that follow an affine map in the same pass.

use crate::random::Stream;

/// A rectifier, and dropout after it.
#[derive(Clone, Copy)]
pub(super) struct Gate {
    pub(super) drop: Option<(f64, Stream)>,
}
