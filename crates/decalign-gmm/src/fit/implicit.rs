//! The linear system of the implicit gradient, without its matrix.
//!
//! ```text
//! (I - J^T) v = g
//! ```
//!
//! by GMRES on the Krylov space of J^T. Parameters are scaled by the deviations of the mixture, so that the residual does not depend on
//! units; the projection of J^T on the space gives its spectral radius.
//!
//! Source: Saad and Schultz (1986); for mixtures, the matrix J is that of Dempster, Laird and Rubin (1977).

use decalign_core::{Error, Result};

use crate::covariance::Covariance;
use crate::parameters::MixtureParameters;

/// How far an implicit gradient is determined: the linear solve, and the fixed point that it is of.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct ImplicitSolve {
    /// Passes over the data.
    pub iterations: usize,
    /// The norm of the residual, relative to that of the right side.
    pub residual: f64,
    /// The spectral radius of J on the Krylov space: the rate at which EM converges there.
    pub spectral_radius: f64,
    /// How far one more EM step would move the mixture, in units of its deviations.
    pub step: f64,
    /// True if the residual is below 1e-10 and the fit is within 1e-4 deviations of its fixed point, `step / (1 - radius)`.
    pub converged: bool,
}

const TOLERANCE: f64 = 1e-10;
/// Largest distance of a converged fit from its fixed point, in deviations of the mixture.
const MAX_DISTANCE: f64 = 1e-4;
/// A larger residual is an error.
const MAX_RESIDUAL: f64 = 1e-3;
/// A larger spectral radius is an error: the fixed point is not determined.
const MAX_RADIUS: f64 = 0.9999;
/// Most dimensions of the Krylov space.
const MAX_ITERATIONS: usize = 300;

/// Solves for v, given `J^T` as a function.
pub(super) fn solve(
    (before, after): (&MixtureParameters, &MixtureParameters),
    gradient: &MixtureParameters,
    transposed: impl Fn(&MixtureParameters) -> Result<MixtureParameters>,
) -> Result<(MixtureParameters, ImplicitSolve)> {
    let units = units(before);
    let scaled = |p: &MixtureParameters| -> Vec<f64> {
        let all = p.parts().concat();
        all.iter().zip(&units).map(|(v, u)| v * u).collect()
    };
    let unscaled = |x: &[f64]| -> MixtureParameters {
        let mut p = MixtureParameters::zeros(before.kind, before.components(), before.width);
        let mut rest = x.iter().zip(&units).map(|(v, u)| v / u);
        for part in p.parts_mut() {
            part.iter_mut().zip(&mut rest).for_each(|(t, v)| *t = v);
        }
        p
    };
    let (x, krylov) = gmres(&scaled(gradient), |x| {
        Ok(scaled(&transposed(&unscaled(x))?))
    })?;
    let mut moved = after.clone();
    moved.add(-1.0, before);
    let moved = moved.parts().concat();
    let step = moved.iter().zip(&units).map(|(v, u)| (v / u).abs());
    let step = step.fold(0.0, f64::max);
    let spectral_radius = radius(&krylov.projection, krylov.steps);
    let solve = ImplicitSolve {
        iterations: krylov.steps,
        residual: krylov.residual,
        spectral_radius,
        step,
        converged: krylov.residual <= TOLERANCE && step <= MAX_DISTANCE * (1.0 - spectral_radius),
    };
    check(&solve)?;
    Ok((unscaled(&x), solve))
}

fn check(solve: &ImplicitSolve) -> Result<()> {
    let remedy = "the fixed point is ill-conditioned: take fewer components or more regularisation, \
                  or Gradient::Unrolled";
    if solve.spectral_radius > MAX_RADIUS || solve.spectral_radius.is_nan() {
        let name = "the spectral radius of the implicit gradient";
        return Err(Error::value(
            name,
            solve.spectral_radius,
            format!("above {MAX_RADIUS}: {remedy}"),
        ));
    }
    if solve.residual > MAX_RESIDUAL || solve.residual.is_nan() {
        let name = "the residual of the implicit gradient";
        return Err(Error::value(
            name,
            solve.residual,
            format!("above {MAX_RESIDUAL}: {remedy}"),
        ));
    }
    Ok(())
}

/// The unit of each parameter: the root of a weight, the deviation of a mean, the product of two deviations of a covariance.
fn units(mixture: &MixtureParameters) -> Vec<f64> {
    let (k, d) = (mixture.components(), mixture.width);
    let deviation = |k: usize, j: usize| mixture.variance(k, j).sqrt();
    let mut units: Vec<f64> = mixture
        .weights
        .iter()
        .map(|w| w.max(1e-12).sqrt())
        .collect();
    units.extend((0..k * d).map(|at| deviation(at / d, at % d)));
    units.extend((0..mixture.covariances.len()).map(|at| match mixture.kind {
        Covariance::Full => deviation(at / (d * d), at / d % d) * deviation(at / (d * d), at % d),
        Covariance::Tied => deviation(0, at / d) * deviation(0, at % d),
        Covariance::Diagonal => mixture.covariances[at],
        Covariance::Spherical => mixture.covariances[at],
    }));
    units
}

struct Krylov {
    steps: usize,
    residual: f64,
    /// (MAX_ITERATIONS + 1, MAX_ITERATIONS), the projection of J^T.
    projection: Vec<f64>,
}

/// Solves `(I - A) x = b`.
fn gmres(b: &[f64], apply: impl Fn(&[f64]) -> Result<Vec<f64>>) -> Result<(Vec<f64>, Krylov)> {
    let inner = decalign_core::simd::dot::<f64>;
    let m = MAX_ITERATIONS;
    let size = inner(b, b).sqrt();
    let mut krylov = Krylov {
        steps: 0,
        residual: 0.0,
        projection: vec![0.0; (m + 1) * m],
    };
    if size == 0.0 {
        return Ok((b.to_vec(), krylov));
    }
    let mut basis: Vec<Vec<f64>> = vec![b.iter().map(|v| v / size).collect()];
    let (mut rotations, mut right) = (Vec::<(f64, f64)>::new(), vec![size]);
    let mut triangle: Vec<Vec<f64>> = Vec::new();
    krylov.residual = 1.0;
    while krylov.steps < m && krylov.residual > TOLERANCE {
        let j = krylov.steps;
        let mut next = apply(&basis[j])?;
        // Orthogonalised twice, because once loses orthogonality to rounding.
        for _ in 0..2 {
            for (i, v) in basis.iter().enumerate() {
                let h = inner(v, &next);
                krylov.projection[i * m + j] += h;
                next.iter_mut().zip(v).for_each(|(n, v)| *n -= h * v);
            }
        }
        let norm = inner(&next, &next).sqrt();
        if !norm.is_finite() {
            krylov.residual = f64::NAN;
            break;
        }
        krylov.projection[(j + 1) * m + j] = norm;
        let entry = |i: usize| f64::from(u8::from(i == j)) - krylov.projection[i * m + j];
        let mut column: Vec<f64> = (0..j + 2).map(entry).collect();
        for (i, (c, s)) in rotations.iter().enumerate() {
            let (a, b) = (column[i], column[i + 1]);
            (column[i], column[i + 1]) = (c * a + s * b, c * b - s * a);
        }
        let length = column[j].hypot(column[j + 1]);
        let (c, s) = (column[j] / length, column[j + 1] / length);
        rotations.push((c, s));
        column[j] = length;
        column.truncate(j + 1);
        triangle.push(column);
        right.push(-s * right[j]);
        right[j] *= c;
        krylov.residual = right[j + 1].abs() / size;
        krylov.steps += 1;
        if norm > 0.0 {
            basis.push(next.iter().map(|v| v / norm).collect());
        } else {
            break;
        }
    }
    let mut y = right[..krylov.steps].to_vec();
    for i in (0..krylov.steps).rev() {
        let sum: f64 = (i + 1..krylov.steps).map(|j| triangle[j][i] * y[j]).sum();
        y[i] = (y[i] - sum) / triangle[i][i];
    }
    let mut x = vec![0.0; b.len()];
    for (v, y) in basis.iter().zip(&y) {
        x.iter_mut().zip(v).for_each(|(x, v)| *x += y * v);
    }
    Ok((x, krylov))
}

/// The spectral radius of the leading square of the projection, by power iteration.
fn radius(projection: &[f64], steps: usize) -> f64 {
    let mut v = vec![1.0; steps];
    let mut radius = 0.0;
    for _ in 0..1000 {
        let row = |i: usize| {
            (0..steps)
                .map(|j| projection[i * MAX_ITERATIONS + j] * v[j])
                .sum::<f64>()
        };
        let next: Vec<f64> = (0..steps).map(row).collect();
        let norm = next.iter().map(|v| v * v).sum::<f64>().sqrt();
        let before = v.iter().map(|v| v * v).sum::<f64>().sqrt();
        if norm == 0.0 || before == 0.0 {
            return 0.0;
        }
        radius = norm / before;
        v = next.iter().map(|v| v / norm).collect();
    }
    radius
}
