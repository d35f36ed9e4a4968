//! Gradients of the potentials through every sweep.
//!
//! A sweep is `f' = (1 - w) f + w l T(g)`, then `g' = (1 - w) g + w l T(f')`, with T the soft minimum
//!
//! ```text
//! T(g)_i = -eps log sum_j b_j exp((g_j - C_ij) / eps)
//! dT_i = sum_j W_ij (dC_ij - dg_j - eps db_j / b_j),  W_ij = b_j exp((T_i + g_j - C_ij) / eps)
//! ```
//!
//! and W a plan whose rows have mass 1. The backward pass computes W again from the potentials on the tape.

use decalign_core::Result;

use super::marginal::divided;
use super::plan_cells::PlanCells;
use super::problem::{Gradients, Precision, SolvedBatch, cost_gradient};

/// The gradients of problem `i`, given those of its last potentials.
pub(super) fn backward(
    solved: &SolvedBatch,
    i: usize,
    (f, g): (&[f64], &[f64]),
    needed: &[bool],
) -> Result<Gradients> {
    let (a, b) = &solved.each[i].weights;
    let hold = |rho: f64, epsilon: f64| {
        if rho.is_infinite() {
            1.0
        } else {
            rho / (rho + epsilon)
        }
    };
    let (rho_a, rho_b) = solved.problem.penalties;
    let mut reverse = Reverse {
        solved,
        i,
        needed,
        weights: [a.clone(), b.clone()],
        sums: [vec![0.0; a.len()], vec![0.0; b.len()]],
        costs: vec![None; needed.len()],
    };
    let (mut f, mut g) = (f.to_vec(), g.to_vec());
    for pair in solved.each[i].tape.windows(2).rev() {
        let [before, after] = pair else { continue };
        let (epsilon, w) = (after.epsilon, after.relaxation);
        let (hold_a, hold_b) = (hold(rho_a, epsilon), hold(rho_b, epsilon));
        // The step of the columns used the new f, or the old one in a symmetric sweep.
        let seen = if after.symmetric { &before.f } else { &after.f };
        let image = image(&after.g, &before.g, w, hold_b);
        let factors: Vec<f64> = g.iter().map(|v| v * w * hold_b).collect();
        let moved = reverse.half(Side::Columns, epsilon, (seen, &image), &factors)?;
        let mut of_before = vec![0.0; f.len()];
        let target = if after.symmetric {
            &mut of_before
        } else {
            &mut f
        };
        target.iter_mut().zip(&moved).for_each(|(f, v)| *f -= v);
        let image = self::image(&after.f, &before.f, w, hold_a);
        let factors: Vec<f64> = f.iter().map(|v| v * w * hold_a).collect();
        let moved = reverse.half(Side::Rows, epsilon, (&image, &before.g), &factors)?;
        g.iter_mut()
            .zip(&moved)
            .for_each(|(g, v)| *g = *g * (1.0 - w) - v);
        f.iter_mut()
            .zip(&of_before)
            .for_each(|(f, v)| *f = *f * (1.0 - w) + v);
    }
    let [sums_a, sums_b] = reverse.sums;
    let balanced = solved.problem.balanced();
    Ok(Gradients {
        a: divided(&sums_a, a, balanced),
        b: divided(&sums_b, b, balanced),
        costs: reverse.costs,
    })
}

/// The soft minimum towards which a step moved.
fn image(after: &[f64], before: &[f64], w: f64, hold: f64) -> Vec<f64> {
    after
        .iter()
        .zip(before)
        .map(|(new, old)| (new - (1.0 - w) * old) / (w * hold))
        .collect()
}

#[derive(Clone, Copy, PartialEq)]
enum Side {
    Rows,
    Columns,
}

struct Reverse<'a> {
    solved: &'a SolvedBatch,
    i: usize,
    needed: &'a [bool],
    weights: [Vec<f64>; 2],
    /// Gradients with respect to the logarithms of the weights.
    sums: [Vec<f64>; 2],
    costs: Vec<Option<Vec<f64>>>,
}

impl Reverse<'_> {
    /// The backward pass of half a sweep: `factors` are the gradients of one side's soft minima. Returns the amount to subtract from
    /// the gradients of the other side's potentials.
    fn half(
        &mut self,
        side: Side,
        epsilon: f64,
        (f, g): (&[f64], &[f64]),
        factors: &[f64],
    ) -> Result<Vec<f64>> {
        let [a, b] = &self.weights;
        let factor = std::f64::consts::LOG2_E / epsilon;
        let scale = |x: &[f64], w: &[f64]| {
            x.iter()
                .zip(w)
                .map(|(x, w)| x * factor + w.log2())
                .collect::<Vec<f64>>()
        };
        let (f, g) = (scale(f, a), scale(g, b));
        let geometry = self.solved.problem.geometry();
        let cells = PlanCells::new(geometry, self.i, (&f, &g), epsilon);
        // The plan's own side has mass a (or b): divided by it, rows have mass 1.
        let own = if side == Side::Rows { a } else { b };
        let each = divided(factors, own, false);
        let moved = cells.apply(&each, 1, side == Side::Rows)?;
        let other = if side == Side::Rows { 1 } else { 0 };
        self.sums[other]
            .iter_mut()
            .zip(&moved)
            .for_each(|(s, v)| *s -= epsilon * v);
        let ones = vec![1.0; moved.len()];
        let (left, right) = if side == Side::Rows {
            (&each, &ones)
        } else {
            (&ones, &each)
        };
        let costs = cost_gradient(
            geometry,
            self.i,
            (&f, &g, epsilon),
            (left, right, 1),
            self.needed,
            Precision::Double,
        )?;
        for (total, part) in self.costs.iter_mut().zip(costs) {
            match (total.as_mut(), part) {
                (Some(total), Some(part)) => total.iter_mut().zip(part).for_each(|(t, v)| *t += v),
                (None, part) => *total = part,
                (_, None) => {}
            }
        }
        Ok(moved)
    }
}
