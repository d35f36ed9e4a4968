"""Writes a pickle of the size and layout of MMSA's aligned CMU-MOSI, of random numbers."""

import pickle
import sys

import numpy as np

draw = np.random.default_rng(1)
parts = {"train": 1284, "valid": 229, "test": 686}
data = {}
for part, n in parts.items():
    data[part] = {
        "raw_text": np.array([f"sentence {i}" for i in range(n)], dtype=object),
        "audio": draw.standard_normal((n, 50, 5), dtype=np.float32),
        "vision": draw.standard_normal((n, 50, 20), dtype=np.float32),
        "id": [f"{part}{i // 20}$_${i}" for i in range(n)],
        "text": draw.standard_normal((n, 50, 768), dtype=np.float32),
        "regression_labels": draw.uniform(-3, 3, n).astype(np.float32),
    }
with open(sys.argv[1], "wb") as file:
    pickle.dump(data, file, protocol=4)
