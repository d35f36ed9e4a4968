//! What is to be transported, checked once.

use candle_core::{DType, Tensor};
use decalign_core::{Error, Result};

use super::graph::Method;
use super::joint::{Structure, ordered};
use crate::tensor_convert::read;
use crate::validate::MASS_TOLERANCE;

/// Cells of the largest tensor that a problem may take.
pub const CELL_LIMIT: usize = 1 << 24;

/// M marginals and what it costs to be at a point of each at once:
///
/// ```text
/// C(i_1, ..., i_M) = sum over edges (m, n) of C_mn(i_m, i_n),   or any tensor
/// ```
///
/// Any pairs of marginals may have a cost. On a chain, a star or any graph without cycles a solve
/// never sees the joint tensor, only the pairs' costs; a cycle takes tables of the marginals that
/// have to be summed out together, see [`MultiMarginalProblem::cells`].
///
/// A batch of problems is one problem whose tensors have a leading dimension B; those without it
/// are shared by all.
///
/// Source: Haasler and others (2021) for costs on graphs.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use decalign_ot::MultiMarginalProblem;
/// let weights = vec![Tensor::full(0.02f32, 50, &Device::Cpu)?; 6];
/// let costs = vec![Tensor::zeros((50, 50), DType::F32, &Device::Cpu)?; 5];
/// let chain = MultiMarginalProblem::chain(&weights, &costs)?;
/// // Not 50^6.
/// assert_eq!(chain.cells(), 50 * 50);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct MultiMarginalProblem {
    pub(crate) marginals: Vec<Tensor>,
    pub(crate) costs: Vec<Tensor>,
    pub(crate) structure: Structure,
    pub(crate) sizes: Vec<usize>,
    pub(crate) batch: Option<usize>,
    pub(crate) method: Method,
}

impl MultiMarginalProblem {
    /// A cost for every pair, in the order (0, 1), (0, 2), ..., (1, 2), ...
    ///
    /// # Shapes
    /// Marginal m is (K_m) or (B, K_m), non-negative, all of a problem with the same positive
    /// total; the cost of the pair (m, n) is (K_m, K_n) or (B, K_m, K_n). All f32 or all f64.
    ///
    /// # Errors
    /// When there are fewer than two marginals, a shape or dtype does not fit, an entry is NaN or
    /// infinite, a weight is negative, totals differ, or there are more than [`CELL_LIMIT`] cells;
    /// the message has the numbers.
    pub fn pairwise(marginals: &[Tensor], costs: &[Tensor]) -> Result<Self> {
        let m = marginals.len();
        let pairs = (0..m).flat_map(|a| (a + 1..m).map(move |b| (a, b)));
        Self::of_edges(marginals, pairs.collect(), costs, "one a pair")
    }

    /// A cost between each marginal and the next.
    ///
    /// # Shapes
    /// As [`MultiMarginalProblem::pairwise`]; cost m is (K_m, K_{m+1}).
    ///
    /// # Errors
    /// As [`MultiMarginalProblem::pairwise`].
    pub fn chain(marginals: &[Tensor], costs: &[Tensor]) -> Result<Self> {
        let links = (1..marginals.len()).map(|m| (m - 1, m)).collect();
        Self::of_edges(marginals, links, costs, "one a link")
    }

    /// A cost between marginal 0, the centre, and each other.
    ///
    /// # Shapes
    /// As [`MultiMarginalProblem::pairwise`]; cost m is (K_0, K_{m+1}).
    ///
    /// # Errors
    /// As [`MultiMarginalProblem::pairwise`].
    pub fn star(marginals: &[Tensor], costs: &[Tensor]) -> Result<Self> {
        let rays = (1..marginals.len()).map(|m| (0, m)).collect();
        Self::of_edges(marginals, rays, costs, "one a ray")
    }

    /// A cost for each of some pairs `(m, n, cost)`: a tree, a ring, or parts that nothing joins.
    ///
    /// # Shapes
    /// As [`MultiMarginalProblem::pairwise`]; the cost of `(m, n)` is (K_m, K_n), in any order of m
    /// and n.
    ///
    /// # Errors
    /// As [`MultiMarginalProblem::pairwise`], and when a pair comes twice, is of one marginal, or of
    /// one that is not there. The limit holds for the largest table of
    /// [`MultiMarginalProblem::cells`].
    pub fn graph(marginals: &[Tensor], edges: &[(usize, usize, Tensor)]) -> Result<Self> {
        let pairs: Vec<(usize, usize)> = edges.iter().map(|(a, b, _)| (*a, *b)).collect();
        for (i, (a, b)) in pairs.iter().enumerate() {
            let name = format!("edge {i}");
            let got = format!("({a}, {b})");
            let m = marginals.len();
            if a == b || *a.max(b) >= m {
                let remedy = format!("must join two different marginals of 0 to {}", m.max(1) - 1);
                return Err(Error::value(name, got, remedy));
            }
            if pairs[..i].iter().any(|e| ordered(*e) == ordered((*a, *b))) {
                return Err(Error::value(name, got, "comes twice: add the two costs"));
            }
        }
        let costs: Vec<Tensor> = edges.iter().map(|(_, _, cost)| cost.clone()).collect();
        Self::of_edges(marginals, pairs, &costs, "one an edge")
    }

    /// The joint cost as a tensor.
    ///
    /// # Shapes
    /// Marginals as [`MultiMarginalProblem::pairwise`]; `cost` is (K_1, ..., K_M) or
    /// (B, K_1, ..., K_M).
    ///
    /// # Errors
    /// As [`MultiMarginalProblem::pairwise`].
    pub fn dense(marginals: &[Tensor], cost: &Tensor) -> Result<Self> {
        let sizes = sizes(marginals)?;
        check_cells(&sizes)?;
        let costs = std::slice::from_ref(cost).to_vec();
        Self::check(marginals, sizes, Structure::Joint, costs, Method::Dense)
    }

    fn of_edges(
        marginals: &[Tensor],
        edges: Vec<(usize, usize)>,
        costs: &[Tensor],
        each: &str,
    ) -> Result<Self> {
        let sizes = sizes(marginals)?;
        if costs.len() != edges.len() {
            let remedy = format!("{} marginals need {}, {each}", sizes.len(), edges.len());
            return Err(Error::value("number of costs", costs.len(), remedy));
        }
        let method = Method::of_edges(&sizes, &edges)?;
        Self::check(
            marginals,
            sizes,
            Structure::Edges(edges),
            costs.to_vec(),
            method,
        )
    }

    fn check(
        marginals: &[Tensor],
        sizes: Vec<usize>,
        structure: Structure,
        costs: Vec<Tensor>,
        method: Method,
    ) -> Result<Self> {
        let mut problem = Self {
            marginals: marginals.to_vec(),
            costs,
            structure,
            sizes,
            batch: None,
            method,
        };
        problem.check_shapes()?;
        problem.check_values()?;
        Ok(problem)
    }

    /// Numbers of the largest tensor that a solve works on: of an edge, of a table of marginals
    /// that are summed out together, or of the joint tensor where that is cheapest.
    pub fn cells(&self) -> usize {
        self.method.cells(&self.sizes, self.edges())
    }

    /// The points of each marginal.
    pub fn sizes(&self) -> &[usize] {
        &self.sizes
    }

    /// The number of problems, where tensors have a leading dimension.
    pub fn batch(&self) -> Option<usize> {
        self.batch
    }

    /// The number of problems.
    pub(crate) fn count(&self) -> usize {
        self.batch.unwrap_or(1)
    }

    pub(crate) fn edges(&self) -> &[(usize, usize)] {
        match &self.structure {
            Structure::Edges(edges) => edges,
            Structure::Joint => &[],
        }
    }

    /// The shape of cost `i` of one problem.
    pub(crate) fn cost_shape(&self, i: usize) -> Vec<usize> {
        match &self.structure {
            Structure::Edges(edges) => vec![self.sizes[edges[i].0], self.sizes[edges[i].1]],
            Structure::Joint => self.sizes.clone(),
        }
    }

    /// Marginals, then costs: the inputs of an operation.
    pub(crate) fn inputs(&self) -> Vec<&Tensor> {
        self.marginals.iter().chain(&self.costs).collect()
    }

    /// Without gradients.
    pub(crate) fn detach(&self) -> Self {
        let detach = |x: &[Tensor]| x.iter().map(Tensor::detach).collect();
        Self {
            marginals: detach(&self.marginals),
            costs: detach(&self.costs),
            ..self.clone()
        }
    }

    /// The same problem with a pair joined, at no cost if it was not, and the place of that edge.
    pub(crate) fn joining(&self, m: usize, n: usize) -> Result<(Self, usize)> {
        let mut edges = self.edges().to_vec();
        if let Some(at) = edges.iter().position(|e| ordered(*e) == ordered((m, n))) {
            return Ok((self.clone(), at));
        }
        edges.push((m, n));
        let method = Method::of_edges(&self.sizes, &edges)?;
        let like = &self.marginals[0];
        let free = Tensor::zeros((self.sizes[m], self.sizes[n]), like.dtype(), like.device())?;
        let mut joined = self.clone();
        joined.costs.push(free);
        joined.structure = Structure::Edges(edges);
        joined.method = method;
        let last = joined.costs.len() - 1;
        Ok((joined, last))
    }

    /// Whether any input carries gradients.
    pub(crate) fn is_tracked(&self) -> bool {
        self.inputs().iter().any(|x| x.track_op())
    }

    /// The name of input `i`, the shape of it in one problem.
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

    /// Also finds the size of the batch.
    fn check_shapes(&mut self) -> Result<()> {
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

    /// Numbers on a device are not fetched: what is wrong there shows in the results, as NaN or as a marginal error.
    fn check_values(&self) -> Result<()> {
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

    /// Of marginal `i`, against those of marginal 0, which come first.
    fn check_totals(&self, i: usize, sums: &[f64], totals: &mut Vec<f64>) -> Result<()> {
        if i == 0 {
            *totals = sums.to_vec();
        }
        for b in 0..self.count() {
            // One entry where all problems share a marginal.
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

/// The index of entry `at` of a tensor of this shape.
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
fn sizes(marginals: &[Tensor]) -> Result<Vec<usize>> {
    if marginals.len() < 2 {
        let remedy = "at least two are transported";
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

/// Nothing if the product does not fit.
pub(crate) fn product(mut sizes: impl Iterator<Item = usize>) -> Option<usize> {
    sizes.try_fold(1usize, |n, k| n.checked_mul(k))
}

/// Of a joint tensor.
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
