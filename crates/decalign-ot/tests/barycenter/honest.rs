//! Threads, properties, not converging, bad input.

use candle_core::{DType, Tensor};
use decalign_core::Result;
use decalign_core::nn::softmax;
use decalign_core::random::Stream;
use decalign_ot::{BarycenterProblem, FixedSupportBarycenter, FreeSupportBarycenter};
use proptest::prelude::*;

use crate::problems::*;

#[test]
fn threads_do_not_matter() {
    let (x, y) = (normal(&[150, 2], 0), normal(&[120, 2], 1));
    let measures = [weights(150, 2), weights(150, 3)];
    let cost = squares(&x, &y);
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| {
            let problem =
                BarycenterProblem::new(&measures, std::slice::from_ref(&cost), &[0.5, 0.5])
                    .unwrap();
            let got = FixedSupportBarycenter::new(0.5)
                .unwrap()
                .solve(&problem)
                .unwrap();
            numbers(&got.weights)
                .iter()
                .map(|w| w.to_bits())
                .collect::<Vec<_>>()
        })
    };
    assert_eq!(run(1), run(3));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn order_and_units_do_not_matter(seed in 0u64..1000, n in 1usize..8, m in 1usize..8, s in 0.1f64..10.0) {
        let draw = |shape: &[usize], number: u64| Stream::new(seed, number).normal_tensor(shape).unwrap();
        let mass = |number: u64| softmax(&draw(&[n], number)).unwrap();
        let (measures, costs) = ([mass(0), mass(1), mass(2)], [3, 4, 5].map(|k| draw(&[n, m], k)));
        let shares = [0.2, 0.3, 0.5];
        let one = solve(&BarycenterProblem::new(&measures, &costs, &shares).unwrap(), 0.5, false);
        let turned = |x: &[Tensor; 3]| [x[2].clone(), x[0].clone(), x[1].clone()];
        let other = BarycenterProblem::new(&turned(&measures), &turned(&costs), &[0.5, 0.2, 0.3]);
        let other = solve(&other.unwrap(), 0.5, false);
        prop_assert!(distance(&one.weights, &other.weights) < 1e-9);
        prop_assert!(distance(&one.value, &other.value) < 1e-9);
        let scaled = costs.map(|c| (c * s).unwrap());
        let scaled = BarycenterProblem::new(&measures, &scaled, &shares).unwrap();
        let scaled = solve(&scaled, 0.5 * s, false);
        prop_assert!(distance(&one.weights, &scaled.weights) < 1e-9);
        prop_assert!((numbers(&scaled.value)[0] / s - numbers(&one.value)[0]).abs() < 1e-9);
        prop_assert!((numbers(&one.weights).iter().sum::<f64>() - 1.0).abs() < 1e-9);
    }
}

#[test]
fn not_converging_is_a_result() -> Result<()> {
    let measures = [weights(6, 0), weights(6, 1)];
    let costs = [normal(&[6, 5], 2), normal(&[6, 5], 3)];
    let problem = BarycenterProblem::new(&measures, &costs, &[0.5, 0.5])?;
    let solver = FixedSupportBarycenter::new(1e-3)?.max_iterations(3)?;
    let got = solver.solve(&problem)?;
    assert!(!got.converged() && got.iterations() == 3 && got.marginal_error() > 1e-6);
    // Costs whose differences overflow.
    let huge = new(&[1e308, -1e308, 0.0, 1e308]).reshape((2, 2))?;
    let problem = BarycenterProblem::new(&[new(&[0.5, 0.5])], &[huge], &[1.0])?;
    let got = FixedSupportBarycenter::new(1e-9)?
        .max_iterations(9)?
        .solve(&problem)?;
    assert!(!got.converged(), "{got:?}");
    Ok(())
}

#[test]
fn bad_input_is_named() {
    let (a, cost) = (new(&[0.4, 0.6]), normal(&[2, 3], 0));
    let message = |measures: &[Tensor], costs: &[Tensor], shares: &[f64]| {
        BarycenterProblem::new(measures, costs, shares)
            .unwrap_err()
            .to_string()
    };
    let c = || cost.clone();
    let one = |x: Tensor| message(&[x], &[c()], &[1.0]);
    let cases = [
        (message(&[], &[], &[]), "number of measures is 0"),
        (
            message(&[a.clone(), a.clone()], &[c(), c(), c()], &[0.5, 0.5]),
            "number of costs is 3: 2 measures",
        ),
        (one(new(&[1.0])), "measure 0: expected shape (2)"),
        (one(new(&[1.5, -0.5])), "measure 0[1] is -0.5"),
        (one(new(&[f64::NAN, 1.0])), "measure 0[0] is NaN"),
        (one(new(&[0.0, 0.0])), "the total of measure 0 is 0"),
        (
            message(&[a.clone(), new(&[1.0, 1.0])], &[c()], &[0.5, 0.5]),
            "the total of measure 1 is 2: must equal the total of measure 0, 1",
        ),
        (
            message(std::slice::from_ref(&a), &[c()], &[0.9]),
            "the sum of the measures' weights is 0.9: must be 1",
        ),
        (
            message(&[a.clone(), a.clone()], &[c()], &[1.5, -0.5]),
            "weight of measure 1 is -0.5",
        ),
        (
            message(std::slice::from_ref(&a), &[c()], &[0.5, 0.5]),
            "number of weights is 2",
        ),
        (
            message(&[a.to_dtype(DType::F32).unwrap()], &[c()], &[1.0]),
            "cost 0: expected shape (n, 3), not empty, of F32",
        ),
        (
            message(
                &[a.clone(), a.clone()],
                &[c(), normal(&[2, 4], 0)],
                &[0.5, 0.5],
            ),
            "cost 1: expected shape (n, 3)",
        ),
    ];
    for (got, want) in cases {
        assert!(got.contains(want), "{got}");
    }
    let infinite = new(&[0.0, f64::INFINITY]).reshape((2, 1)).unwrap();
    let got = message(std::slice::from_ref(&a), &[infinite], &[1.0]);
    assert!(got.contains("cost 0 at (1, 0) is inf"), "{got}");
    let problem = BarycenterProblem::new(&[a], &[c()], &[1.0]).unwrap();
    let lacking = solver(1.0).debiased(true).solve(&problem).unwrap_err();
    assert!(lacking.to_string().contains("support cost is absent"));
    let skew = problem.support_cost(&normal(&[3, 3], 1)).unwrap_err();
    assert!(
        skew.to_string().contains("support cost at (0, 1)"),
        "{skew}"
    );
    for bad in [0.0, -1.0, f64::NAN] {
        assert!(FixedSupportBarycenter::new(bad).is_err() && solver(1.0).tolerance(bad).is_err());
        assert!(FreeSupportBarycenter::new(bad).is_err());
    }
    assert!(solver(1.0).max_iterations(0).is_err());
}
