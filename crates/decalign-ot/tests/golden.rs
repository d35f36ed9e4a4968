//! The answers of other programs: POT, OTT-JAX and SciPy on `golden/corpus.safetensors`, see
//! `golden/make.py` for how they came about.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use decalign_ot::{
    Geometry, LinearProblem, MultiMarginalProblem, MultiMarginalSinkhorn, Reduction, Sinkhorn,
    bures_wasserstein_diagonal,
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
        let largest = |x: &Tensor| x.abs().unwrap().flatten_all().unwrap().max(0).unwrap();
        let value = |x: &Tensor| largest(x).to_scalar::<f64>().unwrap();
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
    let error = solution.marginal_error;
    assert!(
        solution.converged,
        "{}: marginals are off by {error:e}",
        case.name
    );
    case.holds("value", &solution.value, TOLERANCE);
    case.holds_number("transport_cost", solution.transport_cost, TOLERANCE);
    case.holds("plan", &solution.plan.to_tensor().unwrap(), TOLERANCE);
    let (f, g) = shifted(case, &solution.potentials);
    case.holds("f", &f, TOLERANCE);
    case.holds("g", &g, TOLERANCE);
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
        if case.name == "points/squared_euclidean" {
            let geometry = Geometry::squared_euclidean(case.tensor("x"), case.tensor("y"));
            holds_entropic(&case, geometry.unwrap());
        }
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
        let problem = MultiMarginalProblem::new(&marginals, &costs).unwrap();
        let solver = MultiMarginalSinkhorn::new(case.number("epsilon"), 1e-13, 10_000).unwrap();
        let solution = solver.solve(&problem).unwrap();
        assert!(solution.converged, "{}", case.name);
        case.holds("value", &solution.value, TOLERANCE);
        case.holds_number("transport_cost", solution.transport_cost, TOLERANCE);
        case.holds("plan", &solution.plan().unwrap(), TOLERANCE);
        let mean = |f: &[f64]| f.iter().sum::<f64>() / f.len() as f64;
        let means = [0, 1].map(|m| mean(&solution.potentials[m]));
        let shifts = [-means[0], -means[1], means[0] + means[1]];
        for (m, (f, shift)) in solution.potentials.iter().zip(shifts).enumerate() {
            let f = Tensor::new(&f[..], &Device::Cpu).unwrap();
            case.holds(&format!("f{m}"), &(f + shift).unwrap(), TOLERANCE);
        }
    }
}
