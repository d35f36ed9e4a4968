//! Points without mass, tiny weights, many marginals, masses other than 1.

use candle_core::{DType, Device, Tensor};
use decalign_core::Result;
use decalign_core::nn::softmax;
use decalign_ot::{MultiMarginalProblem, MultiMarginalSinkhorn, MultiMarginalSolution, reference};
use proptest::prelude::*;

use crate::problems::*;

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
            let solution = MultiMarginalSinkhorn::new(0.3)?
                .tolerance(1e-6)?
                .max_iterations(5000)?
                .solve(&problem)?;
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
    let solution = MultiMarginalSinkhorn::new(2.0)?
        .tolerance(1e-9)?
        .max_iterations(3000)?
        .solve(&problem)?;
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
            let solver = MultiMarginalSinkhorn::new(epsilon).unwrap().tolerance(1e-10).unwrap().max_iterations(50_000).unwrap();
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
        let solver = MultiMarginalSinkhorn::new(3.0 * epsilon).unwrap().tolerance(1e-10).unwrap().max_iterations(50_000).unwrap();
        let thrice = solver.solve(&on_graph(&scaled, m, &edges).unwrap()).unwrap();
        prop_assert!((value(&thrice.value) - 3.0 * value(&solution.value)).abs() < 1e-7);
    }
}
