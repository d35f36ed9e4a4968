//! Gradients of the potentials by the implicit function theorem.
//!
//! The solution satisfies `P 1 = a exp(-f / rho_a)` and `P^T 1 = b exp(-g / rho_b)`, where the exponential is 1 on an exact side.
//! Differentiation gives, with r and c the marginals of the plan,
//!
//! ```text
//! [ diag(r (1 + eps / rho_a))   P                         ] [df]   [ sum_j P dC - eps sum_j P db / b ]
//! [ P^T                         diag(c (1 + eps / rho_b)) ] [dg] = [ sum_i P dC - eps sum_i P da / a ]
//! ```
//!
//! A backward pass solves this symmetric system once, with the gradients of f and g as its right side. With both sides exact the system
//! is singular along (1, -1); the gradients of potentials of equal mean are orthogonal to that direction.

use std::sync::Mutex;

use decalign_core::{Error, Result};

use super::marginal::divided;
use super::plan_cells::PlanCells;
use super::problem::{Gradients, Precision, SolvedBatch, cost_gradient};

/// How the solve of a linear system in a backward pass ended.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct LinearSolve {
    /// Iterations of conjugate gradients.
    pub iterations: usize,
    /// The norm of the residual, relative to the right side.
    pub residual: f64,
    /// True if the residual is at most 1e-10.
    pub converged: bool,
}

/// The residual at which a solve ends.
const TOLERANCE: f64 = 1e-10;
/// A gradient with a larger residual is an error.
const LIMIT: f64 = 1e-3;
/// Plans of up to this many cells are stored while a system is solved: 32 MiB.
const STORED: usize = 1 << 22;

/// Gradients with respect to weights and costs, given those of the potentials of problem `i`.
pub(super) fn backward(
    solved: &SolvedBatch,
    i: usize,
    (f, g): (&[f64], &[f64]),
    needed: &[bool],
    report: &Mutex<Vec<LinearSolve>>,
) -> Result<Gradients> {
    let (a, b) = &solved.each[i].weights;
    let plan @ (scaled_f, scaled_g, epsilon) = solved.scaled_potentials(i);
    let geometry = solved.problem.geometry();
    let cells = PlanCells::new(geometry, i, (scaled_f, scaled_g), epsilon);
    let system = System::new(solved, cells)?;
    let right: Vec<f64> = f.iter().chain(g).copied().collect();
    let (solution, solve) = system.solve(&right)?;
    report
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
        .push(solve);
    if solve.residual > LIMIT || solve.residual.is_nan() {
        let remedy = format!(
            "above {LIMIT} after {} steps: the plan is too close to a permutation for this epsilon, {}",
            solve.iterations, solved.epsilon
        );
        return Err(Error::value(
            "the residual of the implicit gradient",
            solve.residual,
            remedy,
        ));
    }
    let (u, v) = solution.split_at(f.len());
    let (of_v, of_u) = (system.plan(v, false)?, system.plan(u, true)?);
    let balanced = solved.problem.balanced();
    let weigh = |x: &[f64], w: &[f64]| {
        let x: Vec<f64> = x.iter().map(|v| -solved.epsilon * v).collect();
        divided(&x, w, balanced)
    };
    // `W = P o (u 1^T + 1 v^T)`.
    let left: Vec<f64> = u.iter().flat_map(|u| [*u, 1.0]).collect();
    let right: Vec<f64> = v.iter().flat_map(|v| [1.0, *v]).collect();
    Ok(Gradients {
        a: weigh(&of_v, a),
        b: weigh(&of_u, b),
        costs: cost_gradient(
            geometry,
            i,
            plan,
            (&left, &right, 2),
            needed,
            Precision::Double,
        )?,
    })
}

/// The symmetric system of the differentiated optimality conditions.
struct System<'a> {
    cells: PlanCells<'a>,
    stored: Option<Vec<f64>>,
    size: (usize, usize),
    /// The diagonal; 0 where there is no mass.
    diagonal: Vec<f64>,
}

impl<'a> System<'a> {
    fn new(solved: &SolvedBatch, cells: PlanCells<'a>) -> Result<Self> {
        let (n, m) = solved.problem.geometry().size();
        let totals = cells.totals()?;
        let (rho_a, rho_b) = solved.problem.penalties;
        let rows = totals
            .rows
            .iter()
            .map(|r| r * (1.0 + solved.epsilon / rho_a));
        let columns = totals
            .columns
            .iter()
            .map(|c| c * (1.0 + solved.epsilon / rho_b));
        let diagonal = rows.chain(columns).collect();
        let stored = if n * m <= STORED {
            Some(cells.matrix()?)
        } else {
            None
        };
        Ok(Self {
            cells,
            stored,
            size: (n, m),
            diagonal,
        })
    }

    /// `P v`, or `P^T v`.
    fn plan(&self, v: &[f64], transposed: bool) -> Result<Vec<f64>> {
        let (n, m) = self.size;
        match &self.stored {
            None => self.cells.apply(v, 1, transposed),
            Some(p) if transposed => {
                let mut out = vec![0.0; m];
                for (row, v) in p.chunks_exact(m).zip(v) {
                    out.iter_mut().zip(row).for_each(|(o, p)| *o += p * v);
                }
                Ok(out)
            }
            Some(p) => {
                let dot = |row: &[f64]| decalign_core::simd::dot(row, v);
                Ok(p.chunks_exact(m).take(n).map(dot).collect())
            }
        }
    }

    /// Eliminates the side that has the lightest point and solves for the other side (Schur complement). The unknown of a point of
    /// hardly any weight is huge; eliminated, it takes no digits from the others.
    fn solve(&self, right: &[f64]) -> Result<(Vec<f64>, LinearSolve)> {
        let n = self.size.0;
        let least = |d: &[f64]| {
            d.iter()
                .copied()
                .filter(|d| *d > 0.0)
                .fold(f64::INFINITY, f64::min)
        };
        let rows = least(&self.diagonal[..n]) <= least(&self.diagonal[n..]);
        let split = |x: &[f64]| -> (Vec<f64>, Vec<f64>) {
            let (u, v) = x.split_at(n);
            if rows {
                (u.to_vec(), v.to_vec())
            } else {
                (v.to_vec(), u.to_vec())
            }
        };
        let ((gone, kept), (of_gone, of_kept)) = (split(&self.diagonal), split(right));
        // From the kept side to the eliminated one, divided by its diagonal, and back.
        let there = |v: &[f64]| -> Result<Vec<f64>> { Ok(ratio(&self.plan(v, !rows)?, &gone)) };
        let back = |u: &[f64]| self.plan(u, rows);
        let minus =
            |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x - y).collect::<Vec<f64>>();
        let product = |v: &[f64]| -> Result<Vec<f64>> {
            let own: Vec<f64> = kept.iter().zip(v).map(|(d, v)| d * v).collect();
            Ok(minus(&own, &back(&there(v)?)?))
        };
        let start = ratio(&of_gone, &gone);
        let wanted = minus(&of_kept, &back(&start)?);
        let (v, solve) = conjugate_gradients(product, &wanted, &kept)?;
        let u = minus(&start, &there(&v)?);
        let both = if rows { [u, v] } else { [v, u] };
        Ok((both.concat(), solve))
    }
}

/// `x / d`, 0 where there is no mass.
fn ratio(x: &[f64], d: &[f64]) -> Vec<f64> {
    x.iter()
        .zip(d)
        .map(|(x, d)| if *d > 0.0 { x / d } else { 0.0 })
        .collect()
}

/// Conjugate gradients, preconditioned by the diagonal, until both the residual and the preconditioned residual are small relative to
/// their start.
fn conjugate_gradients(
    product: impl Fn(&[f64]) -> Result<Vec<f64>>,
    right: &[f64],
    diagonal: &[f64],
) -> Result<(Vec<f64>, LinearSolve)> {
    let dot = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>();
    let mut x = vec![0.0; right.len()];
    let mut r: Vec<f64> = right
        .iter()
        .zip(diagonal)
        .map(|(r, d)| if *d > 0.0 { *r } else { 0.0 })
        .collect();
    let mut z = ratio(&r, diagonal);
    let mut p = z.clone();
    let mut rho = dot(&r, &z);
    let starts = (rho, dot(&r, &r));
    let left = |rho: f64, r: &[f64]| -> f64 {
        let share = |now: f64, start: f64| {
            if start == 0.0 {
                0.0
            } else {
                (now / start).sqrt()
            }
        };
        let (a, b) = (share(rho, starts.0), share(dot(r, r), starts.1));
        if a > b || a.is_nan() { a } else { b }
    };
    let (mut iterations, mut residual) = (0, left(rho, &r));
    while residual > TOLERANCE && iterations < 2 * x.len() + 200 {
        let q = product(&p)?;
        let step = rho / dot(&p, &q);
        x.iter_mut().zip(&p).for_each(|(x, p)| *x += step * p);
        r.iter_mut().zip(&q).for_each(|(r, q)| *r -= step * q);
        z = ratio(&r, diagonal);
        let next = dot(&r, &z);
        let change = next / rho;
        p.iter_mut().zip(&z).for_each(|(p, z)| *p = z + change * *p);
        (rho, residual) = (next, left(next, &r));
        iterations += 1;
    }
    Ok((
        x,
        LinearSolve {
            iterations,
            residual,
            converged: residual <= TOLERANCE,
        },
    ))
}
