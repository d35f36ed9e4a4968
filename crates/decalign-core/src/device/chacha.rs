//! The random numbers of [`crate::random`] inside kernels.

use super::Launch;
use crate::random::Stream;

/// Source to put before a kernel that drops out: see [`Program::after`](super::Program::after).
pub const SOURCE: &str = include_str!("prelude/chacha.h");

impl Launch<'_> {
    /// The five arguments that `CHACHA_KEY` declares: the generator of a stream.
    pub fn stream(mut self, stream: Stream) -> Self {
        for word in stream.key() {
            self = self.long(word);
        }
        self.long(stream.number())
    }
}
