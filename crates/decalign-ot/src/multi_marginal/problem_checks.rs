//! Checks of the tensors and sizes of a multi-marginal problem.

use candle_core::{DType, Tensor};
use decalign_core::{Error, Result};

use super::joint::Structure;
use super::problem::{CELL_LIMIT, MultiMarginalProblem};
use crate::tensor_convert::read;
use crate::validate::MASS_TOLERANCE;

impl MultiMarginalProblem {
    /// The name of input `i` and its shape in one problem.
    fn input(&self, i: usize) -> (String, Vec<usize>) {
        let m = self.marginals.len();
        match (i < m, &self.structure) {
            (true, _) => (format!("marginal {i}"), vec![self.sizes[i]]),
            (false, Structure::Joint) => ("joint cost".into(), self.sizes.clone()),
            (false, Structure::Edges(edges)) => {
                let (a, b) = edges[i - m];
                (format!("cost of pair ({a}, {b})"), self.cost_shape(i - m))
            }
        }
    }

    /// Checks shapes and dtypes, and finds the size of the batch.
    pub(super) fn check_shapes(&mut self) -> Result<()> {
        let dtype = self.marginals[0].dtype();
        if !matches!(dtype, DType::F32 | DType::F64) {
            return Err(Error::tensor("marginal 0", "dtype f32 or f64", dtype));
        }
        let mut batch = None;
        for (i, x) in self.inputs().into_iter().enumerate() {
            let (name, shape) = self.input(i);
            let fits = x.dims().ends_with(&shape) && x.rank() <= shape.len() + 1;
            let leading = (x.rank() > shape.len()).then(|| x.dims()[0]);
            let same = leading.is_none() || batch.is_none() || leading == batch;
            if !fits || !same || leading == Some(0) || x.dtype() != dtype {
                let leading = batch.map_or("B".into(), |b: usize| b.to_string());
                let expected = format!("shape {shape:?}, or that after {leading}, of {dtype:?}");
                return Err(Error::tensor(name, expected, (x.shape(), x.dtype())));
            }
            batch = batch.or(leading);
        }
        self.batch = batch;
        Ok(())
    }

    /// Checks numbers on the CPU. Those on a device are not copied; bad ones appear as NaN or as a marginal error.
    pub(super) fn check_values(&self) -> Result<()> {
        if !self.marginals[0].device().is_cpu() {
            return Ok(());
        }
        let m = self.marginals.len();
        let mut totals: Vec<f64> = Vec::new();
        for (i, x) in self.inputs().into_iter().enumerate() {
            let numbers = read::<f64>(x)?;
            let wrong = |v: &f64| !(v.is_finite() && (i >= m || *v >= 0.0));
            if let Some(at) = numbers.iter().position(wrong) {
                let (name, shape) = self.input(i);
                let leading = self.batch.filter(|_| x.rank() > shape.len());
                let name = match i < m {
                    true => format!("weight {} of {name}", place(at, leading, &shape)),
                    false => format!("entry {} of the {name}", place(at, leading, &shape)),
                };
                let remedy = match i < m {
                    true => "must be finite and not negative",
                    false => "must be finite",
                };
                return Err(Error::value(name, numbers[at], remedy));
            }
            if i < m {
                let sums = numbers
                    .chunks_exact(self.sizes[i])
                    .map(|w| w.iter().sum::<f64>());
                self.check_totals(i, &sums.collect::<Vec<_>>(), &mut totals)?;
            }
        }
        Ok(())
    }

    /// Compares the totals of marginal `i` with those of marginal 0, which comes first.
    fn check_totals(&self, i: usize, sums: &[f64], totals: &mut Vec<f64>) -> Result<()> {
        if i == 0 {
            *totals = sums.to_vec();
        }
        for b in 0..self.count() {
            // A marginal that all problems share has one total.
            let (total, first) = (sums[b % sums.len()], totals[b % totals.len()]);
            if !(total > 0.0 && (total - first).abs() <= MASS_TOLERANCE * first.max(total)) {
                let name = match self.batch {
                    Some(_) => format!("total of marginal {i} of problem {b}"),
                    None => format!("total of marginal {i}"),
                };
                let remedy = format!("must be positive and equal that of marginal 0, {first}");
                return Err(Error::value(name, total, remedy));
            }
        }
        Ok(())
    }
}

/// The index of entry `at` of a tensor, which has a leading dimension where `leading` is its size.
fn place(mut at: usize, leading: Option<usize>, shape: &[usize]) -> String {
    let mut index = Vec::new();
    for n in shape.iter().rev() {
        index.push(at % n);
        at /= n;
    }
    index.extend(leading.map(|_| at));
    index.reverse();
    match &index[..] {
        [i] => i.to_string(),
        _ => format!(
            "({})",
            index
                .iter()
                .map(usize::to_string)
                .collect::<Vec<_>>()
                .join(", ")
        ),
    }
}

/// The points of each marginal.
pub(super) fn sizes(marginals: &[Tensor]) -> Result<Vec<usize>> {
    if marginals.len() < 2 {
        let remedy = "must be at least 2";
        return Err(Error::value("number of marginals", marginals.len(), remedy));
    }
    let each = marginals.iter().enumerate().map(|(i, x)| match x.dims() {
        [k] | [_, k] if *k > 0 => Ok(*k),
        _ => {
            let expected = "shape (K) or (B, K), K >= 1";
            Err(Error::tensor(format!("marginal {i}"), expected, x.shape()))
        }
    });
    each.collect()
}

/// The product; `None` where it overflows.
pub(crate) fn product(mut sizes: impl Iterator<Item = usize>) -> Option<usize> {
    sizes.try_fold(1usize, |n, k| n.checked_mul(k))
}

/// Checks the size of a joint tensor.
pub(crate) fn check_cells(sizes: &[usize]) -> Result<()> {
    match product(sizes.iter().copied()).filter(|cells| *cells <= CELL_LIMIT) {
        Some(_) => Ok(()),
        None => {
            let got: Vec<String> = sizes.iter().map(usize::to_string).collect();
            let remedy = format!(
                "a joint tensor holds at most {CELL_LIMIT} cells: use fewer points, or costs of \
                 fewer pairs"
            );
            Err(Error::value("number of cells", got.join(" x "), remedy))
        }
    }
}
