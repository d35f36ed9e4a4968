//! Kernel sums on devices, in a few launches; the host does not wait for them.

mod centre;
mod layout;
mod programs;

use candle_core::{DType, Shape as Dims, Tensor};
use decalign_core::Result;
use decalign_core::device::{Backend, Launch, Memory, Program, bf16x3, pairs};
use decalign_core::op::record_one;

use super::plan::KernelPlan;
use crate::estimator::Estimator;
use crate::kernel::{Feature, Kernel};
use crate::sample::{self, Sample};
use crate::statistic::Statistic;
use centre::{centre, centre_program, concatenate};
use layout::DeviceLayout;
use programs::Specialised;
use programs::{DIFFERENCES, DOT, LARGEST, SQUARED};

/// Lanes of the kernels that go through rows.
const LANES: usize = 256;
/// The largest number of rows whose distances come from differences: centring would take longer.
const FEW: usize = 256;
/// Groups that fill a large device.
const GROUPS: usize = 264;
/// Coordinates of a group of the kernel `backward`.
const COORDINATES: usize = 64;

/// Programs that compute features in one way.
struct Variant {
    sums: Program,
    backward: Program,
    /// Sums take the points in three bf16 parts, kept in `table`.
    in_parts: bool,
    table: Option<Tensor>,
}

/// The state that the forward and the backward pass share.
struct PairwiseRun {
    backend: Backend,
    /// One variant, or two: each launch leaves the work to one of them by the largest norm.
    variants: Vec<Variant>,
    layout: DeviceLayout,
    functionals: usize,
    kernels: usize,
    width: usize,
    diagonal: f64,
    points: Tensor,
    norms: Tensor,
    /// The largest norms and the limit that choose between two variants.
    largest_norms: Option<Tensor>,
    limit: f64,
    numbers: Tensor,
    layout_numbers: Tensor,
}

/// The values of a statistic, with gradients to the points; `None` without a device kernel for it: with weights, learned
/// bandwidths, products of kernels or the cosine.
///
/// Nothing is read back: an overflow gives infinity or NaN instead of an error.
pub(crate) fn evaluate(
    backend: &Backend,
    statistic: &Statistic,
    samples: &[Sample],
) -> Result<Option<Tensor>> {
    let width = sample::check(samples, 2, statistic.estimator.min_points())?;
    if samples.iter().any(|s| s.weights.is_some()) {
        return Ok(None);
    }
    let Some(specialised) = Specialised::new(&KernelPlan::new(&statistic.kernels, true)) else {
        return Ok(None);
    };
    let run = PairwiseRun::new(backend, statistic, &specialised, samples, width)?;
    let values = run.values(statistic)?;
    let points: Vec<&Tensor> = samples.iter().map(|s| &s.points).collect();
    let value = record_one("mmd", &points, values.into(), move |b| {
        let all = run.backward(&b.gradient(0)?)?;
        let each = run.layout.rows.windows(2);
        each.map(|w| Ok(Some(all.narrow(0, w[0], w[1] - w[0])?)))
            .collect()
    })?;
    Ok(Some(value))
}

impl PairwiseRun {
    fn new(
        backend: &Backend,
        statistic: &Statistic,
        specialised: &Specialised,
        samples: &[Sample],
        width: usize,
    ) -> Result<Self> {
        let sizes: Vec<usize> = samples.iter().map(|s| s.points.dims()[0]).collect();
        let pooled: Vec<Tensor> = samples.iter().map(|s| s.points.detach()).collect();
        let pooled = concatenate(backend, &pooled, width)?;
        let dtype = pooled.dtype();
        let layout = DeviceLayout::new(statistic, &sizes, pairs::side(dtype));
        let mut numbers = specialised.numbers.clone();
        numbers.extend(layout.weights(statistic));
        let count = numbers.len();
        let numbers = match dtype {
            DType::F64 => Tensor::from_vec(numbers, count, pooled.device())?,
            _ => {
                let single: Vec<f32> = numbers.into_iter().map(|v| v as f32).collect();
                Tensor::from_vec(single, count, pooled.device())?
            }
        };
        let layout_numbers = layout.tensor(&pooled)?;
        let (mut measures, mut centred) = (vec![specialised.measure()], None);
        if specialised.feature == Feature::Squared {
            measures = vec![DIFFERENCES];
            if pooled.dims()[0] > FEW {
                measures.push(SQUARED);
            }
        }
        if measures.len() > 1 || specialised.feature == Feature::CentredDot {
            centred = Some(centre(backend, &pooled)?);
        }
        let variant = |measure: usize| -> Result<Variant> {
            let products = matches!(measure, SQUARED | DOT);
            let in_parts = products && bf16x3::supports(backend, dtype, width);
            Ok(Variant {
                sums: specialised.sums(measure, (dtype, width), in_parts)?,
                backward: specialised.backward(measure, (dtype, width))?,
                in_parts,
                table: None,
            })
        };
        let variants = measures
            .into_iter()
            .map(variant)
            .collect::<Result<Vec<_>>>()?;
        let (points, norms, largest_norms) = match centred {
            Some([points, norms, largest_norms]) => (points, norms, Some(largest_norms)),
            None => (pooled.clone(), pooled, None),
        };
        let mut run = Self {
            backend: backend.clone(),
            largest_norms: largest_norms.filter(|_| variants.len() > 1),
            variants,
            layout,
            functionals: statistic.functionals.len(),
            kernels: specialised.kernels,
            width,
            limit: specialised.limit(dtype),
            diagonal: match statistic.estimator {
                Estimator::Biased => 0.5,
                Estimator::Unbiased => 0.0,
            },
            points,
            norms,
            numbers,
            layout_numbers,
        };
        run.split()?;
        Ok(run)
    }

    /// Splits the points into parts for variants that take parts.
    fn split(&mut self) -> Result<()> {
        let tiles = DeviceLayout::last(&self.layout.tiles);
        for variant in self.variants.iter_mut().filter(|variant| variant.in_parts) {
            let size = tiles * bf16x3::tile_size(self.width);
            let mut table = Memory::new(&self.backend, DType::BF16, size)?;
            Launch::new(&variant.sums, "split", tiles)
                .input(&self.points)?
                .input(&self.layout_numbers)?
                .output(&mut table)
                .count(self.width)?
                .count(self.layout.samples())?
                .run(&self.backend)?;
            variant.table = Some(table.into_tensor());
        }
        Ok(())
    }

    fn memory(&self, shape: impl Into<Dims>) -> Result<Memory> {
        Memory::new(&self.backend, self.points.dtype(), shape)
    }

    /// The largest norms and their number, 0 where there is one variant.
    fn largest_norms(&self) -> (&Tensor, usize) {
        match &self.largest_norms {
            Some(largest_norms) => (largest_norms, largest_norms.elem_count()),
            None => (&self.norms, 0),
        }
    }

    fn values(&self, statistic: &Statistic) -> Result<Memory> {
        let (samples, pairs) = (self.layout.samples(), self.layout.pairs.len());
        let tasks = DeviceLayout::last(&self.layout.tasks);
        let (largest_norms, bounds) = self.largest_norms();
        let mut parts = self.memory((tasks, self.kernels))?;
        for variant in &self.variants {
            let mut launch = Launch::new(&variant.sums, "sums", tasks)
                .input(variant.table.as_ref().unwrap_or(&self.points))?;
            if variant.in_parts {
                launch = launch.large(bf16x3::shared_bytes(self.width));
            }
            launch
                .input(&self.norms)?
                .input(&self.numbers)?
                .input(&self.layout_numbers)?
                .input(largest_norms)?
                .output(&mut parts)
                .count(self.width)?
                .count(samples)?
                .count(pairs)?
                .count(self.layout.chain)?
                .real(self.diagonal)
                .count(bounds)?
                .real(self.limit)
                .run(&self.backend)?;
        }
        let floor = statistic.squares && statistic.estimator == Estimator::Biased;
        let mut sums = self.memory((self.kernels, pairs))?;
        let mut values = match statistic.scalar {
            true => self.memory(())?,
            false => self.memory(self.kernels * self.functionals)?,
        };
        Launch::new(&self.variants[0].sums, "values", self.kernels)
            .input(&parts.into_tensor())?
            .input(&self.numbers)?
            .input(&self.layout_numbers)?
            .output(&mut sums)
            .output(&mut values)
            .count(samples)?
            .count(pairs)?
            .count(self.functionals)?
            .real(if floor { 0.0 } else { -LARGEST })
            .run(&self.backend)?;
        Ok(values)
    }

    /// The gradient of all points, given that of the values.
    fn backward(&self, outer: &Tensor) -> Result<Tensor> {
        let (samples, rows) = (self.layout.samples(), DeviceLayout::last(&self.layout.rows));
        let tiles = DeviceLayout::last(&self.layout.tiles);
        let blocks = tiles * self.width.div_ceil(COORDINATES);
        // Split columns where tiles of rows alone do not fill a device.
        let splits = (4 * GROUPS / blocks).clamp(1, tiles.min(8));
        let mut gathered = self.memory((splits, rows, self.width))?;
        let mut masses = self.memory((splits, rows))?;
        let (largest_norms, bounds) = self.largest_norms();
        for Variant { backward, .. } in &self.variants {
            Launch::new(backward, "backward", blocks * splits)
                .input(&self.points)?
                .input(&self.norms)?
                .input(&self.numbers)?
                .input(&self.layout_numbers)?
                .input(largest_norms)?
                .input(outer)?
                .output(&mut gathered)
                .output(&mut masses)
                .count(self.width)?
                .count(samples)?
                .count(self.layout.pairs.len())?
                .count(self.functionals)?
                .count(splits)?
                .real(self.diagonal)
                .count(bounds)?
                .real(self.limit)
                .run(&self.backend)?;
        }
        let (gathered, masses) = (gathered.into_tensor(), masses.into_tensor());
        let mut dx = self.memory((rows, self.width))?;
        let groups = (rows * self.width).div_ceil(pairs::LANES);
        for Variant { backward, .. } in &self.variants {
            Launch::new(backward, "gradient", groups)
                .input(&self.points)?
                .input(&gathered)?
                .input(&masses)?
                .input(largest_norms)?
                .output(&mut dx)
                .count(rows)?
                .count(self.width)?
                .count(splits)?
                .count(bounds)?
                .real(self.limit)
                .run(&self.backend)?;
        }
        Ok(dx.into_tensor())
    }
}

/// The programs of common kernels.
pub(crate) fn programs() -> Result<Vec<Program>> {
    let mut all = Vec::new();
    let one = |kernel: Kernel| vec![kernel];
    let gaussian = |l: f64| Kernel::gaussian_length_scale(l);
    let kernels = [
        one(Kernel::gaussian_variance(1.0)?),
        one((gaussian(0.5)? + gaussian(1.0)?) + (gaussian(2.0)? + gaussian(4.0)?)),
        vec![gaussian(0.5)?, gaussian(1.0)?, gaussian(2.0)?],
        one(Kernel::laplace(1.0)?),
        one(Kernel::energy()),
        one(Kernel::rational_quadratic(1.0, 1.0)?),
        one(Kernel::polynomial(3, 1.0, 1.0)?),
    ];
    for dtype in [DType::F32, DType::F64] {
        all.push(centre_program(dtype)?);
        for kernels in &kernels {
            if let Some(specialised) = Specialised::new(&KernelPlan::new(kernels, true)) {
                let measure = specialised.measure();
                let others = if measure == SQUARED {
                    &[DIFFERENCES][..]
                } else {
                    &[]
                };
                for measure in [&[measure], others].concat() {
                    all.push(specialised.sums(measure, (dtype, 64), false)?);
                    all.push(specialised.backward(measure, (dtype, 64))?);
                }
                if dtype == DType::F32 && matches!(measure, SQUARED | DOT) {
                    all.push(specialised.sums(measure, (dtype, 64), true)?);
                }
            }
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests;
