"""POT on the problems of `cargo xtask peers ot`: prints one measurement a line."""

import math
import warnings

import numpy as np
import ot

from measure import least, show

warnings.simplefilter("ignore")


def uniform(seed, *shape):
    """Numbers in [0, 1) of sequence `seed`: those of benches/peers/ot.rs and peers/wass/main.rs."""
    z = (np.arange(math.prod(shape), dtype=np.uint64) + np.uint64((seed << 32) + 1)) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((z ^ (z >> np.uint64(31))) >> np.uint64(11)).reshape(shape) / 2.0**53


def weights(n):
    return np.full(n, 1.0 / n, dtype=np.float32)


def dense():
    """A further iteration at n = 1000, f32."""
    n = 1000
    x, y = uniform(0, n, 8), uniform(1, n, 8)
    cost = (((x[:, None] - y) ** 2).sum(2) / 8).astype(np.float32)
    for method, few, many in [("sinkhorn_log", 5, 25), ("sinkhorn", 50, 550)]:
        solve = lambda k: ot.sinkhorn(weights(n), weights(n), cost, 0.05, method=method, numItermax=k, stopThr=0.0)
        short, long = least(3, lambda: solve(few)), least(3, lambda: solve(many))
        show(f"{method} {n}", long, less=short, per=many - few)


def small_epsilon():
    """50 points on a line, f32, epsilon 1e-4, 1000 iterations."""
    n, epsilon = 50, 1e-4
    x, y = uniform(2, n), uniform(3, n)
    exact = ((np.sort(x) - np.sort(y)) ** 2).mean()
    x, y = x.astype(np.float32), y.astype(np.float32)
    cost = (x[:, None] - y) ** 2
    once = dict(numItermax=1000)
    # 20 epsilons from 1 down by e each, 50 iterations at each.
    scaled = dict(numItermax=20, numInnerItermax=50, epsilon0=1.0)
    methods = {"sinkhorn": once, "sinkhorn_stabilized": once, "sinkhorn_log": once, "sinkhorn_epsilon_scaling": scaled}
    for method, options in methods.items():
        with np.errstate(all="ignore"):
            plan = ot.sinkhorn(weights(n), weights(n), cost, epsilon, method=method, **options)
        plan = plan.astype(np.float64)
        off = lambda axis: np.abs(plan.sum(axis) - 1 / n).sum()
        show(f"{method}: cost error", abs((plan * cost).sum() - exact))
        show(f"{method}: marginal error", max(off(0), off(1)))


def batch():
    """1024 problems of 16 x 16, 100 iterations each; a loop is timed over the first of them."""
    count, some = 1024, 128
    costs, equal = uniform(4, count, 16, 16).astype(np.float32), weights(16)
    for method in ["sinkhorn", "sinkhorn_log"]:

        def loop():
            for cost in costs[:some]:
                ot.sinkhorn(equal, equal, cost, 0.1, method=method, numItermax=100, stopThr=0.0)

        show(f"{method}, {count} of 16", least(2, loop), per=some / count)
    equal = np.tile(equal, (count, 1))
    together = lambda: ot.solve_batch(costs, 0.1, equal, equal, max_iter=100, tol=0.0, reg_type="entropy")
    show(f"solve_batch, {count} of 16", least(2, together))


def exact():
    """Network simplex, costs in f64 as POT computes them."""
    for n in [1000, 2000]:
        x, y = uniform(5, n, 3), uniform(6, n, 3)
        cost, equal = ot.dist(x, y), np.full(n, 1.0 / n)
        show(f"emd {n}", least(2, lambda: ot.emd(equal, equal, cost, numItermax=10_000_000)))


if __name__ == "__main__":
    dense()
    small_epsilon()
    batch()
    exact()
