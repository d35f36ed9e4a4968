"""Writes corpus.safetensors and corpus.json: transport problems and their answers by other programs.

    python3 -m venv .venv
    .venv/bin/pip install -r requirements.txt
    .venv/bin/python make.py

Everything is f64 and every answer is computed by POT, OTT-JAX or SciPy (the joint problem of three
measures, which none of them solves, by a direct iteration below). An answer is written only after it
passed the checks of this script: marginals, duality, a second program where there is one.

Names in corpus.safetensors are FAMILY/CASE/QUANTITY; what they mean is in FAMILIES below, which
corpus.json repeats beside the versions and the scalar parameters.
"""

import json
import warnings
from importlib.metadata import version
from pathlib import Path

import jax
import numpy as np
import ot
import scipy.optimize
import scipy.spatial
import scipy.stats
from ott.geometry import costs, geometry, pointcloud
from ott.problems.linear import linear_problem
from ott.solvers.linear import sinkhorn
from ott.tools import sinkhorn_divergence
from safetensors.numpy import save_file

jax.config.update("jax_enable_x64", True)
warnings.simplefilter("error")

ENTROPIC = (
    "min over P >= 0 with P 1 = a, P^T 1 = b of <P, C> + epsilon KL(P | a x b); "
    "value is that minimum, transport_cost is <P, C>; P = a b exp((f + g - C) / epsilon), "
    "f shifted to mean 0 over points with mass and g by as much the other way, 0 without mass"
)
FAMILIES = {
    "dense": f"{ENTROPIC}. By POT sinkhorn_log; value checked against OTT-JAX.",
    "points": f"{ENTROPIC}, C from points x, y: the case names it (minkowski_3 is "
    "(sum |x - y|^3)^(1/3), cosine is 1 - <x, y> / |x| |y|). C by SciPy cdist, the rest as in dense.",
    "unbalanced": "min over P >= 0 of <P, C> + epsilon KL(P | a x b) + rho_a KL(P 1 | a) + "
    "rho_b KL(P^T 1 | b), KL(p | q) = sum p log(p / q) - p + q; an infinite rho is a hard "
    "constraint. By POT sinkhorn_unbalanced, reg_type='kl'; value checked against its dual, "
    "plan against OTT-JAX. f, g not shifted.",
    "divergence": "OT(a, b) - OT(a, a) / 2 - OT(b, b) / 2 + epsilon (|a| - |b|)^2 / 2 with the values "
    "of unbalanced (rho_a = rho_b = rho, infinite: of dense), squared Euclidean costs. By OTT-JAX "
    "(balanced), from three values by POT (both).",
    "exact": "min over P >= 0 with P 1 = a, P^T 1 = b of <P, C>, its P (unique here). By POT emd, "
    "checked by the duals: f + g <= C and <f, a> + <g, b> = value.",
    "assignment": "columns[i] is matched to row i at the least total. By SciPy "
    "linear_sum_assignment.",
    "line": "W_p^p = int |F_x^-1 - F_y^-1|^p between weighted points on a line (not its root). By POT "
    "wasserstein_1d, checked against POT emd.",
    "gaussians": "squared 2-Wasserstein distances |m - m'|^2 + tr(S + S' - 2 (S^1/2 S' S^1/2)^1/2), "
    "(K, L). By POT bures_wasserstein_distance.",
    "gaussians_diagonal": "the same, of diagonal covariances.",
    "barycenter": "argmin over q of sum_k weights[k] OT(q, measures[k]), OT with epsilon times "
    "sum P (log P - 1), not KL(P | q x b). By POT barycenter, method='sinkhorn_log', checked: "
    "sum_k weights[k] f_k is constant.",
    "barycenter_debiased": "argmin over q of sum_k weights[k] S(q, measures[k]), S the Sinkhorn "
    "divergence of the same OT (Janati, Cuturi, Gramfort 2020). By POT barycenter_debiased, checked: "
    "sum_k weights[k] f_k is the potential of q to itself.",
    "gromov": "a stationary P of L(P) + epsilon sum P log P over couplings of a, b, from "
    "P = a x b by projected gradient, where L(P) = sum (C1[i, k] - C2[j, l])^2 P[i, j] P[k, l]; loss "
    "is L(P). By POT entropic_gromov_wasserstein (PGD).",
    "gromov_fused": "the same of (1 - alpha) <P, C> + alpha L(P) + epsilon sum P log P; loss is the "
    "first two terms. By POT entropic_fused_gromov_wasserstein (PGD).",
    "gromov_loss": "L(P) of a given coupling P. By POT gwloss, checked against the sum itself.",
    "joint": "min over T with marginals w0, w1, w2 of <T, C> + epsilon KL(T | w0 x w1 x w2), "
    "C = c01[i, j] + c02[i, k] + c12[j, k]; T = w0 w1 w2 exp((f0 + f1 + f2 - C) / epsilon), f0 and f1 "
    "shifted to mean 0 and f2 by as much the other way. By the iteration in make.py.",
}

tensors, parameters = {}, {}


def add(case, **numbers):
    """Records a case; what is a single number is a parameter or a result in corpus.json too."""
    for name, value in numbers.items():
        value = np.asarray(value)
        assert np.isfinite(value).all() or name.startswith("rho"), f"{case}/{name}"
        kind = np.int64 if value.dtype.kind == "i" and value.ndim > 0 else np.float64
        tensors[f"{case}/{name}"] = np.array(value, dtype=kind, order="C")
        if value.ndim == 0:
            parameters.setdefault(case, {})[name] = float(value)


def close(got, want, tolerance=1e-10):
    error = np.max(np.abs(np.asarray(got) - np.asarray(want)))
    scale = max(1.0, np.max(np.abs(want)))
    assert error <= tolerance * scale, f"off by {error}"


def generator(seed):
    return np.random.default_rng(seed)


def weights(n, seed):
    w = generator(seed).uniform(0.2, 1.0, n)
    return w / w.sum()


def kl(p, q):
    """KL(p | q) of measures, 0 log 0 = 0."""
    some = p > 0
    return np.sum(p[some] * np.log(p[some] / q[some])) - p.sum() + q.sum()


def by_ott(cost, a, b, epsilon, rho_a=np.inf, rho_b=np.inf):
    """A solution by OTT-JAX."""
    tau = [1.0 if np.isinf(rho) else rho / (rho + epsilon) for rho in (rho_a, rho_b)]
    problem = linear_problem.LinearProblem(
        geometry.Geometry(cost_matrix=cost, epsilon=epsilon), a, b, tau_a=tau[0], tau_b=tau[1]
    )
    return sinkhorn.Sinkhorn(threshold=1e-13, max_iterations=200_000)(problem)


def potentials(plan, cost, a, b, epsilon):
    """f and g of a plan, not shifted: f[0] is 0 at the first point with mass."""
    rows, columns = np.flatnonzero(a), np.flatnonzero(b)
    cells = np.ix_(rows, columns)
    both = epsilon * np.log(plan[cells] / np.outer(a, b)[cells]) + cost[cells]
    f, g = np.zeros_like(a), np.zeros_like(b)
    f[rows] = both[:, 0] - both[0, 0]
    g[columns] = both[0]
    close(f[rows, None] + g[columns], both)
    shift = f[rows].mean()
    f[rows] -= shift
    g[columns] += shift
    return f, g


def entropic(cost, a, b, epsilon):
    """A balanced problem by POT."""
    with np.errstate(divide="ignore"):
        plan = ot.bregman.sinkhorn_log(a, b, cost, epsilon, numItermax=300_000, stopThr=1e-14, warn=False)
    close(plan.sum(1), a)
    close(plan.sum(0), b)
    transport = np.sum(plan * cost)
    value = transport + epsilon * kl(plan, np.outer(a, b))
    f, g = potentials(plan, cost, a, b, epsilon)
    close(f @ a + g @ b, value)
    close(by_ott(cost, a, b, epsilon).reg_ot_cost, value, 1e-9)
    return dict(a=a, b=b, epsilon=epsilon, value=value, transport_cost=transport, plan=plan, f=f, g=g)


def dense():
    cases = [(5, 5, 1.0), (7, 4, 0.1), (1, 6, 0.5), (20, 30, 0.05), (40, 40, 0.02)]
    for i, (n, m, epsilon) in enumerate(cases):
        cost = generator(i).uniform(0.0, 1.0, (n, m))
        add(f"dense/{n}x{m}", cost=cost, **entropic(cost, weights(n, 10 + i), weights(m, 20 + i), epsilon))
    cost = generator(30).normal(0.0, 2.0, (8, 9))
    add("dense/negative_costs", cost=cost, **entropic(cost, weights(8, 31), weights(9, 32), 0.3))
    a, b = weights(6, 33), weights(7, 34)
    a[2] = b[0] = b[5] = 0.0
    cost = generator(35).uniform(0.0, 1.0, (6, 7))
    add("dense/weights_of_zero", cost=cost, **entropic(cost, a / a.sum(), b / b.sum(), 0.1))


def points():
    metrics = {
        "squared_euclidean": ("sqeuclidean", {}, 0.5),
        "euclidean": ("euclidean", {}, 0.2),
        "cityblock": ("cityblock", {}, 0.3),
        "minkowski_3": ("minkowski", {"p": 3}, 0.2),
        "cosine": ("cosine", {}, 0.05),
    }
    x, y = generator(40).normal(size=(12, 3)), generator(41).normal(0.5, 1.2, (15, 3))
    for name, (metric, options, epsilon) in metrics.items():
        cost = scipy.spatial.distance.cdist(x, y, metric, **options)
        add(f"points/{name}", x=x, y=y, cost=cost, **entropic(cost, weights(12, 42), weights(15, 43), epsilon))


def relaxed(cost, a, b, epsilon, rho_a, rho_b):
    """An unbalanced problem by POT."""
    plan, log = ot.unbalanced.sinkhorn_unbalanced(
        a, b, cost, epsilon, (rho_a, rho_b), reg_type="kl", numItermax=1_000_000, stopThr=1e-14, log=True
    )
    rows, columns = plan.sum(1), plan.sum(0)
    transport = np.sum(plan * cost)
    value = transport + epsilon * kl(plan, np.outer(a, b))
    dual = epsilon * (a.sum() * b.sum() - plan.sum())
    f, g = epsilon * log["logu"], epsilon * log["logv"]
    for mass, wanted, potential, rho in [(rows, a, f, rho_a), (columns, b, g, rho_b)]:
        if np.isinf(rho):
            close(mass, wanted)
            dual += potential @ wanted
        else:
            # What a potential says of its marginal at the optimum.
            close(mass, wanted * np.exp(-potential / rho))
            value += rho * kl(mass, wanted)
            dual -= rho * np.sum(wanted * np.expm1(-potential / rho))
    close(np.outer(a, b) * np.exp((f[:, None] + g - cost) / epsilon), plan)
    close(dual, value)
    # OTT-JAX 0.6 solves with the entropy sum P (log P - 1) when marginals are relaxed, which weighs cells
    # alike; costs less epsilon log(a b) make it KL(P | a x b).
    close(by_ott(cost - epsilon * np.log(np.outer(a, b)), a, b, epsilon, rho_a, rho_b).matrix, plan, 1e-9)
    return dict(
        cost=cost, a=a, b=b, epsilon=epsilon, rho_a=rho_a, rho_b=rho_b,
        value=value, transport_cost=transport, plan=plan, f=f, g=g,
    )


def unbalanced():
    cost = generator(50).uniform(0.0, 1.0, (9, 11))
    a, b = 1.5 * weights(9, 51), 0.8 * weights(11, 52)
    for name, rho_a, rho_b in [
        ("same", 0.7, 0.7),
        ("differing", 0.2, 3.0),
        ("weak", 0.05, 0.05),
        ("semi_relaxed", np.inf, 0.5),
    ]:
        add(f"unbalanced/{name}", **relaxed(cost, a, b, 0.1, rho_a, rho_b))


def divergence():
    x, y = generator(60).normal(size=(10, 2)), generator(61).normal(0.7, 0.8, (13, 2))
    square = lambda x, y: scipy.spatial.distance.cdist(x, y, "sqeuclidean")
    for name, mass, rho, epsilon in [("balanced", 1.0, np.inf, 0.3), ("unbalanced", 1.4, 0.9, 0.3)]:
        a, b = mass * weights(10, 62), weights(13, 63)
        of = entropic if np.isinf(rho) else lambda *problem: relaxed(*problem, rho, rho)
        term = lambda x1, x2, a1, a2: of(square(x1, x2), a1, a2, epsilon)["value"]
        value = term(x, y, a, b) - (term(x, x, a, a) + term(y, y, b, b)) / 2
        value += epsilon * (a.sum() - b.sum()) ** 2 / 2
        if np.isinf(rho):
            options = dict(threshold=1e-13, max_iterations=100_000)
            by_ott, _ = sinkhorn_divergence.sinkhorn_divergence(
                pointcloud.PointCloud, x, y, a=a, b=b, epsilon=epsilon,
                cost_fn=costs.SqEuclidean(), solve_kwargs=options,
            )
            close(by_ott, value, 1e-9)
        add(f"divergence/{name}", x=x, y=y, a=a, b=b, epsilon=epsilon, rho=rho, value=value)


def exact():
    for i, (n, m) in enumerate([(6, 6), (5, 8), (40, 30)]):
        cost, a, b = generator(70 + i).uniform(0.0, 1.0, (n, m)), weights(n, 73 + i), weights(m, 76 + i)
        plan, log = ot.emd(a, b, cost, log=True)
        close(plan.sum(1), a)
        close(plan.sum(0), b)
        assert np.min(cost - log["u"][:, None] - log["v"]) > -1e-12
        close(log["u"] @ a + log["v"] @ b, log["cost"])
        add(f"exact/{n}x{m}", cost=cost, a=a, b=b, value=log["cost"], plan=plan)
    for i, n in enumerate([7, 50]):
        cost = generator(80 + i).uniform(0.0, 1.0, (n, n))
        rows, columns = scipy.optimize.linear_sum_assignment(cost)
        add(f"assignment/{n}", cost=cost, value=cost[rows, columns].sum(), columns=columns)


def line():
    x, y = generator(90).normal(size=10), generator(91).normal(0.5, 2.0, 13)
    a, b = weights(10, 92), weights(13, 93)
    for p in [1, 2, 3]:
        value = ot.wasserstein_1d(x, y, a, b, p=p)
        close(ot.emd2(a, b, np.abs(x[:, None] - y) ** p), value)
        add(f"line/order_{p}", x=x, y=y, a=a, b=b, p=p, value=value)
    close(scipy.stats.wasserstein_distance(x, y, a, b), tensors["line/order_1/value"])


def gaussians():
    rng = generator(100)
    mean, mean2 = rng.normal(size=(3, 4)), rng.normal(size=(2, 4))
    factors, factors2 = rng.normal(size=(3, 4, 4)), rng.normal(size=(2, 4, 4))
    covariance, covariance2 = factors @ factors.mT + 0.1 * np.eye(4), factors2 @ factors2.mT + 0.1 * np.eye(4)
    distance = ot.gaussian.bures_wasserstein_distance(mean, mean2, covariance, covariance2)
    add("gaussians/0", mean=mean, covariance=covariance, mean2=mean2, covariance2=covariance2, squared=distance**2)
    variance, variance2 = rng.uniform(0.5, 2.0, (3, 4)), rng.uniform(0.5, 2.0, (2, 4))
    full = [np.stack([np.diag(row) for row in v]) for v in (variance, variance2)]
    distance = ot.gaussian.bures_wasserstein_distance(mean, mean2, *full)
    add("gaussians_diagonal/0", mean=mean, variance=variance, mean2=mean2, variance2=variance2, squared=distance**2)


def barycenters():
    shares = np.array([0.2, 0.3, 0.5])

    def problem(n, epsilon, bumps):
        """Measures on a line, one a list of (center, width)."""
        grid = np.linspace(0.0, 1.0, n)
        bump = lambda center, width: np.exp(-((grid - center) ** 2) / (2 * width**2))
        measures = np.stack([sum(bump(*one) for one in bumps) + 1e-3 for bumps in bumps])
        measures /= measures.sum(1, keepdims=True)
        return dict(cost=(grid[:, None] - grid) ** 2, measures=measures, weights=shares, epsilon=epsilon)

    def potential(q, cost, measures, weights, epsilon):
        """sum_k weights[k] log u_k of P_k = u_k K v_k."""
        options = dict(numItermax=100_000, stopThr=1e-14, warn=False, log=True)
        solved = [ot.bregman.sinkhorn_log(q, b, cost, epsilon, **options) for b in measures]
        for (plan, _), b in zip(solved, measures):
            close(plan.sum(1), q)
            close(plan.sum(0), b)
        return weights @ np.stack([log["log_u"] for _, log in solved])

    constant = lambda x: close(x - x.mean(), 0 * x, 1e-9)
    options = dict(weights=shares, numItermax=200_000, stopThr=1e-14, warn=False)
    inputs = problem(25, 0.02, [[(0.2, 0.08)], [(0.5, 0.05), (0.9, 0.05)], [(0.75, 0.1)]])
    # Its method "sinkhorn" starts from the unweighted mean, which it never forgets: only equal weights
    # are right.
    q = ot.bregman.barycenter(inputs["measures"].T, inputs["cost"], 0.02, method="sinkhorn_log", **options)
    constant(potential(q, **inputs))
    add("barycenter/line", **inputs, barycenter=q)

    # Wide measures: a debiased barycenter has points without mass else, at which it arrives slowly.
    inputs = problem(15, 0.005, [[(0.4, 0.2)], [(0.5, 0.18)], [(0.6, 0.22)]])
    q = ot.bregman.barycenter_debiased(inputs["measures"].T, inputs["cost"], 0.005, **options)
    kernel, d = np.exp(-inputs["cost"] / 0.005), np.ones(15)
    for _ in range(10_000):
        d = np.sqrt(d * q / (kernel @ d))
    constant(potential(q, **inputs) - np.log(d))
    add("barycenter_debiased/line", **inputs, barycenter=q)


def gromov():
    x, y = generator(110).uniform(size=(8, 2)), generator(111).uniform(size=(10, 3))
    c1, c2 = (scipy.spatial.distance.cdist(x, x), scipy.spatial.distance.cdist(y, y))
    cost = generator(112).uniform(0.0, 1.0, (8, 10))
    a, b = weights(8, 113), weights(10, 114)
    differences = (c1[:, None, :, None] - c2[None, :, None, :]) ** 2
    quadratic = lambda p: np.einsum("ijkl,ij,kl->", differences, p, p)
    options = dict(max_iter=100_000, tol=1e-14, solver="PGD", symmetric=True, numItermax=100_000, stopThr=1e-14)

    def check(plan, linear, alpha):
        """Stationary: the plan of transport with the gradient as costs."""
        close(plan.sum(1), a)
        close(plan.sum(0), b)
        slope = linear + 2 * alpha * np.einsum("ijkl,kl->ij", differences, plan)
        again = ot.bregman.sinkhorn_log(a, b, slope, epsilon, numItermax=100_000, stopThr=1e-14, warn=False)
        close(again, plan, 1e-11)

    epsilon = 0.05
    plan = ot.gromov.entropic_gromov_wasserstein(c1, c2, a, b, "square_loss", epsilon, **options)
    check(plan, 0.0, 1.0)
    inputs = dict(c1=c1, c2=c2, a=a, b=b)
    add("gromov/points", **inputs, epsilon=epsilon, plan=plan, loss=quadratic(plan))
    alpha = 0.6
    fused = ot.gromov.entropic_fused_gromov_wasserstein(
        cost, c1, c2, a, b, "square_loss", epsilon, alpha=alpha, **options
    )
    check(fused, (1 - alpha) * cost, alpha)
    loss = (1 - alpha) * np.sum(fused * cost) + alpha * quadratic(fused)
    add("gromov_fused/points", **inputs, cost=cost, epsilon=epsilon, alpha=alpha, plan=fused, loss=loss)
    terms = ot.gromov.init_matrix(c1, c2, a, b, "square_loss")
    for name, given in [("independent", np.outer(a, b)), ("exact", ot.emd(a, b, cost))]:
        loss = ot.gromov.gwloss(*terms, given)
        close(loss, quadratic(given))
        add(f"gromov_loss/{name}", **inputs, plan=given, loss=loss)


def joint():
    sizes, epsilon = (4, 5, 6), 0.3
    w = [weights(k, 120 + k) for k in sizes]
    rng = generator(130)
    c01, c02, c12 = rng.uniform(size=(4, 5)), rng.uniform(size=(4, 6)), rng.uniform(size=(5, 6))
    cost = c01[:, :, None] + c02[:, None, :] + c12[None, :, :]
    along = [x.reshape([-1 if i == m else 1 for i in range(3)]) for m, x in enumerate(w)]
    f = [np.zeros_like(x) for x in along]
    reference = along[0] * along[1] * along[2]
    exponents = lambda: (f[0] + f[1] + f[2] - cost) / epsilon
    for _ in range(2000):
        for m in range(3):
            others = tuple(i for i in range(3) if i != m)
            e = exponents() + np.log(reference / along[m])
            largest = e.max(others, keepdims=True)
            f[m] = f[m] - epsilon * (np.log(np.exp(e - largest).sum(others, keepdims=True)) + largest)
    plan = reference * np.exp(exponents())
    for m in range(3):
        close(plan.sum(tuple(i for i in range(3) if i != m)), w[m], 1e-14)
    transport = np.sum(plan * cost)
    value = transport + epsilon * kl(plan, reference)
    f = [x.ravel() for x in f]
    for m in range(2):
        shift = f[m].mean()
        f[m] = f[m] - shift
        f[2] = f[2] + shift
    close(sum(x @ y for x, y in zip(f, w)), value)
    add(
        "joint/4x5x6", w0=w[0], w1=w[1], w2=w[2], c01=c01, c02=c02, c12=c12, epsilon=epsilon,
        value=value, transport_cost=transport, plan=plan, f0=f[0], f1=f[1], f2=f[2],
    )


def main():
    for family in [dense, points, unbalanced, divergence, exact, line, gaussians, barycenters, gromov, joint]:
        family()
    here = Path(__file__).parent
    save_file(tensors, here / "corpus.safetensors")
    peers = ["POT", "ott-jax", "jax", "numpy", "scipy"]
    described = {
        "peers": {name: version(name) for name in peers},
        "families": FAMILIES,
        "cases": {name.rsplit("/", 1)[0]: {} for name in tensors} | parameters,
    }
    # Python would write Infinity, which is not JSON.
    finite = lambda v: v if np.isfinite(v) else "infinite"
    described["cases"] = {c: {k: finite(v) for k, v in p.items()} for c, p in described["cases"].items()}
    (here / "corpus.json").write_text(json.dumps(described, indent=1) + "\n")
    print(f"{len(described['cases'])} cases, {(here / 'corpus.safetensors').stat().st_size} bytes")


if __name__ == "__main__":
    main()
