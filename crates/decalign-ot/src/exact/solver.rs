//! The network simplex method.

use candle_core::DType;
use decalign_core::{Error, Real, Result};

use super::cost_matrix::CostMatrix;
use super::initial_tree::Perturbation;
use super::masses::Masses;
use super::pivot_rule::BlockSearch;
use super::plan::SparsePlan;
use super::solution::{Ended, ExactSolution};
use super::spanning_tree::SpanningTree;
use crate::linear::LinearProblem;

/// Transport at the least cost, without regularisation:
///
/// ```text
/// min over P >= 0 with P 1 = a, P^T 1 = b of  <P, C>
/// ```
///
/// The network simplex improves a spanning tree of arcs one pivot at a time until no arc has a negative reduced
/// cost `C_ij - f_i - g_j`. Masses are integers, so marginals are exact and no tree comes twice, however many
/// weights are equal; potentials are f64. The costs are stored as one matrix of their type. Where the totals of
/// the weights differ, `b` is scaled to that of `a`.
///
/// Sources: Cunningham (1976); Bonneel and others (2011) for transport of many points; Peyre and
/// Cuturi, *Computational Optimal Transport* (2019), section 3.5.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use decalign_ot::{Geometry, LinearProblem, NetworkSimplex};
/// let x = Tensor::new(&[[0.0f64], [1.0], [5.0]], &Device::Cpu)?;
/// let y = Tensor::new(&[[6.0f64], [0.0], [2.0]], &Device::Cpu)?;
/// let problem = LinearProblem::uniform(Geometry::squared_euclidean(&x, &y)?)?;
/// let solution = NetworkSimplex::new().solve(&problem)?;
/// assert!(solution.converged());
/// assert_eq!(solution.plan.columns(), [1, 2, 0]);
/// assert!((solution.value.to_scalar::<f64>()? - 2.0 / 3.0).abs() < 1e-12);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetworkSimplex {
    max_iterations: usize,
}

impl Default for NetworkSimplex {
    fn default() -> Self {
        Self::new()
    }
}

/// Reduced costs are compared with minus this fraction of the largest potential: above it they are rounding.
pub(super) const RELATIVE_TOLERANCE: f64 = 5e-14;

impl NetworkSimplex {
    /// At most 100 million pivots, far more than problems that fit in memory take.
    pub fn new() -> Self {
        Self {
            max_iterations: 100_000_000,
        }
    }

    /// Ends after so many pivots, optimal or not.
    ///
    /// # Errors
    /// When it is 0.
    pub fn max_iterations(self, max_iterations: usize) -> Result<Self> {
        match max_iterations {
            0 => Err(Error::value("max_iterations", 0, "must be at least 1")),
            _ => Ok(Self { max_iterations }),
        }
    }

    /// Solves a problem. Ending before the optimum is a result, not an error: see
    /// [`ExactSolution::converged`].
    ///
    /// # Errors
    /// When the problem has a batch (see [`LinearProblem::get`]) or penalties; when memory runs out.
    pub fn solve(&self, problem: &LinearProblem) -> Result<ExactSolution> {
        problem.single_and_balanced()?;
        match problem.geometry().dtype() {
            DType::F32 => self.run::<f32>(problem),
            _ => self.run::<f64>(problem),
        }
    }

    fn run<T: Real>(&self, problem: &LinearProblem) -> Result<ExactSolution> {
        let (a, b) = problem.weights(0)?;
        let perturbation = Perturbation::new(a.len());
        let masses = Masses::new(&a, &b, perturbation.bits());
        let places = &masses.places;
        let costs = CostMatrix::<T>::new(problem.geometry(), &places[0], &places[1])?;
        let mut tree = perturbation.initial_tree(&costs, &masses);
        let (iterations, tolerance) = self.improve(&costs, &mut tree);
        let mut cells: Vec<(usize, usize, f64)> = tree
            .arcs()
            .map(|arc| (arc.row, arc.column, perturbation.units(arc.flow)))
            .filter(|(_, _, units)| *units > 0)
            .map(|(row, column, units)| (row, column, masses.weight(units)))
            .collect();
        cells.sort_unstable_by_key(|(row, column, _)| (*row, *column));
        let duals = Duals::new(&costs, &tree);
        let gap = cells.iter().map(|(i, j, mass)| {
            let reduced = costs.at(*i, *j) - duals.f[*i] - duals.g[*j];
            mass * reduced
        });
        let duality_gap: f64 = gap.sum();
        let ended = Ended {
            iterations,
            optimal: duality_gap.is_finite() && duals.lowered_within(tolerance),
            duality_gap,
        };
        let potentials = [0, 1].map(|side| duals.original(side, &costs.least[side]));
        let [rows, columns] = places;
        cells
            .iter_mut()
            .for_each(|(i, j, _)| (*i, *j) = (rows[*i], columns[*j]));
        let plan = SparsePlan::new(problem.geometry(), &cells);
        ExactSolution::new(problem, plan, &potentials, places, ended)
    }

    /// Pivots until no reduced cost is negative; returns the number of pivots and the tolerance.
    fn improve<T: Real>(&self, costs: &CostMatrix<T>, tree: &mut SpanningTree) -> (usize, f64) {
        let rows = tree.potentials().0.len();
        let mut rule = BlockSearch::new(costs, rows);
        let mut tolerance = RELATIVE_TOLERANCE * tree.recompute_potentials();
        let (mut iterations, mut since) = (0, 0);
        while iterations < self.max_iterations {
            match rule.entering_arc(costs, tree, tolerance) {
                Some((row, column)) => {
                    tree.pivot(row, column, costs.at(row, column));
                    iterations += 1;
                    since += 1;
                }
                // Optimal: the potentials are freshly computed.
                None if since == 0 => break,
                None => since = RECOMPUTE,
            }
            if since >= RECOMPUTE {
                tolerance = RELATIVE_TOLERANCE * tree.recompute_potentials();
                since = 0;
            }
        }
        (iterations, RELATIVE_TOLERANCE * tree.recompute_potentials())
    }
}

/// Pivots after which all potentials are recomputed, because updates accumulate rounding and the root moves.
const RECOMPUTE: usize = 5000;

/// Dual potentials, feasible: `f_i + g_j <= C_ij` everywhere.
struct Duals {
    f: Vec<f64>,
    g: Vec<f64>,
    /// How much each g of the tree was lowered to be feasible.
    lowered: Vec<f64>,
}

impl Duals {
    fn new<T: Real>(costs: &CostMatrix<T>, tree: &SpanningTree) -> Self {
        let (f, given) = tree.potentials();
        let mut g = given.to_vec();
        for (i, f) in f.iter().enumerate() {
            for (g, c) in g.iter_mut().zip(costs.row(i)) {
                let bound = c.as_f64() - f;
                *g = if bound < *g { bound } else { *g };
            }
        }
        Self {
            f: f.to_vec(),
            lowered: given.iter().zip(&g).map(|(given, g)| given - g).collect(),
            g,
        }
    }

    /// The potentials of one side for the original costs, before the least of each row and column was subtracted.
    fn original(&self, side: usize, least: &[f64]) -> Vec<f64> {
        let potentials = [&self.f, &self.g][side].iter().zip(least);
        potentials.map(|(f, least)| f + least).collect()
    }

    /// True if no reduced cost of the tree is below minus the tolerance. False for NaN and infinity.
    fn lowered_within(&self, tolerance: f64) -> bool {
        tolerance.is_finite() && self.lowered.iter().all(|v| *v <= tolerance)
    }
}
