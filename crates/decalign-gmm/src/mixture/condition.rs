//! Marginals, conditionals and imputation: those of a Gaussian mixture are Gaussian mixtures.

use std::collections::HashMap;

use candle_core::{Device, Tensor};
use decalign_core::{Elements, Error, Real, Result, cholesky, simd, with_real};

use super::Mixture;
use crate::covariance::Covariance;
use crate::parameters::MixtureParameters;

impl Mixture {
    /// The marginal distribution of some dimensions, without gradients.
    ///
    /// # Errors
    /// When `dimensions` is empty, repeats a dimension or names one that the mixture lacks; when the mixture is a batch.
    pub fn marginal(&self, dimensions: &[usize]) -> Result<Self> {
        let p = self.single()?;
        check(dimensions, p.width)?;
        let mut out = MixtureParameters::zeros(p.kind, p.components(), dimensions.len());
        out.weights.copy_from_slice(&p.weights);
        for (k, mean) in out.means.chunks_exact_mut(dimensions.len()).enumerate() {
            let from = &p.means[k * p.width..];
            mean.iter_mut()
                .zip(dimensions)
                .for_each(|(m, j)| *m = from[*j]);
        }
        for k in 0..p.matrices() {
            out.set_matrix(k, &part(&p, k, dimensions));
        }
        Self::of_parameters(&out, self.means.dtype())
    }

    /// The conditional distribution of the other dimensions given the values of some, without gradients.
    ///
    /// ```text
    /// pi_k' ~ pi_k N(a | mu_a, S_aa),  mu' = mu_b + S_ba S_aa^-1 (a - mu_a),  S' = S_bb - S_ba S_aa^-1 S_ab
    /// ```
    ///
    /// The other dimensions keep their order.
    ///
    /// # Errors
    /// When all dimensions are given, or as [`Mixture::marginal`]; when there is not one finite value for
    /// each.
    pub fn conditional(&self, dimensions: &[usize], values: &[f64]) -> Result<Self> {
        let p = self.single()?;
        check(dimensions, p.width)?;
        if values.len() != dimensions.len() {
            let remedy = format!("must be {}, one for each given dimension", dimensions.len());
            return Err(Error::value("number of values", values.len(), remedy));
        }
        if let Some(v) = values.iter().find(|v| !v.is_finite()) {
            return Err(Error::value("a given value", v, "must be finite"));
        }
        let rest: Vec<usize> = (0..p.width).filter(|j| !dimensions.contains(j)).collect();
        if rest.is_empty() {
            let remedy = "must leave at least one dimension";
            return Err(Error::value("given dimensions", dimensions.len(), remedy));
        }
        let split = Split::new(&p, dimensions, &rest)?;
        let (weights, means) = split.given(&p, values);
        let mut out = MixtureParameters::zeros(p.kind, p.components(), rest.len());
        out.weights = weights;
        out.means = means;
        for k in 0..p.matrices() {
            out.set_matrix(k, &split.schur(&p, k));
        }
        Self::of_parameters(&out, self.means.dtype())
    }

    /// Replaces every NaN by its expectation given the other values of its row; without gradients.
    ///
    /// ```text
    /// E[b | a] = sum_k pi_k' mu_k'   (see conditional)
    /// ```
    ///
    /// # Shapes
    /// `x` (n, d), and so the result.
    ///
    /// # Errors
    /// When `x` has another shape or type than the mixture, or holds an infinity; when the mixture is a batch.
    pub fn impute(&self, x: &Tensor) -> Result<Tensor> {
        let p = self.single()?;
        if x.rank() != 2 || x.dims()[1] != p.width || x.dtype() != self.means.dtype() {
            let expected = format!("shape (n, {}) of {:?}", p.width, self.means.dtype());
            return Err(Error::tensor("data", expected, (x.shape(), x.dtype())));
        }
        with_real!("data", x, T => {
            let mut numbers = Elements::<T>::new(x)?.to_vec();
            impute(&p, &mut numbers)?;
            Ok(Tensor::from_vec(numbers, x.dims(), &Device::Cpu)?)
        })
    }
}

fn impute<T: Real>(p: &MixtureParameters, x: &mut [T]) -> Result<()> {
    // Rows with the same missing dimensions share a factorisation.
    let mut splits: HashMap<Vec<bool>, (Vec<usize>, Vec<usize>, Split)> = HashMap::new();
    for (i, row) in x.chunks_exact_mut(p.width).enumerate() {
        if let Some(j) = row.iter().position(|v| v.is_infinite()) {
            let name = format!("data at row {i}, column {j}");
            return Err(Error::value(
                name,
                row[j],
                "must be finite, or NaN where missing",
            ));
        }
        let missing: Vec<bool> = row.iter().map(|v| v.is_nan()).collect();
        if !missing.contains(&true) {
            continue;
        }
        if !splits.contains_key(&missing) {
            let which = |m: bool| {
                (0..p.width)
                    .filter(|j| missing[*j] == m)
                    .collect::<Vec<_>>()
            };
            let (seen, rest) = (which(false), which(true));
            let split = Split::new(p, &seen, &rest)?;
            splits.insert(missing.clone(), (seen, rest, split));
        }
        let (seen, rest, split) = &splits[&missing];
        let values: Vec<f64> = seen.iter().map(|j| row[*j].as_f64()).collect();
        let (weights, means) = split.given(p, &values);
        for (to, j) in rest.iter().enumerate() {
            let each = means.iter().skip(to).step_by(rest.len()).zip(&weights);
            row[*j] = T::of(each.map(|(m, w)| m * w).sum());
        }
    }
    Ok(())
}

/// The dimensions split into given ones a and others b, with the factors of the given ones.
struct Split {
    a: Vec<usize>,
    b: Vec<usize>,
    /// The factor of `S_aa` of each distinct covariance, or its diagonal.
    factors: Vec<Vec<f64>>,
    /// `S_ba S_aa^-1` by rows; empty for diagonal covariances.
    coefficients: Vec<Vec<f64>>,
    /// `log det S_aa`.
    logs: Vec<f64>,
}

impl Split {
    fn new(p: &MixtureParameters, a: &[usize], b: &[usize]) -> Result<Self> {
        let mut split = Self {
            a: a.to_vec(),
            b: b.to_vec(),
            factors: Vec::new(),
            coefficients: Vec::new(),
            logs: Vec::new(),
        };
        for k in 0..p.matrices() {
            let mut factor = part(p, k, a);
            if !p.kind.is_matrix() {
                split.logs.push(factor.iter().map(|v| v.ln()).sum());
                split.factors.push(factor);
                split.coefficients.push(Vec::new());
                continue;
            }
            cholesky::factor(&mut factor, a.len(), f64::EPSILON).map_err(|i| {
                let name = format!("the covariance of component {k}");
                let remedy = "the given dimensions are linearly dependent: give fewer of them";
                Error::value(name, format!("singular in dimension {}", a[i]), remedy)
            })?;
            let matrix = p.matrix(k);
            let mut coefficients = Vec::with_capacity(a.len() * b.len());
            for i in b {
                let mut row: Vec<f64> = a.iter().map(|j| matrix[i * p.width + j]).collect();
                cholesky::solve(&factor, &mut row);
                coefficients.extend(row);
            }
            split.logs.push(cholesky::log_determinant(&factor, a.len()));
            split.factors.push(factor);
            split.coefficients.push(coefficients);
        }
        Ok(split)
    }

    /// Weights and means (K, b) given the values of a.
    fn given(&self, p: &MixtureParameters, values: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let (mut logs, mut means) = (Vec::new(), Vec::new());
        for k in 0..p.components() {
            let which = k % self.factors.len();
            let mean = &p.means[k * p.width..][..p.width];
            let e: Vec<f64> = self
                .a
                .iter()
                .zip(values)
                .map(|(j, v)| v - mean[*j])
                .collect();
            let solved = self.solved(p.kind, which, &e);
            let distance: f64 = e.iter().zip(&solved).map(|(e, s)| e * s).sum();
            logs.push(p.weights[k].ln() - 0.5 * (distance + self.logs[which]));
            for (i, j) in self.b.iter().enumerate() {
                let shift = match p.kind.is_matrix() {
                    true => simd::dot(&self.coefficients[which][i * e.len()..][..e.len()], &e),
                    false => 0.0,
                };
                means.push(mean[*j] + shift);
            }
        }
        let largest = simd::max(&logs);
        let mut weights: Vec<f64> = logs.iter().map(|l| (l - largest).exp()).collect();
        let sum: f64 = weights.iter().sum();
        weights.iter_mut().for_each(|w| *w /= sum);
        (weights, means)
    }

    fn solved(&self, kind: Covariance, which: usize, e: &[f64]) -> Vec<f64> {
        let factor = &self.factors[which];
        if !kind.is_matrix() {
            return e.iter().zip(factor).map(|(e, v)| e / v).collect();
        }
        let mut out = e.to_vec();
        cholesky::solve(factor, &mut out);
        out
    }

    /// The covariance of b given a: the Schur complement of `S_aa`.
    fn schur(&self, p: &MixtureParameters, k: usize) -> Vec<f64> {
        let mut out = part(p, k, &self.b);
        if p.kind.is_matrix() {
            let (matrix, size) = (p.matrix(k), self.a.len());
            for (i, row) in out.chunks_exact_mut(self.b.len()).enumerate() {
                let row_coefficients = &self.coefficients[k][i * size..][..size];
                for (v, j) in row.iter_mut().zip(&self.b) {
                    let column = self.a.iter().map(|a| matrix[a * p.width + j]);
                    *v -= row_coefficients
                        .iter()
                        .zip(column)
                        .map(|(s, c)| s * c)
                        .sum::<f64>();
                }
            }
        }
        out
    }
}

/// The covariance of some dimensions.
fn part(p: &MixtureParameters, k: usize, dimensions: &[usize]) -> Vec<f64> {
    let matrix = p.matrix(k);
    if !p.kind.is_matrix() {
        return dimensions.iter().map(|j| matrix[*j]).collect();
    }
    let row = |i: &usize| {
        let i = *i;
        dimensions.iter().map(move |j| (i, *j))
    };
    let cells = dimensions.iter().flat_map(row);
    cells.map(|(i, j)| matrix[i * p.width + j]).collect()
}

fn check(dimensions: &[usize], width: usize) -> Result<()> {
    if dimensions.is_empty() {
        return Err(Error::value("dimensions", "none", "at least one is needed"));
    }
    for (i, j) in dimensions.iter().enumerate() {
        if *j >= width || dimensions[..i].contains(j) {
            let remedy = format!("each must be below {width} and occur once");
            return Err(Error::value("dimension", j, remedy));
        }
    }
    Ok(())
}
