"""Golden principal components: scikit-learn's numbers for small data.

Writes crates/analysis/tests/golden/pca.json. Needs numpy and scikit-learn.
"""

import json
from pathlib import Path

import numpy as np
from sklearn.decomposition import PCA

OUT = Path(__file__).parent.parent / "crates/analysis/tests/golden/pca.json"


def made_up(points, dims, decades, seed):
    """Points away from the origin whose standard deviations fall by `decades` powers of ten."""
    rng = np.random.default_rng(seed)
    scales = 10.0 ** -np.linspace(0, decades, dims)
    rotation, _ = np.linalg.qr(rng.standard_normal((dims, dims)))
    data = (rng.standard_normal((points, dims)) * scales) @ rotation + rng.standard_normal(dims)
    return data.astype(np.float32)


def case(name, data, components):
    fitted = PCA(components, svd_solver="full").fit(data.astype(np.float64))
    return {
        "name": name,
        "points": [[float(x) for x in row] for row in data],
        "components": components,
        "mean": fitted.mean_.tolist(),
        "axes": fitted.components_.tolist(),
        "explained_variance": fitted.explained_variance_.tolist(),
        "explained_variance_ratio": fitted.explained_variance_ratio_.tolist(),
        "total_variance": float(data.astype(np.float64).var(axis=0, ddof=1).sum()),
        "transformed": fitted.transform(data.astype(np.float64)).tolist(),
    }


cases = [
    case("more points than dimensions", made_up(60, 8, 1, 1), 5),
    case("all components", made_up(40, 6, 2, 2), 6),
    case("fewer points than dimensions", made_up(9, 24, 1, 3), 6),
    case("three decades", made_up(80, 12, 3, 4), 12),
]
OUT.parent.mkdir(parents=True, exist_ok=True)
OUT.write_text(json.dumps(cases) + "\n")
print(f"{OUT}: {len(cases)} cases")
