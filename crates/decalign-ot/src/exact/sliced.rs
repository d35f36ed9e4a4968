//! Sliced transport: the mean over random projections.

use candle_core::Tensor;
use decalign_core::gemm::{Matrix, Store, matmul};
use decalign_core::random::Stream;
use decalign_core::{Error, Result, parallel, simd};

use super::line::{numbers, record};
use super::masses::Masses;
use super::quantile_coupling::{LineTransport, Power, quantile_coupling};

/// The mean cost of transport between projections of points on random lines:
///
/// ```text
/// 1/L sum over l of W_p^p(<x, u_l>, <y, u_l>), u_l uniform on the unit sphere
/// ```
///
/// Without weights all points weigh 1/n and 1/m. The directions follow from the seed alone: those of
/// fewer projections are the first of more. Gradients reach points and weights, as
/// those of [`crate::wasserstein_1d`].
///
/// # Shapes
/// `x` (n, d) and `y` (m, d), f32 or f64, finite; weights (n) and (m), not negative, of equal
/// totals; `p >= 1`. The result is a scalar.
///
/// # Errors
/// When a shape or dtype does not fit, a number is not finite, a weight is negative, totals differ,
/// p is below 1, or there are no projections.
///
/// Source: Bonneel, Rabin, Peyre and Pfister (2015).
///
/// ```
/// use candle_core::{Device, Tensor};
/// use decalign_ot::sliced_wasserstein;
/// let x = Tensor::new(&[[0.0f64, 0.0], [2.0, 1.0]], &Device::Cpu)?;
/// let y = (&x + 3.0)?;
/// // A translation by (3, 3): its squared length over the number of dimensions.
/// let cost = sliced_wasserstein(&x, &y, None, 2.0, 2000, 7)?.to_scalar::<f64>()?;
/// assert!((cost - 9.0).abs() < 0.5);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn sliced_wasserstein(
    x: &Tensor,
    y: &Tensor,
    weights: Option<(&Tensor, &Tensor)>,
    p: f64,
    projections: usize,
    seed: u64,
) -> Result<Tensor> {
    let power = Power::new(p)?;
    let (n, m, d) = match (x.dims(), y.dims()) {
        ([n, d], [m, width]) if d == width => (*n, *m, *d),
        _ => {
            return Err(Error::tensor(
                "x and y",
                "(n, d) and (m, d)",
                (x.shape(), y.shape()),
            ));
        }
    };
    if projections == 0 {
        return Err(Error::value("projections", 0, "must be at least 1"));
    }
    let points = [numbers("x", x, x.dtype())?, numbers("y", y, x.dtype())?];
    let mut inputs = vec![x.clone(), y.clone()];
    let masses = match weights {
        None => Masses::uniform(n, m),
        Some((a, b)) => {
            inputs.extend([a.clone(), b.clone()]);
            Masses::checked(&vector("a", a, x)?, &vector("b", b, y)?, "")?
        }
    };
    let slices = Slices {
        points: &points,
        width: d,
        masses: &masses,
        power,
        projections,
        seed,
    };
    Ok(record("sliced_wasserstein", &inputs, vec![slices.mean()])?.reshape(())?)
}

fn vector(name: &str, weights: &Tensor, points: &Tensor) -> Result<Vec<f64>> {
    let n = points.dims()[0];
    match weights.dims() == [n] {
        true => numbers(name, weights, points.dtype()),
        false => Err(Error::tensor(name, format!("shape ({n})"), weights.shape())),
    }
}

/// Projections computed together: their lines are one matrix product.
const PIECE: usize = 64;

struct Slices<'a> {
    points: &'a [Vec<f64>; 2],
    width: usize,
    masses: &'a Masses,
    power: Power,
    projections: usize,
    seed: u64,
}

impl Slices<'_> {
    /// The mean cost and its derivatives, piece by piece in order.
    fn mean(&self) -> LineTransport {
        let [x, y] = self.points;
        let sizes = [x, y].map(|x| x.len() / self.width);
        let mut mean = LineTransport {
            cost: 0.0,
            x: vec![0.0; x.len()],
            y: vec![0.0; y.len()],
            a: vec![0.0; sizes[0]],
            b: vec![0.0; sizes[1]],
        };
        let share = 1.0 / self.projections as f64;
        for first in (0..self.projections).step_by(PIECE) {
            let count = PIECE.min(self.projections - first);
            let directions = self.directions(first, count);
            let lines = [self.project(x, &directions), self.project(y, &directions)];
            let [n, m] = sizes;
            let slices = parallel::map(count, count * (n + m) * 100, |l| {
                let (x, y) = (&lines[0][l * n..][..n], &lines[1][l * m..][..m]);
                quantile_coupling(x, y, self.masses, self.power)
            });
            self.backward(&mut mean.x, &directions, slices.iter().map(|l| &l.x), share);
            self.backward(&mut mean.y, &directions, slices.iter().map(|l| &l.y), share);
            for line in &slices {
                mean.cost += share * line.cost;
                accumulate(&mut mean.a, &line.a, share);
                accumulate(&mut mean.b, &line.b, share);
            }
        }
        mean
    }

    /// Unit vectors, one after the other.
    fn directions(&self, first: usize, count: usize) -> Vec<f64> {
        let each = (first..first + count).flat_map(|l| {
            let mut u = Stream::new(self.seed, l as u64).normal(self.width);
            let length = simd::sum_squares(&u).sqrt();
            match length > 0.0 {
                true => u.iter_mut().for_each(|v| *v /= length),
                false => u[0] = 1.0,
            }
            u
        });
        each.collect()
    }

    /// The points on each line, one line after the other.
    fn project(&self, x: &[f64], directions: &[f64]) -> Vec<f64> {
        let (d, n) = (self.width, x.len() / self.width);
        let count = directions.len() / d;
        let mut lines = vec![0.0; count * n];
        let points = Matrix::new(x, n, d).t();
        matmul(
            &mut lines,
            n,
            Matrix::new(directions, count, d),
            points,
            Store::Write,
        );
        lines
    }

    /// Adds the derivatives along the lines to those in space.
    fn backward<'a>(
        &self,
        to: &mut [f64],
        directions: &[f64],
        lines: impl Iterator<Item = &'a Vec<f64>>,
        share: f64,
    ) {
        let (d, n) = (self.width, to.len() / self.width);
        let lines: Vec<f64> = lines.flatten().map(|v| v * share).collect();
        let count = directions.len() / d;
        let along = Matrix::new(&lines, count, n).t();
        matmul(to, d, along, Matrix::new(directions, count, d), Store::Add);
    }
}

fn accumulate(to: &mut [f64], from: &[f64], share: f64) {
    to.iter_mut().zip(from).for_each(|(to, v)| *to += share * v);
}
