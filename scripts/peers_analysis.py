"""What `cargo xtask bench analysis --peers PYTHON` runs beside Faceoff's own code: faiss, scikit-learn and openTSNE.

    python -m venv peers && peers/bin/pip install numpy scipy faiss-cpu scikit-learn openTSNE
    cargo xtask bench analysis --peers peers/bin/python

Arguments: the files of training and validation embeddings (raw float32, one row an image), their dimensions, the number of threads.
Each line of standard input asks for one measurement and is answered by one line of JSON on standard output:

- `knn`: {"seconds": {peer: seconds}} of the 20 nearest training rows of each validation row;
- `pca`: the same for 128 components of the training rows;
- `tsne FILE`: the same for a map of the validation rows (perplexity 30, 250 + 750 iterations), and the divergence of that map and of
  the map in FILE (raw float64), both summed over all pairs with the same affinities: exact ones, which openTSNE is given. The time is
  that of its own affinities, start and descent.
"""

import json
import os
import sys
import time

train_file, val_file, dims, threads = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = threads  # before the libraries are loaded

import faiss  # noqa: E402
import numpy as np  # noqa: E402
from openTSNE import TSNEEmbedding, affinity, initialization  # noqa: E402
from scipy.sparse import csr_matrix  # noqa: E402
from sklearn.decomposition import PCA  # noqa: E402

NEIGHBORS, COMPONENTS, PERPLEXITY = 20, 128, 30
faiss.omp_set_num_threads(int(threads))
train, val = (np.fromfile(name, dtype=np.float32).reshape(-1, dims) for name in (train_file, val_file))


def timed(run):
    start = time.perf_counter()
    result = run()
    return time.perf_counter() - start, result


def knn():
    index = faiss.IndexFlatIP(dims)
    index.add(train)
    return index.search(val, NEIGHBORS)


def exact_affinities(x, k=3 * PERPLEXITY):
    """Gaussian affinities of the k nearest points at the perplexity, made symmetric; relative to the nearest, so that nothing underflows."""
    x = x.astype(float)
    squares = (x**2).sum(1)
    distances = np.maximum(squares[:, None] + squares[None] - 2 * x @ x.T, 0)
    np.fill_diagonal(distances, np.inf)
    nearest = np.argpartition(distances, k, axis=1)[:, :k]
    distances = np.take_along_axis(distances, nearest, 1)
    distances -= distances.min(1, keepdims=True)
    low, high, beta = np.zeros(len(x)), np.full(len(x), np.inf), np.ones(len(x))
    for _ in range(100):
        p = np.exp(-distances * beta[:, None])
        p /= p.sum(1, keepdims=True)
        too_wide = -(p * np.log(np.maximum(p, 1e-300))).sum(1) > np.log(PERPLEXITY)
        low, high = np.where(too_wide, beta, low), np.where(too_wide, high, beta)
        beta = np.where(np.isinf(high), 2 * beta, (low + high) / 2)
    conditional = csr_matrix((p.ravel(), (np.repeat(np.arange(len(x)), k), nearest.ravel())), shape=(len(x),) * 2)
    return (conditional + conditional.T) / (2 * len(x))


def descend(affinities):
    map_ = TSNEEmbedding(
        initialization.pca(val, random_state=0), affinities, negative_gradient_method="bh", n_jobs=int(threads), random_state=0
    )
    map_.optimize(250, exaggeration=12, momentum=0.5, inplace=True)
    map_.optimize(750, momentum=0.8, inplace=True)
    return np.asarray(map_)


def divergence(affinities, map_):
    normalizer = -float(len(map_))
    for start in range(0, len(map_), 500):
        squared = ((map_[start : start + 500, None] - map_[None]) ** 2).sum(-1)
        normalizer += (1 / (1 + squared)).sum()
    pairs = affinities.tocoo()
    q = 1 / (1 + ((map_[pairs.row] - map_[pairs.col]) ** 2).sum(1)) / normalizer
    return float((pairs.data * np.log(pairs.data / q)).sum())


def tsne(own_map):
    own = lambda: affinity.PerplexityBasedNN(  # noqa: E731
        val, perplexity=PERPLEXITY, method="exact", n_jobs=int(threads), random_state=0
    )
    searching, _ = timed(own)
    exact = exact_affinities(val)
    descending, map_ = timed(lambda: descend(affinity.PrecomputedAffinities(exact, normalize=False)))
    return {
        "seconds": {"openTSNE, Barnes-Hut": searching + descending},
        "divergence": divergence(exact, map_),
        "own_divergence": divergence(exact, np.fromfile(own_map).reshape(-1, 2)),
    }


knn()
for line in sys.stdin:
    measure, _, argument = line.strip().partition(" ")
    if measure == "knn":
        answer = {"seconds": {"faiss IndexFlatIP": timed(knn)[0]}}
    elif measure == "pca":
        solvers = {"scikit-learn, full SVD": "full", "scikit-learn, covariance": "covariance_eigh"}
        answer = {"seconds": {k: timed(lambda: PCA(COMPONENTS, svd_solver=v).fit(train))[0] for k, v in solvers.items()}}
    else:
        answer = tsne(argument)
    print(json.dumps(answer), flush=True)
