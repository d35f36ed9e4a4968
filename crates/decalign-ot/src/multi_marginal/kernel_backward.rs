//! The gradient of the upstream loss through every sweep.

use decalign_core::simd::{self, Isa, Kernel, LANES};
use decalign_core::{Real, for_blocks};

use super::dimension_tree::DimensionTree;
use super::joint::{row_terms, scale_cells};
use super::kernel::{ForwardPass, KERNEL_FLOOR};
use super::layout::JointLayout;
use super::matvec::{matvec, matvec_transposed};

/// The gradients with respect to the concatenated marginals and the joint cost.
pub(super) fn backward<T: Real>(
    cells: &JointLayout,
    run: &ForwardPass<T>,
    epsilon: f64,
) -> (Vec<T>, Vec<T>) {
    let n = cells.vectors_len();
    let sweeps = run.denominators.len() / n;
    let scalings = &run.history[sweeps * n..];
    // The loss itself: plan = kernel times all scalings.
    let factors = row_terms(cells, scalings, T::one(), |a, b| a * b);
    let mut d_kernel = vec![T::zero(); cells.len()];
    let along = cells.vector(cells.last(), scalings);
    scale_cells(&run.plan_gradient, (&factors, along), &mut d_kernel);
    let weighted: Vec<T> = run
        .plan_gradient
        .iter()
        .zip(&run.kernel)
        .map(|(s, k)| *s * *k)
        .collect();
    let mut levels = DimensionTree::new(cells);
    let d_scalings = levels.all_sums(cells, &weighted, scalings);
    let mut pass = BackwardPass {
        cells,
        run,
        levels,
        d_scalings,
        d_weights: vec![T::zero(); n],
        d_tables: DimensionTree::new(cells),
        d_kernel,
        dots: vec![T::zero(); n],
    };
    for sweep in (0..sweeps).rev() {
        pass.sweep(sweep);
    }
    let BackwardPass {
        mut d_kernel,
        d_weights,
        ..
    } = pass;
    simd::dispatch(CostGradient {
        run,
        epsilon: T::of(epsilon),
        gradient: &mut d_kernel,
    });
    (d_weights, d_kernel)
}

struct BackwardPass<'a, T> {
    cells: &'a JointLayout,
    run: &'a ForwardPass<T>,
    levels: DimensionTree<T>,
    /// The gradient with respect to the scalings before the sweeps that were differentiated.
    d_scalings: Vec<T>,
    d_weights: Vec<T>,
    /// The gradients with respect to the tables and outer products of the dimension tree.
    d_tables: DimensionTree<T>,
    d_kernel: Vec<T>,
    dots: Vec<T>,
}

impl<T: Real> BackwardPass<'_, T> {
    /// Takes the gradient through one sweep.
    fn sweep(&mut self, sweep: usize) {
        let (cells, run) = (self.cells, self.run);
        let (n, last) = (cells.vectors_len(), cells.last());
        let before = &run.history[sweep * n..][..n];
        let after = &run.history[(sweep + 1) * n..][..n];
        let sums = &run.denominators[sweep * n..][..n];
        self.levels.prepare(cells, before);
        for k in 0..last - 1 {
            self.levels.descend(cells, &run.kernel, k, after);
        }
        self.d_tables.clear_outers();
        for m in (0..=last).rev() {
            let vectors = [after, sums].map(|x| cells.vector(m, x));
            let dots = cells.vector_mut(m, &mut self.dots);
            let points = cells.sizes[m];
            if m < last {
                let next = self.d_tables.table(&[], m + 1);
                matvec(self.levels.table(&run.kernel, m), next, &mut dots[..points]);
            }
            let d_u = cells.vector_mut(m, &mut self.d_scalings);
            let d_nu = cells.vector_mut(m, &mut self.d_weights);
            for i in 0..points {
                // u = nu / s: the gradient of s replaces that of u, which the update overwrote.
                let through = if m < last { dots[i] } else { T::zero() };
                let slope = (d_u[i] + through) / vectors[1][i];
                d_nu[i] += slope;
                dots[i] = -slope * vectors[0][i];
                d_u[i] = T::zero();
            }
            if m == last {
                self.d_tables.table_mut(m).copy_from_slice(dots);
                continue;
            }
            let (d_table, next, d_outer) = self.d_tables.split(m);
            simd::dispatch(Rows {
                table: self.levels.table(&run.kernel, m),
                outer: self.levels.outer(m),
                next,
                scalings: &vectors[0][..points],
                slopes: &dots[..points],
                // The gradient of the kernel accumulates over the sweeps.
                fresh: m > 0,
                d_table: if m > 0 { d_table } else { &mut self.d_kernel },
                d_outer,
            });
        }
        self.outers_backward(before);
    }

    /// From the outer products of the scalings before a sweep to the scalings.
    fn outers_backward(&mut self, before: &[T]) {
        let cells = self.cells;
        for k in 0..cells.last() - 1 {
            let (d_outer, behind) = self.d_tables.outer_pair(k);
            let points = cells.sizes[k + 1];
            let d = cells.vector_mut(k + 1, &mut self.d_scalings);
            matvec(d_outer, self.levels.outer(k + 1), &mut d[..points]);
            let scales = &cells.vector(k + 1, before)[..points];
            let mut through = vec![T::zero(); behind.len()];
            matvec_transposed(d_outer, scales, &mut through);
            behind.iter_mut().zip(through).for_each(|(b, t)| *b += t);
        }
        let last = cells.last();
        cells
            .vector_mut(last, &mut self.d_scalings)
            .copy_from_slice(self.d_tables.outer(last - 1));
    }
}

/// The gradients of `s = A w` and `T = A^T u` with respect to A and w.
struct Rows<'a, T> {
    table: &'a [T],
    outer: &'a [T],
    next: &'a [T],
    scalings: &'a [T],
    slopes: &'a [T],
    fresh: bool,
    d_table: &'a mut [T],
    d_outer: &'a mut [T],
}

impl<T: Real> Kernel for Rows<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let n = self.outer.len();
        for_blocks!(at in n, {
            let (next, outer) = (at.load(self.next), at.load(self.outer));
            let mut d_outer = at.load(self.d_outer);
            for (r, (u, slope)) in self.scalings.iter().zip(self.slopes).enumerate() {
                let row = at.load(&self.table[r * n..][..n]);
                let d_row = &mut self.d_table[r * n..][..n];
                let mut d = if self.fresh { [T::zero(); LANES] } else { at.load(d_row) };
                for i in 0..LANES {
                    d[i] = isa.mul_add(*u, next[i], isa.mul_add(*slope, outer[i], d[i]));
                    d_outer[i] = isa.mul_add(*slope, row[i], d_outer[i]);
                }
                at.store(d, d_row);
            }
            at.store(d_outer, self.d_outer);
        });
    }
}

/// From the gradient of the kernel to that of the cost, to which the loss adds the plan.
struct CostGradient<'a, T> {
    run: &'a ForwardPass<T>,
    epsilon: T,
    gradient: &'a mut [T],
}

impl<T: Real> Kernel for CostGradient<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let (run, floor) = (self.run, T::of(KERNEL_FLOOR));
        for_blocks!(at in self.gradient.len(), {
            let (kernel, plan) = (at.load(&run.kernel), at.load(&run.plan));
            let mut g = at.load(self.gradient);
            for i in 0..LANES {
                // No gradient where the kernel is at its floor.
                let free = kernel[i] > floor;
                let slope = if free { -kernel[i] / self.epsilon } else { T::zero() };
                g[i] = isa.mul_add(g[i], slope, plan[i]);
            }
            at.store(g, self.gradient);
        });
    }
}
