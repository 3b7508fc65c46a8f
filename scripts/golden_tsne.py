"""The divergence that openTSNE reaches on small data, to be matched or beaten.

Writes crates/analysis/tests/golden/tsne.json. Needs numpy, scipy and openTSNE.
"""

import json
from pathlib import Path

import numpy as np
from openTSNE import TSNEEmbedding, affinity, initialization

OUT = Path(__file__).parent.parent / "crates/analysis/tests/golden/tsne.json"


def divergence(affinities, map_):
    """KL(P || Q), with Z summed over all pairs."""
    pairs = affinities.tocoo()
    squared = ((map_[:, None] - map_[None]) ** 2).sum(-1)
    normalizer = (1 / (1 + squared)).sum() - len(map_)
    q = 1 / (1 + squared[pairs.row, pairs.col]) / normalizer
    return float((pairs.data * np.log(pairs.data / q)).sum())


rng = np.random.default_rng(0)
centres = rng.standard_normal((6, 10)) * 2
labels = np.arange(300) % 6
data = np.round(centres[labels] + rng.standard_normal((300, 10)), 3).astype(np.float32)
perplexity, iterations = 15, 1000

wide = data.astype(np.float64)
neighbours = affinity.PerplexityBasedNN(wide, perplexity=perplexity, method="exact", random_state=0)
reached = []
for seed in range(3):
    start = initialization.pca(wide, random_state=seed)
    map_ = TSNEEmbedding(start, neighbours, negative_gradient_method="bh", random_state=seed)
    map_.optimize(250, exaggeration=12, momentum=0.5, inplace=True)
    map_.optimize(iterations - 250, momentum=0.8, inplace=True)
    reached.append(divergence(neighbours.P, np.asarray(map_)))

OUT.parent.mkdir(parents=True, exist_ok=True)
golden = {
    "points": [[float(x) for x in row] for row in data],
    "labels": labels.tolist(),
    "perplexity": perplexity,
    "iterations": iterations,
    "divergences": reached,
}
OUT.write_text(json.dumps(golden) + "\n")
print(f"{OUT}: divergences {reached}")
