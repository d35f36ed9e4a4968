"""scikit-learn on the problems of `cargo xtask peers gmm`: prints one measurement a line."""

import warnings

import numpy as np
from sklearn.mixture import GaussianMixture
from threadpoolctl import threadpool_limits

from measure import least, show

warnings.simplefilter("ignore")


def normal(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def further():
    """A further iteration at n = 1e5, d = K = 30, f32."""
    x = normal(0, 100_000, 30)
    rows = np.round(np.linspace(0, len(x) - 1, 30)).astype(int)
    for kind in ["diag", "full", "tied", "spherical"]:
        unit = {"full": np.stack([np.eye(30)] * 30), "tied": np.eye(30), "diag": np.ones((30, 30)), "spherical": np.ones(30)}
        given = dict(
            weights_init=np.full(30, 1 / 30, np.float32),
            means_init=x[rows],
            precisions_init=unit[kind].astype(np.float32),
        )
        fit = lambda steps: GaussianMixture(30, covariance_type=kind, tol=0.0, max_iter=steps, random_state=0, **given).fit(x)
        short, long = least(2, lambda: fit(1)), least(2, lambda: fit(4))
        show(kind, long, less=short, per=3)


def many():
    """100 of the 1000 mixtures of 200 x 8: k-means, then ten steps."""
    x = normal(5, 100, 200, 8)
    for kind in ["full", "diag"]:

        def loop():
            for one in x:
                GaussianMixture(4, covariance_type=kind, tol=0.0, max_iter=10, random_state=0).fit(one)

        show(f"1000 of 200 x 8, {kind}", 10 * least(2, loop))


if __name__ == "__main__":
    with threadpool_limits(2):
        further()
        many()
