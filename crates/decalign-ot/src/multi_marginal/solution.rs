//! What a solve found and how it ended.

use candle_core::{Device, Tensor};
use decalign_core::{Error, Real, Result, parallel, with_real};

use super::dense::DenseState;
use super::graph::{Forest, Method};
use super::inputs::{BatchInputs, record_values};
use super::joint::{Structure, ordered, pair_sums, transposed, unpadded};
use super::problem::MultiMarginalProblem;
use super::problem_checks::check_cells;
use super::state::{CostTables, Evaluation, SinkhornState, convert};
use crate::convergence::{Convergence, convergence_accessors};

/// The result of [`crate::MultiMarginalSinkhorn::solve`].
#[derive(Clone, Debug)]
pub struct MultiMarginalSolution {
    /// The regularised value, a scalar or (B):
    ///
    /// ```text
    /// <f_1, nu_1> + ... + <f_M, nu_M> + eps (|nu_1| ... |nu_M| - |T|)
    /// ```
    ///
    /// The dual, equal to the primal at convergence. It carries gradients by the envelope theorem:
    /// with respect to weights the potentials, centred to mean 0 over points with mass and 0 at
    /// others; with respect to a cost the plan's sums over all that it does not depend on.
    pub value: Tensor,
    /// `<T, C>`, without regularisation, a scalar or (B). It carries no gradients.
    pub transport_cost: Tensor,
    /// `f_m` of every marginal, (K_m) or (B, K_m), 0 where its weight is 0. They carry no gradients.
    pub potentials: Vec<Tensor>,
    convergence: Vec<Convergence>,
    problem: MultiMarginalProblem,
    epsilon: f64,
    /// Of every problem, every marginal.
    numbers: Vec<Vec<Vec<f64>>>,
}

/// One problem solved.
pub(super) struct Solved<D> {
    value: f64,
    transport_cost: f64,
    convergence: Convergence,
    potentials: Vec<Vec<f64>>,
    /// With respect to marginals and, where asked for, costs.
    gradients: Vec<Vec<D>>,
}

impl<D: Real> Solved<D> {
    pub(super) fn new<T: Real>(
        potentials: Vec<Vec<f64>>,
        weights: &[Vec<T>],
        evaluation: Evaluation<T>,
        (iterations, epsilon, tolerance): (usize, f64, f64),
    ) -> Self {
        let total = |w: &Vec<T>| w.iter().map(|v| v.as_f64()).sum::<f64>();
        let inner = |(f, w): (&Vec<f64>, &Vec<T>)| -> f64 {
            f.iter().zip(w).map(|(f, w)| f * w.as_f64()).sum()
        };
        let dual: f64 = potentials.iter().zip(weights).map(inner).sum();
        let product: f64 = weights.iter().map(total).product();
        let value = dual + epsilon * (product - evaluation.mass);
        let marginal_error = evaluation.error(weights);
        let finite = value.is_finite() && evaluation.transport_cost.is_finite();
        let centred = potentials.iter().zip(weights).map(|(f, w)| centred(f, w));
        let costs = evaluation.costs.iter().map(|c| convert(c));
        Self {
            value,
            transport_cost: evaluation.transport_cost,
            convergence: Convergence {
                marginal_error,
                iterations,
                converged: finite && marginal_error <= tolerance * total(&weights[0]),
            },
            gradients: centred.chain(costs).collect(),
            potentials,
        }
    }
}

/// About the mean over points with mass; 0 at others.
fn centred<D: Real, T: Real>(f: &[f64], weights: &[T]) -> Vec<D> {
    let with_mass = || f.iter().zip(weights).filter(|(_, w)| **w > T::zero());
    let mean = with_mass().map(|(f, _)| f).sum::<f64>() / with_mass().count() as f64;
    let each = f.iter().zip(weights).map(|(f, w)| match *w > T::zero() {
        true => D::of(f - mean),
        false => D::zero(),
    });
    each.collect()
}

convergence_accessors!(MultiMarginalSolution);

impl MultiMarginalSolution {
    pub(super) fn new<D: Real>(
        problem: &MultiMarginalProblem,
        epsilon: f64,
        mut solved: Vec<Solved<D>>,
    ) -> Result<Self> {
        let convergence = solved.iter().map(|s| s.convergence).collect();
        let transport_costs = solved.iter().map(|s| D::of(s.transport_cost)).collect();
        let numbers: Vec<Vec<Vec<f64>>> = solved
            .iter_mut()
            .map(|s| std::mem::take(&mut s.potentials))
            .collect();
        let values = solved.iter().map(|s| D::of(s.value)).collect();
        let tensor = |m: usize| -> Result<Tensor> {
            let each = numbers.iter().flat_map(|f| f[m].iter().map(|v| D::of(*v)));
            tensor(problem, each.collect(), &[problem.sizes[m]])
        };
        let potentials = (0..problem.sizes.len())
            .map(tensor)
            .collect::<Result<_>>()?;
        let gradients: Vec<Vec<Vec<D>>> = solved.into_iter().map(|s| s.gradients).collect();
        let work = gradients[0].iter().map(Vec::len).sum();
        let value = record_values("multi_marginal_sinkhorn", problem, values, work, {
            move |b, outer| {
                let scaled = |g: &Vec<D>| g.iter().map(|v| *v * outer).collect();
                gradients[b].iter().map(scaled).collect()
            }
        })?;
        Ok(Self {
            value,
            transport_cost: self::tensor(problem, transport_costs, &[])?,
            potentials,
            convergence,
            problem: problem.detach(),
            epsilon,
            numbers,
        })
    }

    /// The plan as a tensor. It carries no gradient.
    ///
    /// # Shapes
    /// (K_1, ..., K_M) or (B, K_1, ..., K_M).
    ///
    /// # Errors
    /// When it has more than [`crate::CELL_LIMIT`] cells; see [`MultiMarginalSolution::pair_marginal`].
    pub fn plan(&self) -> Result<Tensor> {
        let sizes = &self.problem.sizes;
        let all: Vec<usize> = self
            .problem
            .batch
            .into_iter()
            .chain(sizes.iter().copied())
            .collect();
        check_cells(&all)?;
        self.each(sizes, |dense| unpadded(dense.cells(), &dense.plan()))
    }

    /// The marginal of the plan on two of its marginals: how mass moves from `m` to `n`, whether or
    /// not a cost joins them. It carries no gradient.
    ///
    /// # Shapes
    /// (K_m, K_n) or (B, K_m, K_n).
    ///
    /// # Errors
    /// When `m` or `n` is not there or they are the same; or when, on a graph with cycles, the two
    /// can only be kept to the end together in a table of more than [`crate::CELL_LIMIT`] cells.
    pub fn pair_marginal(&self, m: usize, n: usize) -> Result<Tensor> {
        let sizes = &self.problem.sizes;
        if m == n || m.max(n) >= sizes.len() {
            let remedy = format!("must be two different ones of 0 to {}", sizes.len() - 1);
            return Err(Error::value("marginals", format!("{m} and {n}"), remedy));
        }
        let shape = [sizes[m], sizes[n]];
        match &self.problem.method {
            Method::Dense => self.each(&shape, |dense| {
                pair_sums(dense.cells(), (m, n), &dense.plan())
            }),
            Method::Forest(forest) => self.of_tables(&self.problem, &shape, |evaluation| {
                along_path(&self.problem, forest, evaluation, (m, n))
            }),
            Method::Buckets(_) => {
                let (problem, edge) = self.problem.joining(m, n)?;
                self.of_tables(&problem, &shape, |evaluation| {
                    let pair = &evaluation.costs[edge];
                    match problem.edges()[edge] == (m, n) {
                        true => pair.clone(),
                        false => transposed(pair, sizes[m]),
                    }
                })
            }
        }
    }

    /// A result of each problem's joint tensor, computed in f64.
    fn each(
        &self,
        shape: &[usize],
        of: impl Fn(&DenseState<f64>) -> Vec<f64> + Sync + Send,
    ) -> Result<Tensor> {
        let problem = &self.problem;
        let inputs = BatchInputs::<f64>::read(problem)?;
        let work = problem.sizes.iter().product::<usize>() * problem.count() * 10;
        let all = parallel::map(problem.count(), work, |b| {
            let (cells, joint) = CostTables::<f64>::dense(problem, &inputs.costs(b));
            let weights: Vec<Vec<f64>> = inputs.marginals(b).map(<[f64]>::to_vec).collect();
            let mut dense = DenseState::new(&cells, &Structure::Joint, &joint, &weights);
            dense.start(self.epsilon, Some(&self.numbers[b]));
            of(&dense)
        });
        self.gathered(all, shape)
    }

    /// A result of each problem's tables, computed in f64.
    fn of_tables(
        &self,
        problem: &MultiMarginalProblem,
        shape: &[usize],
        of: impl Fn(Evaluation<f64>) -> Vec<f64> + Sync + Send,
    ) -> Result<Tensor> {
        let inputs = BatchInputs::<f64>::read(problem)?;
        let work = problem.cells() * problem.count() * 20;
        let all = parallel::map(problem.count(), work, |b| {
            let tables = CostTables::<f64>::new(problem, &inputs.costs(b));
            let weights: Vec<Vec<f64>> = inputs.marginals(b).map(<[f64]>::to_vec).collect();
            let mut state = tables.state(problem, &weights);
            state.start(self.epsilon, Some(&self.numbers[b]));
            of(state.evaluate(true))
        });
        self.gathered(all, shape)
    }

    fn gathered(&self, all: Vec<Vec<f64>>, shape: &[usize]) -> Result<Tensor> {
        with_real!("marginals", self.problem.marginals[0], T => {
            let all = all.into_iter().flatten().map(T::of).collect();
            tensor(&self.problem, all, shape)
        })
    }
}

/// The numbers of all problems as a tensor of the problem's type and device.
fn tensor<D: Real>(
    problem: &MultiMarginalProblem,
    numbers: Vec<D>,
    shape: &[usize],
) -> Result<Tensor> {
    let dims: Vec<usize> = problem
        .batch
        .into_iter()
        .chain(shape.iter().copied())
        .collect();
    let tensor = Tensor::from_vec(numbers, dims, &Device::Cpu)?;
    Ok(tensor.to_device(problem.marginals[0].device())?)
}

/// The pair marginal of two marginals of a forest, by the edges on the path between them:
/// `P(m, k) = sum over j of P(m, j) P(j, k) / P(j)`.
fn along_path(
    problem: &MultiMarginalProblem,
    forest: &Forest,
    evaluation: Evaluation<f64>,
    (m, n): (usize, usize),
) -> Vec<f64> {
    let marginals = &evaluation.marginals;
    let Some(path) = forest.path(m, n) else {
        // Nothing joins them.
        let mass = evaluation.mass;
        let row = |a: &f64| {
            marginals[n]
                .iter()
                .map(|b| a * b / mass)
                .collect::<Vec<_>>()
        };
        return marginals[m].iter().flat_map(row).collect();
    };
    let mut pair: Option<Vec<f64>> = None;
    for link in path.windows(2) {
        let (j, k) = (link[0], link[1]);
        let find = |e: &(usize, usize)| ordered(*e) == ordered((j, k));
        let edge = problem.edges().iter().position(find).unwrap_or(0);
        let step = match problem.edges()[edge] == (j, k) {
            true => evaluation.costs[edge].clone(),
            false => transposed(&evaluation.costs[edge], problem.sizes[j]),
        };
        pair = Some(match pair {
            None => step,
            Some(so_far) => chained(&so_far, &marginals[j], &step),
        });
    }
    pair.unwrap_or_default()
}

/// `sum over j of P(i, j) P(j, k) / P(j)`.
fn chained(first: &[f64], middle: &[f64], second: &[f64]) -> Vec<f64> {
    let columns = second.len() / middle.len();
    let mut out = vec![0.0; first.len() / middle.len() * columns];
    let rows = out
        .chunks_exact_mut(columns)
        .zip(first.chunks_exact(middle.len()));
    for (out, row) in rows {
        for ((p, mass), step) in row.iter().zip(middle).zip(second.chunks_exact(columns)) {
            // Where there is no mass there is nothing to move on.
            let share = if *mass > 0.0 { p / mass } else { 0.0 };
            out.iter_mut().zip(step).for_each(|(o, s)| *o += share * s);
        }
    }
    out
}
