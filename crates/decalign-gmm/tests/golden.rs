//! The answers of scikit-learn on `golden/corpus.safetensors`, see `golden/make.py` for how they came
//! about.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use common::*;
use decalign_core::Result;
use decalign_gmm::{Covariance, Em, Initialization, Mixture};

/// Steps and regularisation of the cases, as in corpus.json.
const CASES: [(&str, usize, f64); 3] = [("small", 7, 1e-6), ("wide", 4, 1e-2), ("long", 60, 0.0)];

const NAMES: [(&str, Covariance); 4] = [
    ("full", Covariance::Full),
    ("tied", Covariance::Tied),
    ("diag", Covariance::Diagonal),
    ("spherical", Covariance::Spherical),
];

#[test]
fn steps_and_densities_are_those_of_scikit_learn() -> Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/corpus.safetensors");
    let corpus: HashMap<String, Tensor> = candle_core::safetensors::load(path, &Device::Cpu)?;
    for ((name, kind), (case, steps, floor)) in
        NAMES.into_iter().flat_map(|n| CASES.map(|c| (n, c)))
    {
        let get = |quantity: &str| &corpus[&format!("{name}/{case}/{quantity}")];
        let mixture = |prefix: &str| {
            let part = |part: &str| get(&format!("{prefix}{part}"));
            Mixture::new(kind, part("weights"), part("means"), part("covariances"))
        };
        let x = get("x");
        let em = Em::new(get("weights").elem_count(), kind)?.regularisation(floor)?;
        let em = em.initialization(Initialization::Mixture(Box::new(mixture("start_")?)));
        let fit = em.max_iterations(steps).tolerance(0.0)?.fit(x)?;
        let found = mixture("")?;
        same(&fit.mixture, &found, 1e-8);
        let holds = |quantity: &str, got: &Tensor| {
            let error = off(got, get(quantity));
            assert!(error < 1e-9, "{name}/{case}/{quantity} is off by {error:e}");
        };
        holds("log_densities", &found.log_densities(x)?);
        holds("responsibilities", &found.responsibilities(x)?);
        holds("score", &found.score(x)?);
        holds("aic", &found.aic(x)?);
        holds("bic", &found.bic(x)?);
        let labels = found.assign(x)?.to_vec1::<u32>()?;
        assert_eq!(labels, get("labels").to_vec1::<u32>()?);
        single_precision(&found, x)?;
    }
    Ok(())
}

/// In f32, held to f64 on the same rounded numbers: what rounding them does to densities (up to 1e-5 where
/// a covariance is ill-conditioned) is not of the loops' making.
fn single_precision(mixture: &Mixture, x: &Tensor) -> Result<()> {
    let to = |dtype, m: &Mixture| -> Result<Mixture> {
        let parts = [m.weights(), m.means(), m.covariances()].map(|p| p.to_dtype(dtype).unwrap());
        Mixture::new(m.covariance(), &parts[0], &parts[1], &parts[2])
    };
    let narrow = to(DType::F32, mixture)?;
    let rounded = x.to_dtype(DType::F32)?;
    let want = to(DType::F64, &narrow)?.log_densities(&rounded.to_dtype(DType::F64)?)?;
    let error = off(&narrow.log_densities(&rounded)?, &want);
    assert!(
        error <= 4.0 * f64::from(f32::EPSILON),
        "{:?}: {error:e}",
        mixture.covariance()
    );
    Ok(())
}
