"""Losses of small fixed parts by the definitions of their papers, in NumPy: prints what tests hold.

Run: python make.py   (NumPy and nothing else)
"""

import numpy as np


def sample(n, d, a, b, c):
    i, j = np.meshgrid(np.arange(n), np.arange(d), indexing="ij")
    return np.sin(a * i + b * j + c)


def cosines(x, y):
    return (x * y).sum(1) / np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1)


def misa_difference(x, y):
    """MISA's DiffLoss, but for its 1e-6 beside the norm."""
    x, y = x - x.mean(0), y - y.mean(0)
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    y = y / np.linalg.norm(y, axis=1, keepdims=True)
    return ((x.T @ y) ** 2).mean()


def misa_moments(x, y, order):
    """MISA's CMD."""
    total = np.linalg.norm(x.mean(0) - y.mean(0))
    x, y = x - x.mean(0), y - y.mean(0)
    for k in range(2, order + 1):
        total += np.linalg.norm((x**k).mean(0) - (y**k).mean(0))
    return total


def correlations(x, y):
    d = x.shape[1]
    return np.corrcoef(x, y, rowvar=False)[:d, d:]


def barlow(x, y, weight):
    """The paper's sum over columns."""
    c = correlations(x, y)
    off = c - np.diag(np.diag(c))
    return ((1 - np.diag(c)) ** 2).sum() + weight * (off**2).sum()


def gaussian(x, length):
    squares = ((x[:, None, :] - x[None, :, :]) ** 2).sum(-1)
    if length is None:
        length = np.median(np.sqrt(squares[np.triu_indices(len(x), 1)]))
    return np.exp(-squares / (2 * length**2))


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


def club(y, mean, log_variance):
    """CLUB's release: positive and negative pairs, j = i among them."""
    positive = -((y - mean) ** 2) / 2 / np.exp(log_variance)
    apart = (y[None] - mean[:, None]) ** 2
    negative = -apart.mean(1) / 2 / np.exp(log_variance)
    return (positive.sum(1) - negative.sum(1)).mean()


def press(x, y, penalty):
    """R^2 of samples left out one by one, refitted each time."""
    x = (x - x.mean(0)) / x.std(0)
    y = (y - y.mean(0)) / y.std(0)
    n, d = x.shape
    error = total = 0.0
    for i in range(n):
        rest = np.arange(n) != i
        mx, my = x[rest].mean(0), y[rest].mean(0)
        a, b = x[rest] - mx, y[rest] - my
        w = np.linalg.solve(a.T @ a + penalty * n * np.eye(d), a.T @ b)
        error += ((y[i] - my - (x[i] - mx) @ w) ** 2).sum()
        total += ((y[i] - my) ** 2).sum()
    return 1 - error / total


a, b = sample(9, 3, 1.7, 2.3, 0.5), 0.4 + 1.3 * sample(9, 3, 1.1, 0.7, 0.2)
print("cosine squared", float((cosines(a, b) ** 2).mean()))
print("margin", float(np.maximum(0, abs(cosines(a, b)) - 0.3).mean()))
print("margin, one side", float(np.maximum(0, cosines(a, b) - 0.3).mean()))
print("misa difference", float(misa_difference(a, b)))
print("misa moments", float(misa_moments(a, b, 5)))
print("cross-correlation", float((correlations(a, b) ** 2).mean()))
print("barlow", float(barlow(a, b, 0.005)))
k, l = gaussian(a, 0.8), gaussian(b, 0.8)
print("hsic", float(hsic_biased(k, l)), float(hsic_unbiased(k, l)))
print("normalised", float(hsic_biased(k, l) / np.sqrt(hsic_biased(k, k) * hsic_biased(l, l))))
# 7 points make 21 pairs, so the median is one of the distances.
k, l = gaussian(a[:7], None), gaussian(b[:7], None)
print("median", float(hsic_biased(k, l)))
print("club", float(club(a, b, 0.5 * a * b)))
print("press", float(press(a, b, 0.1)), float(press(a[:4], b[:4], 0.01)))
wide = sample(8, 12, 1.7, 2.3, 0.5)
print("press, wide", float(press(wide, b[:8], 0.1)))
