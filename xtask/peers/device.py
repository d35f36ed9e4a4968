"""PyTorch on a CUDA device, beside which `cargo xtask device-suite` times kernels: `device.py step|attention|transport|mmd|keops ...`."""

import math
import sys

import torch
from torch.nn import functional as F

import layers
from measure import show

DEVICE = "cuda"


def median(run, seconds=2.0):
    """The median of runs timed by events, in seconds, after a warm-up."""
    for _ in range(3):
        run()
    torch.cuda.synchronize()
    times, total = [], 0.0
    while len(times) < 5 or total < seconds:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        run()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end) / 1e3)
        total += times[-1]
    return sorted(times)[len(times) // 2]


def step():
    for preset, s in layers.PRESETS.items():
        torch.manual_seed(1)
        model = layers.Model(s).to(DEVICE)
        adam = torch.optim.Adam(model.parameters(), lr=1e-6, weight_decay=0.005)
        xs = [torch.randn(s["batch"], t, w, device=DEVICE) for t, w in zip(s["steps"], s["widths"])]
        classes = torch.arange(s["batch"], device=DEVICE) % s["out"]
        labels = classes if s["out"] > 1 else torch.randn(s["batch"], 1, device=DEVICE)

        def train():
            adam.zero_grad(set_to_none=True)
            y, losses = model(xs)
            task = F.cross_entropy(y, labels) if s["out"] > 1 else F.mse_loss(y, labels)
            loss = task + losses
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 0.6)
            adam.step()
            return loss.item()

        show(f"{preset} step", median(train))


def attention():
    cases = [(32, 50, 100, 64, 8, torch.float32), (128, 50, 100, 64, 8, torch.float32), (24, 400, 94, 32, 8, torch.float32)]
    cases += [(4, 4096, 4096, 512, 8, torch.bfloat16), (4, 4096, 4096, 512, 8, torch.float32)]
    for b, l, s, d, h, dtype in cases:
        split = lambda x, n: x.view(b, n, h, d // h).transpose(1, 2)
        q, k, v = (torch.randn(b, n, d, device=DEVICE, dtype=dtype, requires_grad=True) for n in (l, s, s))
        ones = torch.ones(b, l, d, device=DEVICE, dtype=dtype)

        def forward():
            return F.scaled_dot_product_attention(split(q, l), split(k, s), split(v, s)).transpose(1, 2).reshape(b, l, d)

        def both():
            torch.autograd.grad(forward(), (q, k, v), ones)

        name = f"attention B {b}, L {l}, S {s}, d {d}, {h} heads, {str(dtype)[6:]}"
        show(f"{name}: both", median(both, 1.0))


def transport():
    """10,000 problems of 32 x 32 to 1e-5, the error looked at every 10 sweeps."""
    torch.manual_seed(0)
    cost = torch.rand(10_000, 32, 32, device=DEVICE) / 0.1
    logs = -math.log(32)

    def batched():
        f = torch.zeros(10_000, 32, device=DEVICE)
        g = torch.zeros_like(f)
        for sweep in range(1, 10_000):
            f = logs - torch.logsumexp(g[:, None, :] - cost, 2)
            g = logs - torch.logsumexp(f[:, :, None] - cost, 1)
            if sweep % 10 == 0:
                row = torch.logsumexp(f[:, :, None] + g[:, None, :] - cost, 2).exp()
                if (row - 1 / 32).abs().sum(1).max() < 1e-5:
                    break
        return sweep

    show("transport sweeps", batched())
    show("transport 10000 of 32 x 32", median(batched))
    for n in (10_000, 50_000):
        x, y = torch.randn(n, 64, device=DEVICE), torch.randn(n, 64, device=DEVICE)
        f, g = torch.zeros(n, device=DEVICE), torch.zeros(n, device=DEVICE)

        def soft(x, y, g, epsilon=64.0):
            norms = (y * y).sum(1)
            parts = []
            for rows in x.split(4096):
                far = (rows * rows).sum(1, keepdim=True) + norms - 2 * rows @ y.t()
                parts.append(-epsilon * torch.logsumexp((g - far) / epsilon - math.log(n), 1))
            return torch.cat(parts)

        def lazy():
            nonlocal f, g
            for _ in range(10):
                f = soft(x, y, g)
                g = soft(y, x, f)

        show(f"transport of {n} points, 10 iterations", median(lazy, 0.5))


def keops():
    """Transport without a cost matrix, and kernel sums, by KeOps where it is installed."""
    try:
        from pykeops.torch import LazyTensor
    except ImportError:
        return
    for n in (10_000, 50_000):
        x, y = torch.randn(n, 64, device=DEVICE), torch.randn(n, 64, device=DEVICE)
        f, g = torch.zeros(n, 1, device=DEVICE), torch.zeros(n, 1, device=DEVICE)

        def soft(x, y, g, epsilon=64.0):
            logs = g / epsilon - (y * y).sum(1, keepdim=True) / epsilon - math.log(n)
            inner = (LazyTensor(x[:, None, :] * (2.0 / epsilon)) * LazyTensor(y[None, :, :])).sum(-1)
            return (x * x).sum(1, keepdim=True) - epsilon * (inner + LazyTensor(logs[None, :, :])).logsumexp(1)

        def lazy():
            nonlocal f, g
            for _ in range(10):
                f = soft(x, y, g)
                g = soft(y, x, f)

        show(f"KeOps, transport of {n} points, 10 iterations", median(lazy, 0.5))
    n = 100_000
    x = torch.randn(n, 64, device=DEVICE, requires_grad=True)
    y = torch.randn(n, 64, device=DEVICE, requires_grad=True)

    def total(a, b):
        return (-((LazyTensor(a[:, None, :]) - LazyTensor(b[None, :, :])) ** 2).sum(-1) / 128.0).exp().sum(1).sum()

    def forward():
        with torch.no_grad():
            return total(x, x) + total(y, y) - 2 * total(x, y)

    def both():
        torch.autograd.grad(total(x, x) + total(y, y) - 2 * total(x, y), (x, y))

    show("KeOps, mmd of 100000 points", median(forward, 0.5))
    show("KeOps, mmd of 100000 points, with gradients", median(both, 0.5))


def mmd():
    n = 100_000
    x = torch.randn(n, 64, device=DEVICE, requires_grad=True)
    y = torch.randn(n, 64, device=DEVICE, requires_grad=True)

    def total(a, b, grad):
        """The sum over all pairs, a block of rows at a time; gradients add up block by block."""
        value = 0.0
        for rows in a.split(4096):
            far = (rows * rows).sum(1, keepdim=True) + (b * b).sum(1) - 2 * rows @ b.t()
            part = (far / -128.0).exp().sum()
            if grad:
                part.backward()
            value += part.detach()
        return value

    def forward():
        with torch.no_grad():
            return total(x, x, False) + total(y, y, False) - 2 * total(x, y, False)

    def both():
        return total(x, x, True) + total(y, y, True) - 2 * total(x, y, True)

    show("mmd of 100000 points", median(forward, 0.5))
    show("mmd of 100000 points, with gradients", median(both, 0.5))


if __name__ == "__main__":
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    print(torch.cuda.get_device_name(), torch.__version__, file=sys.stderr)
    for part in sys.argv[1:]:
        globals()[part]()
