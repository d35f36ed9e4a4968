//! What is to be transported, checked once.

use candle_core::{DType, Tensor};
use decalign_core::{Elements, Error, Result};

/// Cells of the joint cost tensor above which a dense solver refuses.
pub const CELL_LIMIT: usize = 1 << 24;

/// Totals of the marginals may differ by this, relatively.
const MASS_TOLERANCE: f64 = 1e-4;

/// M marginals and the costs between each pair of them.
#[derive(Clone, Debug)]
pub struct MultiMarginalProblem {
    pub(crate) marginals: Vec<Tensor>,
    pub(crate) costs: Vec<Tensor>,
    pub(crate) sizes: Vec<usize>,
}

impl MultiMarginalProblem {
    /// A problem of M >= 2 marginals and M (M - 1) / 2 costs, in the order of pairs (0, 1), (0, 2),
    /// ..., (1, 2), ...
    ///
    /// # Shapes
    /// Marginal m is (K_m), non-negative, each with the same positive total; the cost of the pair
    /// (m, n) is (K_m, K_n).
    ///
    /// # Errors
    /// When a shape or dtype does not fit, an entry is NaN or infinite, a weight is negative,
    /// totals differ, or there are more than [`CELL_LIMIT`] cells; the message has the numbers.
    pub fn new(marginals: &[Tensor], costs: &[Tensor]) -> Result<Self> {
        let m = marginals.len();
        if m < 2 {
            return Err(Error::value(
                "number of marginals",
                m,
                "at least two are transported",
            ));
        }
        if costs.len() != m * (m - 1) / 2 {
            let remedy = format!("{m} marginals need {}, one a pair", m * (m - 1) / 2);
            return Err(Error::value("number of costs", costs.len(), remedy));
        }
        let dtype = marginals[0].dtype();
        if !matches!(dtype, DType::F32 | DType::F64) {
            return Err(Error::tensor("marginal 0", "dtype f32 or f64", dtype));
        }
        let mut sizes = Vec::with_capacity(m);
        for (i, x) in marginals.iter().enumerate() {
            match x.dims() {
                [k] if *k > 0 && x.dtype() == dtype => sizes.push(*k),
                _ => {
                    let expected = format!("shape (K >= 1) of {dtype:?}");
                    return Err(Error::tensor(
                        format!("marginal {i}"),
                        expected,
                        (x.shape(), x.dtype()),
                    ));
                }
            }
        }
        check_cells(&sizes)?;
        let problem = Self {
            marginals: marginals.to_vec(),
            costs: costs.to_vec(),
            sizes,
        };
        for ((a, b), cost) in problem.pairs().zip(costs) {
            let expected = [problem.sizes[a], problem.sizes[b]];
            if cost.dims() != expected || cost.dtype() != dtype {
                let expected = format!("shape {expected:?} of {dtype:?}");
                let got = (cost.shape(), cost.dtype());
                return Err(Error::tensor(
                    format!("cost of pair ({a}, {b})"),
                    expected,
                    got,
                ));
            }
        }
        if marginals[0].device().is_cpu() {
            problem.check_values()?;
        }
        Ok(problem)
    }

    fn check_values(&self) -> Result<()> {
        let mut first = 0.0;
        for (i, x) in self.marginals.iter().enumerate() {
            let weights = numbers(x)?;
            for (j, w) in weights.iter().enumerate() {
                if !(*w >= 0.0 && w.is_finite()) {
                    let name = format!("weight {j} of marginal {i}");
                    return Err(Error::value(name, w, "must be finite and not negative"));
                }
            }
            let total: f64 = weights.iter().sum();
            if i == 0 {
                first = total;
            }
            if total <= 0.0 || (total - first).abs() > MASS_TOLERANCE * first.max(total) {
                let remedy = format!("must be positive and equal that of marginal 0, {first}");
                return Err(Error::value(
                    format!("total of marginal {i}"),
                    total,
                    remedy,
                ));
            }
        }
        for ((a, b), cost) in self.pairs().zip(&self.costs) {
            let columns = self.sizes[b];
            if let Some((j, v)) = numbers(cost)?
                .iter()
                .enumerate()
                .find(|(_, v)| !v.is_finite())
            {
                let (row, column) = (j / columns, j % columns);
                let name = format!("cost ({row}, {column}) of pair ({a}, {b})");
                return Err(Error::value(name, v, "must be finite"));
            }
        }
        Ok(())
    }

    /// The pairs of marginals, in the order of the costs.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let m = self.sizes.len();
        (0..m).flat_map(move |a| (a + 1..m).map(move |b| (a, b)))
    }

    /// Marginals, then costs: the inputs of an operation.
    pub(crate) fn inputs(&self) -> Vec<&Tensor> {
        self.marginals.iter().chain(&self.costs).collect()
    }
}

fn check_cells(sizes: &[usize]) -> Result<()> {
    let cells = sizes.iter().try_fold(1usize, |n, k| {
        n.checked_mul(*k).filter(|n| *n <= CELL_LIMIT)
    });
    match cells {
        Some(_) => Ok(()),
        None => {
            let got = sizes
                .iter()
                .map(usize::to_string)
                .collect::<Vec<_>>()
                .join(" x ");
            let remedy =
                format!("a dense joint cost holds at most {CELL_LIMIT} cells: use fewer points");
            Err(Error::value("number of cells", got, remedy))
        }
    }
}

fn numbers(x: &Tensor) -> Result<Vec<f64>> {
    let x = x.detach().to_dtype(DType::F64)?;
    Ok(Elements::<f64>::new(&x)?.to_vec())
}
