//! Anderson's mixing of the last iterates of a fixed point.

use decalign_core::cholesky;

/// Mixes `x_k` with weights that would have made the last residuals cancel:
///
/// ```text
/// min over alpha, sum alpha = 1, of |sum alpha_k r_k|;  next = sum alpha_k (x_k + r_k)
/// ```
///
/// Source: Anderson (1965); Walker and Ni (2011).
pub(crate) struct Anderson {
    memory: usize,
    images: Vec<Vec<f64>>,
    residuals: Vec<Vec<f64>>,
    best: f64,
}

/// Added to the diagonal of the Gram matrix, relative to its largest entry: residuals become parallel near the solution.
const REGULARISATION: f64 = 1e-10;

impl Anderson {
    pub(crate) fn new(memory: usize) -> Self {
        Self {
            memory,
            images: Vec::new(),
            residuals: Vec::new(),
            best: f64::INFINITY,
        }
    }

    /// The next iterate, where a sweep took `x` to `image` with `error`.
    pub(crate) fn mix(&mut self, x: Vec<f64>, image: Vec<f64>, error: f64) -> Vec<f64> {
        // Restart where mixing made the error worse.
        if error > 2.0 * self.best || !error.is_finite() {
            self.images.clear();
            self.residuals.clear();
        }
        self.best = self.best.min(error);
        let residual = image
            .iter()
            .zip(&x)
            .map(|(y, x)| if y.is_finite() { y - x } else { 0.0 });
        self.residuals.push(residual.collect());
        self.images.push(image.clone());
        if self.images.len() > self.memory {
            self.images.remove(0);
            self.residuals.remove(0);
        }
        let Some(alpha) = self.weights() else {
            return image;
        };
        let mut mixed = vec![0.0; image.len()];
        for (alpha, y) in alpha.iter().zip(&self.images) {
            mixed.iter_mut().zip(y).for_each(|(m, y)| *m += alpha * y);
        }
        for (m, y) in mixed.iter_mut().zip(&image) {
            *m = if y.is_finite() { *m } else { *y };
        }
        mixed
    }

    /// The weights of the kept iterates: `R^T R alpha ~ 1`, normalised.
    fn weights(&self) -> Option<Vec<f64>> {
        let k = self.residuals.len();
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let cell = |at: usize| dot(&self.residuals[at / k], &self.residuals[at % k]);
        let mut gram: Vec<f64> = (0..k * k).map(cell).collect();
        let scale = (0..k).map(|i| gram[i * k + i]).fold(0.0, f64::max);
        (0..k).for_each(|i| gram[i * k + i] += REGULARISATION * scale);
        cholesky::factor(&mut gram, k, 0.0).ok()?;
        let mut alpha = vec![1.0; k];
        cholesky::solve(&gram, &mut alpha);
        let total: f64 = alpha.iter().sum();
        let alpha: Vec<f64> = alpha.into_iter().map(|v| v / total).collect();
        alpha.iter().all(|v| v.is_finite()).then_some(alpha)
    }
}
