//! Attention of 16-bit numbers on tensor cores.

use candle_core::{DType, Tensor};
use decalign_core::device::{Backend, Launch, Memory, Program, chacha};
use decalign_core::op::{Backward, InputGradients, record_one};
use decalign_core::{Error, Result};

use super::{Call, LANES, MAX_HEAD};
use crate::attention_shape::AttentionShape;
use crate::mask::Mask;

/// The inner size of one tensor core product; widths of heads are multiples of it.
const STEP: usize = 16;

/// The widest head for which the registers of a warp hold 32 rows instead of 16.
const NARROW: usize = 64;

/// Rows of a group with 32 rows a warp.
const TALL_ROWS: usize = 128;

/// Groups that fill a large device: two for each of 132 multiprocessors.
const MANY_GROUPS: usize = 264;

/// The constants of a program.
#[derive(Clone, Copy)]
struct Variant {
    dtype: DType,
    head: usize,
    value_head: usize,
    masked: bool,
    dropout: bool,
    /// True if a warp has 32 rows instead of 16.
    tall: bool,
}

/// How rows are split over warps and tiles.
#[derive(Clone, Copy)]
struct Tiling {
    /// The rows of a warp divided by 16.
    fold: usize,
    /// Rows of the other side in shared memory at a time: forward and backward.
    tile: usize,
    backward_tile: usize,
    /// Groups of a multiprocessor for which registers and shared memory are bounded.
    resident: usize,
    /// Elements of a row of both operands in shared memory, padded.
    pitches: usize,
}

impl Tiling {
    /// Rows of a group.
    fn rows(self) -> usize {
        LANES / 32 * STEP * self.fold
    }

    /// Bytes of shared memory for two tiles of `tile` rows and `resident` rows that stay.
    fn shared_bytes(self, tile: usize, resident: usize) -> usize {
        (2 * tile + resident) * self.pitches * DType::BF16.size_in_bytes()
    }
}

impl Variant {
    fn tiling(self) -> Tiling {
        // A lane holds (rows of its warp) (rows of a tile) / 32 products besides its rows, twice as many in the backward pass: tiles are as
        // large as registers allow.
        let (fold, tile, backward_tile, resident) = match self.head.max(self.value_head) {
            _ if self.tall && self.dropout => (2, 32, 16, 2),
            _ if self.tall => (2, 64, 32, 2),
            ..=NARROW => (1, 64, 32, 3),
            _ => (1, 32, 16, 2),
        };
        Tiling {
            fold,
            tile,
            backward_tile,
            resident,
            pitches: self.head + self.value_head + 16,
        }
    }

    fn program(self) -> Result<Program> {
        let tiling = self.tiling();
        let program = Program::new(
            "tensor_core_attention",
            include_str!("tensor_core.cu"),
            DType::F32,
        )?;
        Ok(program
            .with_tables(self.dtype)
            .after(chacha::SOURCE)
            .lanes(LANES)
            .constant("HEAD", self.head)
            .constant("VALUE_HEAD", self.value_head)
            .constant("FOLD", tiling.fold)
            .constant("RESIDENT", tiling.resident)
            .constant("TILE", tiling.tile)
            .constant("BACKWARD_TILE", tiling.backward_tile)
            .constant("MASKED", usize::from(self.masked))
            .constant("DROPOUT", usize::from(self.dropout)))
    }
}

/// Programs of heads of this width, without and with mask and dropout: for checks without a device.
pub(crate) fn programs(head: usize, dtype: DType) -> Result<Vec<Program>> {
    let variant = |all, tall| Variant {
        dtype,
        head,
        value_head: head,
        masked: all,
        dropout: all,
        tall,
    };
    let each = [(false, false), (true, false), (false, true), (true, true)];
    let each = each.into_iter().filter(|(_, tall)| !tall || head <= NARROW);
    each.map(|(all, tall)| variant(all, tall).program())
        .collect()
}

/// True if [`attention`] supports these heads and this mask on the device.
pub(crate) fn supports(backend: &Backend, shape: AttentionShape, mask: &Mask) -> bool {
    let fits = |width: usize| width.is_multiple_of(STEP) && width <= MAX_HEAD;
    backend.has_tables() && fits(shape.head()) && fits(shape.value_head()) && mask.bias.is_none()
}

/// True if groups of [`TALL_ROWS`] rows still fill a large device.
fn tall(shape: AttentionShape) -> bool {
    let rows = shape.queries.min(shape.keys);
    shape.batch * shape.heads * (rows / TALL_ROWS) >= MANY_GROUPS
}

struct TensorCoreCall {
    call: Call,
    tiling: Tiling,
}

/// A contiguous tensor that starts at a multiple of 16 bytes, the size of a read of the kernels.
fn aligned(x: &Tensor) -> Result<Tensor> {
    let x = x.detach().contiguous()?;
    match x.layout().start_offset() % 8 {
        0 => Ok(x),
        // `copy` would keep the offset.
        _ => Ok(x.force_contiguous()?),
    }
}

/// Attention of bf16 or f16 tensors that [`supports`] accepts.
pub(crate) fn attention(
    backend: &Backend,
    qkv: [&Tensor; 3],
    shape: AttentionShape,
    mask: &Mask,
) -> Result<Tensor> {
    let narrow = shape.head().max(shape.value_head()) <= NARROW;
    tiled(backend, qkv, shape, mask, narrow && tall(shape))
}

fn tiled(
    backend: &Backend,
    qkv: [&Tensor; 3],
    shape: AttentionShape,
    mask: &Mask,
    tall: bool,
) -> Result<Tensor> {
    let variant = Variant {
        dtype: qkv[0].dtype(),
        head: shape.head(),
        value_head: shape.value_head(),
        masked: mask.keys.is_some(),
        dropout: mask.drop.is_some(),
        tall,
    };
    let mut call = TensorCoreCall {
        call: Call::new(backend, shape, variant.program()?, mask),
        tiling: variant.tiling(),
    };
    let keys = mask.keys.as_ref().map(|keys| keys.to_dtype(DType::F32));
    call.call.keys = keys.transpose()?;
    let [mut out, mut logs] = call.call.outputs(variant.dtype, DType::F32)?;
    let launch = call
        .launch("forward", shape.queries, qkv)?
        .large(call.tiling.shared_bytes(call.tiling.tile, 0))
        .output(&mut out)
        .output(&mut logs);
    call.arguments(launch)?.run(backend)?;
    let logs = logs.into_tensor();
    record_one("attention", &qkv, out.into(), move |b| {
        call.backward(b, &logs)
    })
}

impl TensorCoreCall {
    fn launch(
        &self,
        function: &'static str,
        rows: usize,
        [q, k, v]: [&Tensor; 3],
    ) -> Result<Launch<'_>> {
        let qkv = [&aligned(q)?, &aligned(k)?, &aligned(v)?];
        self.call.launch(function, (rows, self.tiling.rows()), qkv)
    }

    /// The factor of the logits in base e.
    fn scale(&self) -> f64 {
        1.0 / (self.call.shape.head() as f64).sqrt()
    }

    fn arguments<'a>(&self, launch: Launch<'a>) -> Result<Launch<'a>> {
        let scale = self.scale() * std::f64::consts::LOG2_E;
        self.call.arguments(launch, scale, &[])
    }

    fn backward(&self, b: &Backward, logs: &Tensor) -> Result<InputGradients> {
        let (shape, tiling, backend) = (self.call.shape, self.tiling, &self.call.backend);
        let [q, k, v] = b.inputs else {
            return Err(Error::tensor("attention", "3 inputs", "others"));
        };
        let (qkv, given) = ([q, k, v], aligned(&b.gradient(0)?)?);
        let of_rows = (shape.batch, shape.heads, shape.queries);
        let mut offs = Memory::new(backend, DType::F32, of_rows)?;
        let memory = |x: &Tensor| Memory::new(backend, x.dtype(), x.shape());
        let (mut dq, mut dk, mut dv) = (memory(q)?, memory(k)?, memory(v)?);
        let launch = self
            .launch("backward_queries", shape.queries, qkv)?
            .large(tiling.shared_bytes(tiling.backward_tile, 0))
            .input(&given)?
            .input(logs)?
            .input(&aligned(&b.outputs[0])?)?
            .output(&mut dq)
            .output(&mut offs)
            .real(self.scale());
        self.arguments(launch)?.run(backend)?;
        let launch = self
            .launch("backward_keys", shape.keys, qkv)?
            .large(tiling.shared_bytes(tiling.backward_tile, tiling.rows()))
            .input(&given)?
            .input(logs)?
            .input(&offs.into_tensor())?
            .output(&mut dk)
            .output(&mut dv)
            .real(self.scale());
        self.arguments(launch)?.run(backend)?;
        let gradients = [dq, dk, dv];
        Ok(gradients.map(|memory| Some(memory.into_tensor())).into())
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};
    use decalign_core::device::emulator::{available, emulated};
    use decalign_core::random::Stream;

    use super::*;

    /// Values and gradients of groups of 128 rows and of 64.
    #[test]
    fn folded_rows_are_the_same() -> Result<()> {
        if !available() {
            return Ok(());
        }
        // More rows than a group has, tiles that end inside, heads of two widths.
        let (queries, keys, heads, [width, value_width]) = (130, 150, 1, [32, 16]);
        let table = |steps: usize, width: usize, number| -> Result<Var> {
            let x = Stream::new(5, number).normal_tensor(&[1, steps, width])?;
            Ok(Var::from_tensor(&x.to_dtype(DType::BF16)?)?)
        };
        let (q, k, v) = (
            table(queries, width, 1)?,
            table(keys, width, 2)?,
            table(keys, value_width, 3)?,
        );
        let outer = Stream::new(5, 4).normal_tensor(&[1, queries, value_width])?;
        let shape = AttentionShape::new(&q, &k, Some(&v), heads)?;
        let keys_mask: Vec<f32> = (0..keys)
            .map(|j| if j % 7 == 3 { 0.0 } else { 1.0 })
            .collect();
        let keys_mask = Tensor::from_vec(keys_mask, (1, keys), &Device::Cpu)?;
        for restricted in [false, true] {
            let mask = Mask {
                causal: restricted,
                bias: None,
                keys: restricted.then(|| keys_mask.clone()),
                drop: restricted.then(|| (0.3, Stream::new(2, 9))),
            };
            let run = |tall: bool| -> Result<Vec<Tensor>> {
                emulated(7, || {
                    let Some(backend) = Backend::of(&q)? else {
                        return Err(Error::value("backend", "none", "the emulator is one"));
                    };
                    let y = tiled(&backend, [&q, &k, &v], shape, &mask, tall)?;
                    let y = y.to_dtype(DType::F32)?;
                    let store = (&y * &outer.to_dtype(DType::F32)?)?.sum_all()?.backward()?;
                    let mut all = vec![y];
                    for x in [&q, &k, &v] {
                        let Some(dx) = store.get(x.as_tensor()) else {
                            return Err(Error::value("gradient", "none", "all have one"));
                        };
                        all.push(dx.to_dtype(DType::F32)?);
                    }
                    Ok(all)
                })
            };
            for (x, y) in run(false)?.iter().zip(run(true)?) {
                let off = (x - y)?.abs()?.max_all()?.to_scalar::<f32>()?;
                let size = x.abs()?.max_all()?.to_scalar::<f32>()?;
                assert!(size > 0.1 && off < 0.02 * size, "{off} of {size}");
            }
        }
        Ok(())
    }

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
