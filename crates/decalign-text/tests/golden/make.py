"""Writes minilm.safetensors: what `transformers` makes of some sentences with MiniLM.

    cargo xtask minilm
    python3 -m venv .venv
    .venv/bin/pip install -r requirements.txt
    .venv/bin/python make.py ../../../../target/minilm

ids and mask are (sentences, tokens), mean (sentences, 384) and states (first sentence's tokens, 384).
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoTokenizer, BertModel

SENTENCES = [
    "I really liked this movie, it was great!",
    "um (stutter) the acting's... not so good; 3.5 out of 10",
    "Naïve café-goers éat 日本語 tokens & untokenizablewords",
    "yes",
]
folder = sys.argv[1]
tokenizer, model = AutoTokenizer.from_pretrained(folder), BertModel.from_pretrained(folder).eval()
batch = tokenizer(SENTENCES, padding=True, return_tensors="pt")
with torch.no_grad():
    states = model(**batch).last_hidden_state
mask = batch["attention_mask"]
mean = (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
save_file(
    {
        "ids": batch["input_ids"],
        "mask": mask,
        "mean": mean.contiguous(),
        "states": states[0, : mask[0].sum()].contiguous(),
    },
    Path(__file__).with_name("minilm.safetensors"),
)
