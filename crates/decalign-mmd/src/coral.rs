//! Matching covariances, and central moments of any order.

use candle_core::Tensor;
use decalign_core::analytic::record_scalar;
use decalign_core::gemm::{Matrix, Store, matmul};
use decalign_core::moments::CentralMomentDiscrepancy;
use decalign_core::{Elements, Real, Result, with_real};

use crate::reference;
use crate::sample::{check_finite, check_points};

/// Correlation alignment: the mean over all pairs of M samples of `|C_x - C_y|^2 / (4 d^2)`, the squared
/// Frobenius distance of covariances (dividing by max(n - 1, 1)).
///
/// # Shapes
/// M >= 2 tensors (n_m, d), n_m >= 1. The result is a scalar.
///
/// # Errors
/// When shapes or dtypes differ, or an entry is not finite.
///
/// Source: Sun and Saenko, Deep CORAL (2016).
pub fn coral(samples: &[Tensor]) -> Result<Tensor> {
    from_rows("coral", samples, reference::coral, |rows, width| {
        let each: Vec<Covariance> = rows.iter().map(|x| Covariance::new(x, width)).collect();
        let mut gradients = vec![vec![0.0; width * width]; rows.len()];
        let pairs = (rows.len() * (rows.len() - 1) / 2) as f64;
        let scale = (4.0 * (width * width) as f64 * pairs).recip();
        let mut value = 0.0;
        for j in 1..rows.len() {
            let (before, after) = gradients.split_at_mut(j);
            for (i, before) in before.iter_mut().enumerate() {
                let matrices = each[i].matrix.iter().zip(&each[j].matrix);
                for ((a, b), (da, db)) in matrices.zip(before.iter_mut().zip(&mut after[0])) {
                    let e = a - b;
                    value += scale * e * e;
                    *da += 2.0 * scale * e;
                    *db -= 2.0 * scale * e;
                }
            }
        }
        let gradients = each
            .iter()
            .zip(&gradients)
            .map(|(c, g)| c.backward(g, width));
        (value, gradients.collect())
    })
}

struct Covariance {
    centred: Vec<f64>,
    matrix: Vec<f64>,
}

impl Covariance {
    fn new(x: &[f64], width: usize) -> Self {
        let centred = centred(x, width);
        let n = centred.len() / width;
        let mut matrix = vec![0.0; width * width];
        let rows = Matrix::new(&centred, n, width);
        matmul(&mut matrix, width, rows.t(), rows, Store::Write);
        let degrees = n.saturating_sub(1).max(1) as f64;
        matrix.iter_mut().for_each(|v| *v /= degrees);
        Self { centred, matrix }
    }

    /// The gradient of the rows given a symmetric gradient of the matrix. The mean contributes nothing, as centred
    /// columns sum to zero.
    fn backward(&self, gradient: &[f64], width: usize) -> Vec<f64> {
        let n = self.centred.len() / width;
        let mut dx = vec![0.0; self.centred.len()];
        let rows = Matrix::new(&self.centred, n, width);
        matmul(
            &mut dx,
            width,
            rows,
            Matrix::new(gradient, width, width),
            Store::Write,
        );
        let scale = 2.0 / n.saturating_sub(1).max(1) as f64;
        dx.iter_mut().for_each(|v| *v *= scale);
        dx
    }
}

/// The rows without the mean of every column.
fn centred(x: &[f64], width: usize) -> Vec<f64> {
    let n = (x.len() / width) as f64;
    let mut mean = vec![0.0; width];
    for row in x.chunks_exact(width) {
        mean.iter_mut().zip(row).for_each(|(m, v)| *m += v / n);
    }
    let rows = x.chunks_exact(width);
    let rows = rows.flat_map(|row| row.iter().zip(&mean).map(|(v, m)| v - m));
    rows.collect()
}

/// The mean central moment discrepancy over all pairs of M samples.
///
/// # Shapes
/// M >= 2 tensors (n_m, d), n_m >= 1. The result is a scalar.
///
/// # Errors
/// When shapes or dtypes differ, an entry is not finite, or a power overflows.
///
/// Source: Zellinger and others, Central moment discrepancy (2017).
///
/// ```
/// use candle_core::{Device, Tensor};
/// use decalign_mmd::{CentralMomentDiscrepancy, central_moment_discrepancy};
/// let x = Tensor::new(&[[0f64], [2.0]], &Device::Cpu)?;
/// let y = Tensor::new(&[[1f64], [5.0]], &Device::Cpu)?;
/// // Means 1 and 3, variances 1 and 4.
/// let cmd = central_moment_discrepancy(&[x, y], CentralMomentDiscrepancy::new(2, 1.0)?)?;
/// assert_eq!(cmd.to_scalar::<f64>()?, 5.0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn central_moment_discrepancy(
    samples: &[Tensor],
    settings: CentralMomentDiscrepancy,
) -> Result<Tensor> {
    let plain = |x: &[Tensor]| reference::central_moment_discrepancy(x, settings);
    from_rows("central_moments", samples, plain, |rows, width| {
        let rows: Vec<&[f64]> = rows.iter().map(Vec::as_slice).collect();
        settings.evaluate(&rows, width)
    })
}

/// A scalar of all samples from their rows in f64, with the gradient of each; `plain` elsewhere than on the CPU.
fn from_rows(
    name: &'static str,
    samples: &[Tensor],
    plain: impl Fn(&[Tensor]) -> Result<Tensor>,
    f: impl Fn(&[Vec<f64>], usize) -> (f64, Vec<Vec<f64>>),
) -> Result<Tensor> {
    let inputs: Vec<&Tensor> = samples.iter().collect();
    let width = check_points(&inputs, 2, 1)?;
    if !samples[0].device().is_cpu() {
        return plain(samples);
    }
    let rows = samples.iter().enumerate().map(|(i, x)| {
        with_real!("samples", x, T => {
            let x = Elements::<T>::new(x)?;
            check_finite(i, &x, width)?;
            Ok(x.iter().map(|v| v.as_f64()).collect::<Vec<f64>>())
        })
    });
    let (value, gradients) = f(&rows.collect::<Result<Vec<_>>>()?, width);
    record_scalar(name, &inputs, value, gradients)
}
