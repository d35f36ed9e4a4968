"""Sentence embeddings by `transformers`: prints one measurement a line; see `cargo xtask peers encode`.

    encode.py texts TEXTS.jsonl            writes 2199 texts as long as those of CMU-MOSI
    encode.py measure MODEL TEXTS.jsonl    encodes them: tokenised, mean over tokens, batches of 32
"""

import json
import sys

from measure import seconds, show

THREADS = 2  # as many as decalign gets
BATCH = 32


def write(path):
    import random

    draw = random.Random(1)
    words = "a the it was movie really good bad not and I think this film very acting story funny of to".split()
    with open(path, "w") as file:
        for i in range(2199):
            # CMU-MOSI has 12 words a text in the mean, half of them up to 10, the longest above 100.
            n = max(1, min(110, round(draw.lognormvariate(2.3, 0.65))))
            text = " ".join(draw.choice(words) for _ in range(n))
            file.write(json.dumps({"id": str(i), "text": text}) + "\n")


def measure(folder, path):
    import torch
    from transformers import AutoTokenizer, BertModel

    torch.set_num_threads(THREADS)
    tokenizer, model = AutoTokenizer.from_pretrained(folder), BertModel.from_pretrained(folder).eval()
    texts = [json.loads(line)["text"] for line in open(path)]

    def encode(texts):
        batch = tokenizer(texts, padding=True, truncation=True, max_length=512, return_tensors="pt")
        mask = batch["attention_mask"][..., None]
        return (model(**batch).last_hidden_state * mask).sum(1) / mask.sum(1)

    ordered = sorted(texts, key=len, reverse=True)
    with torch.inference_mode():
        encode(texts[:BATCH])
        for name, texts in [("as they come", texts), ("by length", ordered)]:
            show(name, seconds(lambda: [encode(texts[i : i + BATCH]) for i in range(0, len(texts), BATCH)]))


if __name__ == "__main__":
    if sys.argv[1] == "texts":
        write(sys.argv[2])
    else:
        measure(*sys.argv[2:])
