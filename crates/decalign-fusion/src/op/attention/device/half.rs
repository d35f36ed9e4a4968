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

/// The widest of which a warp holds more rows than it multiplies at a time.
const NARROW: usize = 64;

/// Lanes of a group, each warp of which has 16 rows or twice as many.
const LANES: usize = 128;

/// Rows of a group of twice as many, and how many such groups are many.
const TALL: usize = 128;
const MANY: usize = 264;

/// How one call is specialised.
#[derive(Clone, Copy)]
struct Shape {
    dtype: DType,
    head: usize,
    value_head: usize,
    masked: bool,
    dropout: bool,
    /// Whether there are rows for groups of twice as many.
    tall: bool,
}

/// How rows are cut.
#[derive(Clone, Copy)]
struct Tiling {
    /// Times that a warp has 16 rows.
    fold: usize,
    /// Rows that come by at a time, and on the way back.
    tile: usize,
    back_tile: usize,
    /// Groups that registers and shared memory are bounded for.
    resident: usize,
    /// Numbers of a row of both tables, as shared memory holds them.
    pitches: usize,
}

impl Tiling {
    /// Rows of a group.
    fn rows(self) -> usize {
        LANES / 32 * STEP * self.fold
    }

    /// Bytes of shared memory for tiles of so many rows, one and the next, beside rows that stay.
    fn room(self, tile: usize, stay: usize) -> usize {
        (2 * tile + stay) * self.pitches * DType::BF16.size_in_bytes()
    }
}

impl Shape {
    fn tiling(self) -> Tiling {
        // A lane holds half a number for each of its warp's rows and each of a tile's, beside its rows' own; on the way back twice as many of both.
        let (fold, tile, back_tile, resident) = match self.head.max(self.value_head) {
            _ if self.tall && self.dropout => (2, 32, 16, 2),
            _ if self.tall => (2, 64, 32, 2),
            ..=NARROW => (1, 64, 32, 3),
            _ => (1, 32, 16, 2),
        };
        Tiling {
            fold,
            tile,
            back_tile,
            resident,
            pitches: self.head + self.value_head + 16,
        }
    }

    fn program(self) -> Result<Program> {
        let tiling = self.tiling();
        let program = Program::new("half_attention", include_str!("half.cu"), DType::F32)?;
        Ok(program
            .with_tables(self.dtype)
            .after(chacha::SOURCE)
            .lanes(LANES)
            .constant("HEAD", self.head)
            .constant("VALUE_HEAD", self.value_head)
            .constant("FOLD", tiling.fold)
            .constant("RESIDENT", tiling.resident)
            .constant("TILE", tiling.tile)
            .constant("BACK_TILE", tiling.back_tile)
            .constant("MASKED", usize::from(self.masked))
            .constant("DROPOUT", usize::from(self.dropout)))
    }
}

/// Programs of heads of this width, with and without all that changes them: for checks without a device.
pub(crate) fn programs(head: usize, dtype: DType) -> Result<Vec<Program>> {
    let shape = |all, tall| Shape {
        dtype,
        head,
        value_head: head,
        masked: all,
        dropout: all,
        tall,
    };
    let each = [(false, false), (true, false), (false, true), (true, true)];
    let each = each.into_iter().filter(|(_, tall)| !tall || head <= NARROW);
    each.map(|(all, tall)| shape(all, tall).program()).collect()
}

/// Whether [`attention`] takes heads of such widths here, and all that restricts them.
pub(crate) fn takes(backend: &Backend, size: AttentionSize, restriction: &Restriction) -> bool {
    let fits = |width: usize| width.is_multiple_of(STEP) && width <= WIDEST;
    backend.has_tables()
        && fits(size.head())
        && fits(size.value_head())
        && restriction.bias.is_none()
}

/// Whether groups of twice as many rows fill a large device still.
fn tall(size: AttentionSize) -> bool {
    let rows = size.queries.min(size.keys);
    size.batch * size.heads * (rows / TALL) >= MANY
}

/// One call: what its three kernels share.
struct Call {
    backend: Backend,
    size: AttentionSize,
    program: Program,
    tiling: Tiling,
    causal: bool,
    key_mask: Option<Tensor>,
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
    x: [&Tensor; 3],
    size: AttentionSize,
    restriction: &Restriction,
) -> Result<Tensor> {
    let folds = size.head().max(size.value_head()) <= NARROW;
    cut(backend, x, size, restriction, folds && tall(size))
}

fn cut(
    backend: &Backend,
    [q, k, v]: [&Tensor; 3],
    size: AttentionSize,
    restriction: &Restriction,
    tall: bool,
) -> Result<Tensor> {
    let mask = restriction.key_mask.as_ref();
    let shape = Shape {
        dtype: q.dtype(),
        head: size.head(),
        value_head: size.value_head(),
        masked: mask.is_some(),
        dropout: restriction.drop.is_some(),
        tall,
    };
    let call = Call {
        backend: backend.clone(),
        size,
        program: shape.program()?,
        tiling: shape.tiling(),
        causal: restriction.causal,
        key_mask: mask.map(|mask| mask.to_dtype(DType::F32)).transpose()?,
        drop: restriction.drop,
    };
    let rows = (size.batch, size.queries, size.value_width);
    let mut out = Memory::new(backend, q.dtype(), rows)?;
    let of_rows = (size.batch, size.heads, size.queries);
    let mut logs = Memory::kept(backend, DType::F32, of_rows)?;
    let launch = call
        .launch("forward", size.queries, [q, k, v])?
        .large(call.tiling.room(call.tiling.tile, 0))
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
        let groups = self.size.batch * self.size.heads * rows.div_ceil(self.tiling.rows());
        let mut launch = Launch::new(&self.program, function, groups);
        for x in x {
            launch = launch.input(&aligned(x)?)?;
        }
        launch.input_or_none(self.key_mask.as_ref())
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
        let (size, tiling, backend) = (self.size, self.tiling, &self.backend);
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
            .large(tiling.room(tiling.back_tile, 0))
            .input(&given)?
            .input(logs)?
            .input(&aligned(&b.outputs[0])?)?
            .output(&mut dq)
            .output(&mut offs)
            .real(self.scale());
        self.rest(launch)?.run(backend)?;
        let launch = self
            .launch("back_keys", size.keys, x)?
            .large(tiling.room(tiling.back_tile, tiling.rows()))
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
    use candle_core::{Device, Var};
    use decalign_core::device::emulator::{available, emulated};

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
        let size = AttentionSize::new(&q, &k, Some(&v), heads)?;
        let mask: Vec<f32> = (0..keys)
            .map(|j| if j % 7 == 3 { 0.0 } else { 1.0 })
            .collect();
        let mask = Tensor::from_vec(mask, (1, keys), &Device::Cpu)?;
        for restricted in [false, true] {
            let restriction = Restriction {
                causal: restricted,
                bias: None,
                key_mask: restricted.then(|| mask.clone()),
                drop: restricted.then(|| (0.3, Stream::new(2, 9))),
            };
            let run = |folds: bool| -> Result<Vec<Tensor>> {
                emulated(7, || {
                    let Some(backend) = Backend::of(&q)? else {
                        return Err(Error::value("backend", "none", "the emulator is one"));
                    };
                    let y = cut(&backend, [&q, &k, &v], size, &restriction, folds)?;
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
