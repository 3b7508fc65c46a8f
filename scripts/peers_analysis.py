"""Times neighbours, components and maps beside faiss, scikit-learn and openTSNE, on the same embeddings, in turns.

    pip install numpy faiss-cpu scikit-learn openTSNE
    cargo build --release -p faceoff-analysis --example growth
    python scripts/peers_analysis.py train.npy val.npy --threads 2 --repeats 5

The files hold float32 unit embeddings, one row an image. Prints JSON: the seconds of every repeat, medians, and the ratio (ours over
theirs); for the maps also the divergence of each, summed over all pairs on openTSNE's affinities.
"""

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("train", type=Path)
parser.add_argument("val", type=Path)
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--repeats", type=int, default=5)
parser.add_argument("--measures", default="knn,pca,tsne")
parser.add_argument("--map-repeats", type=int, default=None, help="repeats of openTSNE, which is slow (default: --repeats)")
parser.add_argument("--growth", type=Path, default=Path(__file__).parent.parent / "target/release/examples/growth")
options = parser.parse_args()
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"):
    os.environ[name] = str(options.threads)  # before the libraries are loaded

import faiss  # noqa: E402
import numpy as np  # noqa: E402
from openTSNE import TSNEEmbedding, affinity, initialization  # noqa: E402
from sklearn.decomposition import PCA  # noqa: E402

faiss.omp_set_num_threads(options.threads)
train, val = np.load(options.train).astype(np.float32), np.load(options.val).astype(np.float32)
folder = Path(tempfile.mkdtemp())
train.tofile(folder / "train.f32")
val.tofile(folder / "val.f32")


def ours(measure):
    command = [options.growth, "time", measure, str(train.shape[1]), folder / "train.f32", folder / "val.f32"]
    if measure == "tsne":
        command.append(folder / "map.f64")
    report = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return report["seconds"]


def timed(run):
    start = time.perf_counter()
    result = run()
    return time.perf_counter() - start, result


def search():
    index = faiss.IndexFlatIP(train.shape[1])
    index.add(train)
    return index.search(val, 20)


def opentsne():
    affinities = affinity.PerplexityBasedNN(val, perplexity=30, method="exact", n_jobs=options.threads, random_state=0)
    map_ = TSNEEmbedding(
        initialization.pca(val, random_state=0), affinities, negative_gradient_method="bh", n_jobs=options.threads, random_state=0
    )
    map_.optimize(250, exaggeration=12, momentum=0.5, inplace=True)
    map_.optimize(750, momentum=0.8, inplace=True)
    return affinities, np.asarray(map_)


def divergence(affinities, map_):
    normalizer = -float(len(map_))
    for start in range(0, len(map_), 500):
        squared = ((map_[start : start + 500, None] - map_[None]) ** 2).sum(-1)
        normalizer += (1 / (1 + squared)).sum()
    pairs = affinities.P.tocoo()
    q = 1 / (1 + ((map_[pairs.row] - map_[pairs.col]) ** 2).sum(1)) / normalizer
    return float((pairs.data * np.log(pairs.data / q)).sum())


def summary(mine, theirs):
    result = {"ours_seconds": mine, "theirs_seconds": theirs}
    result["ours_median"], result["theirs_median"] = statistics.median(mine), statistics.median(theirs)
    result["ratio"] = result["ours_median"] / result["theirs_median"]
    return result


report = {"train": train.shape, "val": val.shape, "threads": options.threads}
measures = options.measures.split(",")
if "knn" in measures:
    search()
    turns = [(ours("knn"), timed(search)[0]) for _ in range(options.repeats)]
    report["knn, k = 20: faiss IndexFlatIP"] = summary(*map(list, zip(*turns)))
if "pca" in measures:
    for solver in ("full", "covariance_eigh"):
        fit = lambda: PCA(128, svd_solver=solver).fit(train)  # noqa: E731
        fit()
        turns = [(ours("pca"), timed(fit)[0]) for _ in range(options.repeats)]
        report[f"pca, 128 components: scikit-learn {solver}"] = summary(*map(list, zip(*turns)))
if "tsne" in measures:
    repeats = options.map_repeats or options.repeats
    mine, theirs, ours_kl, theirs_kl = [], [], [], []
    for turn in range(options.repeats):
        mine.append(ours("tsne"))
        if turn < repeats:
            seconds, (affinities, map_) = timed(opentsne)
            theirs.append(seconds)
            theirs_kl.append(divergence(affinities, map_))
        own_map = np.fromfile(folder / "map.f64").reshape(-1, 2)
        ours_kl.append(divergence(affinities, own_map))
    entry = summary(mine, theirs)
    entry["ours_divergence"], entry["theirs_divergence"] = ours_kl, theirs_kl
    report["tsne, perplexity 30, 1,000 iterations: openTSNE Barnes-Hut"] = entry
print(json.dumps(report, indent=2))
