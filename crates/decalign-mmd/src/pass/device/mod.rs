//! Kernel sums on devices: a few launches, for which the host does not wait.

mod layout;
mod leaves;
mod samples;

use candle_core::{DType, Shape as Dims, Tensor};
use decalign_core::Result;
use decalign_core::device::{Backend, Launch, Memory, Program, pairs, parts};
use decalign_core::op::record_one;

use super::program;
use crate::estimator::Estimator;
use crate::kernel::{Feature, Kernel};
use crate::sample::{self, Sample};
use crate::statistic::Statistic;
use layout::Layout;
pub(crate) use leaves::Leaves;
use leaves::{DIFFERENCES, DOT, LARGEST, SQUARED};
use samples::{centre, centre_program, pool};

/// Lanes of the kernels that go through rows.
const LANES: usize = 256;
/// Rows up to which distances are sums of squared differences: centring would take longer.
const FEW: usize = 256;
/// Groups that fill a large device.
const GROUPS: usize = 264;
/// Coordinates of a group of `pull`.
const COORDINATES: usize = 64;

/// How pairs of points are measured.
struct Way {
    sums: Program,
    pull: Program,
    /// Whether sums take the points in parts, and these once they are there.
    in_parts: bool,
    table: Option<Tensor>,
}

/// What both directions read.
struct Run {
    backend: Backend,
    /// One way, or two of which each launch leaves the work to one.
    ways: Vec<Way>,
    layout: Layout,
    functionals: usize,
    kernels: usize,
    width: usize,
    diagonal: f64,
    points: Tensor,
    norms: Tensor,
    /// The largest norms, where two programs share the work, and what decides between them.
    longest: Option<Tensor>,
    limit: f64,
    numbers: Tensor,
    places: Tensor,
}

/// The values of a statistic, with gradients to the points; `None` where there is no kernel for it: with weights, learned
/// lengths, products of kernels, the cosine.
///
/// Nothing is read back: what overflows is infinite or NaN, and no error.
pub(crate) fn evaluate(
    backend: &Backend,
    statistic: &Statistic,
    samples: &[Sample],
) -> Result<Option<Tensor>> {
    let least = match statistic.estimator {
        Estimator::Biased => 1,
        Estimator::Unbiased => 2,
    };
    let width = sample::check(samples, 2, least)?;
    if samples.iter().any(|s| s.weights.is_some()) {
        return Ok(None);
    }
    let Some(leaves) = Leaves::new(&program::Program::new(&statistic.kernels, true)) else {
        return Ok(None);
    };
    let run = Run::new(backend, statistic, &leaves, samples, width)?;
    let values = run.values(statistic)?;
    let points: Vec<&Tensor> = samples.iter().map(|s| &s.points).collect();
    let value = record_one("mmd", &points, values.into(), move |b| {
        let all = run.pull(&b.gradient(0)?)?;
        let each = run.layout.rows.windows(2);
        each.map(|w| Ok(Some(all.narrow(0, w[0], w[1] - w[0])?)))
            .collect()
    })?;
    Ok(Some(value))
}

impl Run {
    fn new(
        backend: &Backend,
        statistic: &Statistic,
        leaves: &Leaves,
        samples: &[Sample],
        width: usize,
    ) -> Result<Self> {
        let sizes: Vec<usize> = samples.iter().map(|s| s.points.dims()[0]).collect();
        let pooled: Vec<Tensor> = samples.iter().map(|s| s.points.detach()).collect();
        let pooled = pool(backend, &pooled, width)?;
        let dtype = pooled.dtype();
        let layout = Layout::new(statistic, &sizes, pairs::side(dtype));
        let mut numbers = leaves.numbers.clone();
        numbers.extend(layout.weights(statistic));
        let count = numbers.len();
        let numbers = match dtype {
            DType::F64 => Tensor::from_vec(numbers, count, pooled.device())?,
            _ => {
                let single: Vec<f32> = numbers.into_iter().map(|v| v as f32).collect();
                Tensor::from_vec(single, count, pooled.device())?
            }
        };
        let places = layout.tensor(&pooled)?;
        let (mut measures, mut centred) = (vec![leaves.measure()], None);
        if leaves.feature == Feature::Squared {
            measures = vec![DIFFERENCES];
            if pooled.dims()[0] > FEW {
                measures.push(SQUARED);
            }
        }
        if measures.len() > 1 || leaves.feature == Feature::CentredDot {
            centred = Some(centre(backend, &pooled)?);
        }
        let way = |measure: usize| -> Result<Way> {
            let products = matches!(measure, SQUARED | DOT);
            let in_parts = products && parts::takes(backend, dtype, width);
            Ok(Way {
                sums: leaves.sums(measure, (dtype, width), in_parts)?,
                pull: leaves.pull(measure, (dtype, width))?,
                in_parts,
                table: None,
            })
        };
        let ways = measures.into_iter().map(way).collect::<Result<Vec<_>>>()?;
        let (points, norms, longest) = match centred {
            Some([points, norms, longest]) => (points, norms, Some(longest)),
            None => (pooled.clone(), pooled, None),
        };
        let mut run = Self {
            backend: backend.clone(),
            longest: longest.filter(|_| ways.len() > 1),
            ways,
            layout,
            functionals: statistic.functionals.len(),
            kernels: leaves.kernels,
            width,
            limit: leaves.limit(dtype),
            diagonal: match statistic.estimator {
                Estimator::Biased => 0.5,
                Estimator::Unbiased => 0.0,
            },
            points,
            norms,
            numbers,
            places,
        };
        run.split()?;
        Ok(run)
    }

    /// The points in parts for the sums that take them so.
    fn split(&mut self) -> Result<()> {
        let tiles = Layout::last(&self.layout.tiles);
        for way in self.ways.iter_mut().filter(|way| way.in_parts) {
            let size = tiles * parts::tile_size(self.width);
            let mut table = Memory::new(&self.backend, DType::BF16, size)?;
            Launch::new(&way.sums, "split", tiles)
                .input(&self.points)?
                .input(&self.places)?
                .output(&mut table)
                .count(self.width)?
                .count(self.layout.samples())?
                .run(&self.backend)?;
            way.table = Some(table.into_tensor());
        }
        Ok(())
    }

    fn memory(&self, shape: impl Into<Dims>) -> Result<Memory> {
        Memory::new(&self.backend, self.points.dtype(), shape)
    }

    /// What decides between programs, and how many numbers it is.
    fn longest(&self) -> (&Tensor, usize) {
        match &self.longest {
            Some(longest) => (longest, longest.elem_count()),
            None => (&self.norms, 0),
        }
    }

    fn values(&self, statistic: &Statistic) -> Result<Memory> {
        let (samples, pairs) = (self.layout.samples(), self.layout.pairs.len());
        let tasks = Layout::last(&self.layout.tasks);
        let (longest, bounds) = self.longest();
        let mut parts = self.memory((tasks, self.kernels))?;
        for way in &self.ways {
            let mut launch = Launch::new(&way.sums, "sums", tasks)
                .input(way.table.as_ref().unwrap_or(&self.points))?;
            if way.in_parts {
                launch = launch.large(parts::room(self.width));
            }
            launch
                .input(&self.norms)?
                .input(&self.numbers)?
                .input(&self.places)?
                .input(longest)?
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
        Launch::new(&self.ways[0].sums, "values", self.kernels)
            .input(&parts.into_tensor())?
            .input(&self.numbers)?
            .input(&self.places)?
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
    fn pull(&self, outer: &Tensor) -> Result<Tensor> {
        let (samples, rows) = (self.layout.samples(), Layout::last(&self.layout.rows));
        let tiles = Layout::last(&self.layout.tiles);
        let blocks = tiles * self.width.div_ceil(COORDINATES);
        // Columns are shared out where rows alone do not fill a device.
        let splits = (4 * GROUPS / blocks).clamp(1, tiles.min(8));
        let mut gathered = self.memory((splits, rows, self.width))?;
        let mut masses = self.memory((splits, rows))?;
        let (longest, bounds) = self.longest();
        for Way { pull, .. } in &self.ways {
            Launch::new(pull, "pull", blocks * splits)
                .input(&self.points)?
                .input(&self.norms)?
                .input(&self.numbers)?
                .input(&self.places)?
                .input(longest)?
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
        for Way { pull, .. } in &self.ways {
            Launch::new(pull, "gradient", groups)
                .input(&self.points)?
                .input(&gathered)?
                .input(&masses)?
                .input(longest)?
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
            if let Some(leaves) = Leaves::new(&program::Program::new(kernels, true)) {
                let measure = leaves.measure();
                let others = if measure == SQUARED {
                    &[DIFFERENCES][..]
                } else {
                    &[]
                };
                for measure in [&[measure], others].concat() {
                    all.push(leaves.sums(measure, (dtype, 64), false)?);
                    all.push(leaves.pull(measure, (dtype, 64))?);
                }
                if dtype == DType::F32 && matches!(measure, SQUARED | DOT) {
                    all.push(leaves.sums(measure, (dtype, 64), true)?);
                }
            }
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use decalign_core::device::emulator::{available, emulated};
    use decalign_core::random::Stream;

    use super::*;
    use crate::statistic::Functional;

    #[test]
    fn tasks_of_several_tiles() -> Result<()> {
        if !available() {
            return Ok(());
        }
        let statistic = Statistic {
            kernels: vec![Kernel::gaussian_length_scale(1.0)?],
            estimator: Estimator::Biased,
            functionals: vec![Functional::mmd(0, 1, 1.0)],
            squares: true,
            scalar: true,
        };
        let Some(leaves) = Leaves::new(&program::Program::new(&statistic.kernels, true)) else {
            return Err(decalign_core::Error::value(
                "leaves",
                "none",
                "a Gaussian is one",
            ));
        };
        for (dtype, tolerance) in [(DType::F64, 1e-13), (DType::F32, 2e-6)] {
            // Some tiles each.
            let (sizes, side) = ([300, 140], pairs::side(dtype));
            let each = sizes.iter().zip(0..);
            let samples = each.map(|(n, i)| -> Result<Tensor> {
                let points = Stream::new(8, i).normal_tensor(&[*n, 2])?;
                Ok(points.to_dtype(dtype)?)
            });
            let samples = samples.collect::<Result<Vec<Tensor>>>()?;
            let samples: Vec<Sample> = samples.iter().map(Sample::from).collect();
            let value = |chain: usize| -> Result<f64> {
                emulated(chain as u64, || {
                    let Some(backend) = Backend::of(&samples[0].points)? else {
                        return Ok(f64::NAN);
                    };
                    let mut run = Run::new(&backend, &statistic, &leaves, &samples, 2)?;
                    run.layout = Layout::chained(&statistic, &sizes, side, chain);
                    run.places = run.layout.tensor(&run.points)?;
                    run.split()?;
                    let value = run.values(&statistic)?.into_tensor();
                    Ok(value.to_dtype(DType::F64)?.to_scalar()?)
                })
            };
            let want = value(1)?;
            for chain in [2, 3, 8] {
                assert!((value(chain)? - want).abs() < tolerance);
            }
        }
        Ok(())
    }
}
