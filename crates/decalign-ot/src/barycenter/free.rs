//! Barycentres whose points are free to move.

use candle_core::{DType, Tensor};
use decalign_core::{Error, Result};

use super::support::{Support, moments};
use crate::convergence::{Convergence, convergence_accessors};
use crate::geometry::Geometry;
use crate::linear::{LinearProblem, Sinkhorn, SinkhornSolution};
use crate::schedule::{Stopping, stopping_settings};
use crate::tensor_convert::{read, tensor};
use crate::validate;

/// The m points y that are nearest to several measures of points `x_k` with weights `a_k`:
///
/// ```text
/// min over y of  sum_k w_k OT(b at y, a_k at x_k),
/// OT = min over P with marginals b, a of  sum P_ij |y_i - x_j|^2 + eps KL(P | b x a)
/// ```
///
/// The weights b of the points are fixed. The solver alternates transport to every measure with moving each point to the
/// mean of the points that its mass goes to; the objective never rises. It has local minima, so the result depends on the
/// start. Entropy draws the points together; a large epsilon puts all of them at the common mean.
///
/// Source: Cuturi and Doucet (2014).
///
/// ```
/// use candle_core::{Device, Tensor};
/// use decalign_ot::{FreeSupportBarycenter, Support};
/// let a = Tensor::new(&[0.5f64, 0.5], &Device::Cpu)?;
/// let x = Tensor::new(&[[0f64], [1.0]], &Device::Cpu)?;
/// let measures = [(x.clone(), a.clone()), ((x + 4.0)?, a)];
/// let start = Support::drawn(&measures, &[0.5, 0.5], 2, 7)?;
/// let mean = FreeSupportBarycenter::new(0.01)?.solve(&measures, &[0.5, 0.5], &start)?;
/// let mut points = mean.points.flatten_all()?.to_vec1::<f64>()?;
/// points.sort_by(f64::total_cmp);
/// assert!(mean.converged() && (points[0] - 2.0).abs() < 1e-3 && (points[1] - 3.0).abs() < 1e-3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FreeSupportBarycenter {
    stopping: Stopping,
    inner: Sinkhorn,
}

stopping_settings!(
    FreeSupportBarycenter,
    "Ends when no point moves by more than `tolerance` times the spread of the measures; 1e-5 by default.",
    "Ends after so many moves; 200 by default."
);

/// The result of [`FreeSupportBarycenter::solve`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FreeSupportSolution {
    /// The points y, (m, d). They carry no gradients.
    pub points: Tensor,
    /// Their weights b, (m).
    pub weights: Tensor,
    /// The objective at the points before their last move, a scalar. It carries gradients with
    /// respect to the measures' points and weights (and b, where it was given) by the envelope theorem,
    /// which holds as far as the points no longer move.
    pub value: Tensor,
    /// The largest distance that the last move took a point, divided by the spread: the root mean square distance of all
    /// measures' mass from its mean. The solve converges when this is within the tolerance and the last transports
    /// converged; its iterations are moves, and its marginal error is the largest of the last transports.
    pub movement: f64,
    /// Sweeps of all transports together.
    pub inner_iterations: usize,
    convergence: Vec<Convergence>,
}

convergence_accessors!(FreeSupportSolution);

impl FreeSupportBarycenter {
    /// Regularisation `epsilon`, in units of squared distance.
    ///
    /// # Errors
    /// When `epsilon` is not positive and finite.
    pub fn new(epsilon: f64) -> Result<Self> {
        Ok(Self {
            stopping: Stopping::new(1e-5, 200),
            inner: Sinkhorn::new(epsilon)?.tolerance(1e-6)?,
        })
    }

    /// The tolerance and the maximum sweeps of each transport; 1e-6 and 10,000 by default.
    ///
    /// # Errors
    /// When `tolerance` is not positive and finite or there is no sweep.
    pub fn inner(self, tolerance: f64, max_iterations: usize) -> Result<Self> {
        validate::positive("inner tolerance", tolerance)?;
        validate::at_least_one("inner max_iterations", max_iterations)?;
        let inner = self.inner.tolerance(tolerance)?;
        let inner = inner.max_iterations(max_iterations)?;
        Ok(Self { inner, ..self })
    }

    /// Moves the points of `start` to the barycentre of `measures`, each given as its points and
    /// their weights. Not converging is a result, not an error.
    ///
    /// # Shapes
    /// Measure k is (n_k, d) and (n_k), weights not negative, all of equal positive total; the start
    /// is (m, d); all of one type, f32 or f64. `weights` are not negative and sum to 1.
    ///
    /// # Errors
    /// When there is no measure, a number, shape or dtype does not fit, an entry is NaN or infinite,
    /// a weight is negative, totals differ, or `weights` do not sum to 1.
    pub fn solve(
        &self,
        measures: &[(Tensor, Tensor)],
        weights: &[f64],
        start: &Support,
    ) -> Result<FreeSupportSolution> {
        let (shares, d) = check_measures(measures, weights)?;
        let like = &measures[0].0;
        let (m, _) = validate::matrix("support", &start.points, (None, Some(d)), like.dtype())?;
        let b = support_weights(measures, start, m)?;
        let deviation = moments(measures, &shares, d)?.1;
        let scale = validate::inner(&deviation, &deviation).sqrt();
        let mut points = start.points.detach();
        let (mut iterations, mut sweeps) = (0, 0);
        loop {
            let steps = self.transports(measures, &shares, (&points, &b))?;
            let moved = means(&steps, measures)?;
            let distance = movement(&points, &moved)?;
            iterations += 1;
            sweeps += steps.iter().map(|s| s.0.iterations()).sum::<usize>();
            points = moved;
            // Coordinates far from 0 cannot settle below their rounding.
            let rounding = 4.0 * unit(like) * largest(&points)?;
            let settled = distance <= self.stopping.tolerance * scale + rounding;
            if settled || !distance.is_finite() || iterations == self.stopping.max_iterations {
                let error = steps.iter().map(|s| s.0.marginal_error());
                let inner = steps.iter().all(|s| s.0.converged());
                return Ok(FreeSupportSolution {
                    value: value(&steps)?,
                    points,
                    weights: b,
                    // The spread is 0 where all mass is at one point.
                    movement: distance / if scale > 0.0 { scale } else { 1.0 },
                    inner_iterations: sweeps,
                    convergence: vec![Convergence {
                        iterations,
                        marginal_error: error.fold(0.0, validate::larger),
                        converged: settled && inner,
                    }],
                });
            }
        }
    }

    /// Transport of the support to every measure of positive share: the solution, the measure and its share.
    fn transports(
        &self,
        measures: &[(Tensor, Tensor)],
        shares: &[f64],
        (points, b): (&Tensor, &Tensor),
    ) -> Result<Vec<(SinkhornSolution, usize, f64)>> {
        let counted = shares.iter().enumerate().filter(|(_, share)| **share > 0.0);
        let steps = counted.map(|(k, share)| {
            let (x, a) = &measures[k];
            let geometry = Geometry::squared_euclidean(points, x)?;
            let problem = LinearProblem::new(geometry, b, a)?;
            Ok((self.inner.solve(&problem)?, k, *share))
        });
        steps.collect()
    }
}

/// The barycentric projections of the support, averaged over the measures.
fn means(
    steps: &[(SinkhornSolution, usize, f64)],
    measures: &[(Tensor, Tensor)],
) -> Result<Tensor> {
    let mut sum: Option<Tensor> = None;
    for (step, k, share) in steps {
        let mean = step.plan.barycentric_projection(&measures[*k].0.detach())?;
        let mean = (mean * *share)?;
        sum = Some(match sum {
            None => mean,
            Some(sum) => (sum + mean)?,
        });
    }
    sum.ok_or_else(|| Error::value("number of measures", 0, "one must count"))
}

fn value(steps: &[(SinkhornSolution, usize, f64)]) -> Result<Tensor> {
    let mut sum = steps[0].0.value.zeros_like()?;
    for (step, _, share) in steps {
        sum = (sum + (&step.value * *share)?)?;
    }
    Ok(sum)
}

/// The measures' weights in the average and the dimension of their points.
pub(super) fn check_measures(
    measures: &[(Tensor, Tensor)],
    weights: &[f64],
) -> Result<(Vec<f64>, usize)> {
    validate::at_least_one("number of measures", measures.len())?;
    let dtype = validate::real("points of measure 0", &measures[0].0)?;
    let d = measures[0].0.dims().get(1).copied();
    let mut first = None;
    for (k, (x, a)) in measures.iter().enumerate() {
        let (n, _) = validate::matrix(&format!("points of measure {k}"), x, (None, d), dtype)?;
        let name = format!("weights of measure {k}");
        let total = validate::mass(&name, a, n, dtype)?;
        let want = *first.get_or_insert(total);
        validate::equal_totals(&name, total, "measure 0", want)?;
    }
    let shares = validate::shares(weights, measures.len())?;
    Ok((shares, measures[0].0.dim(1)?))
}

fn support_weights(measures: &[(Tensor, Tensor)], start: &Support, m: usize) -> Result<Tensor> {
    let a = &measures[0].1;
    let total: f64 = read::<f64>(a)?.iter().sum();
    match &start.weights {
        None => tensor(&vec![total / m as f64; m], m, a),
        Some(b) => {
            let own = validate::mass("weights of the support", b, m, a.dtype())?;
            validate::equal_totals("weights of the support", own, "measure 0", total)?;
            Ok(b.clone())
        }
    }
}

/// The largest distance between rows.
fn movement(from: &Tensor, to: &Tensor) -> Result<f64> {
    let squares = (from - to)?.to_dtype(DType::F64)?.sqr()?.sum(1)?;
    Ok(read::<f64>(&squares)?
        .iter()
        .fold(0.0, |a, v| validate::larger(a, v.sqrt())))
}

fn largest(x: &Tensor) -> Result<f64> {
    Ok(read::<f64>(x)?.iter().fold(0.0, |a, v| a.max(v.abs())))
}

/// The spacing of numbers at 1.
fn unit(x: &Tensor) -> f64 {
    match x.dtype() {
        DType::F32 => f64::from(f32::EPSILON),
        _ => f64::EPSILON,
    }
}
