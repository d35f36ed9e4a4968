"""The layers of `cargo xtask peers step` in torch.nn: `layers.py PRESET` a training step, `layers.py attention`."""

import itertools
import math
import sys

import torch
from torch import nn
from torch.nn import functional as F

from measure import least_within, show


def status(key):
    """A line of /proc/self/status, in bytes."""
    for line in open("/proc/self/status"):
        if line.startswith(key):
            return int(line.split()[1]) * 1024


# Width, heads, layers, kernel sizes, prototypes, batch, outputs; feature widths and sequence lengths of the
# modalities.
PRESETS = {
    "mosi": dict(d=64, heads=8, layers=5, kernels=(1, 1, 1), k=7, batch=32, out=1, widths=(768, 5, 20), steps=(50, 50, 50)),
    "mosei": dict(d=64, heads=8, layers=4, kernels=(5, 5, 5), k=7, batch=128, out=1, widths=(768, 74, 35), steps=(50, 50, 50)),
    "sims": dict(d=32, heads=8, layers=4, kernels=(5, 5, 5), k=7, batch=24, out=1, widths=(768, 33, 709), steps=(39, 400, 55)),
    "iemocap": dict(d=48, heads=4, layers=4, kernels=(1, 1, 1), k=6, batch=32, out=6, widths=(1024, 512, 1024), steps=(1, 1, 1)),
}


class Layer(nn.Module):
    """Attention to a context, then a feed-forward network, post-norm."""

    def __init__(self, d, heads, p):
        super().__init__()
        self.attention = nn.MultiheadAttention(d, heads, dropout=p, batch_first=True)
        self.norms = nn.ModuleList([nn.LayerNorm(d), nn.LayerNorm(d)])
        self.wide, self.narrow = nn.Linear(d, 4 * d), nn.Linear(4 * d, d)
        self.dropout = nn.Dropout(p)

    def forward(self, x, keys, values):
        seen, _ = self.attention(x, keys, values, need_weights=False)
        x = self.norms[0](x + self.dropout(seen))
        hidden = self.dropout(F.relu(self.wide(x)))
        return self.norms[1](x + self.dropout(self.narrow(hidden)))


class Encoder(nn.Module):
    def __init__(self, d, heads, layers, p):
        super().__init__()
        self.layers = nn.ModuleList([Layer(d, heads, p) for _ in range(layers)])
        self.scale, self.dropout = math.sqrt(d), nn.Dropout(p)

    def forward(self, x, context):
        x, context = self.dropout(x * self.scale), context * self.scale
        keys, values = self.dropout(context), self.dropout(context)
        for layer in self.layers:
            x = layer(x, keys, values)
        return x


def mixture(x, k, steps=5, floor=1e-4):
    """Five steps of EM of a diagonal mixture: means, variances, posteriors."""
    n, d = x.shape
    mu = x[torch.linspace(0, n - 1, k).round().long()]
    var = x.var(0, unbiased=False).clamp_min(floor).expand(k, d)
    pi = x.new_full((k,), 1 / k)

    def posterior():
        far = ((x[:, None] - mu) ** 2 / var).sum(-1)
        logs = pi.clamp_min(1e-8).log() - 0.5 * (far + var.log().sum(-1) + d * math.log(2 * math.pi))
        return logs.softmax(-1)

    for _ in range(steps):
        gamma = posterior()
        mass = gamma.sum(0).clamp_min(1e-6)
        pi, mu = mass / n, gamma.t() @ x / mass[:, None]
        var = (gamma.t() @ x**2 / mass[:, None] - mu**2).clamp_min(floor)
    return mu, var, posterior()


def heterogeneous(parts, k, epsilon=0.1, sweeps=50):
    fits = [mixture(x, k) for x in parts]
    mass = [g.mean(0) / g.mean(0).sum() for _, _, g in fits]
    pair = lambda a, b: (
        ((a[0][:, None] - b[0]) ** 2).mean(-1)
        + (a[1][:, None] + b[1] - 2 * (a[1][:, None] * b[1] + 1e-8).sqrt()).mean(-1)
    )
    cost = pair(fits[0], fits[1])[:, :, None] + pair(fits[0], fits[2])[:, None, :] + pair(fits[1], fits[2])[None]
    kernel = (-cost / epsilon).exp().clamp_min(1e-30)
    scales = [torch.ones_like(m) for m in mass]
    ways = ["ijl,j,l->i", "ijl,i,l->j", "ijl,i,j->l"]
    for _ in range(sweeps):
        for m in range(3):
            others = [scales[o] for o in range(3) if o != m]
            scales[m] = mass[m] / (torch.einsum(ways[m], kernel, *others) + 1e-8)
    plan = torch.einsum("ijl,i,j,l->ijl", kernel, *scales)
    transport = (plan * cost).sum() + epsilon * (plan * (plan.clamp_min(1e-8).log() - 1)).sum()
    local = [
        (fits[a][2] * ((parts[a][:, None] - fits[b][0]) ** 2).mean(-1)).sum(-1).mean()
        for a, b in itertools.permutations(range(3), 2)
    ]
    return transport + sum(local) / len(local)


def homogeneous(parts):
    def moments(z):
        centred = z - z.mean(0)
        covariance = centred.t() @ centred / max(len(z) - 1, 1)
        skewness = (centred**3).mean(0) / (centred**2).mean(0).clamp_min(1e-6) ** 1.5
        return z.mean(0), covariance, skewness

    kernel = lambda a, b: (-torch.cdist(a, b).pow(2) / 2).exp().mean()
    total = 0
    for a, b in itertools.combinations(parts, 2):
        total = total + sum(F.mse_loss(x, y) for x, y in zip(moments(a), moments(b)))
        total = total + kernel(a, a) + kernel(b, b) - 2 * kernel(a, b)
    return total / 3


class Model(nn.Module):
    def __init__(self, s, p=0.1):
        super().__init__()
        d = s["d"]
        sizes = list(zip(s["widths"], s["kernels"]))
        self.k = s["k"]
        self.project = nn.ModuleList([nn.Conv1d(w, d, k, bias=False) for w, k in sizes])
        self.unique = nn.ModuleList([nn.Conv1d(d, d, 1, bias=False) for _ in sizes])
        self.common = nn.Conv1d(d, d, 1, bias=False)
        self.distribution = nn.ModuleList(
            [nn.Sequential(nn.Linear(d, d), nn.ReLU(), nn.Dropout(p), nn.Linear(d, d)) for _ in sizes]
        )
        self.encoders = nn.ModuleList([Encoder(d, s["heads"], s["layers"], p) for _ in sizes])
        self.head, self.dropout = nn.Linear(6 * d, s["out"]), nn.Dropout(p)

    def forward(self, xs, align=True):
        xs = [project(x.transpose(1, 2)) for project, x in zip(self.project, xs)]
        unique, common = [u(x) for u, x in zip(self.unique, xs)], [self.common(x) for x in xs]
        losses = 0
        if align:
            cosine = [F.cosine_similarity(u.flatten(1), c.flatten(1)).pow(2).mean() for u, c in zip(unique, common)]
            latent = [e(c.mean(-1)) for e, c in zip(self.distribution, common)]
            losses = sum(cosine) / 3 + 0.05 * heterogeneous([u.mean(-1) for u in unique], self.k) + 0.05 * homogeneous(latent)
        unique = [u.transpose(1, 2) for u in unique]
        seen = []
        for m, encoder in enumerate(self.encoders):
            context = torch.cat([u for o, u in enumerate(unique) if o != m], 1)
            seen.append(encoder(unique[m], context).mean(1))
        final = torch.cat(seen + [c.mean(-1) for c in common], 1)
        return self.head(self.dropout(final)), losses


def step(preset):
    s = PRESETS[preset]
    torch.manual_seed(1)
    before = status("VmRSS:")
    model = Model(s)
    adam = torch.optim.Adam(model.parameters(), lr=1e-6, weight_decay=0.005)
    xs = [torch.randn(s["batch"], t, w) for t, w in zip(s["steps"], s["widths"])]
    labels = torch.arange(s["batch"]) % s["out"] if s["out"] > 1 else torch.randn(s["batch"], 1)

    def train():
        adam.zero_grad(set_to_none=True)
        y, losses = model(xs)
        task = F.cross_entropy(y, labels) if s["out"] > 1 else F.mse_loss(y, labels)
        (task + losses).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.6)
        adam.step()

    def evaluate():
        with torch.inference_mode():
            model(xs, align=False)

    show(f"{preset} step", least_within(4, train))
    show(f"{preset} memory", status("VmHWM:") - before)
    model.eval()
    show(f"{preset} evaluation", least_within(2, evaluate))


def attention():
    cases = [(32, 50, 100, 64, 8), (32, 50, 100, 64, 4)] + [(8, 1024, 1024, 64, h) for h in (1, 2, 4, 8)]
    for b, l, s, d, h in cases:
        name = f"attention B {b}, L {l}, S {s}, d {d}, {h} heads"
        split = lambda x, n: x.view(b, n, h, d // h).transpose(1, 2)
        q, k, v = (torch.randn(b, n, d, requires_grad=True) for n in (l, s, s))
        ones = torch.ones(b, l, d)

        def forward():
            return F.scaled_dot_product_attention(split(q, l), split(k, s), split(v, s)).transpose(1, 2).reshape(b, l, d)

        def both():
            torch.autograd.grad(forward(), (q, k, v), ones)

        with torch.no_grad():
            show(f"{name}: forward", least_within(1, forward))
        show(f"{name}: both", least_within(1, both))


if __name__ == "__main__":
    torch.set_num_threads(2)
    attention() if sys.argv[1] == "attention" else step(sys.argv[1])
