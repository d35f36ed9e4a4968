//! Squared Euclidean costs between many points, never stored: the kernels and their launches.

use candle_core::{DType, Tensor};
use decalign_core::Result;
use decalign_core::device::{Backend, Launch, Memory, Program, bf16x3, pairs};

/// Groups that an H200 runs at once: fewer leave it idle.
const AT_ONCE: usize = 264;
/// The largest number of splits of the columns.
pub(super) const SHARES: usize = 16;
/// Coordinates that one group of `backward` sums.
const COORDINATES: usize = 64;

/// Adds the loops over tiles of tables of one width, split into bf16 parts or not.
fn tiled(program: Program, width: usize, in_parts: bool) -> Program {
    let program = program.after(include_str!("partial_sums.cu"));
    match in_parts {
        true => bf16x3::with_bf16x3(program, width),
        // The points are scaled copies, at the start of their memory.
        false => pairs::with_pairs(program, width.is_multiple_of(4)),
    }
}

/// The program of sweeps and of the value.
pub(crate) fn sweep_program(dtype: DType, width: usize, in_parts: bool) -> Result<Program> {
    let program = Program::new("sinkhorn_points", include_str!("points.cu"), dtype)?;
    Ok(tiled(
        program.after(include_str!("transport_cost.cu")),
        width,
        in_parts,
    ))
}

/// The program of gradients with respect to points.
pub(crate) fn plan_program(dtype: DType, width: usize) -> Result<Program> {
    let program = Program::new("sinkhorn_plan", include_str!("points_backward.cu"), dtype)?;
    Ok(tiled(program, width, false))
}

/// One of the two measures.
#[derive(Clone)]
pub(super) struct Side {
    pub(super) count: usize,
    /// Centred and scaled.
    pub(super) points: Tensor,
    /// The points in the layout that sweeps read.
    pub(super) table: Tensor,
    /// Half the squared norms.
    pub(super) halves: Tensor,
    pub(super) weights: Tensor,
    /// The potential minus `halves`.
    pub(super) h: Tensor,
}

/// The arguments that all launches share.
#[derive(Clone)]
pub(super) struct Engine {
    pub(super) backend: Backend,
    pub(super) program: Program,
    pub(super) plan: Program,
    pub(super) width: usize,
    /// True if the tables are split into bf16 parts.
    pub(super) in_parts: bool,
    /// The largest number of splits of the columns.
    pub(super) most: usize,
}

/// The report (1, 4) and the sides (1, 3, n + m) of [`super::DeviceSolution`], and the marginal error.
pub(super) struct Finished {
    pub(super) report: Memory,
    pub(super) sides: Tensor,
    pub(super) error: Tensor,
}

impl Engine {
    /// Makes the tables that sweeps read from the points.
    pub(super) fn load(&self, sides: &mut [Side; 2]) -> Result<()> {
        for side in sides {
            side.table = match self.in_parts {
                true => bf16x3::split(&self.backend, &side.points)?,
                false => side.points.clone(),
            };
        }
        Ok(())
    }

    fn memory(&self, shape: &[usize]) -> Result<Memory> {
        Memory::new(&self.backend, self.program.dtype(), shape)
    }

    /// Groups with a lane for each of n numbers.
    fn groups(&self, n: usize) -> usize {
        n.div_ceil(self.program.group_size())
    }

    /// A launch over tiles of pairs of points.
    fn launch(
        &self,
        function: &'static str,
        groups: usize,
        [x, y]: [&Side; 2],
    ) -> Result<Launch<'_>> {
        let launch = Launch::new(&self.program, function, groups)
            .input(&x.table)?
            .input(&y.table)?;
        Ok(match self.in_parts {
            true => launch.large(bf16x3::shared_bytes(self.width)),
            false => launch,
        })
    }

    /// Partial sums of every row that one split of the columns gives.
    fn teams(&self) -> usize {
        match self.in_parts {
            true => bf16x3::TEAMS,
            false => 1,
        }
    }

    /// Tiles of rows, and the number of splits of the columns that takes the fewest rounds of groups.
    fn cut(&self, n: usize, m: usize) -> (usize, usize) {
        let side = pairs::side(self.program.dtype());
        let (rows, columns) = (n.div_ceil(side), m.div_ceil(side));
        // Rounds of groups, times the tiles of each.
        let time = |shares: &usize| (rows * shares).div_ceil(AT_ONCE) * columns.div_ceil(*shares);
        let shares = (1..=self.most.min(columns)).min_by_key(time).unwrap_or(1);
        (rows, shares)
    }

    pub(super) fn begin(&self, side: &Side) -> Result<Tensor> {
        let mut h = self.memory(&[side.count])?;
        Launch::new(&self.program, "begin", self.groups(side.count))
            .input(&side.weights)?
            .input(&side.halves)?
            .output(&mut h)
            .count(side.count)?
            .run(&self.backend)?;
        Ok(h.into_tensor())
    }

    pub(super) fn cool(&self, side: &Side, ratio: f64) -> Result<Tensor> {
        let mut h = self.memory(&[side.count])?;
        Launch::new(&self.program, "cool", self.groups(side.count))
            .input(&side.weights)?
            .input(&side.h)?
            .output(&mut h)
            .count(side.count)?
            .real(ratio)
            .run(&self.backend)?;
        Ok(h.into_tensor())
    }

    /// Scales the rows of `to`; returns partial sums of their errors before.
    pub(super) fn half_sweep(&self, to: &mut Side, from: &Side) -> Result<Tensor> {
        let (h, errors) = self.meet(&self.scan(to, from)?, to)?;
        to.h = h;
        Ok(errors)
    }

    pub(super) fn scan(&self, to: &Side, from: &Side) -> Result<Tensor> {
        let (rows, shares) = self.cut(to.count, from.count);
        let mut parts = self.memory(&[shares * self.teams(), 2, to.count])?;
        self.launch("scan", rows * shares, [to, from])?
            .input(&from.h)?
            .output(&mut parts)
            .count(to.count)?
            .count(from.count)?
            .count(self.width)?
            .count(shares)?
            .run(&self.backend)?;
        Ok(parts.into_tensor())
    }

    /// The next potential, and partial sums of the errors before.
    pub(super) fn meet(&self, parts: &Tensor, side: &Side) -> Result<(Tensor, Tensor)> {
        let groups = self.groups(side.count);
        let (mut next, mut errors) = (self.memory(&[side.count])?, self.memory(&[groups])?);
        Launch::new(&self.program, "meet", groups)
            .input(parts)?
            .input(&side.weights)?
            .input(&side.h)?
            .output(&mut next)
            .output(&mut errors)
            .count(side.count)?
            .count(parts.dim(0)?)?
            .run(&self.backend)?;
        Ok((next.into_tensor(), errors.into_tensor()))
    }

    /// The mass and the transport cost of every row, as partial sums over splits of the columns.
    pub(super) fn transport_cost(&self, x: &Side, y: &Side) -> Result<Tensor> {
        let (rows, shares) = self.cut(x.count, y.count);
        let mut parts = self.memory(&[shares * self.teams(), 2, x.count])?;
        self.launch("transport_cost", rows * shares, [x, y])?
            .input(&x.h)?
            .input(&y.h)?
            .input(&x.halves)?
            .input(&y.halves)?
            .output(&mut parts)
            .count(x.count)?
            .count(y.count)?
            .count(self.width)?
            .count(shares)?
            .run(&self.backend)?;
        Ok(parts.into_tensor())
    }

    pub(super) fn finish(
        &self,
        [x, y]: &[Side; 2],
        masses: &Tensor,
        columns: Option<&Tensor>,
        (epsilon, done): (f64, usize),
    ) -> Result<Finished> {
        let mut report = self.memory(&[1, 4])?;
        let mut sides = self.memory(&[1, 3, x.count + y.count])?;
        let mut error = self.memory(&[])?;
        Launch::new(&self.program, "finish", 1)
            .input(masses)?
            .input(&x.weights)?
            .input(&y.weights)?
            .input(&x.h)?
            .input(&y.h)?
            .input(&x.halves)?
            .input(&y.halves)?
            .input(columns.unwrap_or(&x.h))?
            .output(&mut report)
            .output(&mut sides)
            .output(&mut error)
            .count(x.count)?
            .count(y.count)?
            .count(masses.dim(0)?)?
            .count(columns.map_or(0, Tensor::elem_count))?
            .real(epsilon)
            .count(done)?
            .run(&self.backend)?;
        Ok(Finished {
            report,
            sides: sides.into_tensor(),
            error: error.into_tensor(),
        })
    }

    /// `outer factor (x_i sum_j P_ij - sum_j P_ij y_j)`, the gradient with respect to the points of `to`.
    pub(super) fn backward(
        &self,
        to: &Side,
        from: &Side,
        outer: &Tensor,
        factor: f64,
    ) -> Result<Tensor> {
        let (rows, shares) = self.cut(to.count, from.count);
        let blocks = self.width.div_ceil(COORDINATES);
        let mut parts = self.memory(&[shares, to.count, self.width])?;
        let mut masses = self.memory(&[shares, to.count])?;
        Launch::new(&self.plan, "backward", rows * shares * blocks)
            .input(&to.points)?
            .input(&from.points)?
            .input(&to.h)?
            .input(&from.h)?
            .output(&mut parts)
            .output(&mut masses)
            .count(to.count)?
            .count(from.count)?
            .count(self.width)?
            .count(shares)?
            .count(blocks)?
            .run(&self.backend)?;
        let mut slopes = self.memory(&[to.count, self.width])?;
        Launch::new(&self.plan, "slopes", self.groups(to.count * self.width))
            .input(&to.points)?
            .input(&parts.into_tensor())?
            .input(&masses.into_tensor())?
            .input(outer)?
            .output(&mut slopes)
            .count(to.count)?
            .count(self.width)?
            .count(shares)?
            .real(factor)
            .run(&self.backend)?;
        Ok(slopes.into_tensor())
    }
}

#[cfg(test)]
mod tests {
    use decalign_core::device::emulator::{available, emulated};
    use decalign_core::random::Stream;

    use super::*;

    /// A share of five tiles: columns without weight, small terms, smaller ones, then far larger ones, and all sorts.
    #[test]
    fn exponents_of_any_size() -> Result<()> {
        if !available() {
            return Ok(());
        }
        let (n, m, width) = (5, 600, 3);
        let normal = |rows: usize, i| Stream::new(4, i).normal_tensor(&[rows, width]);
        let (x, y) = (normal(n, 1)?, normal(m, 2)?);
        let h: Vec<f64> = (0..m)
            .map(|j| match j / 128 {
                0 => -1e30,
                1 => -300.0 - j as f64 % 7.0,
                2 => -310.0 - j as f64 % 5.0,
                3 => 200.0 - 3.0 * (j as f64 % 11.0),
                _ => [-1e30, 199.0, -400.0][j % 3],
            })
            .collect();
        for until in [256, 384, 600] {
            // Before the large ones come, the small ones are all there is.
            let known: Vec<f64> = (0..m)
                .map(|j| if j < until { h[j] } else { -1e30 })
                .collect();
            let h = Tensor::new(known.as_slice(), x.device())?;
            let cells = x.matmul(&y.t()?)?.broadcast_add(&h)?;
            let most = cells.max_keepdim(1)?;
            let powers = (cells.broadcast_sub(&most)? * std::f64::consts::LN_2)?.exp()?;
            let logs = (powers.sum(1)?.log()? / std::f64::consts::LN_2)?;
            let want = ((logs + most.squeeze(1)?)?.neg()? - (n as f64).log2())?;
            for (dtype, tolerance) in [(DType::F32, 2e-4), (DType::F64, 1e-11)] {
                let found = emulated(3, || next([&x, &y, &h], dtype))?;
                let off = (found.to_dtype(DType::F64)? - &want)?.abs()?.max_all()?;
                let off = off.to_scalar::<f64>()?;
                assert!(off < tolerance, "{until}, {dtype:?}: {off:e}");
            }
        }
        Ok(())
    }

    /// The potentials of x after those of y, all columns in one share.
    fn next([x, y, h]: [&Tensor; 3], dtype: DType) -> Result<Tensor> {
        let Some(backend) = Backend::of(x)? else {
            return Ok(h.clone());
        };
        let width = x.dim(1)?;
        let in_parts = bf16x3::supports(&backend, dtype, width);
        let engine = Engine {
            program: sweep_program(dtype, width, in_parts)?,
            plan: plan_program(dtype, width)?,
            backend,
            width,
            in_parts,
            most: 1,
        };
        let side = |points: &Tensor, h: &Tensor| -> Result<Side> {
            let count = points.dim(0)?;
            let weights = (Tensor::ones(count, dtype, points.device())? / count as f64)?;
            let points = points.to_dtype(dtype)?;
            Ok(Side {
                count,
                table: points.clone(),
                halves: weights.clone(),
                points,
                weights,
                h: h.to_dtype(dtype)?,
            })
        };
        let before = Tensor::zeros(x.dim(0)?, DType::F64, x.device())?;
        let mut sides = [side(x, &before)?, side(y, h)?];
        engine.load(&mut sides)?;
        let [to, from] = sides;
        Ok(engine.meet(&engine.scan(&to, &from)?, &to)?.0)
    }
}
