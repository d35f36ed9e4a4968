"""NumPy recipes and hyppo on the problems of `cargo xtask peers mmd`: prints one measurement a line."""

import warnings

import numpy as np
from hyppo.ksample import MMD

from measure import least, show

warnings.simplefilter("ignore")

DRAWS = 2000


def normal(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def gaussian(x, y, length):
    squares = (x**2).sum(1)[:, None] + (y**2).sum(1) - 2 * x @ y.T
    return np.exp(squares / (-2 * length**2))


def from_matrix(k, n):
    """The unbiased MMD^2 from the kernel matrix of n and m pooled points, zeros on its diagonal."""
    m = len(k) - n
    xx, yy, xy = k[:n, :n], k[n:, n:], k[:n, n:]
    return xx.sum() / (n * (n - 1)) + yy.sum() / (m * (m - 1)) - 2 * xy.mean()


def forward():
    """4096 against 4096 points of width 64, all matrices held."""
    x, y = normal(0, 4096, 64), normal(1, 4096, 64)

    def run():
        k = [gaussian(a, b, 8.0) for a, b in [(x, x), (y, y), (x, y)]]
        n = len(x)
        return [(k[i].sum() - np.trace(k[i])) / (n * (n - 1)) for i in (0, 1)], k[2].mean()

    show("forward 64", least(2, run))


def permutations():
    """2000 permutations of 1000 against 1000 points of width 10; slow ones by further permutations."""
    x, y = normal(0, 1000, 10), normal(1, 1000, 10) + np.float32(0.1)
    n, z = len(x), np.concatenate([x, y])
    rng = np.random.default_rng(1)
    length = np.sqrt(10.0)

    def recipe(draws):
        """The matrix once; of each draw its rows and columns in a new order."""
        k = gaussian(z, z, length)
        np.fill_diagonal(k, 0)
        observed = from_matrix(k, n)
        null = []
        for _ in range(draws):
            order = rng.permutation(len(k))
            null.append(from_matrix(k[np.ix_(order, order)], n))
        return np.mean(np.array(null) >= observed)

    def product():
        """All draws as one product of the matrix and their signs."""
        k = gaussian(z, z, length)
        np.fill_diagonal(k, 0)
        signs = np.ones((len(k), DRAWS), np.float32)
        for column in signs.T:
            column[rng.permutation(len(k))[:n]] = -1
        return (signs * (k @ signs)).sum(0)

    def hyppo(draws):
        return MMD(compute_kernel="gaussian").test(x, y, reps=draws, workers=1, auto=False)

    for name, run, (few, many) in [("alibi-detect", recipe, (2, 12)), ("hyppo", hyppo, (2, 8))]:
        short, long = least(2, lambda: run(few)), least(2, lambda: run(many))
        # The time of 2000 further draws.
        show(name, long, less=short, per=(many - few) / DRAWS)
    show("product", least(2, product))


if __name__ == "__main__":
    forward()
    permutations()
