//! Unrolled fits on devices: one launch for all steps of up to three mixtures, another for their gradient.

use candle_core::{DType, Tensor};
use decalign_core::device::{Backend, Launch, Memory, Program};
use decalign_core::op::{Output, record};
use decalign_core::{Error, Result};

use super::settings::{UnrolledEm, UnrolledFit};

/// Most components of the kernels: one lane of a warp for each.
const MAX_COMPONENTS: usize = 32;
/// Most mixtures of a launch.
pub(super) const MIXTURES: usize = 3;
/// Results of a mixture: the four tensors of a fit, and the prototype masses.
const RESULTS: usize = 5;
/// Bytes of shared memory that every supported device has.
const SHARED: usize = 32 << 10;
const WARP: usize = 32;

/// The sizes of mixtures of one launch.
#[derive(Clone, Copy)]
struct Sizes {
    batch: usize,
    width: usize,
    k: usize,
    steps: usize,
}

impl Sizes {
    /// Elements that the lanes of a mixture exchange for this many rows: forward and backward pass.
    fn shared_elements(&self, rows: usize) -> [usize; 2] {
        let Self { width, k, .. } = *self;
        [
            rows * (width + k) + 4 * k * width + width + 2 * k,
            rows * (2 * width + 5 * k) + 5 * k * width + 3 * k,
        ]
    }

    /// Rows of the shared memory layout.
    fn rows(&self) -> usize {
        self.batch.next_multiple_of(WARP)
    }

    fn fits(&self, dtype: DType) -> bool {
        let most = self.shared_elements(self.rows()).into_iter().max();
        most.is_some_and(|n| n * dtype.size_in_bytes() <= SHARED)
    }

    /// Elements that a mixture keeps for its gradient.
    fn kept(&self) -> usize {
        let Self {
            batch,
            width,
            k,
            steps,
        } = *self;
        batch * width + (steps + 1) * (3 * k * width + 2 * k + batch * k) + k
    }

    fn program(&self, dtype: DType) -> Result<Program> {
        let fits = self.fits(dtype);
        let padded = self.k.next_power_of_two();
        Ok(
            Program::new("unrolled_em", include_str!("unrolled.cu"), dtype)?
                // f64 values take two registers each.
                .lanes(if dtype == DType::F64 { 256 } else { 512 })
                .constant("K", self.k)
                .constant("WIDTH", self.width)
                .constant("ROWS", if fits { self.rows() } else { 0 })
                .constant("FITS", usize::from(fits))
                .constant("PADDED", padded)
                .constant("SAMPLES", (WARP / padded).clamp(1, 2)),
        )
    }
}

/// The program with the default sizes of the model, for checks without a device.
pub(crate) fn program(dtype: DType) -> Result<Program> {
    let sizes = Sizes {
        batch: 32,
        width: 48,
        k: 6,
        steps: 5,
    };
    sizes.program(dtype)
}

/// True if [`fit`] supports these sizes: indices within a mixture have 32 bits.
pub(super) fn supports(settings: &UnrolledEm, batch: usize, width: usize) -> bool {
    let cells = batch.max(3 * settings.components).saturating_mul(width);
    settings.components <= MAX_COMPONENTS && cells.saturating_mul(4) < 1 << 31
}

/// Where [`UnrolledEm::initial_rows`] rounds up, one bit for each component.
fn rounded_up(settings: &UnrolledEm, batch: usize) -> u64 {
    let k = settings.components;
    if batch < k {
        return 0;
    }
    let starts = settings.initial_rows(batch).into_iter().enumerate();
    starts.fold(0, |bits, (j, start)| {
        bits | u64::from(start > j * (batch - 1) / (k.max(2) - 1)) << j
    })
}

/// Up to [`MIXTURES`] mixtures of one shape, (B, d), and their prototype masses, with gradients. Nothing is read back: overflow
/// gives infinities or NaN.
pub(super) fn fit(
    backend: &Backend,
    settings: &UnrolledEm,
    all: &[Tensor],
) -> Result<Vec<(UnrolledFit, Tensor)>> {
    let (batch, width) = all[0].dims2()?;
    let (k, floor, dtype) = (settings.components, settings.variance_floor, all[0].dtype());
    let sizes = Sizes {
        batch,
        width,
        k,
        steps: settings.iterations,
    };
    let (program, count, bits) = (
        sizes.program(dtype)?,
        all.len(),
        rounded_up(settings, batch),
    );
    let [workspace, workspace_backward] = match sizes.fits(dtype) {
        true => [0; 2],
        false => sizes.shared_elements(batch),
    };
    let shapes = [&[k][..], &[k, width], &[k, width], &[batch, k], &[k]];
    // For each result, one block for each mixture; unused mixtures get one element.
    let blocks = (0..RESULTS * MIXTURES).map(|at| match at % MIXTURES < count {
        true => Memory::new(backend, dtype, shapes[at / MIXTURES]),
        false => Memory::new(backend, dtype, 1),
    });
    let mut results = blocks.collect::<Result<Vec<_>>>()?;
    let mut kept = Memory::new(backend, dtype, count * (sizes.kept() + workspace))?;
    let mut launch = Launch::new(&program, "fit", count);
    for i in 0..MIXTURES {
        launch = launch.input(all.get(i).unwrap_or(&all[0]))?;
    }
    for result in &mut results {
        launch = launch.output(result);
    }
    launch
        .output(&mut kept)
        .count(batch)?
        .count(sizes.steps)?
        .long(bits)
        .real(floor)
        .run(backend)?;
    let kept = kept.into_tensor();
    let results = results.into_iter().enumerate();
    let real = results.filter(|(at, _)| at % MIXTURES < count);
    let outputs: Vec<Output> = real.map(|(_, result)| result.into()).collect();
    let (inputs, backend) = (all.iter().collect::<Vec<_>>(), backend.clone());
    let outputs = record("unrolled_em", &inputs, outputs, move |b| {
        let mut launch = Launch::new(&program, "fit_backward", count);
        let mut bits = bits;
        for at in 0..RESULTS * MIXTURES {
            let (part, i) = (at / MIXTURES, at % MIXTURES);
            let given = (i < count).then(|| b.gradients[part * count + i].as_ref());
            let given = given.flatten();
            bits |= u64::from(given.is_some()) << (32 + at);
            // Absent gradients are not read: any tensor will do.
            launch = launch.input(given.unwrap_or(&kept))?;
        }
        let numbers = batch * width;
        let mut dx = Memory::new(&backend, dtype, count * (numbers + workspace_backward))?;
        launch
            .input(&kept)?
            .output(&mut dx)
            .count(batch)?
            .count(sizes.steps)?
            .long(bits)
            .real(floor)
            .run(&backend)?;
        let dx = dx.into_tensor();
        let of_mixture = |i: usize| dx.narrow(0, i * numbers, numbers)?.reshape((batch, width));
        (0..count).map(|i| Ok(Some(of_mixture(i)?))).collect()
    })?;
    let part = |part: usize, i: usize| {
        let remedy = "one for each part of a fit";
        let found = outputs.get(part * count + i).cloned();
        found.ok_or_else(|| Error::value("outputs", outputs.len(), remedy))
    };
    let each = (0..count).map(|i| {
        let fit = UnrolledFit {
            weights: part(0, i)?,
            means: part(1, i)?,
            variances: part(2, i)?,
            responsibilities: part(3, i)?,
        };
        Ok((fit, part(4, i)?))
    });
    each.collect()
}
