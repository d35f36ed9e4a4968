//! The pivot rule: which arc enters the tree next.

use decalign_core::Real;

use super::cost_matrix::{CostMatrix, least, least_value};
use super::spanning_tree::SpanningTree;
use crate::geometry::padded;

/// Block search: cycles through the arcs a block at a time and takes the least reduced cost of the first block
/// that has a negative one.
///
/// Blocks hold about the square root of the number of arcs. Source: Grigoriadis (1986).
pub(super) struct BlockSearch {
    row: usize,
    start: usize,
    block: usize,
}

impl BlockSearch {
    pub(super) fn new<T: Real>(costs: &CostMatrix<T>, rows: usize) -> Self {
        let cells = (rows * costs.stride()) as f64;
        let block = padded(cells.sqrt() as usize).clamp(padded(LEAST_BLOCK), LARGEST_BLOCK);
        Self {
            row: 0,
            start: 0,
            block,
        }
    }

    /// An arc whose reduced cost is below `-tolerance`; `None` when a whole cycle has none.
    pub(super) fn entering_arc<T: Real>(
        &mut self,
        costs: &CostMatrix<T>,
        tree: &SpanningTree,
        tolerance: f64,
    ) -> Option<(usize, usize)> {
        let (f, g) = tree.potentials();
        let stride = costs.stride();
        let (mut best, mut place) = (-tolerance, None);
        let (mut left, mut seen) = (f.len() * stride, 0);
        while left > 0 {
            let count = self.block.min(stride - self.start);
            let segment = &costs.row(self.row)[self.start..][..count];
            let reduced = least_value(segment, &g[self.start..][..count]) - f[self.row];
            if reduced < best {
                (best, place) = (reduced, Some((self.row, self.start, count)));
            }
            self.start += count;
            if self.start == stride {
                (self.row, self.start) = ((self.row + 1) % f.len(), 0);
            }
            left = left.saturating_sub(count);
            seen += count;
            if seen >= self.block && place.is_some() {
                break;
            }
        }
        let (row, start, count) = place?;
        let (_, at) = least(&costs.row(row)[start..][..count], &g[start..][..count])?;
        Some((row, start + at))
    }
}

/// Searching a smaller block costs less than the pivot that follows.
const LEAST_BLOCK: usize = 128;
/// Costs of a block and potentials stay in the first-level cache.
const LARGEST_BLOCK: usize = 1 << 14;
