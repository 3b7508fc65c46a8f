"""Makes crates/analysis/tests/golden/metrics.json: small made-up embeddings and what other libraries measure on them.

    pip install numpy scipy scikit-learn pytorch-metric-learning faiss-cpu
    python scripts/golden_metrics.py

Everything is computed in float64 from the float32 values in the file. There are three sets:

- `points`: exact ties (duplicated points of one class), a class with one member and otherwise no two cosines that come closer than
  MIN_GAP where their order matters, so that no value depends on rounding or on the order of ties;
- `ties`: all numbers are 0, 0.5 or 1 and all cosines exact, so that ties between classes abound; it holds copies with different labels
  and a class with one member;
- `constant`: all points are equal.

Where order among ties matters, equal cosines stand in the order of the index, for the other libraries too.
"""

import json
import pathlib
import warnings

import numpy as np
import scipy
import sklearn
from scipy import stats
from scipy.optimize import brentq
from sklearn import metrics
from sklearn.calibration import calibration_curve
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

MIN_GAP = 4e-6  # four bins of the verification histogram


def unit(x):
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def blobs(rng, counts, dims, centers, noise):
    """Unit rows around `centers`, shuffled, and their labels."""
    labels = np.repeat(np.arange(len(counts)), counts)
    x = centers[labels] + noise * rng.standard_normal((len(labels), dims))
    order = rng.permutation(len(labels))
    return unit(x[order]), labels[order]


def make_embeddings():
    for seed in range(1000):
        rng = np.random.default_rng(seed)
        dims, counts = 8, [14, 12, 9, 7, 1]  # the last class has one member
        centers = unit(rng.standard_normal((len(counts), dims)))
        x, y = blobs(rng, counts, dims, centers, 0.45)
        q, qy = blobs(rng, [8, 6, 5, 4, 2], dims, centers, 0.45)
        qy[0] = 9  # a class that the index does not hold
        # Duplicates within a class: exact ties that change no measure.
        for label in range(3):
            a, b = np.flatnonzero(y == label)[:2]
            x[b] = x[a]
        if gaps_hold(x, y, x, y) and gaps_hold(q, qy, x, y) and pairs_hold(x, y):
            return x, y, q, qy
    raise SystemExit("no seed keeps the gaps")


def gaps_hold(q, qy, x, y):
    """Between hits and misses of each query."""
    cosines = q.astype(float) @ x.T.astype(float)
    for row, label in zip(cosines, qy):
        hits, misses = row[y == label], row[y != label]
        if len(hits) and np.abs(hits[:, None] - misses[None]).min() < MIN_GAP:
            return False
        order = np.sort(row)[::-1]  # and at the borders of k nearest neighbours of different classes
        nearest = y[np.argsort(-row, kind="stable")]
        if np.any((np.diff(order) > -MIN_GAP) & (nearest[1:] != nearest[:-1])):
            return False
    return True


def pairs(x, y):
    i, j = np.triu_indices(len(x), 1)
    cosines = (x.astype(float) @ x.T.astype(float))[i, j]
    return cosines, y[i] == y[j]


def pairs_hold(x, y):
    cosines, same = pairs(x, y)
    return np.abs(cosines[same][:, None] - cosines[~same][None]).min() > MIN_GAP


def ranking(query, k, reference, ref_includes_query):
    """The search of AccuracyCalculator, with ties in the order of the index."""
    import torch

    cosines = query.numpy().astype(float) @ reference.numpy().T.astype(float)
    if ref_includes_query:
        np.fill_diagonal(cosines, -np.inf)
    nearest = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
    return torch.tensor(1 - np.take_along_axis(cosines, nearest, 1)), torch.tensor(nearest)


def retrieval(x, y, q=None, qy=None):
    import torch
    from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator

    names = ("precision_at_1", "r_precision", "mean_average_precision_at_r", "mean_reciprocal_rank")
    calculator = AccuracyCalculator(include=names, k=None, device=torch.device("cpu"), knn_func=ranking)
    own = q is None
    q, qy = (x, y) if own else (q, qy)
    reference = (None, None) if own else (x, y)
    out = calculator.get_accuracy(q, qy, *reference, ref_includes_query=own)
    cosines = q.astype(float) @ x.T.astype(float)
    if own:
        np.fill_diagonal(cosines, -np.inf)
    counted = [i for i in range(len(q)) if np.sum(y == qy[i]) - own > 0]
    nearest = np.argsort(-cosines, axis=1, kind="stable")
    hit_at = {k: np.mean([np.any(y[nearest[i, :k]] == qy[i]) for i in counted]) for k in (1, 2, 4, 8)}
    return {
        "queries": len(counted),
        "left_out": len(q) - len(counted),
        "precision_at_1": out["precision_at_1"],
        "recall_at": list(hit_at.values()),
        "r_precision": out["r_precision"],
        "map_at_r": out["mean_average_precision_at_r"],
        "mean_reciprocal_rank": out["mean_reciprocal_rank"],
    }


def knn(x, y, q, qy, depth=20, temperature=0.5):
    _, nearest = NearestNeighbors(n_neighbors=depth, metric="cosine").fit(x.astype(float)).kneighbors(q.astype(float))
    majority, softmax = [], []
    for k in range(1, depth + 1):
        right = 0
        for row, label in zip(nearest, qy):
            votes = y[row[:k]].tolist()
            best = max(votes.count(v) for v in votes)
            right += next(v for v in votes if votes.count(v) == best) == label
        majority.append(right / len(qy))
        weighted = KNeighborsClassifier(k, metric="cosine", weights=lambda d: np.exp((1 - d) / temperature))
        softmax.append(weighted.fit(x.astype(float), y).score(q.astype(float), qy))
    return {"majority": majority, "temperature": temperature, "softmax": softmax}


def knn_of_ties(x, y, q, qy, depth):
    """By definition: scikit-learn leaves the order of ties open."""
    nearest = np.argsort(-(q.astype(float) @ x.T.astype(float)), axis=1, kind="stable")
    majority = []
    for k in range(1, depth + 1):
        votes = [y[row[:k]].tolist() for row in nearest]
        majority.append(np.mean([max(v, key=v.count) == label for v, label in zip(votes, qy)]))
    return majority


def tied_set(x, y, q, qy):
    samples = metrics.silhouette_samples(x.astype(float), y, metric="cosine")
    pca = PCA(min(x.shape), svd_solver="full").fit(x.astype(float)) if np.ptp(x, axis=0).any() else None
    return {
        "points": x.astype(float).tolist(),
        "labels": y.tolist(),
        "queries": q.astype(float).tolist(),
        "query_labels": qy.tolist(),
        "retrieval_leave_one_out": retrieval(x, y),
        "retrieval": retrieval(x, y, q, qy),
        "knn": knn_of_ties(x, y, q, qy, len(x)),
        "verification": verification(x, y),
        "silhouette": samples.mean(),
        "geometry": geometry(x, y) if pca else {"alignment": 0.0, "uniformity": 0.0},
        "explained_variance_ratio": pca.explained_variance_ratio_.tolist() if pca else None,
    }


def make_ties(rng):
    """Rows of one 1 or of four 0.5, each twice or more, in classes that share rows."""
    dims = 8
    kinds = list(np.eye(dims)[:5])
    for _ in range(9):
        row = np.zeros(dims)
        row[rng.choice(dims, 4, replace=False)] = 0.5
        kinds.append(row)
    kinds = np.array(kinds, dtype=np.float32)
    y = np.array([0] * 12 + [1] * 10 + [2] * 7 + [3] * 5 + [4])
    x = kinds[(rng.integers(0, 6, len(y)) + 3 * y) % len(kinds)]
    order = rng.permutation(len(y))
    qy = np.array([0, 0, 0, 1, 1, 1, 2, 2, 3, 3, 4, 7])  # the index does not hold the last class
    q = kinds[(rng.integers(0, 6, len(qy)) + 3 * qy) % len(kinds)]
    return x[order], y[order], q, qy


def make_constant():
    x = np.tile(np.array([0.5, 0.5, 0.5, 0.5, 0], dtype=np.float32), (9, 1))
    return x, np.array([2, 0, 0, 1, 1, 0, 2, 1, 3]), x[:4], np.array([0, 1, 2, 3])


def verification(x, y):
    cosines, same = pairs(x, y)
    far, tar, _ = metrics.roc_curve(same, cosines, drop_intermediate=False)
    eer = brentq(lambda f: f - (1 - np.interp(f, far, tar)), 0, 1, xtol=1e-14)
    if np.any(np.diff(far) == 0):  # np.interp on a vertical piece: cross it by hand
        excess = far + tar - 1
        i = np.flatnonzero(excess >= 0)[0]
        share = -excess[i - 1] / (excess[i] - excess[i - 1])
        eer = far[i - 1] + share * (far[i] - far[i - 1])
    degrees = np.degrees(np.arccos(np.clip(cosines, -1, 1)))
    return {
        "positive_pairs": int(same.sum()),
        "negative_pairs": int((~same).sum()),
        "auc": metrics.roc_auc_score(same, cosines),
        "eer": eer,
        "tar_at_far": [float(tar[far <= f].max()) if f * (~same).sum() >= 1 else None for f in (1e-1, 1e-2, 1e-3, 1e-4)],
        "intra_mean_degrees": degrees[same].mean(),
        "inter_mean_degrees": degrees[~same].mean(),
        "inter_sd_degrees": degrees[~same].std(),
    }


def clustering(rng, x, y):
    assigned = np.where(rng.random(len(y)) < 0.7, y, rng.integers(0, 6, len(y)))
    cases = {
        "mixed": (y, assigned),
        "perfect": (y, (y + 3) % 5),
        "one_cluster": (y, np.zeros_like(y)),
        "one_class_one_cluster": (np.zeros_like(y), np.zeros_like(y)),
        "all_apart": (y, np.arange(len(y))),
        "independent": (np.arange(40) % 4, np.arange(40) // 4 % 5),
    }
    information = [
        {
            "name": name,
            "labels": a.tolist(),
            "clusters": b.tolist(),
            "nmi": metrics.normalized_mutual_info_score(a, b),
            "ami": metrics.adjusted_mutual_info_score(a, b),
        }
        for name, (a, b) in cases.items()
    ]
    # Clear enough that a start in two finds the best clusters, so that any implementation does.
    centers = unit(rng.standard_normal((4, 8)))
    apart, classes = blobs(rng, [12, 10, 8, 6], 8, centers, 0.15)
    starts = [KMeans(4, n_init=1, random_state=i, tol=0).fit(apart.astype(float)) for i in range(200)]
    kmeans = min(starts, key=lambda start: start.inertia_)
    assert np.mean([start.inertia_ < kmeans.inertia_ + 1e-9 for start in starts]) > 0.5
    samples = metrics.silhouette_samples(x.astype(float), y, metric="cosine")
    return {
        "information": information,
        "kmeans_points": apart.astype(float).tolist(),
        "kmeans_clusters": 4,
        "kmeans_inertia": kmeans.inertia_,
        "kmeans_labels": classes.tolist(),
        "kmeans_nmi": metrics.normalized_mutual_info_score(classes, kmeans.labels_),
        "silhouette": samples.mean(),
        "silhouette_samples": samples.tolist(),
    }


def geometry(x, y):
    x = x.astype(float)
    classes = np.unique(y)
    means = np.stack([x[y == c].mean(0) for c in classes])
    directions = means / np.linalg.norm(means, axis=1, keepdims=True)
    angles = np.degrees(np.arccos(np.clip(directions @ directions.T, -1, 1)))
    np.fill_diagonal(angles, 0)
    i, j = np.triu_indices(len(x), 1)
    squared = ((x[i] - x[j]) ** 2).sum(1)
    same = y[i] == y[j]
    centred = means - means.mean(0)
    within = np.mean([((x[y == c] - m).T @ (x[y == c] - m)) / np.sum(y == c) for c, m in zip(classes, means)], axis=0)
    between = centred.T @ centred / len(classes)
    norms = np.linalg.norm(centred, axis=1)
    cosines = (centred @ centred.T / norms[:, None] / norms[None])[np.triu_indices(len(classes), 1)]
    # Any classifier will do.
    weights = np.round(np.cos(np.arange(centred.size)).reshape(centred.shape), 3).astype(np.float32).astype(float)
    singular = np.linalg.svd(x - x.mean(0), compute_uv=False)
    share = singular / singular.sum()
    share = share[share > 1e-12]
    eigenvalues = singular**2 / (len(x) - 1)
    cumulative = np.cumsum(eigenvalues) / eigenvalues.sum()
    return {
        "center_angles": angles.tolist(),
        "alignment": squared[same].mean(),
        "uniformity": np.log(np.exp(-2 * squared).mean()),
        "nc1": np.trace(within @ np.linalg.pinv(between, rcond=1e-10)) / len(classes),
        "equinorm": norms.std() / norms.mean(),
        "equiangularity": cosines.std(),
        "maximal_angle": np.abs(cosines + 1 / (len(classes) - 1)).mean(),
        "self_duality": np.linalg.norm(weights / np.linalg.norm(weights) - centred / np.linalg.norm(centred)),
        "nearest_mean": classes[((x[:, None] - means[None]) ** 2).sum(2).argmin(1)].tolist(),
        "weights": weights.tolist(),
        "eigenvalues": eigenvalues.tolist(),
        "effective_rank": np.exp(-(share * np.log(share)).sum()),
        "components_95": int(np.flatnonzero(cumulative >= 0.95)[0] + 1),
    }


def calibration(rng):
    scores = rng.standard_normal((200, 4)).astype(np.float32)
    labels = np.where(rng.random(200) < 0.6, scores.argmax(1), rng.integers(0, 4, 200))
    scale = 1.7
    logits = scale * scores.astype(float)
    p = scipy.special.softmax(logits, axis=1)
    confidence, right = p.max(1), p.argmax(1) == labels
    accuracy, mean_confidence = calibration_curve(right, confidence, n_bins=15)
    counts = np.histogram(confidence, np.linspace(0, 1, 16))[0]
    counts = counts[counts > 0]
    return {
        "scores": scores.astype(float).tolist(),
        "labels": labels.tolist(),
        "scale": scale,
        "ece": np.sum(counts * np.abs(accuracy - mean_confidence)) / 200,
        "nll": metrics.log_loss(labels, p, labels=range(4)),
        "brier": metrics.brier_score_loss(labels, p, labels=range(4), scale_by_half=False),
        "counts": counts.tolist(),
        "accuracy": accuracy.tolist(),
        "confidence": mean_confidence.tolist(),
    }


def probe(x, y, q, qy):
    known = np.isin(qy, y)
    q, qy = q[known], qy[known]
    model = LogisticRegression(C=1.0, solver="newton-cholesky", tol=1e-12, max_iter=1000).fit(x.astype(float), y)
    p = model.predict_proba(q.astype(float))
    return {
        "queries": q.astype(float).tolist(),
        "query_labels": qy.tolist(),
        "probabilities": p.tolist(),
        "weights": model.coef_.tolist(),
        "accuracy": model.score(q.astype(float), qy),
        "log_loss": metrics.log_loss(qy, p, labels=model.classes_),
    }


def power(difference, sd, n):
    t = stats.t.ppf(0.975, n - 1)
    delta = n**0.5 * difference / sd
    return stats.nct.sf(t, n - 1, delta) + stats.nct.cdf(-t, n - 1, delta)


def statistics(rng):
    a = 0.8 + 0.01 * rng.standard_normal(6)
    b = a - 0.008 + 0.006 * rng.standard_normal(6)
    d = a - b
    low, high = stats.t.interval(0.95, 5, loc=d.mean(), scale=stats.sem(d))
    table = 0.8 + 0.02 * rng.standard_normal((6, 7))
    table[:, 2] += 0.03
    table = np.round(table, 2)  # so that ranks tie
    friedman = stats.friedmanchisquare(*table.T)
    ranks = stats.rankdata(-table, axis=1).mean(0)
    p_values = np.array([0.01, 0.04, 0.03, 0.005, 0.5, 0.03])
    order = np.argsort(p_values, kind="stable")
    holm = np.empty(6)
    holm[order] = np.minimum(1, np.maximum.accumulate(p_values[order] * np.arange(6, 0, -1)))
    seeds = []
    for difference, sd in [(0.01, 0.01), (0.02, 0.01), (0.005, 0.01), (0.05, 0.01), (0.1, 0.01), (0.001, 0.01), (-0.01, 0.02)]:
        n = next(n for n in range(2, 10_000) if power(abs(difference), sd, n) >= 0.8)
        seeds.append({"difference": difference, "sd": sd, "seeds": n})
    right = rng.random(400) < 0.8
    return {
        "a": a.tolist(),
        "b": b.tolist(),
        "mean": d.mean(),
        "sd": d.std(ddof=1),
        "interval": [low, high],
        "p": stats.ttest_rel(a, b).pvalue,
        "cohens_d": d.mean() / d.std(ddof=1),
        "p_above_0.005": stats.ttest_1samp(d, 0.005, alternative="greater").pvalue,
        "p_equivalent_0.02": max(
            stats.ttest_1samp(d, -0.02, alternative="greater").pvalue,
            stats.ttest_1samp(d, 0.02, alternative="less").pvalue,
        ),
        "table": table.tolist(),
        "friedman": friedman.statistic,
        "friedman_p": friedman.pvalue,
        "average_ranks": ranks.tolist(),
        "critical_difference": stats.studentized_range.ppf(0.95, 7, np.inf) / 2**0.5 * (7 * 8 / (6 * 6)) ** 0.5,
        "p_values": p_values.tolist(),
        "holm": holm.tolist(),
        "t_quantiles": [{"degrees": n, "value": stats.t.ppf(0.975, n)} for n in (1, 2, 3, 4, 9, 29, 1000)],
        "seeds_needed": seeds,
        "right": right.tolist(),
        # What the bootstrap approaches with infinitely many resamples.
        "bootstrap": (stats.binom.ppf([0.025, 0.975], 400, right.mean()) / 400).tolist(),
    }


def main():
    warnings.simplefilter("ignore")
    x, y, q, qy = make_embeddings()
    rng = np.random.default_rng(7)
    golden = {
        "made_with": {"numpy": np.__version__, "scipy": scipy.__version__, "scikit-learn": sklearn.__version__},
        "points": x.astype(float).tolist(),
        "labels": y.tolist(),
        "queries": q.astype(float).tolist(),
        "query_labels": qy.tolist(),
        "retrieval_leave_one_out": retrieval(x, y),
        "retrieval": retrieval(x, y, q, qy),
        "knn": knn(x, y, q, qy),
        "verification": verification(x, y),
        "clustering": clustering(rng, x, y),
        "geometry": geometry(x, y),
        "calibration": calibration(rng),
        "probe": probe(x, y, q, qy),
        "statistics": statistics(rng),
        "ties": tied_set(*make_ties(np.random.default_rng(1))),
        "constant": tied_set(*make_constant()),
    }
    path = pathlib.Path(__file__).parent.parent / "crates/analysis/tests/golden/metrics.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(golden, indent=None, separators=(",", ":")) + "\n")
    print(f"{path}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
