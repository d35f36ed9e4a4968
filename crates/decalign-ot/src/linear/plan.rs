//! The plan of a solution, computed on request.

use std::sync::Arc;

use candle_core::{D, DType, Tensor};
use decalign_core::op::{Backward, InputGradients, Output, record_one};
use decalign_core::{Error, Real, Result, parallel, with_real};

use super::marginal::divided;
use super::plan_cells::PlanCells;
use super::problem::{Gradient, LinearProblem, SolvedBatch, cost_gradient};
use crate::tensor_convert::{gather, read, select, tensor};

/// A coupling `P = exp((f + g - C) / eps) a b` of n points and m points, or a batch of them. It is never
/// stored: memory is O(n + m) plus that of its geometry.
///
/// Products carry gradients with respect to the tensor that the plan is applied to and, with [`Gradient::Implicit`] or
/// [`Gradient::Unrolled`], with respect to weights, costs and points.
#[derive(Clone, Debug)]
pub struct Plan {
    pub(super) solved: Arc<SolvedBatch>,
    /// Potentials with their gradients.
    pub(super) potentials: (Tensor, Tensor),
}

impl Plan {
    fn problem(&self) -> &LinearProblem {
        &self.solved.problem
    }

    /// `P v`.
    ///
    /// # Shapes
    /// `v` (m, k); the result is (n, k) of its type. With a batch, `v` (B, m, k) or (m, k) for all, and
    /// (B, n, k).
    ///
    /// # Errors
    /// When the shape or dtype is another.
    pub fn apply(&self, v: &Tensor) -> Result<Tensor> {
        self.product(v, false)
    }

    /// `P^T v`.
    ///
    /// # Shapes
    /// `v` (n, k); the result is (m, k) of its type. With a batch, `v` (B, n, k) or (n, k) for all, and
    /// (B, m, k).
    ///
    /// # Errors
    /// When the shape or dtype is another.
    pub fn apply_transposed(&self, v: &Tensor) -> Result<Tensor> {
        self.product(v, true)
    }

    /// The mean of the points that each source point is sent to: `P y / (P 1)`, zeros where a
    /// point has no mass.
    ///
    /// With [`Gradient::Envelope`] (the default) only `y` has gradients; ask for [`Gradient::Implicit`] to
    /// have those of weights, costs and points.
    ///
    /// # Shapes
    /// `y` (m, d); the result is (n, d). With a batch as in [`Plan::apply`].
    ///
    /// # Errors
    /// When the shape or dtype is another.
    pub fn barycentric_projection(&self, y: &Tensor) -> Result<Tensor> {
        let (m, dtype) = (self.problem().geometry().size().1, y.dtype());
        // In f64: the gradient of a quotient divides by the square of the mass.
        let y = y.to_dtype(DType::F64)?;
        let mass = self.apply(&Tensor::ones((m, 1), DType::F64, y.device())?)?;
        let some = mass.gt(0.0)?.to_dtype(DType::F64)?;
        // Where there is no mass: 0 / 1.
        let divisor = (&mass + (1.0 - &some)?)?;
        Ok(self.apply(&y)?.broadcast_div(&divisor)?.to_dtype(dtype)?)
    }

    /// The sums over columns, (n), and over rows, (m), or with a batch.
    ///
    /// # Errors
    /// When memory runs out.
    pub fn marginals(&self) -> Result<(Tensor, Tensor)> {
        let (n, m) = self.problem().geometry().size();
        let (a, _) = self.problem().marginals();
        let ones = |k: usize| Tensor::ones((k, 1), a.dtype(), a.device());
        let rows = self.apply(&ones(m)?)?.squeeze(D::Minus1)?;
        Ok((rows, self.apply_transposed(&ones(n)?)?.squeeze(D::Minus1)?))
    }

    /// The whole plan, (n, m) or (B, n, m).
    ///
    /// # Errors
    /// When memory runs out.
    pub fn to_tensor(&self) -> Result<Tensor> {
        let (n, m) = self.problem().geometry().size();
        let (a, _) = self.problem().marginals();
        if self.solved.gradient == Gradient::Envelope {
            let count = self.problem().count();
            let parts = parallel::map(count, count * n * m * 10, |i| {
                PlanCells::of(&self.solved, i).matrix()
            });
            let numbers = parts.into_iter().collect::<Result<Vec<_>>>()?.concat();
            return tensor(&numbers, self.problem().shape(&[n, m]), a);
        }
        let eye = |k: usize| Tensor::eye(k, a.dtype(), a.device());
        match m <= n {
            true => self.apply(&eye(m)?),
            false => Ok(self
                .apply_transposed(&eye(n)?)?
                .transpose(D::Minus1, D::Minus2)?
                .contiguous()?),
        }
    }

    fn product(&self, v: &Tensor, transposed: bool) -> Result<Tensor> {
        let (n, m) = self.problem().geometry().size();
        let (to, from) = if transposed { (m, n) } else { (n, m) };
        let rank = v.rank();
        let fits = match (self.problem().batch(), v.dims()) {
            (_, [rows, k]) => *rows == from && *k > 0,
            (Some(b), [batch, rows, k]) => *batch == b && *rows == from && *k > 0,
            _ => false,
        };
        if !fits {
            let expected = match self.problem().batch() {
                Some(b) => format!("shape ({from}, k) or ({b}, {from}, k)"),
                None => format!("shape ({from}, k)"),
            };
            return Err(Error::tensor("v", expected, v.shape()));
        }
        let k = v.dims()[rank - 1];
        let count = self.problem().count();
        let work = count * n * m * (8 + 2 * k);
        let parts = parallel::map(count, work, |i| -> Result<Vec<f64>> {
            PlanCells::of(&self.solved, i).apply(&read(&select(v, 2, i)?)?, k, transposed)
        });
        let numbers = parts.into_iter().collect::<Result<Vec<_>>>()?.concat();
        let shape = self.problem().shape(&[to, k]);
        let like = v.detach();
        with_real!("v", v, T => {
            let numbers: Vec<T> = numbers.into_iter().map(T::of).collect();
            let output = Output::new(numbers, shape);
            let solved = self.solved.clone();
            let mut inputs = vec![v];
            if solved.gradient != Gradient::Envelope {
                let problem = self.problem();
                inputs.extend([&self.potentials.0, &self.potentials.1, &problem.a, &problem.b]);
                inputs.extend(problem.geometry().inputs());
            }
            let out = record_one("plan", &inputs, output, move |b| backward(b, &solved, k, transposed))?;
            Ok(out.to_device(like.device())?)
        })
    }
}

/// The gradient of `P v` or `P^T v`: of v the other product, of the plan `W = P o (left right^T)`.
fn backward(
    b: &Backward,
    solved: &SolvedBatch,
    k: usize,
    transposed: bool,
) -> Result<InputGradients> {
    let (outer, v) = (b.gradient(0)?, &b.inputs[0]);
    let count = solved.problem.count();
    let (n, m) = solved.problem.geometry().size();
    let whole = b.inputs.len() > 1;
    let needed = if whole { &b.needed[5..] } else { &[] };
    let parts = parallel::map(count, count * n * m * (16 + 8 * k), |i| -> Result<_> {
        let cells = PlanCells::of(solved, i);
        let (outer, v) = (
            read::<f64>(&select(&outer, 2, i)?)?,
            read::<f64>(&select(v, 2, i)?)?,
        );
        let of_v = cells.apply(&outer, k, !transposed)?;
        if !whole {
            return Ok((of_v, None));
        }
        let (left, right) = if transposed {
            (&v, &outer)
        } else {
            (&outer, &v)
        };
        let terms = Terms::new(solved, &cells, i, (left, right, k), needed)?;
        Ok((of_v, Some(terms)))
    });
    let (of_v, terms): (Vec<_>, Vec<_>) = parts
        .into_iter()
        .collect::<Result<Vec<_>>>()?
        .into_iter()
        .unzip();
    let mut gradients = vec![Some(gather(&of_v, v, 2)?)];
    if let Some(terms) = terms.into_iter().collect::<Option<Vec<_>>>() {
        let epsilon = solved.epsilon;
        let scaled = |f: &dyn Fn(&Terms) -> Vec<f64>| terms.iter().map(f).collect::<Vec<_>>();
        let by = |x: &[f64], c: f64| x.iter().map(|v| v * c).collect::<Vec<f64>>();
        gradients.push(Some(gather(
            &scaled(&|t| by(&t.rows, 1.0 / epsilon)),
            &b.inputs[1],
            1,
        )?));
        gradients.push(Some(gather(
            &scaled(&|t| by(&t.columns, 1.0 / epsilon)),
            &b.inputs[2],
            1,
        )?));
        gradients.push(Some(gather(
            &scaled(&|t| t.weights.0.clone()),
            &b.inputs[3],
            1,
        )?));
        gradients.push(Some(gather(
            &scaled(&|t| t.weights.1.clone()),
            &b.inputs[4],
            1,
        )?));
        for (j, x) in b.inputs[5..].iter().enumerate() {
            let each: Option<Vec<_>> = terms
                .iter()
                .map(|t| t.costs[j].as_deref().map(|c| by(c, -1.0 / epsilon)))
                .collect();
            gradients.push(each.map(|each| gather(&each, x, 2)).transpose()?);
        }
    }
    Ok(gradients)
}

/// Sums of `W = P o (left right^T)` that gradients are made of.
struct Terms {
    /// Over columns.
    rows: Vec<f64>,
    /// Over rows.
    columns: Vec<f64>,
    /// The same divided by the weights, centred where the marginals are exact.
    weights: (Vec<f64>, Vec<f64>),
    /// `d <W, C>` with respect to what costs are computed from.
    costs: Vec<Option<Vec<f64>>>,
}

impl Terms {
    fn new(
        solved: &SolvedBatch,
        cells: &PlanCells,
        i: usize,
        (left, right, k): (&[f64], &[f64], usize),
        needed: &[bool],
    ) -> Result<Self> {
        let rows = row_products(left, &cells.apply(right, k, false)?, k);
        let columns = row_products(right, &cells.apply(left, k, true)?, k);
        let (a, b) = &solved.each[i].weights;
        let plan = solved.scaled_potentials(i);
        let costs = cost_gradient(
            solved.problem.geometry(),
            i,
            plan,
            (left, right, k),
            needed,
            solved.each[i].precision,
        )?;
        let balanced = solved.problem.balanced();
        let weights = (divided(&rows, a, balanced), divided(&columns, b, balanced));
        Ok(Self {
            rows,
            columns,
            weights,
            costs,
        })
    }
}

/// `sum_k x_ik y_ik`.
fn row_products(x: &[f64], y: &[f64], k: usize) -> Vec<f64> {
    let rows = x.chunks_exact(k).zip(y.chunks_exact(k));
    rows.map(|(x, y)| x.iter().zip(y).map(|(x, y)| x * y).sum())
        .collect()
}
