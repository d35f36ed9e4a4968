//! Kernel sums on devices: a few launches, for which the host does not wait.

use candle_core::{DType, Shape as Dims, Tensor};
use decalign_core::Result;
use decalign_core::device::{Backend, Launch, Memory, Program, pairs};
use decalign_core::op::record_one;

use super::program;
use crate::estimator::Estimator;
use crate::kernel::{Feature, Kernel, Shape};
use crate::sample::{self, Sample};
use crate::statistic::Statistic;

/// Leaves that the kernels count.
const LEAVES: usize = 8;
/// Lanes of the kernels that go through rows.
const LANES: usize = 256;
/// Rows up to which distances are sums of squared differences: centring would take longer.
const FEW: usize = 256;
/// Rows up to which their mean takes one launch.
const DIRECT: usize = 1024;
/// Samples that a launch puts one behind the other.
const POOLED: usize = 8;
/// Groups that fill a large device.
const GROUPS: usize = 264;
/// Coordinates of a group of `pull`.
const COORDINATES: usize = 64;
/// Below every value that a floor is to leave as it is.
const LARGEST: f64 = 1e38;
/// Measures of kernel.cu: squared distances from inner products, and from differences.
const SQUARED: usize = 0;
const DIFFERENCES: usize = 1;
/// What error of an exponent is put up with; that of the CPU.
const EXPONENT_ERROR: f64 = 1e-4;

/// Kernels as the programs know them.
#[derive(Clone, Debug)]
pub(crate) struct Leaves {
    feature: Feature,
    kernels: usize,
    /// Of every leaf its form and the kernel that it belongs to.
    forms: Vec<(usize, usize)>,
    /// Of every leaf its factor and two numbers.
    numbers: Vec<f64>,
    /// The largest slope, where it has a bound.
    steepness: Option<f64>,
}

impl Leaves {
    /// Of kernels that are sums of functions of one number; `None` of others.
    pub(crate) fn new(kernels: &program::Program) -> Option<Self> {
        let [feature] = kernels.features[..] else {
            return None;
        };
        let fits = kernels.leaves.len() <= LEAVES && !kernels.leaves.iter().any(|l| l.learned);
        if !fits || feature == Feature::Cosine {
            return None;
        }
        let (mut forms, mut numbers) = (Vec::new(), Vec::new());
        for (q, terms) in kernels.kernels.iter().enumerate() {
            for term in terms {
                let [leaf] = term.leaves[..] else {
                    return None;
                };
                let (form, a, b) = form(kernels.leaves[leaf].shape);
                forms.push((form, q));
                numbers.extend([term.factor, a, b]);
            }
        }
        Some(Self {
            feature,
            kernels: kernels.kernels.len(),
            forms,
            numbers,
            steepness: kernels.steepness(0),
        })
    }

    /// The squared length of points above which squared distances are not those from inner products.
    fn limit(&self, dtype: DType) -> f64 {
        let epsilon = match dtype {
            DType::F64 => f64::EPSILON,
            _ => f64::from(f32::EPSILON),
        };
        let limit = EXPONENT_ERROR / (4.0 * epsilon * self.steepness.unwrap_or(1.0));
        limit.min(LARGEST)
    }

    fn measure(&self) -> usize {
        match self.feature {
            Feature::Squared => SQUARED,
            Feature::SquaredExact => DIFFERENCES,
            Feature::CityBlock => 2,
            _ => 3,
        }
    }

    pub(crate) fn program(
        &self,
        measure: usize,
        (dtype, width): (DType, usize),
    ) -> Result<Program> {
        let program = Program::new("mmd", include_str!("pull.cu"), dtype)?
            .after(include_str!("sums.cu"))
            .after(include_str!("kernel.cu"));
        let packed = |bits: usize, number: fn(&(usize, usize)) -> usize| {
            let each = self.forms.iter().map(number).enumerate();
            each.fold(0, |all, (l, n)| all | n << (bits * l))
        };
        // The pooled points have memory of their own.
        Ok(pairs::with_pairs(program, width.is_multiple_of(4))
            .constant("MEASURE", measure)
            .constant("KERNELS", self.kernels)
            .constant("LEAVES", self.forms.len())
            .constant("FORMS", packed(6, |(form, _)| *form))
            .constant("OWNERS", packed(4, |(_, owner)| *owner)))
    }
}

/// The number of a form in kernel.cu, and what it takes.
fn form(shape: Shape) -> (usize, f64, f64) {
    match shape {
        Shape::Exponential { rate } | Shape::NormalExponential { rate } => {
            (0, -rate * std::f64::consts::LOG2_E, 0.0)
        }
        Shape::Root { rate } => (1, rate, 0.0),
        Shape::ThreeHalves { rate } => (2, rate, 0.0),
        Shape::FiveHalves { rate } => (3, rate, 0.0),
        Shape::InverseRoot { rate } => (4, rate, 0.0),
        Shape::InversePower { alpha, rate } => (5, rate, alpha),
        Shape::Distance => (6, 0.0, 0.0),
        Shape::Identity => (17, 1.0, 0.0),
        Shape::Polynomial {
            degree,
            slope,
            offset,
        } => (16 + degree as usize, slope, offset),
    }
}

pub(crate) fn centre_program(dtype: DType) -> Result<Program> {
    Ok(Program::new("mmd_centre", include_str!("centre.cu"), dtype)?.lanes(LANES))
}

/// Samples one below the other, and which pairs of them are summed over.
struct Layout {
    /// First rows.
    rows: Vec<usize>,
    /// First tiles.
    tiles: Vec<usize>,
    pairs: Vec<(usize, usize)>,
    /// First tasks of pairs.
    tasks: Vec<usize>,
    /// Tiles of columns that a task goes through.
    chain: usize,
}

impl Layout {
    fn new(statistic: &Statistic, sizes: &[usize], side: usize) -> Self {
        let all: usize = sizes.iter().map(|n| n.div_ceil(side)).sum();
        // Some 16 tasks for every group that a device runs at once.
        let chain = (all * all / 2 / (16 * GROUPS)).clamp(1, 64);
        Self::chained(statistic, sizes, side, chain)
    }

    fn chained(statistic: &Statistic, sizes: &[usize], side: usize, chain: usize) -> Self {
        let starts = |sizes: &mut dyn Iterator<Item = usize>| {
            let mut starts = vec![0];
            let mut sum = 0;
            starts.extend(sizes.map(|n| {
                sum += n;
                sum
            }));
            starts
        };
        let mut pairs: Vec<(usize, usize)> = Vec::new();
        for f in &statistic.functionals {
            pairs.extend(f.within.iter().map(|(i, _)| (*i, *i)));
            pairs.extend(f.across.iter().map(|(i, j, _)| (*i, *j)));
        }
        pairs.sort_unstable();
        pairs.dedup();
        let tiles = |i: usize| sizes[i].div_ceil(side);
        let tasks = |(i, j): &(usize, usize)| {
            let chunks = tiles(*j).div_ceil(chain);
            match i == j {
                true => chain * (chunks - 1) * chunks / 2 + tiles(*i),
                false => tiles(*i) * chunks,
            }
        };
        Self {
            rows: starts(&mut sizes.iter().copied()),
            tiles: starts(&mut (0..sizes.len()).map(tiles)),
            tasks: starts(&mut pairs.iter().map(tasks)),
            pairs,
            chain,
        }
    }

    fn samples(&self) -> usize {
        self.rows.len() - 1
    }

    fn last(starts: &[usize]) -> usize {
        starts.last().copied().unwrap_or(0)
    }

    /// As the kernels read it.
    fn tensor(&self, like: &Tensor) -> Result<Tensor> {
        let mut all: Vec<usize> = [&self.rows[..], &self.tiles, &self.tasks].concat();
        all.extend(self.pairs.iter().flat_map(|(i, j)| [*i, *j]));
        let mut starts = vec![0];
        let mut partners = Vec::new();
        for s in 0..self.samples() {
            for (p, (i, j)) in self.pairs.iter().enumerate() {
                if *i == s {
                    partners.extend([*j, p]);
                } else if *j == s {
                    partners.extend([*i, p]);
                }
            }
            starts.push(partners.len() / 2);
        }
        all.extend(starts);
        all.extend(partners);
        let all: Vec<u32> = all.into_iter().map(|n| n as u32).collect();
        Ok(Tensor::from_vec(all.clone(), all.len(), like.device())?)
    }

    /// What the functionals weigh the sums of pairs by, (functionals, pairs).
    fn weights(&self, statistic: &Statistic) -> Vec<f64> {
        let size = |i: usize| (self.rows[i + 1] - self.rows[i]) as f64;
        let place = |pair| self.pairs.binary_search(&pair).unwrap_or(0);
        let mut all = vec![0.0; statistic.functionals.len() * self.pairs.len()];
        for (f, row) in statistic
            .functionals
            .iter()
            .zip(all.chunks_exact_mut(self.pairs.len()))
        {
            for (i, c) in &f.within {
                let n = size(*i);
                let count = match statistic.estimator {
                    Estimator::Biased => n * n,
                    Estimator::Unbiased => n * (n - 1.0),
                };
                row[place((*i, *i))] += 2.0 * c / count;
            }
            for (i, j, c) in &f.across {
                row[place((*i, *j))] += c / (size(*i) * size(*j));
            }
        }
        all
    }
}

/// What both directions read.
struct Run {
    backend: Backend,
    /// One, or two of which each launch leaves the work to one.
    programs: Vec<Program>,
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
        let programs = measures.iter().map(|m| leaves.program(*m, (dtype, width)));
        let programs = programs.collect::<Result<Vec<_>>>()?;
        let (points, norms, longest) = match centred {
            Some([points, norms, longest]) => (points, norms, Some(longest)),
            None => (pooled.clone(), pooled, None),
        };
        Ok(Self {
            backend: backend.clone(),
            longest: longest.filter(|_| programs.len() > 1),
            programs,
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
        })
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
        for program in &self.programs {
            Launch::new(program, "sums", tasks)
                .input(&self.points)?
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
        Launch::new(&self.programs[0], "values", self.kernels)
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
        for program in &self.programs {
            Launch::new(program, "pull", blocks * splits)
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
        for program in &self.programs {
            Launch::new(program, "gradient", groups)
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

/// Samples one behind the other.
fn pool(backend: &Backend, samples: &[Tensor], width: usize) -> Result<Tensor> {
    if samples.len() > POOLED {
        return Ok(Tensor::cat(samples, 0)?.contiguous()?);
    }
    let (program, dtype) = (centre_program(samples[0].dtype())?, samples[0].dtype());
    let rows = samples.iter().map(|x| x.dims()[0]).sum::<usize>();
    let mut pooled = Memory::new(backend, dtype, (rows, width))?;
    let mut launch = Launch::new(&program, "pool", (rows * width).div_ceil(LANES));
    for i in 0..POOLED {
        launch = launch.input(samples.get(i).unwrap_or(&samples[0]))?;
    }
    launch = launch.output(&mut pooled);
    let mut end = 0;
    for i in 0..POOLED {
        end += samples.get(i).map_or(0, Tensor::elem_count) as u64;
        launch = launch.long(end);
    }
    launch.run(backend)?;
    Ok(pooled.into_tensor())
}

/// Rows without their mean, their squared lengths, and the largest of these, of some groups of rows.
fn centre(backend: &Backend, x: &Tensor) -> Result<[Tensor; 3]> {
    let (rows, width) = x.dims2()?;
    let program = centre_program(x.dtype())?;
    let memory = |shape: &[usize]| Memory::new(backend, x.dtype(), shape);
    let part = rows.div_ceil(GROUPS);
    let sums = match rows <= DIRECT {
        true => x.clone(),
        false => {
            let parts = rows.div_ceil(part);
            let mut sums = memory(&[parts, width])?;
            Launch::new(&program, "column_sums", parts)
                .input(x)?
                .output(&mut sums)
                .count(rows)?
                .count(width)?
                .count(part)?
                .run(backend)?;
            sums.into_tensor()
        }
    };
    let warps = LANES / 32;
    let mut means = memory(&[width])?;
    Launch::new(&program, "mean", width.div_ceil(warps))
        .input(&sums)?
        .output(&mut means)
        .count(sums.dims()[0])?
        .count(width)?
        .real(rows as f64)
        .run(backend)?;
    let (mut centred, mut norms) = (memory(&[rows, width])?, memory(&[rows])?);
    let groups = rows.div_ceil(warps).min(GROUPS);
    let mut longest = memory(&[groups])?;
    Launch::new(&program, "centre", groups)
        .input(x)?
        .input(&means.into_tensor())?
        .output(&mut centred)
        .output(&mut norms)
        .output(&mut longest)
        .count(rows)?
        .count(width)?
        .run(backend)?;
    Ok([centred, norms, longest].map(Memory::into_tensor))
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
                all.push(leaves.program(leaves.measure(), (dtype, 64))?);
                if leaves.measure() == SQUARED {
                    all.push(leaves.program(DIFFERENCES, (dtype, 64))?);
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
        // Five tiles and three.
        let (sizes, side) = ([300, 140], pairs::side(DType::F64));
        let each = sizes.iter().zip(0..);
        let samples = each.map(|(n, i)| Stream::new(8, i).normal_tensor(&[*n, 2]));
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
                Ok(run.values(&statistic)?.into_tensor().to_scalar()?)
            })
        };
        let want = value(1)?;
        for chain in [2, 3, 8] {
            assert!((value(chain)? - want).abs() < 1e-13);
        }
        Ok(())
    }
}
