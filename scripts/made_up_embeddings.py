#!/usr/bin/env python3
"""Made-up embeddings for `benchmark --embeddings`, as many and as hard as one likes: rows of unit length around a centre for each class,
with a part of the noise the same direction for all, as real models have it. Written block by block, so also larger than memory.

    python3 scripts/made_up_embeddings.py FOLDER --classes 100 --rows 50000 --dim 512

writes FOLDER/made-up.npy (f32, or --half f16) and FOLDER/made-up.csv with the labels. The same options give the same bytes.
"""
import argparse
import pathlib

import numpy as np

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("folder", type=pathlib.Path)
parser.add_argument("--classes", type=int, default=100)
parser.add_argument("--rows", type=int, default=50_000, help="taken evenly from the classes")
parser.add_argument("--dim", type=int, default=512)
parser.add_argument("--noise", type=float, default=2.0, help="length of a row's noise, its centre having length 1")
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--name", default="made-up")
parser.add_argument("--half", action="store_true", help="f16 instead of f32")
given = parser.parse_args()

random = np.random.default_rng(given.seed)
centers = random.standard_normal((given.classes, given.dim), dtype=np.float32) / np.sqrt(given.dim)
common = random.standard_normal(given.dim, dtype=np.float32) / np.sqrt(given.dim)
given.folder.mkdir(parents=True, exist_ok=True)
path = given.folder / f"{given.name}.npy"
dtype = np.float16 if given.half else np.float32
rows = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=(given.rows, given.dim))
labels = np.arange(given.rows) % given.classes
for start in range(0, given.rows, 8192):
    label = labels[start : start + 8192]
    noise = random.standard_normal((len(label), given.dim), dtype=np.float32) / np.sqrt(given.dim)
    block = centers[label] + given.noise * noise + common
    rows[start : start + len(label)] = block / np.linalg.norm(block, axis=1, keepdims=True)
rows.flush()
with open(given.folder / f"{given.name}.csv", "w") as table:
    table.write("label\n" + "".join(f"class {label}\n" for label in labels))
print(path, path.stat().st_size >> 20, "MiB")
