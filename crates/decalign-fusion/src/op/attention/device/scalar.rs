//! Attention of f32 and f64 on devices.

use candle_core::{DType, Tensor};
use decalign_core::device::{Backend, Launch, Memory, Program, chacha};
use decalign_core::op::{Backward, InputGradients, record_one};
use decalign_core::{Error, Result};

use super::{Call, LANES, MAX_HEAD};
use crate::attention_shape::AttentionShape;
use crate::mask::Mask;

/// The constants of a program.
#[derive(Clone, Copy)]
struct Variant {
    head: usize,
    value_head: usize,
    masked: bool,
    biased: bool,
    dropout: bool,
    /// True if the gradient of the bias is needed.
    bias_gradient: bool,
}

impl Variant {
    /// Lanes that share a row: each holds at most 16 elements of a head in f64, 32 in f32, so that operands and sums stay in registers.
    fn team(&self, dtype: DType) -> usize {
        let each = 128 / dtype.size_in_bytes();
        self.head
            .max(self.value_head)
            .div_ceil(each)
            .next_power_of_two()
    }

    /// Teams that share a row: several for narrow heads, as long as the rows that they read are in different banks.
    fn split(&self, dtype: DType) -> usize {
        match (self.team(dtype), self.head.max(self.value_head)) {
            (1, ..=12) => 4,
            (1, ..=16) => 2,
            _ => 1,
        }
    }

    fn rows(&self, dtype: DType) -> usize {
        LANES / self.team(dtype) / self.split(dtype)
    }

    /// Rows of the other side in shared memory at a time: at most 24 KiB for both operands, so that two groups fit a multiprocessor.
    fn tile(&self, dtype: DType) -> usize {
        let team = self.team(dtype);
        let width = self.head.next_multiple_of(team) + self.value_head.next_multiple_of(team);
        let row = width * dtype.size_in_bytes();
        [32, 16]
            .into_iter()
            .find(|n| n * row <= 24 << 10)
            .unwrap_or(8)
    }

    fn program(&self, dtype: DType) -> Result<Program> {
        Ok(Program::new("attention", include_str!("scalar.cu"), dtype)?
            .after(chacha::SOURCE)
            .lanes(LANES)
            .constant("SPLIT", self.split(dtype))
            .constant("HEAD", self.head)
            .constant("VALUE_HEAD", self.value_head)
            .constant("TEAM", self.team(dtype))
            .constant("TILE", self.tile(dtype))
            .constant("MASKED", usize::from(self.masked))
            .constant("BIASED", usize::from(self.biased))
            .constant("DROPOUT", usize::from(self.dropout))
            .constant("BIAS_GRADIENT", usize::from(self.bias_gradient)))
    }
}

/// Programs of heads of this width, without and with mask, bias and dropout: for checks without a device.
pub(crate) fn programs(head: usize, dtype: DType) -> Result<Vec<Program>> {
    let variant = |all| Variant {
        head,
        value_head: head,
        masked: all,
        biased: all,
        dropout: all,
        bias_gradient: all,
    };
    [false, true]
        .map(|all| variant(all).program(dtype))
        .into_iter()
        .collect()
}

/// True if heads are narrow enough for [`attention`].
pub(crate) fn supports(shape: AttentionShape) -> bool {
    shape.head() <= MAX_HEAD && shape.value_head() <= MAX_HEAD
}

struct ScalarCall {
    call: Call,
    variant: Variant,
    bias_strides: [usize; 4],
}

/// See [`super::super::attention`].
pub(crate) fn attention(
    backend: &Backend,
    qkv: [&Tensor; 3],
    shape: AttentionShape,
    mask: &Mask,
) -> Result<Tensor> {
    let (dtype, bias) = (qkv[0].dtype(), mask.bias.as_ref());
    let variant = Variant {
        head: shape.head(),
        value_head: shape.value_head(),
        masked: mask.keys.is_some(),
        biased: bias.is_some(),
        dropout: mask.drop.is_some(),
        bias_gradient: bias.is_some_and(Tensor::track_op),
    };
    let call = ScalarCall {
        call: Call::new(backend, shape, variant.program(dtype)?, mask),
        variant,
        bias_strides: bias.map_or(Ok([0; 4]), strides)?,
    };
    let [mut out, mut logs] = call.call.outputs(dtype, dtype)?;
    let launch = call
        .launch("forward", shape.queries, qkv, bias)?
        .output(&mut out)
        .output(&mut logs);
    call.arguments(launch)?.run(backend)?;
    let logs = logs.into_tensor();
    let inputs: Vec<&Tensor> = qkv.into_iter().chain(&mask.bias).collect();
    record_one("attention", &inputs, out.into(), move |b| {
        call.backward(b, &logs)
    })
}

/// The strides of a contiguous bias of rank 4; 0 where it is broadcast.
fn strides(bias: &Tensor) -> Result<[usize; 4]> {
    let (b, h, l, s) = bias.dims4()?;
    let steps = [h * l * s, l * s, s, 1];
    let sizes = [b, h, l, s];
    Ok(std::array::from_fn(|i| {
        if sizes[i] == 1 { 0 } else { steps[i] }
    }))
}

impl ScalarCall {
    fn launch(
        &self,
        function: &'static str,
        rows: usize,
        qkv: [&Tensor; 3],
        bias: Option<&Tensor>,
    ) -> Result<Launch<'_>> {
        let rows_per_group = self.variant.rows(qkv[0].dtype());
        self.call
            .launch(function, (rows, rows_per_group), qkv)?
            .input_or_none(bias)
    }

    fn arguments<'a>(&self, launch: Launch<'a>) -> Result<Launch<'a>> {
        let scale = 1.0 / (self.call.shape.head() as f64).sqrt();
        self.call.arguments(launch, scale, &self.bias_strides)
    }

    fn backward(&self, b: &Backward, logs: &Tensor) -> Result<InputGradients> {
        let (shape, backend) = (self.call.shape, &self.call.backend);
        let qkv @ [q, k, v] = [&b.inputs[0], &b.inputs[1], &b.inputs[2]];
        let (bias, g, dtype) = (b.inputs.get(3), b.gradient(0)?, q.dtype());
        let memory = |x: &Tensor| Memory::new(backend, dtype, x.shape());
        let (mut dq, mut dk, mut dv) = (memory(q)?, memory(k)?, memory(v)?);
        let mut offs = Memory::new(backend, dtype, (shape.batch, shape.heads, shape.queries))?;
        let pairs = (shape.batch, shape.heads, shape.queries, shape.keys);
        let mut d_logits = match self.variant.bias_gradient {
            true => Memory::new(backend, dtype, pairs)?,
            false => Memory::new(backend, dtype, 1)?,
        };
        let launch = self
            .launch("backward_queries", shape.queries, qkv, bias)?
            .input(&g)?
            .input(logs)?
            .input(&b.outputs[0])?
            .output(&mut dq)
            .output(&mut d_logits)
            .output(&mut offs);
        self.arguments(launch)?.run(backend)?;
        let launch = self
            .launch("backward_keys", shape.keys, qkv, bias)?
            .input(&g)?
            .input(logs)?
            .input(&offs.into_tensor())?
            .output(&mut dk)
            .output(&mut dv);
        self.arguments(launch)?.run(backend)?;
        let mut gradients: InputGradients =
            [dq, dk, dv].map(|memory| Some(memory.into_tensor())).into();
        if let Some(bias) = bias {
            gradients.push(match self.variant.bias_gradient {
                true => Some(bias_gradient(&d_logits.into_tensor(), bias)?),
                false => None,
            });
        }
        Ok(gradients)
    }
}

/// The gradients of all logits, summed over the dimensions in which the bias is broadcast.
fn bias_gradient(d_logits: &Tensor, bias: &Tensor) -> Result<Tensor> {
    let mut sum = d_logits.clone();
    for dim in 0..bias.rank() {
        if bias.dim(dim)? == 1 && sum.dim(dim)? != 1 {
            sum = sum.sum_keepdim(dim)?;
        }
    }
    match sum.dims() == bias.dims() {
        true => Ok(sum),
        false => Err(Error::tensor("attention bias", "rank 4", bias.shape())),
    }
}
