"""PyTorch and scikit-learn counterparts of `decalign baselines`: equal networks, settings and split.

    python baselines.py mfeat.safetensors fou,kar,zer
    python baselines.py mosi_utterance.safetensors text_cnn,audio,vision_c3d --split split_bc --loss mse

Needs torch, scikit-learn and safetensors. Prints mean and sample deviation over seeds 1 to 5.
"""

import argparse
import itertools
import math

import numpy as np
import torch
from safetensors.numpy import load_file
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifier
from sklearn.metrics import f1_score
from torch import nn
from torch.nn import functional as F

WIDTH, HEADS, LAYERS, RANK, DROPOUT = 48, 4, 2, 4, 0.2
RATE, DECAY, CLIP, BATCH, EPOCHS, PATIENCE = 1e-3, 1e-4, 1.0, 32, 50, 10


class Encoder(nn.Module):
    """Post-norm layers; input and context are multiplied by sqrt(d), keys and values dropped apart."""

    def __init__(self, width, layers, embed):
        super().__init__()
        self.width, self.embed = width, embed
        self.layers = nn.ModuleList()
        for _ in range(layers):
            layer = nn.ModuleDict(dict(
                attention=nn.MultiheadAttention(width, HEADS, DROPOUT, batch_first=True),
                expand=nn.Linear(width, 4 * width), contract=nn.Linear(4 * width, width),
                first=nn.LayerNorm(width), second=nn.LayerNorm(width)))
            self.layers.append(layer)

    def forward(self, x, context=None):
        scale, drop = math.sqrt(self.width), lambda v, p: F.dropout(v, p, self.training)
        x = drop(x * scale, self.embed)
        if context is not None:
            keys, values = (drop(context * scale, self.embed) for _ in range(2))
        for layer in self.layers:
            k, v = (x, x) if context is None else (keys, values)
            seen, _ = layer["attention"](x, k, v, need_weights=False)
            x = layer["first"](x + drop(seen, DROPOUT))
            hidden = drop(F.relu(layer["expand"](x)), DROPOUT)
            x = layer["second"](x + drop(layer["contract"](hidden), DROPOUT))
        return x


class EarlyLinear(nn.Module):
    def __init__(self, widths, outputs):
        super().__init__()
        self.head = nn.Linear(sum(widths), outputs)

    def forward(self, xs):
        return [self.head(torch.cat(xs, 1))], 0


def perceptron(inputs, outputs):
    return nn.Sequential(nn.Linear(inputs, WIDTH), nn.ReLU(), nn.Dropout(DROPOUT), nn.Linear(WIDTH, outputs))


class EarlyMlp(nn.Module):
    def __init__(self, widths, outputs):
        super().__init__()
        self.net = perceptron(sum(widths), outputs)

    def forward(self, xs):
        return [self.net(torch.cat(xs, 1))], 0


class Late(nn.Module):
    def __init__(self, widths, outputs):
        super().__init__()
        self.nets = nn.ModuleList(perceptron(w, outputs) for w in widths)

    def forward(self, xs):
        return [net(x) for net, x in zip(self.nets, xs)], 0


def embedding(inputs, outputs):
    return nn.Sequential(nn.Linear(inputs, outputs), nn.ReLU(), nn.Dropout(DROPOUT))


def with_one(x):
    return torch.cat([x, x.new_ones(len(x), 1)], 1)


class Tfn(nn.Module):
    def __init__(self, widths, outputs):
        super().__init__()
        narrow = max(w for w in range(1, 17) if (w + 1) ** len(widths) <= 20_000)
        self.embed = nn.ModuleList(embedding(w, narrow) for w in widths)
        cells = (narrow + 1) ** len(widths)
        self.fused = nn.Sequential(
            nn.Linear(cells, WIDTH), nn.ReLU(), nn.Dropout(DROPOUT),
            nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Dropout(DROPOUT), nn.Linear(WIDTH, outputs))

    def forward(self, xs):
        product = None
        for embed, x in zip(self.embed, xs):
            h = with_one(embed(x))
            product = h if product is None else torch.einsum("bi,bj->bij", product, h).flatten(1)
        return [self.fused(product)], 0


class Lmf(nn.Module):
    def __init__(self, widths, outputs):
        super().__init__()
        self.outputs = outputs
        self.embed = nn.ModuleList(embedding(w, WIDTH) for w in widths)
        self.factors = nn.ModuleList(nn.Linear(WIDTH + 1, RANK * outputs, bias=False) for _ in widths)
        self.weights = nn.Parameter(torch.empty(1, RANK, 1).uniform_(-1, 1))
        self.bias = nn.Parameter(torch.zeros(1, outputs))

    def forward(self, xs):
        product = 1
        for embed, factor, x in zip(self.embed, self.factors, xs):
            product = product * factor(with_one(embed(x)))
        ranks = product.view(-1, RANK, self.outputs)
        return [(ranks * self.weights).sum(1) + self.bias], 0


class Mult(nn.Module):
    def __init__(self, widths, outputs):
        super().__init__()
        m, gathered = len(widths), WIDTH * (len(widths) - 1)
        self.project = nn.ModuleList(nn.Linear(w, WIDTH) for w in widths)
        self.cross = nn.ModuleList(
            nn.ModuleList(Encoder(WIDTH, LAYERS, DROPOUT) for j in range(m) if j != i) for i in range(m))
        self.memory = nn.ModuleList(Encoder(gathered, LAYERS, DROPOUT) for _ in range(m))
        self.first, self.second = (nn.Linear(gathered * m, gathered * m) for _ in range(2))
        self.head = nn.Linear(gathered * m, outputs)

    def forward(self, xs):
        # One step a sample: sines are 0, cosines 1; the encoder multiplies by sqrt(d).
        place = torch.tensor([i % 2 for i in range(WIDTH)], dtype=torch.float32) / math.sqrt(WIDTH)
        xs = [project(x)[:, None] + place for project, x in zip(self.project, xs)]
        each = []
        for i, row in enumerate(self.cross):
            others = [x for j, x in enumerate(xs) if j != i]
            gathered = torch.cat([encoder(xs[i], other) for encoder, other in zip(row, others)], 2)
            each.append(self.memory[i](gathered).mean(1))
        x = torch.cat(each, 1)
        hidden = F.dropout(F.relu(self.first(x)), DROPOUT, self.training)
        return [self.head(self.second(hidden) + x)], 0


def orthogonality(a, b):
    unit = lambda x: F.normalize(x - x.mean(0), dim=1)
    return (unit(a).T @ unit(b) / len(a)).square().sum()


def central_moments(a, b):
    total = (a.mean(0) - b.mean(0)).norm()
    a, b = a - a.mean(0), b - b.mean(0)
    for k in range(2, 6):
        total = total + (a.pow(k).mean(0) - b.pow(k).mean(0)).norm()
    return total


class Misa(nn.Module):
    def __init__(self, widths, outputs):
        super().__init__()
        m = len(widths)
        self.project = nn.ModuleList(nn.Sequential(nn.Linear(w, WIDTH), nn.ReLU(), nn.LayerNorm(WIDTH)) for w in widths)
        self.private = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in widths)
        self.shared = nn.Linear(WIDTH, WIDTH)
        self.decode = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in widths)
        self.encoder = Encoder(WIDTH, 1, 0.0)
        self.head = nn.Sequential(
            nn.Linear(2 * m * WIDTH, m * WIDTH), nn.ReLU(), nn.Dropout(DROPOUT), nn.Linear(m * WIDTH, outputs))

    def forward(self, xs):
        xs = [project(x) for project, x in zip(self.project, xs)]
        private = [torch.sigmoid(layer(x)) for layer, x in zip(self.private, xs)]
        shared = [torch.sigmoid(self.shared(x)) for x in xs]
        penalty = 0
        if self.training and len(xs[0]) > 1:
            mean = lambda values: torch.stack(list(values)).mean()
            apart = list(zip(private, shared)) + list(itertools.combinations(private, 2))
            penalty = 0.3 * mean(orthogonality(a, b) for a, b in apart)
            penalty = penalty + mean(central_moments(a, b) for a, b in itertools.combinations(shared, 2))
            whole = zip(xs, self.decode, private, shared)
            penalty = penalty + mean(F.mse_loss(decode(p + s), x.detach()) for x, decode, p, s in whole)
        tokens = torch.stack([part for pair in zip(private, shared) for part in pair], 1)
        return [self.head(self.encoder(tokens).flatten(1))], penalty


NETWORKS = {
    "early fusion, linear": EarlyLinear, "early fusion, MLP": EarlyMlp, "late fusion": Late,
    "TFN": Tfn, "LMF": Lmf, "MulT": Mult, "MISA": Misa,
}


def together(members, classes):
    if len(members) == 1:
        return members[0]
    if classes:
        return torch.stack([m.softmax(1) for m in members]).mean(0).clamp_min(1e-38).log()
    return torch.stack(members).mean(0)


def train(kind, seed, xs, y, rows, outputs, task):
    torch.manual_seed(seed)
    model = kind([x.shape[1] for x in xs], outputs)
    optimiser = torch.optim.Adam(model.parameters(), RATE, weight_decay=DECAY)
    order, best = np.random.default_rng(seed), None
    for epoch in range(EPOCHS):
        model.train()
        shuffled = order.permutation(rows[0])
        for start in range(0, len(shuffled), BATCH):
            part = shuffled[start:start + BATCH]
            members, penalty = model([x[part] for x in xs])
            loss = torch.stack([task(m, y[part]) for m in members]).mean() + penalty
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            optimiser.step()
        model.eval()
        with torch.no_grad():
            valid = task(together(model([x[rows[1]] for x in xs])[0], outputs > 1), y[rows[1]]).item()
            if best is None or valid < best[0]:
                best = (valid, epoch, together(model([x[rows[2]] for x in xs])[0], outputs > 1))
        if epoch - best[1] >= PATIENCE:
            break
    return best[2].numpy()


def figures(scores, y, classes):
    if classes:
        p = scores.argmax(1)
        return dict(Acc=(p == y).mean(), F1_score=f1_score(y, p, average="weighted"))
    p = scores.reshape(-1)
    some = y != 0
    return dict(
        Acc_2=((p > 0) == (y > 0))[some].mean(),
        F1_score=f1_score(y[some] > 0, p[some] > 0, average="weighted"),
        MAE=np.abs(p - y).mean(), Corr=np.corrcoef(p, y)[0, 1] if p.std() > 0 else 0.0)


def show(name, each):
    keys = each[0].keys()
    cells = (f"{k} {np.mean([e[k] for e in each]):.4f} ({np.std([e[k] for e in each], ddof=min(1, len(each) - 1)):.4f})" for k in keys)
    print(f"{name:<24}" + "  ".join(cells), flush=True)


def linear_models(xs, y, rows, classes):
    """Majority or median, ridge on the best single modality, and for classes a logistic regression."""
    fit = lambda model, x: model.fit(x[rows[0]], y[rows[0]])
    if classes:
        show("majority class", [figures(np.eye(int(y.max()) + 1)[fit(DummyClassifier(), xs[0]).predict(xs[0][rows[2]]).astype(int)], y[rows[2]], True)])
    else:
        show("median", [figures(fit(DummyRegressor(strategy="median"), xs[0]).predict(xs[0][rows[2]]), y[rows[2]], False)])
    best = None
    for x in xs:
        for strength in [1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0]:
            alpha = strength * len(rows[0])
            model = fit(RidgeClassifier(alpha=alpha) if classes else Ridge(alpha=alpha), x)
            predict = lambda part: model.decision_function(x[part]) if classes else model.predict(x[part])
            p = predict(rows[1])
            error = -(p.argmax(1) == y[rows[1]]).mean() if classes else np.abs(p - y[rows[1]]).mean()
            if best is None or error < best[0]:
                best = (error, predict(rows[2]))
    show("ridge, best modality", [figures(best[1], y[rows[2]], classes)])
    if classes:
        model = fit(LogisticRegression(max_iter=5000), np.concatenate(xs, 1))
        show("logistic regression", [figures(model.decision_function(np.concatenate(xs, 1)[rows[2]]), y[rows[2]], True)])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("data")
    parser.add_argument("modalities")
    parser.add_argument("--split", default="split")
    parser.add_argument("--loss", default="mae", choices=["mae", "mse"])
    parser.add_argument("--only", default=",".join(NETWORKS), help="some of the networks, separated by commas")
    given = parser.parse_args()
    torch.set_num_threads(1)
    data = load_file(given.data)
    rows = [np.flatnonzero(data[given.split] == part) for part in range(3)]
    xs = []
    for name in given.modalities.split(","):
        x = data[name].astype(np.float64)
        mean, deviation = x[rows[0]].mean(0), x[rows[0]].std(0)
        xs.append(((x - mean) / np.maximum(deviation, 1e-6)).astype(np.float32))
    labels = data["labels"]
    classes = labels.dtype.kind == "i"
    linear_models(xs, labels.astype(np.float64), rows, classes)
    outputs = int(labels.max()) + 1 if classes else 1
    y = torch.from_numpy(labels.astype(np.int64 if classes else np.float32))
    loss = F.mse_loss if given.loss == "mse" else F.l1_loss
    task = F.cross_entropy if classes else lambda p, y: loss(p[:, 0], y)
    tensors = [torch.from_numpy(x) for x in xs]
    for name in given.only.split(","):
        kind = NETWORKS[name]
        each = [train(kind, seed, tensors, y, rows, outputs, task) for seed in range(1, 6)]
        show(name, [figures(p, labels[rows[2]], classes) for p in each])


if __name__ == "__main__":
    main()
