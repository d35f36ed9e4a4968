//! The tree to begin with.

use decalign_core::Real;

use super::costs::{Costs, least};
use super::masses::{BITS, Masses};
use super::tree::{Arc, Tree};

/// A tree of cells, each with mass, found by sending every row to its cheapest columns that are
/// not full.
///
/// No later tree has an empty cell either, so that every pivot lowers the cost and none comes
/// twice: weights become `2^shift a + 1`, and the last `2^shift b + n` (Orden, 1956). Trees that
/// stay possible are those that Cunningham (1976) calls strongly feasible, rooted in the last
/// column. [`Start::units`] takes the change out again.
pub(super) struct Start {
    shift: u32,
}

impl Start {
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

    pub(super) fn tree<T: Real>(&self, costs: &Costs<T>, masses: &Masses) -> Tree {
        let (n, m) = (masses.a.len(), masses.b.len());
        let a: Vec<i128> = masses.a.iter().map(|w| (w << self.shift) + 1).collect();
        let mut b: Vec<i128> = masses.b.iter().map(|w| w << self.shift).collect();
        b[m - 1] += n as i128;
        // Full columns have no price: their costs count as infinite.
        let mut prices = vec![0.0; costs.stride()];
        let mut arcs = Vec::with_capacity(n + m - 1);
        for (row, mut left) in a.into_iter().enumerate() {
            while left > 0 {
                let found = least(costs.row(row), &prices);
                // Costs may overflow, masses do not: some column has room.
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
                    prices[column] = f64::NEG_INFINITY;
                }
            }
        }
        Tree::new(n, m, costs.stride(), &arcs)
    }

    /// The units of mass of a flow.
    pub(super) fn units(&self, flow: i128) -> i128 {
        (flow + (1 << (self.shift - 1))) >> self.shift
    }
}
