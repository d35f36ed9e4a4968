//! The initial tree, strongly feasible after a perturbation of the weights.

use decalign_core::Real;

use super::cost_matrix::{CostMatrix, least};
use super::masses::{BITS, Masses};
use super::spanning_tree::{Arc, SpanningTree};

/// The perturbation that keeps every tree nondegenerate: weights become `2^shift a + 1`, and the last of b
/// `2^shift b + n` (Orden, 1956).
///
/// No tree then has an arc without flow, so every pivot lowers the cost and no tree comes twice. The trees that
/// remain feasible are those that Cunningham (1976) calls strongly feasible, rooted in the last column.
/// [`Perturbation::units`] removes the perturbation again.
pub(super) struct Perturbation {
    shift: u32,
}

impl Perturbation {
    /// For `n` rows.
    pub(super) fn new(n: usize) -> Self {
        Self {
            shift: (2 * n + 1).next_power_of_two().ilog2(),
        }
    }

    /// Bits that the total of the weights may have.
    pub(super) fn bits(&self) -> i32 {
        BITS - self.shift as i32
    }

    /// The initial tree: every row sends its mass to its cheapest columns that are not full.
    pub(super) fn initial_tree<T: Real>(
        &self,
        costs: &CostMatrix<T>,
        masses: &Masses,
    ) -> SpanningTree {
        let (n, m) = (masses.a.len(), masses.b.len());
        let a: Vec<i128> = masses.a.iter().map(|w| (w << self.shift) + 1).collect();
        let mut b: Vec<i128> = masses.b.iter().map(|w| w << self.shift).collect();
        b[m - 1] += n as i128;
        // Full columns get potential -inf: their reduced costs are infinite.
        let mut potentials = vec![0.0; costs.stride()];
        let mut arcs = Vec::with_capacity(n + m - 1);
        for (row, mut left) in a.into_iter().enumerate() {
            while left > 0 {
                let found = least(costs.row(row), &potentials);
                // Costs may overflow to infinity; masses are exact, so some column is not full.
                let column = match found {
                    Some((_, column)) => column,
                    None => (0..m).find(|j| b[*j] > 0).unwrap_or(m - 1),
                };
                let flow = left.min(b[column]);
                arcs.push(Arc {
                    row,
                    column,
                    cost: costs.at(row, column),
                    flow,
                });
                left -= flow;
                b[column] -= flow;
                if b[column] == 0 {
                    potentials[column] = f64::NEG_INFINITY;
                }
            }
        }
        SpanningTree::new(n, m, costs.stride(), &arcs)
    }

    /// The units of mass of a perturbed flow.
    pub(super) fn units(&self, flow: i128) -> i128 {
        (flow + (1 << (self.shift - 1))) >> self.shift
    }
}
