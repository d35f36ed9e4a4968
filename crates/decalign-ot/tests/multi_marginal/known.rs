//! Other ways to the same numbers, and closed forms.

use candle_core::{DType, Device, Tensor};
use decalign_core::Result;
use decalign_core::nn::softmax;
use decalign_ot::{Geometry, LinearProblem, MultiMarginalProblem, MultiMarginalSinkhorn, Sinkhorn};

use crate::problems::*;

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
        let solver = MultiMarginalSinkhorn::new(0.3)
            .unwrap()
            .tolerance(1e-6)
            .unwrap()
            .max_iterations(500)
            .unwrap();
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
        let got = MultiMarginalSinkhorn::new(epsilon)
            .unwrap()
            .tolerance(1e-11)
            .unwrap()
            .max_iterations(10_000)
            .unwrap();
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
        let solver = MultiMarginalSinkhorn::new(epsilon)
            .unwrap()
            .tolerance(1e-8)
            .unwrap()
            .max_iterations(1000)
            .unwrap();
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
                let solution = MultiMarginalSinkhorn::new(epsilon)?
                    .tolerance(1e-5)?
                    .max_iterations(1000)?
                    .solve(&problem)?;
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
        let solver = MultiMarginalSinkhorn::new(0.02)?
            .tolerance(1e-8)?
            .max_iterations(100_000)?;
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
        let solver = MultiMarginalSinkhorn::new(0.3)?
            .tolerance(1e-7)?
            .max_iterations(5000)?;
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
            let solver = MultiMarginalSinkhorn::new(epsilon)?
                .tolerance(1e-6)?
                .max_iterations(30)?;
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
        let solver = MultiMarginalSinkhorn::new(0.1)?
            .tolerance(1e-9)?
            .max_iterations(20_000)?;
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
