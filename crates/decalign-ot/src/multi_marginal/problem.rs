//! The multi-marginal problem.

use candle_core::Tensor;
use decalign_core::{Error, Result};

use super::graph::Method;
use super::joint::{Structure, ordered};
use super::problem_checks::{check_cells, sizes};

/// Largest number of cells of a tensor that a solve works on.
pub const CELL_LIMIT: usize = 1 << 24;

/// M marginals and the joint cost of a point from each:
///
/// ```text
/// C(i_1, ..., i_M) = sum over edges (m, n) of C_mn(i_m, i_n),   or any tensor
/// ```
///
/// Any pairs of marginals may have a cost. On a chain, a star or any graph without cycles a solve uses the costs of the
/// pairs and never forms the joint tensor; a cycle takes tables of the marginals that have to be summed out together,
/// see [`MultiMarginalProblem::cells`].
///
/// A batch of problems is one problem whose tensors have a leading dimension B; tensors without it are shared by all.
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

    /// Costs of any pairs `(m, n, cost)`: a tree, a ring, or several components.
    ///
    /// # Shapes
    /// As [`MultiMarginalProblem::pairwise`]; the cost of `(m, n)` is (K_m, K_n), in any order of m
    /// and n.
    ///
    /// # Errors
    /// Those of [`MultiMarginalProblem::pairwise`]; also when a pair comes twice, joins a marginal to itself, or names a
    /// marginal that does not exist. The limit applies to [`MultiMarginalProblem::cells`].
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

    /// Cells of the largest tensor that a solve works on: the cost of an edge, a table of marginals that are summed out
    /// together, or the joint tensor where that is cheapest.
    pub fn cells(&self) -> usize {
        self.method.cells(&self.sizes, self.edges())
    }

    /// The points of each marginal.
    pub fn sizes(&self) -> &[usize] {
        &self.sizes
    }

    /// The number of problems B, where a tensor has the leading dimension.
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

    /// The inputs of an operation: marginals, then costs.
    pub(crate) fn inputs(&self) -> Vec<&Tensor> {
        self.marginals.iter().chain(&self.costs).collect()
    }

    /// A copy that carries no gradients.
    pub(crate) fn detach(&self) -> Self {
        let detach = |x: &[Tensor]| x.iter().map(Tensor::detach).collect();
        Self {
            marginals: detach(&self.marginals),
            costs: detach(&self.costs),
            ..self.clone()
        }
    }

    /// A copy of the problem with an edge between a pair, of cost 0 if it had none, and the index of that edge.
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
}
