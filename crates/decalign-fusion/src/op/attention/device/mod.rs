//! Attention on devices: [`scalar`] computes in the dtype of the tensors, [`tensor_core`] multiplies 16-bit numbers.

use candle_core::{DType, Tensor};
use decalign_core::Result;
use decalign_core::device::{Backend, Launch, Memory, Program};
use decalign_core::random::Stream;

use crate::attention_shape::AttentionShape;
use crate::mask::Mask;

pub(crate) mod scalar;
pub(crate) mod tensor_core;

/// The widest head whose rows fit the registers of the kernels.
const MAX_HEAD: usize = 128;

/// Lanes of a group.
const LANES: usize = 128;

/// The arguments that the three kernels of one call share.
struct Call {
    backend: Backend,
    shape: AttentionShape,
    program: Program,
    causal: bool,
    /// (B, S), 0 where a key does not exist.
    keys: Option<Tensor>,
    drop: Option<(f64, Stream)>,
}

impl Call {
    fn new(backend: &Backend, shape: AttentionShape, program: Program, mask: &Mask) -> Self {
        Self {
            backend: backend.clone(),
            shape,
            program,
            causal: mask.causal,
            keys: mask.keys.clone(),
            drop: mask.drop,
        }
    }

    /// A launch with a group for each `rows_per_group` of `rows` of every head, and the inputs of all kernels.
    fn launch(
        &self,
        function: &'static str,
        (rows, rows_per_group): (usize, usize),
        qkv: [&Tensor; 3],
    ) -> Result<Launch<'_>> {
        let heads = self.shape.batch * self.shape.heads;
        let mut launch = Launch::new(
            &self.program,
            function,
            heads * rows.div_ceil(rows_per_group),
        );
        for x in qkv {
            launch = launch.input(x)?;
        }
        launch.input_or_none(self.keys.as_ref())
    }

    /// The scalar arguments that all kernels end with; `scale` multiplies the logits.
    fn arguments<'a>(
        &self,
        launch: Launch<'a>,
        scale: f64,
        bias_strides: &[usize],
    ) -> Result<Launch<'a>> {
        let mut launch = launch
            .count(self.shape.heads)?
            .count(self.shape.queries)?
            .count(self.shape.keys)?
            .count(usize::from(self.causal))?
            .real(scale);
        for stride in bias_strides {
            launch = launch.count(*stride)?;
        }
        let (p, stream) = self.drop.unwrap_or((0.0, Stream::new(0, 0)));
        Ok(launch
            .real(1.0 / (1.0 - p))
            .count(stream.choices(1.0 - p).below() as usize)?
            .stream(stream))
    }

    /// The results (B, L, value width), and the logarithms of the sums of weights, (B, H, L).
    fn outputs(&self, dtype: DType, log_dtype: DType) -> Result<[Memory; 2]> {
        let shape = self.shape;
        let rows = (shape.batch, shape.queries, shape.value_width);
        let logs = (shape.batch, shape.heads, shape.queries);
        Ok([
            Memory::new(&self.backend, dtype, rows)?,
            Memory::workspace(&self.backend, log_dtype, logs)?,
        ])
    }
}
