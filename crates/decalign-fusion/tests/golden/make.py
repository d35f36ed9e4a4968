"""Writes corpus.safetensors: attention and encoders of torch.nn, values and gradients.

    python3 -m venv .venv
    .venv/bin/pip install -r requirements.txt
    .venv/bin/python make.py

Everything is f64 and nothing is dropped. Names are CASE/in.* (inputs), CASE/p.* (parameters, by this crate's
names), CASE/out and CASE/g.* (gradients of sum(out * weight), of inputs and parameters). Mind the biases of keys:
what torch has there is rounding, so those parts are written as zeros.
"""

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

torch.manual_seed(1)
torch.set_default_dtype(torch.float64)
tensors = {}


def write(case, inputs, parameters, out):
    weight = torch.randn_like(out)
    (out * weight).sum().backward()
    tensors[f"{case}/out"], tensors[f"{case}/weight"] = out.detach(), weight
    for kind, group in [("in", inputs), ("p", parameters)]:
        for name, x in group.items():
            tensors[f"{case}/{kind}.{name}"] = x.detach().clone()
            if x.grad is None:
                continue
            gradient = x.grad.clone()
            if name.endswith("in_proj_bias"):
                d = gradient.numel() // 3
                assert gradient[d : 2 * d].abs().max() < 1e-12
                gradient[d : 2 * d] = 0
            tensors[f"{case}/g.{kind}.{name}"] = gradient


def attention(case, width, heads, kdim=None, vdim=None, bias=None, causal=False, padding=False):
    layer = nn.MultiheadAttention(width, heads, kdim=kdim, vdim=vdim, batch_first=True)
    nn.init.normal_(layer.in_proj_bias)
    nn.init.normal_(layer.out_proj.bias)
    b, l, s = 2, 5, 7
    inputs = {
        "q": torch.randn(b, l, width, requires_grad=True),
        "k": torch.randn(b, s, kdim or width, requires_grad=True),
        "v": torch.randn(b, s, vdim or width, requires_grad=True),
    }
    mask, keep = None, None
    if bias is not None:
        inputs["bias"] = torch.randn(*bias, requires_grad=True)
        full = inputs["bias"].expand(b, heads, l, s)
        mask = full.reshape(b * heads, l, s)
    if causal:
        mask = torch.full((l, s), -torch.inf).triu(1)
    if padding:
        inputs["keys"] = (torch.rand(b, s) > 0.4).double()
        inputs["keys"][:, 0] = 1
        # The same type as the mask, as torch asks for.
        keep = torch.where(inputs["keys"] == 0, -torch.inf, 0.0)
    out, weights = layer(
        inputs["q"], inputs["k"], inputs["v"], key_padding_mask=keep, attn_mask=mask,
        need_weights=True, average_attn_weights=False,
    )
    tensors[f"{case}/maps"] = weights.detach()
    write(case, inputs, dict(layer.named_parameters()), out)


NAMES = {
    "norm1": "attn_layer_norm", "norm2": "final_layer_norm", "linear1": "fc1", "linear2": "fc2",
    "norm": "layer_norm",
}


def encoder(case, norm_first, activation, width=8, heads=2, hidden=12):
    layer = nn.TransformerEncoderLayer(
        width, heads, hidden, dropout=0.0, activation=activation, batch_first=True, norm_first=norm_first,
    )
    norm = nn.LayerNorm(width) if norm_first else None
    stack = nn.TransformerEncoder(layer, 2, norm=norm, enable_nested_tensor=False)
    for p in stack.parameters():
        nn.init.normal_(p, std=0.4)
    x = torch.randn(2, 6, width, requires_grad=True)
    keys = torch.ones(2, 6)
    keys[1, 4:] = 0
    out = stack(x, src_key_padding_mask=keys == 0)
    parameters = {
        ".".join(NAMES.get(part, part) for part in name.split(".")): p for name, p in stack.named_parameters()
    }
    write(case, {"x": x, "keys": keys}, parameters, out)


attention("plain", 6, 2)
attention("causal", 8, 4, causal=True)
attention("padding", 8, 1, padding=True)
attention("sources", 8, 2, kdim=5, vdim=3, padding=True)
attention("bias", 8, 2, bias=(2, 2, 5, 7), padding=True)
attention("bias-of-heads", 8, 4, bias=(1, 4, 5, 7))
attention("bias-of-keys", 8, 4, bias=(2, 1, 1, 7))
encoder("post-relu", False, "relu")
encoder("post-gelu", False, "gelu")
encoder("pre-relu", True, "relu")
encoder("pre-gelu", True, "gelu")
save_file({k: v.contiguous() for k, v in tensors.items()}, Path(__file__).with_name("corpus.safetensors"))
