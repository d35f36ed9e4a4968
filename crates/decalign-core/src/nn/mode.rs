//! Whether a pass trains or predicts.

use candle_core::Tensor;

use super::dropout;
use crate::Result;
use crate::random::Stream;

/// Inference, or training with the stream that its dropout draws from.
///
/// Every place that drops out asks for a [`child`](Mode::child) of its own, so masks are
/// independent and do not depend on the order of evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Nothing is dropped.
    Inference,
    /// Dropout draws from this stream.
    Training(Stream),
}

impl Mode {
    /// The mode of part number `number` of whatever this mode is for.
    pub fn child(self, number: u64) -> Self {
        match self {
            Self::Inference => Self::Inference,
            Self::Training(stream) => Self::Training(stream.child(number)),
        }
    }

    /// The stream to drop out with, if anything is to be dropped at probability `p`.
    pub fn stream(self, p: f64) -> Option<Stream> {
        match self {
            Self::Training(stream) if p > 0.0 => Some(stream),
            _ => None,
        }
    }

    /// [`dropout`] in training, the input itself in inference.
    ///
    /// # Errors
    /// As [`dropout`].
    pub fn dropout(self, x: &Tensor, p: f64) -> Result<Tensor> {
        match self.stream(p) {
            Some(stream) => dropout(x, p, stream),
            None => Ok(x.clone()),
        }
    }
}
