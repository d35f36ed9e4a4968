//! Attention of 16-bit numbers on tensor cores.

use candle_core::{DType, Tensor};
use decalign_core::device::{Backend, Launch, Memory, Program, chacha};
use decalign_core::op::{Backward, InputGradients, record_one};
use decalign_core::random::Stream;
use decalign_core::{Error, Result};

use crate::size::{AttentionSize, Restriction};

/// Heads are of a multiple of it: what one product takes at a time.
const STEP: usize = 16;

/// The widest head that the registers of a warp hold.
const WIDEST: usize = 128;

/// Lanes of a group, each warp of which has 16 rows.
const LANES: usize = 128;

/// How one call is specialised.
#[derive(Clone, Copy)]
struct Shape {
    dtype: DType,
    head: usize,
    value_head: usize,
    masked: bool,
    dropout: bool,
}

impl Shape {
    fn program(self) -> Result<Program> {
        // A lane holds two sums a row of the tile, beside its rows' own numbers; on the way back twice as many of both.
        let (tile, resident) = match self.head.max(self.value_head) {
            ..=64 => (64, 3),
            _ => (32, 2),
        };
        let program = Program::new("half_attention", include_str!("half.cu"), DType::F32)?;
        Ok(program
            .with_tables(self.dtype)
            .after(chacha::SOURCE)
            .lanes(LANES)
            .constant("HEAD", self.head)
            .constant("VALUE_HEAD", self.value_head)
            .constant("RESIDENT", resident)
            .constant("TILE", tile)
            .constant("BACK_TILE", tile / 2)
            .constant("MASKED", usize::from(self.masked))
            .constant("DROPOUT", usize::from(self.dropout)))
    }
}

/// Programs of heads of this width, with and without all that changes them: for checks without a device.
pub(crate) fn programs(head: usize, dtype: DType) -> Result<Vec<Program>> {
    let shape = |all| Shape {
        dtype,
        head,
        value_head: head,
        masked: all,
        dropout: all,
    };
    [false, true]
        .into_iter()
        .map(|all| shape(all).program())
        .collect()
}

/// Whether [`attention`] takes heads of such widths here, and all that restricts them.
pub(crate) fn takes(backend: &Backend, size: AttentionSize, restriction: &Restriction) -> bool {
    let fits = |width: usize| width.is_multiple_of(STEP) && width <= WIDEST;
    backend.has_tables()
        && fits(size.head())
        && fits(size.value_head())
        && restriction.bias.is_none()
}

/// One call: what its three kernels share.
struct Call {
    backend: Backend,
    size: AttentionSize,
    program: Program,
    causal: bool,
    key_mask: Tensor,
    drop: Option<(f64, Stream)>,
}

/// Where a row of it starts is a multiple of 16 bytes, as the kernels read.
fn aligned(x: &Tensor) -> Result<Tensor> {
    let x = x.detach().contiguous()?;
    match x.layout().start_offset() % 8 {
        0 => Ok(x),
        // A copy would start where the view does.
        _ => Ok(x.force_contiguous()?),
    }
}

/// Attention of tensors of bf16 or f16, for which [`takes`].
pub(crate) fn attention(
    backend: &Backend,
    [q, k, v]: [&Tensor; 3],
    size: AttentionSize,
    restriction: &Restriction,
) -> Result<Tensor> {
    let none = || Tensor::zeros(1, DType::F32, q.device());
    let mask = restriction.key_mask.as_ref();
    let shape = Shape {
        dtype: q.dtype(),
        head: size.head(),
        value_head: size.value_head(),
        masked: mask.is_some(),
        dropout: restriction.drop.is_some(),
    };
    let call = Call {
        backend: backend.clone(),
        size,
        program: shape.program()?,
        causal: restriction.causal,
        key_mask: mask.map_or_else(none, |mask| mask.to_dtype(DType::F32))?,
        drop: restriction.drop,
    };
    let rows = (size.batch, size.queries, size.value_width);
    let mut out = Memory::new(backend, q.dtype(), rows)?;
    let of_rows = (size.batch, size.heads, size.queries);
    let mut logs = Memory::kept(backend, DType::F32, of_rows)?;
    let launch = call
        .launch("forward", size.queries, [q, k, v])?
        .output(&mut out)
        .output(&mut logs);
    call.rest(launch)?.run(backend)?;
    let logs = logs.into_tensor();
    record_one("attention", &[q, k, v], out.into(), move |b| {
        call.backward(b, &logs)
    })
}

impl Call {
    fn launch(&self, function: &'static str, rows: usize, x: [&Tensor; 3]) -> Result<Launch<'_>> {
        let groups = self.size.batch * self.size.heads * rows.div_ceil(LANES / 2);
        let mut launch = Launch::new(&self.program, function, groups);
        for x in x {
            launch = launch.input(&aligned(x)?)?;
        }
        launch.input(&self.key_mask)
    }

    /// What logits are multiplied by.
    fn scale(&self) -> f64 {
        1.0 / (self.size.head() as f64).sqrt()
    }

    /// The numbers that all kernels end with.
    fn rest<'a>(&self, launch: Launch<'a>) -> Result<Launch<'a>> {
        let (p, stream) = self.drop.unwrap_or((0.0, Stream::new(0, 0)));
        Ok(launch
            .count(self.size.heads)?
            .count(self.size.queries)?
            .count(self.size.keys)?
            .count(usize::from(self.causal))?
            .real(self.scale() * std::f64::consts::LOG2_E)
            .real(1.0 / (1.0 - p))
            .count(stream.choices(1.0 - p).below() as usize)?
            .stream(stream))
    }

    fn backward(&self, b: &Backward, logs: &Tensor) -> Result<InputGradients> {
        let (size, backend) = (self.size, &self.backend);
        let [q, k, v] = b.inputs else {
            return Err(Error::tensor("attention", "3 inputs", "others"));
        };
        let (x, given) = ([q, k, v], aligned(&b.gradient(0)?)?);
        let of_rows = (size.batch, size.heads, size.queries);
        let mut offs = Memory::new(backend, DType::F32, of_rows)?;
        let memory = |x: &Tensor| Memory::new(backend, x.dtype(), x.shape());
        let (mut dq, mut dk, mut dv) = (memory(q)?, memory(k)?, memory(v)?);
        let launch = self
            .launch("back_queries", size.queries, x)?
            .input(&given)?
            .input(logs)?
            .input(&aligned(&b.outputs[0])?)?
            .output(&mut dq)
            .output(&mut offs)
            .real(self.scale());
        self.rest(launch)?.run(backend)?;
        let launch = self
            .launch("back_keys", size.keys, x)?
            .input(&given)?
            .input(logs)?
            .input(&offs.into_tensor())?
            .output(&mut dk)
            .output(&mut dv)
            .real(self.scale());
        self.rest(launch)?.run(backend)?;
        let gradients = [dq, dk, dv];
        Ok(gradients.map(|memory| Some(memory.into_tensor())).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn views_that_start_anywhere_are_aligned() -> Result<()> {
        let flat = Tensor::arange(0f32, 33.0, &Device::Cpu)?;
        let view = flat.narrow(0, 1, 32)?.reshape((1, 2, 16))?;
        let whole = aligned(&view)?;
        assert_eq!(whole.layout().start_offset() % 8, 0);
        assert_eq!(whole.to_vec3::<f32>()?, view.to_vec3::<f32>()?);
        Ok(())
    }
}
