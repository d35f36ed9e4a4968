"""Statistics of small fixed samples by their definitions, in NumPy: prints what tests hold.

Run: python make.py   (NumPy and nothing else)
"""

import numpy as np


def sample(n, d, a, b, c):
    i, j = np.meshgrid(np.arange(n), np.arange(d), indexing="ij")
    return np.sin(a * i + b * j + c)


def squared(p, q):
    return ((p[:, None, :] - q[None, :, :]) ** 2).sum(-1)


def gaussian(p, q, length):
    return np.exp(-squared(p, q) / (2 * length**2))


def laplace(p, q, length):
    return np.exp(-np.abs(p[:, None, :] - q[None, :, :]).sum(-1) / length)


def biased(k, n):
    return k[:n, :n].mean() + k[n:, n:].mean() - 2 * k[:n, n:].mean()


def unbiased(k, n):
    m = len(k) - n
    off = k - np.diag(np.diag(k))
    within = off[:n, :n].sum() / (n * (n - 1)) + off[n:, n:].sum() / (m * (m - 1))
    return within - 2 * k[:n, n:].mean()


def paired(k, n):
    """The U-statistic of pairs (x_i, y_i)."""
    h = k[:n, :n] + k[n:, n:] - k[:n, n:] - k[n:, :n]
    return (h.sum() - np.trace(h)) / (n * (n - 1))


def fused(kernels, n, sharpness):
    m = len(kernels[0]) - n
    pairs = min(n, m) * (min(n, m) - 1)
    rate = sharpness * np.sqrt(pairs)
    each = []
    for k in kernels:
        off = k - np.diag(np.diag(k))
        each.append(unbiased(k, n) / np.sqrt((off**2).sum() / pairs))
    return np.log(np.mean(np.exp(rate * np.array(each)))) / rate


def hsic_biased(k, l):
    n = len(k)
    h = np.eye(n) - 1 / n
    return np.trace(k @ h @ l @ h) / n**2


def hsic_unbiased(k, l):
    """Song and others (2012), equation 5."""
    n = len(k)
    k, l = k - np.diag(np.diag(k)), l - np.diag(np.diag(l))
    sums = k.sum() * l.sum() / ((n - 1) * (n - 2))
    cross = 2 * (k.sum(0) @ l.sum(0)) / (n - 2)
    return (np.trace(k @ l) + sums - cross) / (n * (n - 3))


x, y = sample(9, 2, 1.7, 2.3, 0.5), 0.4 + 1.3 * sample(7, 2, 1.1, 0.7, 0.2)
z = np.concatenate([x, y])
kernels = [gaussian(z, z, 0.8), gaussian(z, z, 2.0), laplace(z, z, 1.5)]
print("biased", float(biased(kernels[0], 9)))
print("unbiased", float(unbiased(kernels[0], 9)))
print("energy", float(biased(-np.sqrt(squared(z, z)), 9)))
z = np.concatenate([x[:7], y])
print("paired", float(paired(gaussian(z, z, 0.8), 7)))
print("fused", float(fused(kernels, 9, 1.0)), float(fused(kernels, 9, 2.0)))

w = x[:, :1] ** 2 + 0.3 * sample(9, 1, 0.9, 0.0, 1.0)
k, l = gaussian(x, x, 0.8), laplace(w, w, 0.5)
print("hsic", float(hsic_biased(k, l)), float(hsic_unbiased(k, l)))
k, l = np.sqrt(squared(x, x)), np.sqrt(squared(w, w))
print("distance covariance", float(hsic_biased(k, l)), float(hsic_unbiased(k, l)))
