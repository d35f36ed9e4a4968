//! Bad input is named, and not converging is said.

use candle_core::{DType, Device, Tensor};
use decalign_core::Result;
use decalign_core::nn::softmax;
use decalign_ot::{CELL_LIMIT, KernelSinkhorn, MultiMarginalProblem, MultiMarginalSinkhorn};

use crate::problems::*;

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
    says(MultiMarginalSinkhorn::new(0.0).err(), "epsilon is 0");
    says(
        MultiMarginalSinkhorn::new(1.0)?.tolerance(f64::NAN).err(),
        "tolerance is NaN",
    );
    says(
        MultiMarginalSinkhorn::new(1.0)?.max_iterations(0).err(),
        "max_iterations is 0",
    );
    says(
        MultiMarginalSinkhorn::new(1.0)?.epsilon_scaling(1.5).err(),
        "1.5",
    );
    says(
        MultiMarginalSinkhorn::new(1.0)?.epsilon_scaling(0.95).err(),
        "must be in (0, 0.9], or 1",
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
        let solution = MultiMarginalSinkhorn::new(0.01)?
            .tolerance(1e-14)?
            .max_iterations(2)?
            .solve(&problem)?;
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
    let solution = MultiMarginalSinkhorn::new(0.1)?
        .tolerance(1e-10)?
        .max_iterations(3)?
        .solve(&on_graph(&x, 3, &pairs(3))?)?;
    let ended: Vec<bool> = solution.convergence().iter().map(|o| o.converged).collect();
    assert_eq!((ended, solution.converged()), (vec![true, false], false));
    assert_eq!(
        solution.marginal_error(),
        solution.convergence()[1].marginal_error
    );
    Ok(())
}
