//! The answers of other programs: POT, OTT-JAX and SciPy on `golden/corpus.safetensors`, see
//! `golden/make.py` for how they came about.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use decalign_ot::{
    BarycenterProblem, FixedSupportBarycenter, Geometry, GromovProblem, GromovWasserstein,
    LinearProblem, MultiMarginalProblem, MultiMarginalSinkhorn, NetworkSimplex, Reduction,
    Sinkhorn, SinkhornDivergence, SinkhornSolution, bures_wasserstein, bures_wasserstein_diagonal,
    reference, wasserstein_1d,
};

/// Answers agree to this, relative to their largest number.
const TOLERANCE: f64 = 1e-8;

/// What a number that is 0 may be off by.
const ROUNDING: f64 = 1e-13;

/// The numbers of one problem: what goes in and what has to come out.
struct Case {
    name: String,
    numbers: BTreeMap<String, Tensor>,
}

impl Case {
    fn tensor(&self, quantity: &str) -> &Tensor {
        let found = self.numbers.get(quantity);
        found.unwrap_or_else(|| panic!("the corpus has no {}/{quantity}", self.name))
    }

    fn number(&self, quantity: &str) -> f64 {
        self.tensor(quantity).to_scalar().unwrap()
    }

    /// Holds `got` to the recorded `quantity`.
    fn holds(&self, quantity: &str, got: &Tensor, tolerance: f64) {
        let want = self.tensor(quantity);
        let name = &self.name;
        assert_eq!(got.dims(), want.dims(), "{name}/{quantity}");
        // The largest number, NaN if one is.
        let value = |x: &Tensor| {
            let all = x.flatten_all().unwrap().to_vec1::<f64>().unwrap();
            let all = all.into_iter().map(f64::abs);
            all.fold(0.0, |m, v| if v > m || v.is_nan() { v } else { m })
        };
        let error = value(&(got.to_dtype(DType::F64).unwrap() - want).unwrap());
        let bound = tolerance * value(want) + ROUNDING;
        // Also false of NaN.
        assert!(error <= bound, "{name}/{quantity} is off by {error:e}");
    }

    fn holds_number(&self, quantity: &str, got: f64, tolerance: f64) {
        self.holds(
            quantity,
            &Tensor::new(got, &Device::Cpu).unwrap(),
            tolerance,
        );
    }
}

/// The cases of a family, at least one.
fn cases(family: &str) -> Vec<Case> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/corpus.safetensors");
    let all = candle_core::safetensors::load(path, &Device::Cpu).unwrap();
    let mut cases: BTreeMap<String, BTreeMap<String, Tensor>> = BTreeMap::new();
    for (key, tensor) in all {
        let (name, quantity) = key.rsplit_once('/').unwrap();
        if name.split('/').next() == Some(family) {
            let numbers = cases.entry(name.to_owned()).or_default();
            numbers.insert(quantity.to_owned(), tensor);
        }
    }
    assert!(!cases.is_empty(), "the corpus has no family {family}");
    let case = |(name, numbers)| Case { name, numbers };
    cases.into_iter().map(case).collect()
}

/// Potentials up to a constant: `f` shifted to mean 0 over points with mass, `g` the other way.
fn shifted(case: &Case, (f, g): &(Tensor, Tensor)) -> (Tensor, Tensor) {
    let mask = |weights: &str| {
        let positive = case.tensor(weights).gt(0.0).unwrap();
        positive.to_dtype(DType::F64).unwrap()
    };
    let (a, b) = (mask("a"), mask("b"));
    let sum = |x: &Tensor| x.sum_all().unwrap().to_scalar::<f64>().unwrap();
    let mean = sum(&(f * &a).unwrap()) / sum(&a);
    let f = ((f - mean).unwrap() * a).unwrap();
    let g = ((g + mean).unwrap() * b).unwrap();
    (f, g)
}

/// A balanced entropic problem with costs of either kind.
fn holds_entropic(case: &Case, geometry: Geometry) {
    let problem = LinearProblem::new(geometry, case.tensor("a"), case.tensor("b")).unwrap();
    let solver = Sinkhorn::new(case.number("epsilon")).unwrap();
    let solver = solver.tolerance(1e-12).unwrap();
    let solver = solver.max_iterations(100_000).unwrap();
    let solution = solver.solve(&problem).unwrap();
    holds_solution(case, &solution);
    let (f, g) = shifted(case, &solution.potentials);
    case.holds("f", &f, TOLERANCE);
    case.holds("g", &g, TOLERANCE);
}

/// Value, cost and plan.
fn holds_solution(case: &Case, solution: &SinkhornSolution) {
    let error = solution.marginal_error();
    assert!(
        solution.converged(),
        "{}: marginals are off by {error:e}",
        case.name
    );
    case.holds("value", &solution.value, TOLERANCE);
    case.holds("transport_cost", &solution.transport_cost, TOLERANCE);
    case.holds("plan", &solution.plan.to_tensor().unwrap(), TOLERANCE);
}

#[test]
fn dense_costs() {
    for case in cases("dense") {
        holds_entropic(&case, Geometry::dense(case.tensor("cost")).unwrap());
    }
}

#[test]
fn costs_of_points() {
    for case in cases("points") {
        // Any cost may be stored.
        holds_entropic(&case, Geometry::dense(case.tensor("cost")).unwrap());
        let (x, y) = (case.tensor("x"), case.tensor("y"));
        let geometry = match case.name.as_str() {
            "points/squared_euclidean" => Geometry::squared_euclidean(x, y),
            "points/euclidean" => Geometry::euclidean(x, y),
            "points/cityblock" => Geometry::lp(x, y, 1.0),
            "points/minkowski_3" => Geometry::lp(x, y, 3.0),
            "points/cosine" => Geometry::cosine(x, y),
            other => panic!("the corpus has a metric that is not tested: {other}"),
        };
        holds_entropic(&case, geometry.unwrap());
    }
}

#[test]
fn unbalanced_transport() {
    for case in cases("unbalanced") {
        let penalties = (case.number("rho_a"), case.number("rho_b"));
        let geometry = Geometry::dense(case.tensor("cost")).unwrap();
        let (a, b) = (case.tensor("a"), case.tensor("b"));
        let problem = LinearProblem::unbalanced(geometry, a, b, penalties).unwrap();
        let solver = Sinkhorn::new(case.number("epsilon")).unwrap();
        let solution = solver.tolerance(1e-12).unwrap().solve(&problem).unwrap();
        holds_solution(&case, &solution);
        case.holds("f", &solution.potentials.0, TOLERANCE);
        case.holds("g", &solution.potentials.1, TOLERANCE);
    }
}

#[test]
fn divergences() {
    for case in cases("divergence") {
        let rho = case.number("rho");
        let geometry = Geometry::squared_euclidean(case.tensor("x"), case.tensor("y")).unwrap();
        let (a, b) = (case.tensor("a"), case.tensor("b"));
        let problem = LinearProblem::unbalanced(geometry, a, b, (rho, rho)).unwrap();
        let solver = Sinkhorn::new(case.number("epsilon")).unwrap();
        let solver = SinkhornDivergence::new(solver.tolerance(1e-12).unwrap());
        case.holds("value", &solver.solve(&problem).unwrap().value, TOLERANCE);
    }
}

#[test]
fn exact_transport() {
    for case in cases("exact") {
        let geometry = Geometry::dense(case.tensor("cost")).unwrap();
        let problem = LinearProblem::new(geometry, case.tensor("a"), case.tensor("b")).unwrap();
        let solution = NetworkSimplex::new().solve(&problem).unwrap();
        assert!(solution.converged());
        case.holds("value", &solution.value, 1e-12);
        case.holds("plan", &solution.plan.to_tensor().unwrap(), 1e-12);
    }
    for case in cases("assignment") {
        let geometry = Geometry::dense(case.tensor("cost")).unwrap();
        let solution = NetworkSimplex::new()
            .solve(&LinearProblem::uniform(geometry).unwrap())
            .unwrap();
        let n = case.tensor("columns").dims()[0];
        case.holds("value", &(solution.value * n as f64).unwrap(), 1e-12);
        let columns: Vec<f64> = solution
            .plan
            .columns()
            .iter()
            .map(|j| f64::from(*j))
            .collect();
        let want = case
            .tensor("columns")
            .to_dtype(DType::F64)
            .unwrap()
            .to_vec1::<f64>()
            .unwrap();
        assert_eq!(columns, want);
    }
}

#[test]
fn lines() {
    for case in cases("line") {
        let weights = Some((case.tensor("a"), case.tensor("b")));
        let got = wasserstein_1d(
            case.tensor("x"),
            case.tensor("y"),
            weights,
            case.number("p"),
        );
        case.holds("value", &got.unwrap(), 1e-12);
    }
}

#[test]
fn full_gaussians() {
    for case in cases("gaussians") {
        let first = (case.tensor("mean"), case.tensor("covariance"));
        let second = (case.tensor("mean2"), case.tensor("covariance2"));
        case.holds(
            "squared",
            &bures_wasserstein(first, second, Reduction::Sum).unwrap(),
            1e-8,
        );
    }
}

#[test]
fn barycentres() {
    for (family, debiased) in [("barycenter", false), ("barycenter_debiased", true)] {
        for case in cases(family) {
            let measures: Vec<Tensor> = (0..3)
                .map(|k| case.tensor("measures").get(k).unwrap())
                .collect();
            let weights = case.tensor("weights").to_vec1::<f64>().unwrap();
            let cost = case.tensor("cost");
            let problem =
                BarycenterProblem::new(&measures, std::slice::from_ref(cost), &weights).unwrap();
            let problem = problem.support_cost(cost).unwrap();
            let solver = FixedSupportBarycenter::new(case.number("epsilon"))
                .unwrap()
                .debiased(debiased);
            let solver = solver
                .tolerance(1e-12)
                .unwrap()
                .max_iterations(100_000)
                .unwrap();
            let solution = solver.solve(&problem).unwrap();
            assert!(
                solution.converged(),
                "{} {:e}",
                case.name,
                solution.marginal_error()
            );
            case.holds("barycenter", &solution.weights, 1e-7);
        }
    }
}

#[test]
fn gromov_wasserstein() {
    for (family, fused) in [("gromov", false), ("gromov_fused", true)] {
        for case in cases(family) {
            let quantity = |name: &str| case.tensor(name);
            let problem =
                GromovProblem::new(quantity("c1"), quantity("c2"), quantity("a"), quantity("b"))
                    .unwrap();
            let (problem, alpha) = match fused {
                true => (
                    problem.features(quantity("cost")).unwrap(),
                    case.number("alpha"),
                ),
                false => (problem, 1.0),
            };
            let solver = GromovWasserstein::new(case.number("epsilon"))
                .unwrap()
                .alpha(alpha)
                .unwrap();
            let solver = solver
                .tolerance(1e-10)
                .unwrap()
                .max_iterations(5000)
                .unwrap();
            let solution = solver.solve(&problem).unwrap();
            assert!(solution.converged(), "{}", case.name);
            case.holds("plan", &solution.plan, 1e-6);
            let loss = alpha * solution.energy + (1.0 - alpha) * solution.feature_cost;
            case.holds_number("loss", loss, 1e-6);
        }
    }
    for case in cases("gromov_loss") {
        let got =
            reference::gromov_energy(case.tensor("c1"), case.tensor("c2"), case.tensor("plan"));
        case.holds("loss", &got.unwrap(), 1e-12);
    }
}

#[test]
fn diagonal_gaussians() {
    for case in cases("gaussians_diagonal") {
        let first = (case.tensor("mean"), case.tensor("variance"));
        let second = (case.tensor("mean2"), case.tensor("variance2"));
        let got = bures_wasserstein_diagonal(first, second, Reduction::Sum).unwrap();
        // The roots are shifted by 1e-8.
        case.holds("squared", &got, 1e-7);
    }
}

#[test]
fn three_measures_at_once() {
    for case in cases("joint") {
        let pick = |names: [&str; 3]| names.map(|name| case.tensor(name).clone());
        let (marginals, costs) = (pick(["w0", "w1", "w2"]), pick(["c01", "c02", "c12"]));
        let problem = MultiMarginalProblem::pairwise(&marginals, &costs).unwrap();
        let solver = MultiMarginalSinkhorn::new(case.number("epsilon"))
            .unwrap()
            .tolerance(1e-13)
            .unwrap()
            .max_iterations(10_000)
            .unwrap();
        let solution = solver.solve(&problem).unwrap();
        assert!(solution.converged(), "{}", case.name);
        case.holds("value", &solution.value, TOLERANCE);
        case.holds("transport_cost", &solution.transport_cost, TOLERANCE);
        case.holds("plan", &solution.plan().unwrap(), TOLERANCE);
        let mean = |f: &Tensor| f.mean_all().unwrap().to_scalar::<f64>().unwrap();
        let means = [0, 1].map(|m| mean(&solution.potentials[m]));
        let shifts = [-means[0], -means[1], means[0] + means[1]];
        for (m, (f, shift)) in solution.potentials.iter().zip(shifts).enumerate() {
            case.holds(&format!("f{m}"), &(f + shift).unwrap(), TOLERANCE);
        }
    }
}
