"""Writes encoders/NAME/: small random models of `transformers` and what they make of two texts.

    python3 -m venv .venv
    .venv/bin/pip install -r requirements.txt
    .venv/bin/python encoders.py

A folder has config.json, model.safetensors and vocab.txt of the model; states.safetensors holds ids and mask (2, T) and
states (2, T, d).
"""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import (
    DebertaV2Config, DebertaV2Model, DistilBertConfig, DistilBertModel, ModernBertConfig, ModernBertModel,
    RobertaConfig, RobertaModel, XLMRobertaConfig, XLMRobertaModel,
)

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "good", "bad", "movie", "##s", "not", "a", "very", "film"]
IDS = [[2, 4, 6, 7, 8, 5, 3], [2, 9, 11, 3, 0, 0, 0]]
sizes = dict(vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24,
             pad_token_id=0, attn_implementation="eager")
models = {
    "distilbert": (DistilBertModel, DistilBertConfig(
        vocab_size=len(WORDS), dim=16, n_layers=2, n_heads=2, hidden_dim=24, max_position_embeddings=20,
        activation="relu", attn_implementation="eager")),
    "roberta": (RobertaModel, RobertaConfig(max_position_embeddings=20, type_vocab_size=1, **sizes)),
    "xlm-roberta": (XLMRobertaModel, XLMRobertaConfig(max_position_embeddings=20, type_vocab_size=1, **sizes)),
    "modernbert": (ModernBertModel, ModernBertConfig(
        max_position_embeddings=20, local_attention=4, global_attn_every_n_layers=2, **sizes)),
    "deberta-v2": (DebertaV2Model, DebertaV2Config(
        max_position_embeddings=20, type_vocab_size=0, relative_attention=True, position_buckets=4,
        max_relative_positions=-1, position_biased_input=False, pos_att_type=["p2c", "c2p"], share_att_key=True,
        norm_rel_ebd="layer_norm", **sizes)),
}
for name, (kind, config) in models.items():
    torch.manual_seed(1)
    folder = Path(__file__).parent / "encoders" / name
    folder.mkdir(parents=True, exist_ok=True)
    model = kind(config).eval()
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.5)
    ids = torch.tensor(IDS)
    mask = (ids != 0).long()
    with torch.no_grad():
        states = model(input_ids=ids, attention_mask=mask).last_hidden_state
    model.save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    save_file({"ids": ids, "mask": mask, "states": states.contiguous()}, folder / "states.safetensors")
    print(name, json.loads((folder / "config.json").read_text())["model_type"], states.abs().mean())
