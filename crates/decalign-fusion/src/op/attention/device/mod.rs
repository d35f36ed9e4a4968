//! Attention on devices.

use candle_core::{DType, Tensor};
use decalign_core::device::{Backend, Launch, Memory, Program, chacha};
use decalign_core::op::{Backward, InputGradients, record_one};
use decalign_core::random::Stream;
use decalign_core::{Error, Result};

use crate::size::{AttentionSize, Restriction};

pub(crate) mod half;

/// The widest head that the registers of a team hold.
const WIDEST: usize = 128;

/// Lanes of a group.
const LANES: usize = 128;

/// How one call is specialised.
#[derive(Clone, Copy)]
struct Shape {
    head: usize,
    value_head: usize,
    masked: bool,
    biased: bool,
    dropout: bool,
    /// Whether the gradient of the bias is wanted.
    slopes: bool,
}

impl Shape {
    /// Lanes that share a row: each then holds at most 16 numbers of a head in f64, 32 in f32.
    fn team(&self, dtype: DType) -> usize {
        let each = 128 / dtype.size_in_bytes();
        self.head
            .max(self.value_head)
            .div_ceil(each)
            .next_power_of_two()
    }

    /// Teams that share a row: several where they are single lanes, as long as what they read lies in different banks.
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

    /// Rows of the other side that shared memory holds at a time: 24 KiB of two tables.
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
        Ok(
            Program::new("attention", include_str!("attention.cu"), dtype)?
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
                .constant("WITH_SLOPES", usize::from(self.slopes)),
        )
    }
}

/// Programs of heads of this width, with and without all that changes them: for checks without a device.
pub(crate) fn programs(head: usize, dtype: DType) -> Result<Vec<Program>> {
    let shape = |all| Shape {
        head,
        value_head: head,
        masked: all,
        biased: all,
        dropout: all,
        slopes: all,
    };
    [false, true]
        .map(|all| shape(all).program(dtype))
        .into_iter()
        .collect()
}

/// Whether heads are narrow enough for [`attention`].
pub(super) fn takes(size: AttentionSize) -> bool {
    size.head() <= WIDEST && size.value_head() <= WIDEST
}

/// One call: what its three kernels share.
struct Call {
    backend: Backend,
    size: AttentionSize,
    shape: Shape,
    causal: bool,
    key_mask: Option<Tensor>,
    strides: [usize; 4],
    drop: Option<(f64, Stream)>,
}

/// See [`super::attention`].
pub(super) fn attention(
    backend: &Backend,
    [q, k, v]: [&Tensor; 3],
    size: AttentionSize,
    restriction: &Restriction,
) -> Result<Tensor> {
    let bias = restriction.bias.as_ref();
    let call = Call {
        backend: backend.clone(),
        size,
        shape: Shape {
            head: size.head(),
            value_head: size.value_head(),
            masked: restriction.key_mask.is_some(),
            biased: bias.is_some(),
            dropout: restriction.drop.is_some(),
            slopes: bias.is_some_and(Tensor::track_op),
        },
        causal: restriction.causal,
        key_mask: restriction.key_mask.clone(),
        strides: bias.map_or(Ok([0; 4]), strides)?,
        drop: restriction.drop,
    };
    let program = call.shape.program(q.dtype())?;
    let memory = |shape: (usize, usize, usize)| Memory::new(backend, q.dtype(), shape);
    let mut out = memory((size.batch, size.queries, size.value_width))?;
    let mut logs = Memory::kept(backend, q.dtype(), (size.batch, size.heads, size.queries))?;
    let blocks = size.queries.div_ceil(call.shape.rows(q.dtype()));
    let launch = Launch::new(&program, "forward", size.batch * size.heads * blocks)
        .input(q)?
        .input(k)?
        .input(v)?
        .input_or_none(call.key_mask.as_ref())?
        .input_or_none(bias)?
        .output(&mut out)
        .output(&mut logs);
    call.rest(launch)?.run(backend)?;
    let logs = logs.into_tensor();
    let inputs: Vec<&Tensor> = [q, k, v].into_iter().chain(&restriction.bias).collect();
    record_one("attention", &inputs, out.into(), move |b| {
        call.backward(b, &program, &logs)
    })
}

/// How far apart neighbours of a contiguous bias of rank 4 are along each dimension; 0 where it is shared.
fn strides(bias: &Tensor) -> Result<[usize; 4]> {
    let (b, h, l, s) = bias.dims4()?;
    let steps = [h * l * s, l * s, s, 1];
    let sizes = [b, h, l, s];
    Ok(std::array::from_fn(|i| {
        if sizes[i] == 1 { 0 } else { steps[i] }
    }))
}

impl Call {
    /// The numbers that all kernels end with.
    fn rest<'a>(&self, launch: Launch<'a>) -> Result<Launch<'a>> {
        let size = self.size;
        let mut launch = launch
            .count(size.heads)?
            .count(size.queries)?
            .count(size.keys)?
            .count(usize::from(self.causal))?
            .real(1.0 / (size.head() as f64).sqrt());
        for stride in self.strides {
            launch = launch.count(stride)?;
        }
        let (p, stream) = self.drop.unwrap_or((0.0, Stream::new(0, 0)));
        let below = stream.choices(1.0 - p).below();
        Ok(launch
            .real(1.0 / (1.0 - p))
            .count(below as usize)?
            .stream(stream))
    }

    fn backward(&self, b: &Backward, program: &Program, logs: &Tensor) -> Result<InputGradients> {
        let (size, backend) = (self.size, &self.backend);
        let [q, k, v] = [&b.inputs[0], &b.inputs[1], &b.inputs[2]];
        let g = b.gradient(0)?;
        let dtype = q.dtype();
        let rows = self.shape.rows(dtype);
        let many = size.batch * size.heads;
        let inputs = |function, groups| -> Result<Launch> {
            Launch::new(program, function, groups)
                .input(q)?
                .input(k)?
                .input(v)?
                .input_or_none(self.key_mask.as_ref())?
                .input_or_none(b.inputs.get(3))?
                .input(&g)?
                .input(logs)
        };
        let mut offs = Memory::new(backend, dtype, (size.batch, size.heads, size.queries))?;
        let mut dq = Memory::new(backend, dtype, q.shape())?;
        let all = (size.batch, size.heads, size.queries, size.keys);
        let mut d_bias = match self.shape.slopes {
            true => Memory::new(backend, dtype, all)?,
            false => Memory::new(backend, dtype, 1)?,
        };
        let launch = inputs("back_queries", many * size.queries.div_ceil(rows))?
            .input(&b.outputs[0])?
            .output(&mut dq)
            .output(&mut d_bias)
            .output(&mut offs);
        self.rest(launch)?.run(backend)?;
        let mut dk = Memory::new(backend, dtype, k.shape())?;
        let mut dv = Memory::new(backend, dtype, v.shape())?;
        let launch = inputs("back_keys", many * size.keys.div_ceil(rows))?
            .input(&offs.into_tensor())?
            .output(&mut dk)
            .output(&mut dv);
        self.rest(launch)?.run(backend)?;
        let mut gradients = vec![
            Some(dq.into_tensor()),
            Some(dk.into_tensor()),
            Some(dv.into_tensor()),
        ];
        if let Some(bias) = b.inputs.get(3) {
            gradients.push(match self.shape.slopes {
                true => Some(summed(&d_bias.into_tensor(), bias)?),
                false => None,
            });
        }
        Ok(gradients)
    }
}

/// Slopes of all weights, summed over what the bias is shared by.
fn summed(slopes: &Tensor, bias: &Tensor) -> Result<Tensor> {
    let mut sum = slopes.clone();
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
