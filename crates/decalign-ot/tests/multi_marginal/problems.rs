//! Problems to try, and what the tests share.

use candle_core::Tensor;
use decalign_core::nn::softmax;
use decalign_core::{Result, agree};
use decalign_ot::{MultiMarginalProblem, MultiMarginalSinkhorn, reference};

pub(crate) use decalign_testkit::{
    largest_difference as distance, normal, number as value, numbers, uniform_weights as uniform,
};

pub(crate) type Edges = Vec<(usize, usize)>;

pub(crate) fn positive(shape: &[usize], number: u64) -> Tensor {
    (normal(shape, number).sqr().unwrap() + 0.05).unwrap()
}

pub(crate) fn weights(n: usize, number: u64) -> Tensor {
    softmax(&normal(&[n], number)).unwrap()
}

/// About its mean: potentials are the same up to constants.
pub(crate) fn centred(x: &Tensor) -> Tensor {
    x.broadcast_sub(&x.mean_keepdim(0).unwrap()).unwrap()
}

pub(crate) type Run<'a> = &'a dyn Fn(&[Tensor]) -> Result<Tensor>;

/// Holds two implementations equal, values and gradients.
pub(crate) fn same(inputs: &[Tensor], f32_tolerance: f64, fused: Run, plain: Run) {
    let tolerances = (1e-11, f32_tolerance);
    agree(
        inputs,
        tolerances,
        |x| Ok(vec![fused(x)?]),
        |x| Ok(vec![plain(x)?]),
    )
    .unwrap();
}

pub(crate) fn pairs(m: usize) -> Edges {
    (0..m)
        .flat_map(|a| (a + 1..m).map(move |b| (a, b)))
        .collect()
}

pub(crate) fn chain(m: usize) -> Edges {
    (1..m).map(|b| (b - 1, b)).collect()
}

pub(crate) fn ring(m: usize) -> Edges {
    (0..m).map(|b| (b, (b + 1) % m)).collect()
}

/// Logits of marginals, then costs of the edges, with a leading dimension each if asked for: a
/// problem whose weights always sum to 1.
pub(crate) fn raw(sizes: &[usize], edges: &Edges, batch: Option<usize>, seed: u64) -> Vec<Tensor> {
    let shape = |s: &[usize]| {
        batch
            .into_iter()
            .chain(s.iter().copied())
            .collect::<Vec<_>>()
    };
    let marginals = sizes.iter().enumerate();
    let marginals = marginals.map(|(i, k)| normal(&shape(&[*k]), seed + i as u64));
    let costs = edges.iter().map(|(a, b)| {
        let number = seed + (100 + 10 * a + b) as u64;
        positive(&shape(&[sizes[*a], sizes[*b]]), number)
    });
    marginals.chain(costs).collect()
}

pub(crate) fn on_graph(x: &[Tensor], m: usize, edges: &Edges) -> Result<MultiMarginalProblem> {
    let marginals = x[..m].iter().map(softmax).collect::<Result<Vec<_>>>()?;
    let costs = x[m..].iter().zip(edges);
    let edges: Vec<_> = costs.map(|(c, (a, b))| (*a, *b, c.clone())).collect();
    MultiMarginalProblem::graph(&marginals, &edges)
}

/// The same problem with its joint cost as a tensor.
pub(crate) fn as_dense(
    problem: &MultiMarginalProblem,
    x: &[Tensor],
    m: usize,
) -> MultiMarginalProblem {
    let marginals: Vec<Tensor> = x[..m].iter().map(|x| softmax(x).unwrap()).collect();
    let joint = reference::joint_cost(problem).unwrap();
    MultiMarginalProblem::dense(&marginals, &joint).unwrap()
}

pub(crate) fn sharp(epsilon: f64) -> MultiMarginalSinkhorn {
    MultiMarginalSinkhorn::new(epsilon)
        .unwrap()
        .tolerance(1e-12)
        .unwrap()
        .max_iterations(20_000)
        .unwrap()
}

/// Graphs whose solver is not the dense one, with its largest table, and some where it is.
pub(crate) fn graphs() -> Vec<(&'static str, Vec<usize>, Edges, usize)> {
    vec![
        ("pair", vec![5, 8], vec![(1, 0)], 40),
        ("triangle", vec![3, 4, 5], pairs(3), 60),
        ("complete", vec![2, 3, 2, 4], pairs(4), 48),
        ("chain", vec![6, 5, 7, 4, 6], chain(5), 35),
        (
            "star",
            vec![6, 5, 7, 4, 6],
            (1..5).map(|m| (0, m)).collect(),
            42,
        ),
        (
            "tree",
            vec![3, 5, 4, 6, 5, 4],
            vec![(2, 0), (2, 4), (4, 1), (4, 5), (3, 1)],
            30,
        ),
        (
            "parts",
            vec![6, 5, 7, 4, 6, 5],
            vec![(3, 0), (1, 4), (4, 5)],
            30,
        ),
        ("ring", vec![5, 6, 5, 4, 6, 5], ring(6), 120),
        (
            "ring with a tail",
            vec![5, 6, 5, 6, 7, 5],
            vec![(0, 1), (1, 2), (2, 3), (3, 0), (5, 3), (4, 5)],
            150,
        ),
        (
            "two rings",
            vec![4; 8],
            vec![(0, 1), (1, 2), (2, 0), (3, 4), (4, 5), (5, 3), (7, 6)],
            64,
        ),
    ]
}

/// The structures of all methods, small: gradients of every input.
pub(crate) fn small() -> Vec<(Vec<usize>, Edges)> {
    vec![
        (vec![3, 4], pairs(2)),
        (vec![3, 2, 3], pairs(3)),
        (vec![2, 3, 2, 4], pairs(4)),
        (vec![4, 3, 4, 4], vec![(1, 0), (1, 2), (3, 2)]),
        (vec![4, 5, 4, 5, 1], vec![(1, 0), (3, 2)]),
        (vec![4; 5], vec![(0, 1), (2, 1), (2, 3), (3, 4), (4, 0)]),
    ]
}
