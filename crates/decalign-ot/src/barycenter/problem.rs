//! What is to be averaged, checked once.

use candle_core::{DType, Tensor};
use decalign_core::{Error, Result};

use crate::tensor_convert::read;
use crate::validate;

/// Costs of a support with itself may be asymmetric by this, beside the largest.
const SYMMETRY_TOLERANCE: f64 = 1e-6;

/// Measures, the costs from each of them to a support of m points, and what each counts.
#[derive(Clone, Debug)]
pub struct BarycenterProblem {
    pub(super) measures: Vec<Tensor>,
    /// One for each measure, or one for all.
    pub(super) costs: Vec<Tensor>,
    pub(super) shares: Vec<f64>,
    pub(super) support_cost: Option<Tensor>,
    /// The total of each measure; the barycentre has that of the first.
    pub(super) totals: Vec<f64>,
    /// m, the points of the support.
    pub(super) points: usize,
}

impl BarycenterProblem {
    /// The mean of `measures` with the given weights.
    ///
    /// `costs` has one matrix for each measure, or a single one that all of them share. A cost goes
    /// from a measure's points (rows) to those of the support (columns); nothing is assumed to be
    /// symmetric or square.
    ///
    /// # Shapes
    /// Measure k is (n_k), not negative, all of equal positive total; its cost is (n_k, m), finite;
    /// all of one type, f32 or f64. `weights` are not negative and sum to 1.
    ///
    /// # Errors
    /// When there is no measure, a number, shape or dtype does not fit, an entry is NaN or infinite,
    /// a weight is negative, totals differ, or `weights` do not sum to 1.
    pub fn new(measures: &[Tensor], costs: &[Tensor], weights: &[f64]) -> Result<Self> {
        let n = measures.len();
        validate::at_least_one("number of measures", n)?;
        if costs.len() != n && costs.len() != 1 {
            let remedy = format!("{n} measures take {n} costs, or one that all share");
            return Err(Error::value("number of costs", costs.len(), remedy));
        }
        let dtype = validate::real("measure 0", &measures[0])?;
        let points = costs[0].dims().get(1).copied();
        for (k, cost) in costs.iter().enumerate() {
            validate::matrix(&format!("cost {k}"), cost, (None, points), dtype)?;
        }
        let mut totals = Vec::with_capacity(n);
        for (k, measure) in measures.iter().enumerate() {
            let rows = costs[k.min(costs.len() - 1)].dim(0)?;
            let name = format!("measure {k}");
            totals.push(validate::mass(&name, measure, rows, dtype)?);
            validate::equal_totals(&name, totals[k], "measure 0", totals[0])?;
        }
        Ok(Self {
            measures: measures.to_vec(),
            costs: costs.to_vec(),
            shares: validate::shares(weights, n)?,
            support_cost: None,
            totals,
            points: costs[0].dim(1)?,
        })
    }

    /// Adds the costs between the support's own points, which a debiased barycentre needs.
    ///
    /// # Shapes
    /// (m, m), symmetric.
    ///
    /// # Errors
    /// When the shape or dtype does not fit, an entry is NaN or infinite, or it is not symmetric.
    pub fn support_cost(self, cost: &Tensor) -> Result<Self> {
        let m = self.points;
        validate::matrix("support cost", cost, (Some(m), Some(m)), self.dtype())?;
        let numbers = read::<f64>(cost)?;
        let largest = numbers.iter().fold(0.0, |a: f64, v| a.max(v.abs()));
        for at in 0..m * m {
            let (i, j) = (at / m, at % m);
            if (numbers[at] - numbers[j * m + i]).abs() > SYMMETRY_TOLERANCE * largest {
                let remedy = format!("must equal that at ({j}, {i}), {}", numbers[j * m + i]);
                let name = format!("support cost at ({i}, {j})");
                return Err(Error::value(name, numbers[at], remedy));
            }
        }
        Ok(Self {
            support_cost: Some(cost.clone()),
            ..self
        })
    }

    pub(super) fn dtype(&self) -> DType {
        self.measures[0].dtype()
    }

    /// Which of the costs belongs to measure `k`.
    pub(super) fn cost_of(&self, k: usize) -> usize {
        k.min(self.costs.len() - 1)
    }

    /// Measures, then costs, then that of the support where `debiased`: the inputs of an operation.
    pub(super) fn inputs(&self, debiased: bool) -> Vec<&Tensor> {
        let support = self.support_cost.iter().filter(|_| debiased);
        self.measures
            .iter()
            .chain(&self.costs)
            .chain(support)
            .collect()
    }

    /// The weights of measure `k`, of total 1.
    pub(super) fn measure(&self, k: usize) -> Result<Vec<f64>> {
        let mut numbers = read::<f64>(&self.measures[k])?;
        numbers.iter_mut().for_each(|w| *w /= self.totals[k]);
        Ok(numbers)
    }
}
