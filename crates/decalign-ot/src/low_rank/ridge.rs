//! Linear systems of positive definite matrices that rounding may have made indefinite.

use decalign_core::cholesky;

/// Added to the diagonal, after scaling it to 1: enough for what rounding makes indefinite.
const RIDGE: f64 = 1e-13;

/// Solves `A x = b` of a symmetric positive (semi)definite matrix, in place of `b`.
///
/// Rows and columns are scaled so that the diagonal is 1. Where a pivot is lost to rounding the ridge
/// is raised, which only shortens the solution along directions that `A` hardly knows.
pub(super) fn solve(a: &[f64], b: &mut [f64]) {
    let n = b.len();
    let scale: Vec<f64> = (0..n)
        .map(|i| match a[i * n + i] {
            d if d > 0.0 => d.sqrt().recip(),
            _ => 1.0,
        })
        .collect();
    let mut ridge = RIDGE;
    let factor = loop {
        let mut l: Vec<f64> = (0..n * n)
            .map(|at| a[at] * scale[at / n] * scale[at % n])
            .collect();
        (0..n).for_each(|i| l[i * n + i] += ridge);
        // Numbers that are no numbers are not helped by any ridge.
        if cholesky::factor(&mut l, n, 0.0).is_ok() || ridge > 1.0 {
            break l;
        }
        ridge *= 100.0;
    };
    b.iter_mut().zip(&scale).for_each(|(b, s)| *b *= s);
    cholesky::solve(&factor, b);
    b.iter_mut().zip(&scale).for_each(|(b, s)| *b *= s);
}

#[cfg(test)]
mod tests {
    use super::*;
    use decalign_core::random::Stream;

    #[test]
    fn solutions_solve() {
        let n = 9;
        let x = Stream::new(1, 0).normal(n * n);
        // x x^T with units far apart.
        let unit = |i: usize| 10f64.powi(i as i32 - 4);
        let entry =
            |i: usize, j: usize| -> f64 { (0..n).map(|k| x[i * n + k] * x[j * n + k]).sum() };
        let a: Vec<f64> = (0..n * n)
            .map(|at| entry(at / n, at % n) * unit(at / n) * unit(at % n))
            .collect();
        let want: Vec<f64> = (0..n).map(|i| (1.0 + i as f64) / unit(i)).collect();
        let mut b: Vec<f64> = (0..n)
            .map(|i| (0..n).map(|j| a[i * n + j] * want[j]).sum())
            .collect();
        solve(&a, &mut b);
        for (got, want) in b.iter().zip(&want) {
            assert!((got / want - 1.0).abs() < 1e-7, "{got} {want}");
        }
        // A direction of no curvature: a finite step.
        let mut b = [1.0, 1.0];
        solve(&[1.0, 1.0, 1.0, 1.0], &mut b);
        assert!((b[0] + b[1] - 1.0).abs() < 1e-9);
    }
}
