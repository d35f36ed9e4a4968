//! Transport between several marginals: other ways to the same numbers, closed forms, gradients,
//! batches, hard cases, bad input.

#![allow(clippy::unwrap_used)]

use candle_core::{DType, Device, Tensor};
use decalign_core::nn::softmax;
use decalign_core::random::Stream;
use decalign_core::{Result, agree, gradcheck};
use decalign_ot::{
    CELL_LIMIT, Geometry, KernelSinkhorn, LinearProblem, MultiMarginalProblem,
    MultiMarginalSinkhorn, MultiMarginalSolution, Sinkhorn, reference,
};
use proptest::prelude::*;

type Edges = Vec<(usize, usize)>;

fn normal(shape: &[usize], number: u64) -> Tensor {
    Stream::new(5, number).normal_tensor(shape).unwrap()
}

fn positive(shape: &[usize], number: u64) -> Tensor {
    (normal(shape, number).sqr().unwrap() + 0.05).unwrap()
}

fn weights(n: usize, number: u64) -> Tensor {
    softmax(&normal(&[n], number)).unwrap()
}

fn uniform(n: usize) -> Tensor {
    Tensor::full(1.0 / n as f64, n, &Device::Cpu).unwrap()
}

fn value(x: &Tensor) -> f64 {
    x.to_dtype(DType::F64).unwrap().to_scalar().unwrap()
}

fn numbers(x: &Tensor) -> Vec<f64> {
    let x = x.to_dtype(DType::F64).unwrap().flatten_all().unwrap();
    x.to_vec1().unwrap()
}

fn distance(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.dims(), b.dims());
    let pairs = numbers(a).into_iter().zip(numbers(b));
    // A maximum that NaN does not slip through.
    pairs.fold(0.0, |most, (a, b)| {
        let off = (a - b).abs();
        if off <= most { most } else { off }
    })
}

/// About its mean: potentials are the same up to constants.
fn centred(x: &Tensor) -> Tensor {
    x.broadcast_sub(&x.mean_keepdim(0).unwrap()).unwrap()
}

type Run<'a> = &'a dyn Fn(&[Tensor]) -> Result<Tensor>;

/// Holds two implementations equal, values and gradients.
fn same(inputs: &[Tensor], f32_tolerance: f64, fused: Run, plain: Run) {
    let tolerances = (1e-11, f32_tolerance);
    agree(
        inputs,
        tolerances,
        |x| Ok(vec![fused(x)?]),
        |x| Ok(vec![plain(x)?]),
    )
    .unwrap();
}

fn pairs(m: usize) -> Edges {
    (0..m)
        .flat_map(|a| (a + 1..m).map(move |b| (a, b)))
        .collect()
}

fn chain(m: usize) -> Edges {
    (1..m).map(|b| (b - 1, b)).collect()
}

fn ring(m: usize) -> Edges {
    (0..m).map(|b| (b, (b + 1) % m)).collect()
}

/// Logits of marginals, then costs of the edges, with a leading dimension each if asked for: a
/// problem whose weights always sum to 1.
fn raw(sizes: &[usize], edges: &Edges, batch: Option<usize>, seed: u64) -> Vec<Tensor> {
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

fn on_graph(x: &[Tensor], m: usize, edges: &Edges) -> Result<MultiMarginalProblem> {
    let marginals = x[..m].iter().map(softmax).collect::<Result<Vec<_>>>()?;
    let costs = x[m..].iter().zip(edges);
    let edges: Vec<_> = costs.map(|(c, (a, b))| (*a, *b, c.clone())).collect();
    MultiMarginalProblem::graph(&marginals, &edges)
}

/// The same problem with its joint cost as a tensor.
fn as_dense(problem: &MultiMarginalProblem, x: &[Tensor], m: usize) -> MultiMarginalProblem {
    let marginals: Vec<Tensor> = x[..m].iter().map(|x| softmax(x).unwrap()).collect();
    let joint = reference::joint_cost(problem).unwrap();
    MultiMarginalProblem::dense(&marginals, &joint).unwrap()
}

fn sharp(epsilon: f64) -> MultiMarginalSinkhorn {
    MultiMarginalSinkhorn::new(epsilon, 1e-12, 20_000).unwrap()
}

/// Graphs whose solver is not the dense one, with its largest table, and some where it is.
fn graphs() -> Vec<(&'static str, Vec<usize>, Edges, usize)> {
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

#[test]
fn structured_costs_are_dense_costs() {
    for (name, sizes, edges, cells) in graphs() {
        let m = sizes.len();
        let x = raw(&sizes, &edges, None, 1);
        let problem = on_graph(&x, m, &edges).unwrap();
        assert_eq!(problem.cells(), cells, "{name}");
        let dense = as_dense(&problem, &x, m);
        for epsilon in [0.05, 0.7] {
            let got = sharp(epsilon).solve(&problem).unwrap();
            let want = sharp(epsilon).solve(&dense).unwrap();
            assert!(got.converged() && want.converged(), "{name}");
            assert!(distance(&got.value, &want.value) < 1e-10, "{name}");
            assert!(
                (value(&got.transport_cost) - value(&want.transport_cost)).abs() < 1e-9,
                "{name}"
            );
            // Potentials are unique up to constants where costs join all marginals.
            for (f, g) in got
                .potentials
                .iter()
                .zip(&want.potentials)
                .filter(|_| name != "parts" && name != "two rings")
            {
                assert!(distance(&centred(f), &centred(g)) < 1e-8, "{name}");
            }
            assert!(
                distance(&got.plan().unwrap(), &want.plan().unwrap()) < 1e-10,
                "{name}"
            );
            for (a, b) in (0..m)
                .flat_map(|a| (0..m).map(move |b| (a, b)))
                .filter(|(a, b)| a != b)
            {
                let (p, q) = (
                    got.pair_marginal(a, b).unwrap(),
                    want.pair_marginal(a, b).unwrap(),
                );
                assert!(distance(&p, &q) < 1e-10, "{name} {a} {b}");
            }
        }
    }
}

#[test]
fn large_structured_problems_need_no_joint_tensor() {
    let marginals = vec![uniform(50); 6];
    let costs: Vec<Tensor> = (0..6).map(|i| positive(&[50, 50], i)).collect();
    let chain = MultiMarginalProblem::chain(&marginals, &costs[..5]).unwrap();
    assert_eq!(chain.cells(), 2500);
    let star = MultiMarginalProblem::star(&marginals, &costs[..5]).unwrap();
    assert_eq!(star.cells(), 2500);
    let edges: Vec<_> = ring(6)
        .into_iter()
        .zip(&costs)
        .map(|((a, b), c)| (a, b, c.clone()))
        .collect();
    let ring = MultiMarginalProblem::graph(&marginals, &edges).unwrap();
    assert_eq!(ring.cells(), 125_000);
    for (name, problem, far) in [
        ("chain", chain, (0, 5)),
        ("star", star, (2, 5)),
        ("ring", ring, (0, 3)),
    ] {
        let solver = MultiMarginalSinkhorn::new(0.3, 1e-6, 500).unwrap();
        let solution = solver.solve(&problem).unwrap();
        assert!(
            solution.converged(),
            "{name}: {}",
            solution.marginal_error()
        );
        let pair = solution.pair_marginal(far.0, far.1).unwrap();
        assert!(
            distance(&pair.sum(1).unwrap(), &marginals[far.0]) < 1e-6,
            "{name}"
        );
        assert!(
            distance(&pair.sum(0).unwrap(), &marginals[far.1]) < 1e-6,
            "{name}"
        );
        let message = solution.plan().unwrap_err().to_string();
        assert!(message.contains("50 x 50 x 50 x 50 x 50 x 50"), "{message}");
    }
}

#[test]
fn two_marginals_are_the_linear_solver() {
    for (n, m, epsilon) in [(4, 6, 0.5), (70, 33, 0.1), (1, 5, 1.0), (90, 90, 0.3)] {
        let (a, b) = (weights(n, 0), weights(m, 1));
        let cost = normal(&[n, m], 2);
        let problem = LinearProblem::new(Geometry::dense(&cost).unwrap(), &a, &b).unwrap();
        let want = Sinkhorn::new(epsilon).unwrap().tolerance(1e-11).unwrap();
        let want = want.solve(&problem).unwrap();
        let problem = MultiMarginalProblem::pairwise(&[a, b], &[cost]).unwrap();
        let got = MultiMarginalSinkhorn::new(epsilon, 1e-11, 10_000).unwrap();
        let got = got.solve(&problem).unwrap();
        assert!(got.converged(), "{n} {m}");
        assert!(distance(&got.value, &want.value) < 1e-9, "{n} {m}");
        assert!(distance(&got.plan().unwrap(), &want.plan.to_tensor().unwrap()) < 1e-9);
        let (f, g) = &want.potentials;
        assert!(distance(&centred(&got.potentials[0]), &centred(f)) < 1e-8);
        assert!(distance(&centred(&got.potentials[1]), &centred(g)) < 1e-8);
    }
}

fn squares(x: &Tensor, y: &Tensor) -> Tensor {
    let difference = x
        .unsqueeze(1)
        .unwrap()
        .broadcast_sub(&y.unsqueeze(0).unwrap());
    difference.unwrap().sqr().unwrap().sum(2).unwrap()
}

#[test]
fn a_chain_of_translations_costs_the_squares_of_their_lengths() {
    // Points far apart that all move alike: each stays with its own at any small epsilon.
    let x = (Tensor::arange(0f64, 12.0, &Device::Cpu).unwrap() * 4.0).unwrap();
    let x = Tensor::stack(&[&x, &(&x * -0.5).unwrap()], 1).unwrap();
    let shifts: [[f64; 2]; 5] = [
        [0.0, 0.0],
        [1.0, 0.5],
        [1.5, -1.0],
        [0.0, -1.0],
        [0.25, 0.0],
    ];
    let all: Vec<Tensor> = shifts
        .iter()
        .map(|s| {
            x.broadcast_add(&Tensor::new(s, &Device::Cpu).unwrap())
                .unwrap()
        })
        .collect();
    let costs: Vec<Tensor> = all.windows(2).map(|w| squares(&w[0], &w[1])).collect();
    let problem = MultiMarginalProblem::chain(&vec![uniform(12); 5], &costs).unwrap();
    let want: f64 = shifts
        .windows(2)
        .map(|w| (w[0][0] - w[1][0]).powi(2) + (w[0][1] - w[1][1]).powi(2))
        .sum();
    // The costs range to 9000: the last is a millionth of that.
    for epsilon in [0.2, 1e-2] {
        let solver = MultiMarginalSinkhorn::new(epsilon, 1e-8, 1000).unwrap();
        let solution = solver.solve(&problem).unwrap();
        assert!(
            solution.converged(),
            "{epsilon}: {}",
            solution.marginal_error()
        );
        assert!(
            (value(&solution.transport_cost) - want).abs() < 1e-6,
            "{epsilon}"
        );
        // KL of the diagonal against the product of five uniforms.
        let regularised = want + epsilon * 4.0 * 12f64.ln();
        assert!(
            (value(&solution.value) - regularised).abs() < 1e-6,
            "{epsilon}"
        );
        let pair = solution.pair_marginal(0, 4).unwrap();
        let diagonal = (Tensor::eye(12, DType::F64, &Device::Cpu).unwrap() / 12.0).unwrap();
        assert!(distance(&pair, &diagonal) < 1e-6);
    }
}

#[test]
fn a_star_of_diracs_is_their_barycentre() {
    // sum_k l_k |x - y_k|^2 = |x - mean|^2 + sum_{k<l} l_k l_l |y_k - y_l|^2.
    let y = normal(&[5, 3], 0);
    let shares = numbers(&weights(5, 1));
    let x = normal(&[4, 3], 2);
    let ray = |k: usize| (squares(&x, &y.narrow(0, k, 1).unwrap()) * shares[k]).unwrap();
    let nu = weights(4, 3);
    let mut marginals = vec![nu.clone()];
    marginals.extend(vec![uniform(1); 5]);
    let rays: Vec<Tensor> = (0..5).map(ray).collect();
    let star = MultiMarginalProblem::star(&marginals, &rays).unwrap();
    let mean = Tensor::from_slice(&shares, (1, 5), &Device::Cpu)
        .unwrap()
        .matmul(&y)
        .unwrap();
    let own = (squares(&x, &mean).squeeze(1).unwrap() * nu)
        .unwrap()
        .sum_all()
        .unwrap();
    let between = squares(&y, &y);
    let mut want = value(&own);
    for (k, l) in pairs(5) {
        want += shares[k] * shares[l] * value(&between.get(k).unwrap().get(l).unwrap());
    }
    let solution = sharp(0.4).solve(&star).unwrap();
    assert!(solution.converged());
    assert!((value(&solution.transport_cost) - want).abs() < 1e-12);
    // Nothing to choose: nothing to regularise.
    assert!((value(&solution.value) - want).abs() < 1e-12);
}

#[test]
fn a_permutation_is_found_at_small_epsilon() -> Result<()> {
    // Zero cost along a permutation, 1 elsewhere: the plan is the permutation.
    let n = 6;
    let cost: Vec<f32> = (0..n * n)
        .map(|i| if i % n == (i / n + 2) % n { 0.0 } else { 1.0 })
        .collect();
    let cost = Tensor::from_vec(cost, (n, n), &Device::Cpu)?;
    for dtype in [DType::F32, DType::F64] {
        let (cost, weights) = (cost.to_dtype(dtype)?, uniform(n).to_dtype(dtype)?);
        let two = MultiMarginalProblem::pairwise(
            &[weights.clone(), weights.clone()],
            std::slice::from_ref(&cost),
        )?;
        let chain = MultiMarginalProblem::chain(&vec![weights.clone(); 5], &vec![cost.clone(); 4])?;
        let ring: Vec<_> = ring(6)
            .into_iter()
            .map(|(a, b)| (a, b, cost.clone()))
            .collect();
        // Six steps of 2 on six points lead back.
        let ring = MultiMarginalProblem::graph(&vec![weights.clone(); 6], &ring)?;
        for (name, problem) in [("two", two), ("chain", chain), ("ring", ring)] {
            for epsilon in [0.1, 1e-3, 1e-6] {
                let solution = MultiMarginalSinkhorn::new(epsilon, 1e-5, 1000)?.solve(&problem)?;
                let error = solution.marginal_error();
                assert!(solution.converged(), "{name}, epsilon {epsilon}: {error}");
                let cost = value(&solution.transport_cost);
                let bound = if epsilon == 0.1 { 2e-2 } else { 1e-5 };
                assert!(cost < bound, "{name}, epsilon {epsilon}: {cost}");
            }
        }
    }
    Ok(())
}

#[test]
fn epsilon_scaling_finds_what_a_single_epsilon_finds() -> Result<()> {
    let edges = chain(4);
    let sizes = [9, 8, 10, 9];
    let x = raw(&sizes, &edges, None, 4);
    let problem = on_graph(&x, 4, &edges)?;
    let dense = as_dense(&problem, &x, 4);
    for problem in [problem, dense] {
        let solver = MultiMarginalSinkhorn::new(0.02, 1e-8, 100_000)?;
        let scaled = solver.solve(&problem)?;
        let plain = solver.epsilon_scaling(1.0)?.solve(&problem)?;
        assert!(scaled.converged() && plain.converged());
        assert!(distance(&scaled.value, &plain.value) < 1e-7);
    }
    Ok(())
}

#[test]
fn costs_may_be_far_from_zero_and_from_each_other() -> Result<()> {
    for (name, sizes, edges, _) in graphs() {
        let m = sizes.len();
        let mut x = raw(&sizes, &edges, None, 5);
        let solver = MultiMarginalSinkhorn::new(0.3, 1e-7, 5000)?;
        let near = solver.solve(&on_graph(&x, m, &edges)?)?;
        x[m] = (&x[m] + 1e6)?;
        let far = solver.solve(&on_graph(&x, m, &edges)?)?;
        assert!(far.converged(), "{name}: {}", far.marginal_error());
        let off = value(&far.value) - value(&near.value) - 1e6;
        assert!(off.abs() < 1e-5, "{name}: {off}");
        // A whole row that any kernel loses, at one epsilon: sums underflow, and are recovered.
        let rows = x[m].dim(0)?;
        let lift: Vec<f64> = (0..rows).map(|i| 1e4 * i as f64).collect();
        let lift = Tensor::from_vec(lift, (rows, 1), &Device::Cpu)?;
        x[m] = (x[m].broadcast_add(&lift)? - 1e6)?;
        let solver = solver.epsilon_scaling(1.0)?;
        let lifted = solver.solve(&on_graph(&x, m, &edges)?)?;
        assert!(lifted.converged(), "{name}: {}", lifted.marginal_error());
        // What is added to a row moves its potential and the value by its mass.
        let first = edges[0].0;
        let mass = softmax(&x[first])?.mul(&lift.squeeze(1)?)?.sum_all()?;
        let off = value(&lifted.value) - value(&near.value) - value(&mass);
        assert!(off.abs() < 1e-4, "{name}: {off}");
    }
    Ok(())
}

#[test]
fn numbers_at_the_end_of_their_range_end_a_solve() -> Result<()> {
    for (name, sizes, edges, _) in graphs() {
        let m = sizes.len();
        for (scale, epsilon) in [
            (1e300, 1e-10),
            (1e-300, 1e-320),
            (1e150, 1e-300),
            (1.0, 1e300),
        ] {
            let mut x = raw(&sizes, &edges, None, 5);
            for cost in &mut x[m..] {
                *cost = (&*cost * scale)?;
            }
            let solver = MultiMarginalSinkhorn::new(epsilon, 1e-6, 30)?;
            let solution = solver.solve(&on_graph(&x, m, &edges)?)?;
            let finite =
                solution.marginal_error().is_finite() && value(&solution.value).is_finite();
            assert!(!solution.converged() || finite, "{name} {scale} {epsilon}");
            assert!(solution.converged() || epsilon < 1e300, "{name}");
        }
    }
    Ok(())
}

#[test]
fn a_solution_starts_the_next_solve() -> Result<()> {
    for (name, sizes, edges, _) in graphs() {
        let m = sizes.len();
        let x = raw(&sizes, &edges, None, 8);
        let problem = on_graph(&x, m, &edges)?;
        let solver = MultiMarginalSinkhorn::new(0.1, 1e-9, 20_000)?;
        let cold = solver.solve(&problem)?;
        let warm = solver.solve_from(&problem, &cold.potentials)?;
        assert!(cold.converged() && warm.converged(), "{name}");
        assert_eq!(warm.iterations(), 1, "{name}");
        assert!(distance(&warm.value, &cold.value) < 1e-9, "{name}");
        // A neighbouring problem is nearer than none.
        let mut moved = x.clone();
        moved[m] = (&x[m] + (normal(x[m].dims(), 77) * 1e-4)?)?;
        let moved = on_graph(&moved, m, &edges)?;
        let (cold, warm) = (
            solver.solve(&moved)?,
            solver.solve_from(&moved, &cold.potentials)?,
        );
        assert!(
            warm.converged() && warm.iterations() < cold.iterations(),
            "{name}"
        );
        assert!(distance(&warm.value, &cold.value) < 1e-8, "{name}");
    }
    Ok(())
}

#[test]
fn the_order_of_marginals_does_not_matter() -> Result<()> {
    for (name, sizes, edges, _) in graphs() {
        let m = sizes.len();
        let x = raw(&sizes, &edges, None, 6);
        let got = sharp(0.3).solve(&on_graph(&x, m, &edges)?)?;
        // Marginal i becomes (i + 1) mod m.
        let place = |i: usize| (i + 1) % m;
        let turned: Edges = edges.iter().map(|(a, b)| (place(*a), place(*b))).collect();
        let mut y = x.clone();
        (0..m).for_each(|i| y[place(i)] = x[i].clone());
        let other = sharp(0.3).solve(&on_graph(&y, m, &turned)?)?;
        assert!(distance(&got.value, &other.value) < 1e-10, "{name}");
        let axes: Vec<usize> = (0..m).map(place).collect();
        let plan = other.plan()?.permute(axes)?.contiguous()?;
        assert!(distance(&got.plan()?, &plan) < 1e-10, "{name}");
    }
    Ok(())
}

/// The structures of all methods, small: gradients of every input.
fn small() -> Vec<(Vec<usize>, Edges)> {
    vec![
        (vec![3, 4], pairs(2)),
        (vec![3, 2, 3], pairs(3)),
        (vec![2, 3, 2, 4], pairs(4)),
        (vec![4, 3, 4, 4], vec![(1, 0), (1, 2), (3, 2)]),
        (vec![4, 5, 4, 5, 1], vec![(1, 0), (3, 2)]),
        (vec![4; 5], vec![(0, 1), (2, 1), (2, 3), (3, 4), (4, 0)]),
    ]
}

#[test]
fn gradients_of_the_value_hold() -> Result<()> {
    for (sizes, edges) in small() {
        let m = sizes.len();
        let of = |x: &[Tensor]| -> Result<Tensor> {
            Ok(sharp(0.5).solve(&on_graph(x, m, &edges)?)?.value)
        };
        for batch in [None, Some(2)] {
            let x = raw(&sizes, &edges, batch, 3);
            gradcheck(&x, 1e-6, |x| Ok(vec![of(x)?]))?;
            let plain = reference::multi_marginal_value(&on_graph(&x, m, &edges)?, 0.5, 300)?;
            assert!(distance(&of(&x)?, &plain) < 1e-9, "{sizes:?}");
        }
    }
    Ok(())
}

#[test]
fn gradients_of_a_joint_cost_hold() -> Result<()> {
    let x = [
        normal(&[2, 3], 0),
        normal(&[2], 1),
        normal(&[2, 4], 2),
        normal(&[2, 3, 2, 4], 3),
    ];
    let of = |x: &[Tensor]| -> Result<MultiMarginalProblem> {
        let marginals = x[..3].iter().map(softmax).collect::<Result<Vec<_>>>()?;
        MultiMarginalProblem::dense(&marginals, &x[3])
    };
    gradcheck(&x, 1e-6, |x| Ok(vec![sharp(0.5).solve(&of(x)?)?.value]))?;
    let kernel = KernelSinkhorn::new(0.5, 10)?;
    gradcheck(&x, 1e-6, |x| Ok(vec![kernel.loss(&of(x)?)?]))?;
    same(&x, 1e-3, &|x| kernel.loss(&of(x)?), &|x| {
        reference::kernel_sinkhorn(&of(x)?, 0.5, 10)
    });
    Ok(())
}

#[test]
fn values_and_gradients_are_those_of_the_reference() {
    for (sizes, edges) in small() {
        let m = sizes.len();
        // f32 is held to its own tolerance: the reference makes all its sweeps in f32.
        let fused = |x: &[Tensor]| -> Result<Tensor> {
            let tolerance = if x[0].dtype() == DType::F32 {
                1e-5
            } else {
                1e-13
            };
            let solver = MultiMarginalSinkhorn::new(2.0, tolerance, 2000)?;
            Ok(solver.solve(&on_graph(x, m, &edges)?)?.value)
        };
        same(&raw(&sizes, &edges, Some(2), 11), 1e-4, &fused, &|x| {
            reference::multi_marginal_value(&on_graph(x, m, &edges)?, 2.0, 60)
        });
    }
}

#[test]
fn the_release_loss_equals_its_reference() -> Result<()> {
    for sizes in [
        &[3, 4][..],
        &[7, 7, 7],
        &[2, 3, 4],
        &[2, 3, 2, 4],
        &[1, 5, 17],
    ] {
        let m = sizes.len();
        for (epsilon, batch) in [(0.1, None), (5.0, None), (5.0, Some(3))] {
            let loss = KernelSinkhorn::new(epsilon, 50)?;
            same(
                &raw(sizes, &pairs(m), batch, 1),
                2e-2,
                &|x| loss.loss(&on_graph(x, m, &pairs(m))?),
                &|x| reference::kernel_sinkhorn(&on_graph(x, m, &pairs(m))?, epsilon, 50),
            );
        }
    }
    Ok(())
}

#[test]
fn gradients_of_the_release_loss_hold() -> Result<()> {
    for (sizes, edges) in small() {
        let loss = KernelSinkhorn::new(0.5, 10)?;
        for batch in [None, Some(2)] {
            gradcheck(&raw(&sizes, &edges, batch, 2), 1e-6, |x| {
                Ok(vec![loss.loss(&on_graph(x, sizes.len(), &edges)?)?])
            })?;
        }
    }
    Ok(())
}

/// One problem of a batch of inputs.
fn single(x: &[Tensor], b: usize) -> Vec<Tensor> {
    x.iter()
        .map(|x| x.get(b).unwrap().contiguous().unwrap())
        .collect()
}

#[test]
fn a_batch_is_a_loop() -> Result<()> {
    for (sizes, edges) in small() {
        let m = sizes.len();
        for dtype in [DType::F32, DType::F64] {
            let x = raw(&sizes, &edges, Some(5), 21);
            let x: Vec<Tensor> = x
                .iter()
                .map(|x| Ok(x.to_dtype(dtype)?))
                .collect::<Result<_>>()?;
            let vars: Vec<_> = x
                .iter()
                .map(|x| Ok(candle_core::Var::from_tensor(x)?))
                .collect::<Result<_>>()?;
            let tensors: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
            let solver = MultiMarginalSinkhorn::new(0.2, 1e-4, 500)?;
            let kernel = KernelSinkhorn::new(0.5, 20)?;
            let problem = on_graph(&tensors, m, &edges)?;
            let all = solver.solve(&problem)?;
            let loss = kernel.loss(&problem)?;
            assert_eq!(
                (all.value.dims(), loss.dims(), all.ends.len()),
                (&[5][..], &[5][..], 5)
            );
            let gradients = (&all.value + &loss)?.sum_all()?.backward()?;
            for b in 0..5 {
                let own: Vec<_> = single(&x, b)
                    .iter()
                    .map(|x| Ok(candle_core::Var::from_tensor(x)?))
                    .collect::<Result<_>>()?;
                let tensors: Vec<Tensor> = own.iter().map(|v| v.as_tensor().clone()).collect();
                let problem = on_graph(&tensors, m, &edges)?;
                let one = solver.solve(&problem)?;
                let own_loss = kernel.loss(&problem)?;
                assert_eq!(numbers(&one.value)[0], numbers(&all.value)[b]);
                assert_eq!(numbers(&own_loss)[0], numbers(&loss)[b]);
                assert_eq!(one.ends[0], all.ends[b]);
                assert_eq!(numbers(&one.plan()?), numbers(&all.plan()?.get(b)?));
                let pair = (one.pair_marginal(0, 1)?, all.pair_marginal(0, 1)?.get(b)?);
                assert_eq!(numbers(&pair.0), numbers(&pair.1));
                for (f, g) in one.potentials.iter().zip(&all.potentials) {
                    assert_eq!(numbers(f), numbers(&g.get(b)?));
                }
                let own_gradients = (&one.value + &own_loss)?.backward()?;
                for (own, var) in own.iter().zip(&vars) {
                    let (g, all) = (own_gradients.get(own).unwrap(), gradients.get(var).unwrap());
                    assert_eq!(numbers(g), numbers(&all.get(b)?));
                }
            }
        }
    }
    Ok(())
}

#[test]
fn shared_inputs_are_those_repeated() -> Result<()> {
    for (sizes, edges) in small() {
        let m = sizes.len();
        // The first marginal and the last cost differ between problems.
        let mut x = raw(&sizes, &edges, None, 31);
        x[0] = normal(&[3, sizes[0]], 1);
        let last = x.len() - 1;
        x[last] = positive(&[&[3], x[last].dims()].concat(), 2);
        let of = |x: &[Tensor]| -> Result<Tensor> {
            Ok(sharp(0.5).solve(&on_graph(x, m, &edges)?)?.value)
        };
        gradcheck(&x, 1e-6, |x| Ok(vec![of(x)?]))?;
        // All costs shared.
        x[last] = x[last].get(0)?;
        let together = of(&x)?;
        gradcheck(&x, 1e-6, |x| Ok(vec![of(x)?]))?;
        for b in 0..3 {
            let mut own = x.clone();
            own[0] = x[0].get(b)?;
            assert_eq!(numbers(&of(&own)?)[0], numbers(&together)[b]);
        }
    }
    Ok(())
}

#[test]
fn threads_do_not_matter() {
    let pool = |n: usize| {
        rayon::ThreadPoolBuilder::new()
            .num_threads(n)
            .build()
            .unwrap()
    };
    let edges = pairs(3);
    let run = |sizes: &[usize], edges: &Edges, batch: Option<usize>| {
        let x = raw(sizes, edges, batch, 2);
        let solver = MultiMarginalSinkhorn::new(0.3, 1e-7, 30).unwrap();
        let solution = solver
            .solve(&on_graph(&x, sizes.len(), edges).unwrap())
            .unwrap();
        (numbers(&solution.value), solution.ends)
    };
    let cases = [
        (vec![60, 70, 65], edges.clone(), None),
        (vec![600, 700], pairs(2), None),
        (vec![20, 20, 20], edges, Some(4)),
        (vec![600; 4], chain(4), None),
    ];
    for (sizes, edges, batch) in cases {
        let one = pool(1).install(|| run(&sizes, &edges, batch));
        let three = pool(3).install(|| run(&sizes, &edges, batch));
        assert_eq!(one, three, "{sizes:?}");
    }
}

#[test]
fn points_of_weight_zero_take_no_part() -> Result<()> {
    for (name, sizes, edges, _) in graphs() {
        let m = sizes.len();
        let x = raw(&sizes, &edges, None, 7);
        let marginals: Vec<Tensor> = x[..m].iter().map(softmax).collect::<Result<_>>()?;
        let costs: Vec<_> = edges
            .iter()
            .zip(&x[m..])
            .map(|((a, b), c)| (*a, *b, c.clone()))
            .collect();
        let zero = Tensor::zeros(1, DType::F64, &Device::Cpu)?;
        // A point without mass, and dear, in front of each marginal.
        let padded = marginals.iter().map(|x| Ok(Tensor::cat(&[&zero, x], 0)?));
        let padded = padded.collect::<Result<Vec<_>>>()?;
        let pad = |c: &Tensor| -> Result<Tensor> {
            let c = c.pad_with_zeros(0, 1, 0)?.pad_with_zeros(1, 1, 0)?;
            let first = Tensor::full(-50.0, c.shape(), &Device::Cpu)?;
            let old = Tensor::ones(c.shape(), DType::U8, &Device::Cpu)?;
            let inside = old
                .narrow(0, 1, c.dim(0)? - 1)?
                .narrow(1, 1, c.dim(1)? - 1)?;
            let inside = inside.pad_with_zeros(0, 1, 0)?.pad_with_zeros(1, 1, 0)?;
            Ok(inside.where_cond(&c, &first)?)
        };
        let wide = costs
            .iter()
            .map(|(a, b, c)| Ok((*a, *b, pad(c)?)))
            .collect::<Result<Vec<_>>>()?;
        let with = sharp(0.3).solve(&MultiMarginalProblem::graph(&padded, &wide)?)?;
        let without = sharp(0.3).solve(&MultiMarginalProblem::graph(&marginals, &costs)?)?;
        assert!(with.converged(), "{name}");
        assert!(distance(&with.value, &without.value) < 1e-11, "{name}");
        assert!(
            (value(&with.transport_cost) - value(&without.transport_cost)).abs() < 1e-10,
            "{name}"
        );
        for f in &with.potentials {
            assert_eq!(numbers(f)[0], 0.0);
        }
        let (pair, want) = (
            with.pair_marginal(0, m - 1)?,
            without.pair_marginal(0, m - 1)?,
        );
        let (a, b) = (sizes[0], sizes[m - 1]);
        assert!(
            distance(&pair.narrow(0, 1, a)?.narrow(1, 1, b)?, &want) < 1e-10,
            "{name}"
        );
        assert_eq!(value(&pair.get(0)?.sum_all()?), 0.0);
        assert_eq!(value(&pair.narrow(1, 0, 1)?.sum_all()?), 0.0);
    }
    Ok(())
}

#[test]
fn gradients_leave_points_without_mass_alone() -> Result<()> {
    for (sizes, edges) in small() {
        let m = sizes.len();
        let x = raw(&sizes, &edges, None, 17);
        let mut weights = numbers(&softmax(&x[0])?);
        weights[0] = 0.0;
        let total: f64 = weights.iter().sum();
        weights.iter_mut().for_each(|w| *w /= total);
        let first = candle_core::Var::from_vec(weights, sizes[0], &Device::Cpu)?;
        let mut marginals: Vec<Tensor> = x[..m].iter().map(softmax).collect::<Result<_>>()?;
        marginals[0] = first.as_tensor().clone();
        let costs: Vec<_> = edges
            .iter()
            .zip(&x[m..])
            .map(|((a, b), c)| (*a, *b, c.clone()))
            .collect();
        let solution = sharp(0.4).solve(&MultiMarginalProblem::graph(&marginals, &costs)?)?;
        let gradient = solution.value.backward()?;
        let gradient = numbers(gradient.get(&first).unwrap());
        assert_eq!(gradient[0], 0.0);
        // Centred over the others, whose potentials it is.
        assert!(gradient.iter().sum::<f64>().abs() < 1e-12);
        let f = numbers(&solution.potentials[0]);
        let k = sizes[0];
        assert!((gradient[k - 1] - gradient[1] - (f[k - 1] - f[1])).abs() < 1e-12);
    }
    Ok(())
}

#[test]
fn tiny_weights_and_single_points() -> Result<()> {
    for (name, sizes, edges, _) in graphs() {
        let m = sizes.len();
        let x = raw(&sizes, &edges, None, 13);
        for dtype in [DType::F32, DType::F64] {
            let marginals = x[..m].iter().zip(&sizes).map(|(x, k)| {
                let mut w = numbers(&softmax(x)?);
                w[k - 1] = 1e-30;
                let total: f64 = w.iter().sum();
                let w: Vec<f64> = w.iter().map(|w| w / total).collect();
                Ok(Tensor::from_vec(w, *k, &Device::Cpu)?.to_dtype(dtype)?)
            });
            let marginals = marginals.collect::<Result<Vec<_>>>()?;
            let costs = edges.iter().zip(&x[m..]);
            let costs = costs.map(|((a, b), c)| Ok((*a, *b, c.to_dtype(dtype)?)));
            let problem =
                MultiMarginalProblem::graph(&marginals, &costs.collect::<Result<Vec<_>>>()?)?;
            let solution = MultiMarginalSinkhorn::new(0.3, 1e-6, 5000)?.solve(&problem)?;
            assert!(
                solution.converged(),
                "{name} {dtype:?}: {}",
                solution.marginal_error()
            );
            // The tiny point has a potential like any other, 0 where nothing costs anything.
            let parts = name == "parts" || name == "two rings";
            for (f, k) in solution.potentials.iter().zip(&sizes) {
                let f = numbers(f);
                assert!(
                    f[k - 1].abs() < 30.0 && f[k - 1] != 0.0 || parts,
                    "{name} {f:?}"
                );
            }
            // And its own mass.
            let pair = solution.pair_marginal(0, 1)?;
            let tiny = numbers(&pair.sum(1)?)[sizes[0] - 1];
            let want = numbers(&marginals[0])[sizes[0] - 1];
            assert!((tiny / want - 1.0).abs() < 1e-2, "{name} {tiny} {want}");
        }
        // One point everywhere: nothing to solve.
        let ones = vec![1; m];
        let x = raw(&ones, &edges, None, 1);
        let solution = sharp(0.3).solve(&on_graph(&x, m, &edges)?)?;
        let want: f64 = x[m..].iter().map(|c| numbers(c)[0]).sum();
        assert!(
            solution.converged() && (value(&solution.value) - want).abs() < 1e-12,
            "{name}"
        );
    }
    Ok(())
}

#[test]
fn masses_other_than_one() -> Result<()> {
    for (name, sizes, edges, _) in graphs() {
        let m = sizes.len();
        let x = raw(&sizes, &edges, None, 19);
        let heavy = |x: &Tensor| -> Result<Tensor> { Ok((softmax(x)? * 2.5)?) };
        let marginals: Vec<Tensor> = x[..m].iter().map(heavy).collect::<Result<_>>()?;
        let costs: Vec<_> = edges
            .iter()
            .zip(&x[m..])
            .map(|((a, b), c)| (*a, *b, c.clone()))
            .collect();
        let problem = MultiMarginalProblem::graph(&marginals, &costs)?;
        let solution = sharp(1.0).solve(&problem)?;
        assert!(solution.converged(), "{name}");
        if sizes.iter().product::<usize>() < 10_000 {
            let want = reference::multi_marginal_value(&problem, 1.0, 100)?;
            let off = distance(&solution.value, &want);
            assert!(off < 1e-9 * value(&want), "{name}: {off}");
        }
        let plan = solution.plan()?;
        assert!((value(&plan.sum_all()?) - 2.5).abs() < 1e-9, "{name}");
        let dense = MultiMarginalProblem::dense(&marginals, &reference::joint_cost(&problem)?)?;
        let dense = sharp(1.0).solve(&dense)?;
        assert!(distance(&plan, &dense.plan()?) < 1e-9, "{name}");
        let off = distance(&solution.value, &dense.value);
        assert!(off < 1e-11 * value(&dense.value), "{name}: {off}");
    }
    Ok(())
}

#[test]
fn ten_marginals() -> Result<()> {
    let sizes = [3; 10];
    let x = raw(&sizes, &pairs(10), None, 3);
    let problem = on_graph(&x, 10, &pairs(10))?;
    assert_eq!(problem.cells(), 59_049);
    let solution = MultiMarginalSinkhorn::new(2.0, 1e-9, 3000)?.solve(&problem)?;
    assert!(solution.converged());
    let want = reference::multi_marginal_value(&problem, 2.0, 60)?;
    assert!(distance(&solution.value, &want) < 1e-7);
    let x = raw(&[3; 14], &chain(14), None, 3);
    let long = sharp(0.5).solve(&on_graph(&x, 14, &chain(14))?)?;
    assert!(long.converged() && long.pair_marginal(0, 13)?.dims() == [3, 3]);
    Ok(())
}

#[test]
fn parts_that_nothing_joins_are_independent() -> Result<()> {
    let sizes = [6, 5, 7, 4, 6, 5];
    let edges = vec![(0, 1), (2, 3)];
    let x = raw(&sizes, &edges, None, 23);
    let together = sharp(0.3).solve(&on_graph(&x, 6, &edges)?)?;
    let mut sum = 0.0;
    for (i, (a, b)) in edges.iter().enumerate() {
        let own = [x[*a].clone(), x[*b].clone(), x[6 + i].clone()];
        let own = sharp(0.3).solve(&on_graph(&own, 2, &pairs(2))?)?;
        sum += value(&own.value);
        assert!(distance(&own.plan()?, &together.pair_marginal(*a, *b)?) < 1e-11);
    }
    assert!((value(&together.value) - sum).abs() < 1e-11);
    let (a, b) = (softmax(&x[1])?, softmax(&x[4])?);
    let product = a.unsqueeze(1)?.broadcast_mul(&b.unsqueeze(0)?)?;
    assert!(distance(&together.pair_marginal(1, 4)?, &product) < 1e-11);
    // No cost at all: the plan is the product.
    let marginals: Vec<Tensor> = x[..3].iter().map(softmax).collect::<Result<_>>()?;
    let free = sharp(0.3).solve(&MultiMarginalProblem::graph(&marginals, &[])?)?;
    assert!(free.converged() && value(&free.value).abs() < 1e-14);
    Ok(())
}

proptest! {
    #[test]
    fn a_plan_has_its_marginals_and_a_value_above_zero(
        sizes in prop::collection::vec(1usize..5, 2..6),
        kind in 0usize..3, epsilon in 0.05f64..3.0, seed in 0u64..50
    ) {
        let m = sizes.len();
        let edges = match kind {
            0 => pairs(m),
            1 => chain(m),
            _ => if m > 2 { ring(m) } else { pairs(m) },
        };
        let x = raw(&sizes, &edges, None, seed);
        let solve = |x: &[Tensor]| -> MultiMarginalSolution {
            let solver = MultiMarginalSinkhorn::new(epsilon, 1e-10, 50_000).unwrap();
            solver.solve(&on_graph(x, m, &edges).unwrap()).unwrap()
        };
        let solution = solve(&x);
        prop_assert!(solution.converged());
        prop_assert!(value(&solution.value) >= -1e-12);
        // Regularisation only adds.
        prop_assert!(value(&solution.transport_cost) <= value(&solution.value) + 1e-9);
        let plan = solution.plan().unwrap();
        for (i, logits) in x[..m].iter().enumerate() {
            let others: Vec<usize> = (0..m).filter(|j| *j != i).collect();
            let marginal = plan.sum(others).unwrap();
            prop_assert!(distance(&marginal, &softmax(logits).unwrap()) < 1e-9);
        }
        // A constant added to a cost is added to the value.
        let mut shifted = x.clone();
        shifted[m] = (&x[m] + 2.5).unwrap();
        let moved = solve(&shifted);
        prop_assert!((value(&moved.value) - value(&solution.value) - 2.5).abs() < 1e-8);
        // Values are linear in cost and epsilon together.
        let scaled: Vec<Tensor> = x.iter().enumerate().map(|(i, x)| if i < m { x.clone() } else { (x * 3.0).unwrap() }).collect();
        let solver = MultiMarginalSinkhorn::new(3.0 * epsilon, 1e-10, 50_000).unwrap();
        let thrice = solver.solve(&on_graph(&scaled, m, &edges).unwrap()).unwrap();
        prop_assert!((value(&thrice.value) - 3.0 * value(&solution.value)).abs() < 1e-7);
    }
}

#[test]
fn bad_input_is_named() -> Result<()> {
    let half = Tensor::new(&[0.5f64, 0.5], &Device::Cpu)?;
    let cost = Tensor::zeros((2, 2), DType::F64, &Device::Cpu)?;
    let says = |problem: Result<MultiMarginalProblem>, words: &[&str]| {
        let message = problem.unwrap_err().to_string();
        assert!(words.iter().all(|w| message.contains(w)), "{message}");
    };
    let two = |other: &Tensor| {
        MultiMarginalProblem::pairwise(&[half.clone(), other.clone()], std::slice::from_ref(&cost))
    };
    says(
        two(&Tensor::new(&[1.5f64, -0.5], &Device::Cpu)?),
        &["weight 1 of marginal 1", "-0.5"],
    );
    says(
        two(&Tensor::new(&[f64::NAN, 0.5], &Device::Cpu)?),
        &["weight 0 of marginal 1", "NaN"],
    );
    says(
        two(&Tensor::new(&[0.5f64, 0.7], &Device::Cpu)?),
        &["total of marginal 1", "1.2"],
    );
    says(two(&half.to_dtype(DType::F32)?), &["marginal 1", "F64"]);
    says(
        two(&Tensor::zeros(0, DType::F64, &Device::Cpu)?),
        &["marginal 1"],
    );
    says(
        two(&Tensor::new(&[[0.5f64, 0.5], [0.4, 0.5]], &Device::Cpu)?),
        &["total of marginal 1 of problem 1", "0.9"],
    );
    says(
        two(&Tensor::new(&[[0.5f64, 0.5], [0.4, -0.6]], &Device::Cpu)?),
        &["weight (1, 1) of marginal 1", "-0.6"],
    );
    let pair = [half.clone(), half.clone()];
    let nan = (&cost + f64::NAN)?;
    says(
        MultiMarginalProblem::pairwise(&pair, &[nan]),
        &["(0, 0)", "cost of pair (0, 1)", "NaN"],
    );
    says(MultiMarginalProblem::pairwise(&pair, &[]), &["need 1"]);
    says(
        MultiMarginalProblem::pairwise(&pair[..1], &[]),
        &["number of marginals is 1"],
    );
    let wide = Tensor::zeros((2, 3), DType::F64, &Device::Cpu)?;
    says(
        MultiMarginalProblem::pairwise(&pair, std::slice::from_ref(&wide)),
        &["[2, 2]"],
    );
    says(
        MultiMarginalProblem::dense(&pair, &wide),
        &["joint cost", "[2, 2]"],
    );
    let batch = Tensor::zeros((3, 2, 2), DType::F64, &Device::Cpu)?;
    let twice = Tensor::stack(&[&half, &half], 0)?;
    says(
        MultiMarginalProblem::dense(&[half.clone(), twice], &batch),
        &["joint cost", "after 2"],
    );
    let edge = |a, b| (a, b, cost.clone());
    says(
        MultiMarginalProblem::graph(&pair, &[edge(0, 0)]),
        &["edge 0", "(0, 0)"],
    );
    says(
        MultiMarginalProblem::graph(&pair, &[edge(0, 2)]),
        &["(0, 2)", "0 to 1"],
    );
    says(
        MultiMarginalProblem::graph(&pair, &[edge(0, 1), edge(1, 0)]),
        &["edge 1", "add the two costs"],
    );
    says(
        MultiMarginalProblem::chain(&pair, &[cost.clone(), cost.clone()]),
        &["need 1", "link"],
    );
    let many = uniform(300);
    let square = Tensor::zeros((300, 300), DType::F64, &Device::Cpu)?;
    let three = vec![square.clone(); 3];
    says(
        MultiMarginalProblem::pairwise(&vec![many.clone(); 3], &three),
        &["300 x 300 x 300", &CELL_LIMIT.to_string()],
    );
    let chain = MultiMarginalProblem::chain(&vec![many.clone(); 3], &three[..2])?;
    let loss = KernelSinkhorn::new(1.0, 1)?
        .loss(&chain)
        .unwrap_err()
        .to_string();
    assert!(loss.contains("300 x 300 x 300"), "{loss}");
    Ok(())
}

#[test]
fn bad_settings_are_named() -> Result<()> {
    let says = |error: Option<decalign_ot::Error>, words: &str| {
        let message = error.unwrap().to_string();
        assert!(message.contains(words), "{message}");
    };
    says(
        MultiMarginalSinkhorn::new(0.0, 1e-3, 1).err(),
        "epsilon is 0",
    );
    says(
        MultiMarginalSinkhorn::new(1.0, f64::NAN, 1).err(),
        "tolerance is NaN",
    );
    says(
        MultiMarginalSinkhorn::new(1.0, 1e-3, 0).err(),
        "max_iterations is 0",
    );
    says(
        MultiMarginalSinkhorn::new(1.0, 1e-3, 1)?
            .epsilon_scaling(1.5)
            .err(),
        "1.5",
    );
    assert!(KernelSinkhorn::new(f64::NAN, 1).is_err());
    let x = raw(&[3, 4], &pairs(2), None, 1);
    let problem = on_graph(&x, 2, &pairs(2))?;
    let solver = sharp(1.0);
    let solution = solver.solve(&problem)?;
    let f = &solution.potentials;
    says(
        solver.solve_from(&problem, &f[..1]).err(),
        "number of potentials is 1",
    );
    says(
        solver
            .solve_from(&problem, &[f[1].clone(), f[1].clone()])
            .err(),
        "potential 0",
    );
    says(
        solver
            .solve_from(&problem, &[f[0].clone(), (&f[1] * f64::NAN)?])
            .err(),
        "entry 0 of potential 1",
    );
    says(solution.pair_marginal(1, 1).err(), "1 and 1");
    says(solution.pair_marginal(0, 2).err(), "0 and 2");
    Ok(())
}

#[test]
fn not_converging_is_said() -> Result<()> {
    for (name, sizes, edges, _) in graphs().into_iter().filter(|(name, ..)| *name != "parts") {
        let x = raw(&sizes, &edges, None, 1);
        let problem = on_graph(&x, sizes.len(), &edges)?;
        let solution = MultiMarginalSinkhorn::new(0.01, 1e-14, 2)?.solve(&problem)?;
        assert!(
            !solution.converged() && solution.iterations() == 2,
            "{name}"
        );
        // What is reported is what the plan has.
        let plan = solution.plan()?;
        let mut error: f64 = 0.0;
        for (i, logits) in x[..sizes.len()].iter().enumerate() {
            let others: Vec<usize> = (0..sizes.len()).filter(|j| *j != i).collect();
            let off = (plan.sum(others)? - softmax(logits)?)?.abs()?.sum_all()?;
            error = error.max(value(&off));
        }
        assert!(
            (error - solution.marginal_error()).abs() < 1e-6 * error.max(1e-3),
            "{name} {error} {}",
            solution.marginal_error()
        );
    }
    // One problem of a batch that does not is enough.
    let mut x = raw(&[4, 4, 4], &pairs(3), Some(2), 1);
    let easy = x[3].get(0)?.zeros_like()?;
    for cost in &mut x[3..] {
        *cost = Tensor::stack(&[&easy, &(cost.get(1)? * 30.0)?], 0)?;
    }
    let solution =
        MultiMarginalSinkhorn::new(0.1, 1e-10, 3)?.solve(&on_graph(&x, 3, &pairs(3))?)?;
    let ended: Vec<bool> = solution.ends.iter().map(|o| o.converged).collect();
    assert_eq!((ended, solution.converged()), (vec![true, false], false));
    assert_eq!(solution.marginal_error(), solution.ends[1].marginal_error);
    Ok(())
}
