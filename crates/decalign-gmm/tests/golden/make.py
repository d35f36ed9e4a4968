"""Writes corpus.safetensors and corpus.json: mixtures fitted by scikit-learn.

    python3 -m venv .venv
    .venv/bin/pip install -r requirements.txt
    .venv/bin/python make.py

Everything is f64. Names in corpus.safetensors are KIND/CASE/QUANTITY, KIND scikit-learn's
covariance_type. Each case is a fit from given parameters (start_*) of a fixed number of steps
(`steps`), and what scikit-learn says of the data `x` under the mixture it found. Densities are checked
against SciPy before they are written.
"""

import json
import warnings
from importlib.metadata import version
from pathlib import Path

import numpy as np
import scipy.special
import scipy.stats
from safetensors.numpy import save_file
from sklearn.mixture import GaussianMixture

warnings.simplefilter("ignore")
KINDS = ["full", "tied", "diag", "spherical"]
CASES = {
    # samples, width, components, steps, regularisation
    "small": (40, 2, 3, 7, 1e-6),
    "wide": (60, 19, 2, 4, 1e-2),
    "long": (300, 4, 5, 60, 0.0),
}
tensors, parameters = {}, {}


def spread(kind, covariances, k):
    """The matrix of component k."""
    match kind:
        case "full":
            return covariances[k]
        case "tied":
            return covariances
        case "diag":
            return np.diag(covariances[k])
    raise ValueError(kind)


def start(kind, x, k, generator):
    d = x.shape[1]
    covariance = np.cov(x.T, bias=True).reshape(d, d)
    means = x[generator.choice(len(x), k, replace=False)]
    each = {
        "full": np.stack([covariance] * k),
        "tied": covariance,
        "diag": np.stack([np.diag(covariance)] * k),
        "spherical": np.full(k, np.trace(covariance) / d),
    }
    return np.full(k, 1.0 / k), means, each[kind]


def precisions(kind, covariances):
    return 1.0 / covariances if kind in ("diag", "spherical") else np.linalg.inv(covariances)


for seed, (case, (n, d, k, steps, floor)) in enumerate(CASES.items()):
    for kind in KINDS:
        generator = np.random.default_rng(seed)
        centres = generator.normal(0.0, 3.0, (k, d))
        x = centres[generator.integers(k, size=n)] + generator.normal(size=(n, d))
        x = x @ (np.eye(d) + 0.2 * generator.normal(size=(d, d)))
        weights, means, covariances = start(kind, x, k, generator)
        fit = GaussianMixture(
            k,
            covariance_type=kind,
            tol=0.0,
            max_iter=steps,
            reg_covar=floor,
            weights_init=weights,
            means_init=means,
            precisions_init=precisions(kind, covariances),
        ).fit(x)
        found = fit.weights_, fit.means_, fit.covariances_
        logs = fit._estimate_log_prob(x) + np.log(fit.weights_)
        if kind != "spherical":
            for i in range(k):
                normal = scipy.stats.multivariate_normal(found[1][i], spread(kind, found[2], i))
                np.testing.assert_allclose(logs[:, i], normal.logpdf(x) + np.log(found[0][i]), rtol=1e-8)
        np.testing.assert_allclose(scipy.special.logsumexp(logs, 1), fit.score_samples(x), rtol=1e-12)
        numbers = {
            "x": x,
            "start_weights": weights,
            "start_means": means,
            "start_covariances": covariances,
            "weights": found[0],
            "means": found[1],
            "covariances": found[2],
            "log_densities": logs,
            "responsibilities": fit.predict_proba(x),
            "labels": fit.predict(x),
            "score": fit.score(x),
            "aic": fit.aic(x),
            "bic": fit.bic(x),
        }
        for name, value in numbers.items():
            value = np.asarray(value)
            assert np.isfinite(value).all()
            dtype = np.uint32 if name == "labels" else np.float64
            tensors[f"{kind}/{case}/{name}"] = np.array(value, dtype=dtype, order="C")
        parameters[f"{kind}/{case}"] = {"steps": steps, "regularisation": floor}

folder = Path(__file__).parent
save_file(tensors, folder / "corpus.safetensors")
packages = ["numpy", "scikit-learn", "scipy"]
corpus = {"versions": {name: version(name) for name in packages}, "parameters": parameters}
(folder / "corpus.json").write_text(json.dumps(corpus, indent=1) + "\n")
