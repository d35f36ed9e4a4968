//! Ridge regression in closed form.

use decalign_core::gemm::{Matrix, Store, matmul};
use decalign_core::simd;
use decalign_data::Modality;

use super::pooled;
use crate::Result;

/// Standardised features of the training rows and their Gram matrix.
pub(super) struct Inputs {
    x: Vec<f64>,
    width: usize,
    mean: Vec<f64>,
    scale: Vec<f64>,
    gram: Vec<f64>,
}

/// `W` and `b` of `y = (x - mean) / scale W + b`.
pub(super) struct Ridge<'a> {
    inputs: &'a Inputs,
    weights: Vec<f64>,
    bias: Vec<f64>,
}

impl Inputs {
    pub(super) fn new(modality: &Modality, rows: &[usize]) -> Result<Self> {
        let width = modality.width();
        let mut x = pooled(modality, rows)?;
        let n = rows.len() as f64;
        let column =
            |i: usize, x: &[f64]| x.iter().skip(i).step_by(width).copied().collect::<Vec<_>>();
        let mean: Vec<f64> = (0..width)
            .map(|i| column(i, &x).iter().sum::<f64>() / n)
            .collect();
        let deviation = |i: usize| {
            let squares = column(i, &x)
                .iter()
                .map(|v| (v - mean[i]) * (v - mean[i]))
                .sum::<f64>();
            (squares / n).sqrt().max(1e-6)
        };
        let scale: Vec<f64> = (0..width).map(deviation).collect();
        standardize(&mut x, &mean, &scale);
        let n = rows.len();
        let view = Matrix::new(&x, n, width);
        // The smaller of x^T x and x x^T.
        let size = width.min(n);
        let mut gram = vec![0.0; size * size];
        match width <= n {
            true => matmul(&mut gram, size, view.t(), view, Store::Write),
            false => matmul(&mut gram, size, view, view.t(), Store::Write),
        }
        Ok(Self {
            x,
            width,
            mean,
            scale,
            gram,
        })
    }

    /// Minimises `||x W + b - y||^2 + strength n ||W||^2`.
    pub(super) fn fit(&self, y: &[f64], outputs: usize, strength: f64) -> Ridge<'_> {
        let (n, d) = (self.x.len() / self.width, self.width);
        let bias: Vec<f64> = (0..outputs)
            .map(|o| y.iter().skip(o).step_by(outputs).sum::<f64>() / n as f64)
            .collect();
        let centred: Vec<f64> = y
            .iter()
            .enumerate()
            .map(|(i, v)| v - bias[i % outputs])
            .collect();
        let mut weights = vec![0.0; d * outputs];
        let x = Matrix::new(&self.x, n, d);
        let mut a = self.gram.clone();
        let size = d.min(n);
        (0..size).for_each(|i| a[i * size + i] += strength * n as f64);
        if d <= n {
            let y = Matrix::new(&centred, n, outputs);
            matmul(&mut weights, outputs, x.t(), y, Store::Write);
            solve(&mut a, &mut weights, size, outputs);
        } else {
            // W = x^T (x x^T + strength n)^-1 y.
            let mut dual = centred;
            solve(&mut a, &mut dual, size, outputs);
            let dual = Matrix::new(&dual, n, outputs);
            matmul(&mut weights, outputs, x.t(), dual, Store::Write);
        }
        Ridge {
            inputs: self,
            weights,
            bias,
        }
    }
}

impl Ridge<'_> {
    /// One row of outputs a sample; `x` are its means over time.
    pub(super) fn predict(&self, x: &[f64]) -> Vec<f32> {
        let (d, outputs) = (self.inputs.width, self.bias.len());
        let (mut x, rows) = (x.to_vec(), x.len() / d);
        standardize(&mut x, &self.inputs.mean, &self.inputs.scale);
        let mut y = self.bias.repeat(rows);
        let weights = Matrix::new(&self.weights, d, outputs);
        matmul(
            &mut y,
            outputs,
            Matrix::new(&x, rows, d),
            weights,
            Store::Add,
        );
        y.into_iter().map(|v| v as f32).collect()
    }
}

fn standardize(x: &mut [f64], mean: &[f64], scale: &[f64]) {
    for row in x.chunks_exact_mut(mean.len()) {
        for ((v, m), s) in row.iter_mut().zip(mean).zip(scale) {
            *v = (*v - m) / s;
        }
    }
}

/// Solves `a x = b` in place by Cholesky's factorisation; `a` (d, d) is positive definite.
fn solve(a: &mut [f64], b: &mut [f64], d: usize, columns: usize) {
    for j in 0..d {
        for i in j..d {
            let dot = simd::dot(&a[i * d..][..j], &a[j * d..][..j]);
            let rest = a[i * d + j] - dot;
            a[i * d + j] = if i == j {
                rest.sqrt()
            } else {
                rest / a[j * d + j]
            };
        }
    }
    for column in 0..columns {
        for i in 0..d {
            let dot: f64 = (0..i).map(|k| a[i * d + k] * b[k * columns + column]).sum();
            b[i * columns + column] = (b[i * columns + column] - dot) / a[i * d + i];
        }
        for i in (0..d).rev() {
            let dot: f64 = (i + 1..d)
                .map(|k| a[k * d + i] * b[k * columns + column])
                .sum();
            b[i * columns + column] = (b[i * columns + column] - dot) / a[i * d + i];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Tensor};

    #[test]
    fn a_linear_relation_is_found() -> Result<()> {
        let x: Vec<f32> = (0..40).map(|i| ((i * 7919) % 101) as f32 / 10.0).collect();
        let y: Vec<f64> = x
            .chunks_exact(2)
            .map(|r| f64::from(2.0 * r[0] - r[1] + 3.0))
            .collect();
        let modality = Modality::new("x", &Tensor::from_vec(x, (20, 2), &Device::Cpu)?, None)?;
        let rows: Vec<usize> = (0..20).collect();
        let inputs = Inputs::new(&modality, &rows)?;
        let got = inputs.fit(&y, 1, 1e-12).predict(&pooled(&modality, &rows)?);
        assert!(
            got.iter()
                .zip(&y)
                .all(|(g, y)| (f64::from(*g) - y).abs() < 1e-4)
        );
        // More features than samples: the same by way of x x^T.
        let few = Inputs::new(&modality, &rows[..2])?;
        let wide = Modality::new(
            "w",
            &Tensor::cat(&[modality.features(), modality.features()], 2)?,
            None,
        )?;
        let twice = Inputs::new(&wide, &rows[..2])?;
        let (a, b) = (few.fit(&y[..2], 1, 0.2), twice.fit(&y[..2], 1, 0.4));
        let (a, b) = (
            a.predict(&pooled(&modality, &rows)?),
            b.predict(&pooled(&wide, &rows)?),
        );
        assert!(
            a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-4),
            "{a:?} {b:?}"
        );
        // Strong regularisation leaves the mean.
        let mean = y.iter().sum::<f64>() / 20.0;
        let got = inputs.fit(&y, 1, 1e12).predict(&pooled(&modality, &rows)?);
        assert!(got.iter().all(|g| (f64::from(*g) - mean).abs() < 1e-4));
        Ok(())
    }
}
