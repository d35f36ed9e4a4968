//! The sizes of a convolution.

use candle_core::Tensor;

use crate::{Error, Result};

/// The sizes of a convolution over time.
#[derive(Clone, Copy)]
pub(super) struct Size {
    pub(super) batch: usize,
    pub(super) steps: usize,
    pub(super) channels: usize,
    pub(super) outputs: usize,
    pub(super) kernel: usize,
}

impl Size {
    pub(super) fn new(x: &Tensor, weight: &Tensor) -> Result<Self> {
        let (outputs, inner, kernel) = weight
            .dims3()
            .map_err(|_| Error::tensor("convolution weight", "shape (O, C, K)", weight.shape()))?;
        let (batch, steps, channels) = x
            .dims3()
            .map_err(|_| Error::tensor("convolution input", "shape (B, T, C)", x.shape()))?;
        if channels != inner {
            return Err(Error::tensor(
                "convolution input",
                format!("{inner} channels"),
                x.shape(),
            ));
        }
        if kernel == 0 || kernel > steps {
            return Err(Error::value(
                "convolution kernel size",
                kernel,
                format!("must be between 1 and the sequence length {steps}"),
            ));
        }
        Ok(Self {
            batch,
            steps,
            channels,
            outputs,
            kernel,
        })
    }

    /// Positions of the kernel.
    pub(super) fn length(self) -> usize {
        self.steps + 1 - self.kernel
    }
}
