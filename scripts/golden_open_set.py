"""Makes crates/analysis/tests/golden/open_set.json: made-up scores and embeddings, and what definitions and scikit-learn say of them.

    pip install numpy scikit-learn
    python scripts/golden_open_set.py

Everything is computed in float64 from the numbers in the file. AUROC and FPR at 95 % TPR are OpenOOD's, of unknown points as positives
(openood/evaluators/metrics.py: roc_curve of -score, first TPR of at least 0.95), by scikit-learn. OSCR is integrated over its curve point by
point, as Dhamija et al. draw it. OPIS is written out over all pairs.
"""

import json
import pathlib

import numpy as np
import sklearn
from sklearn import metrics

FAR = (1e-2, 1e-1)
THRESHOLDS = 101


def unit(x):
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def open_set(known, right, unknown):
    is_unknown = np.r_[np.zeros(len(known)), np.ones(len(unknown))]
    scores = np.r_[known, unknown]
    fpr, tpr, _ = metrics.roc_curve(is_unknown, -scores, drop_intermediate=False)
    auroc = metrics.roc_auc_score(is_unknown, -scores)
    assert abs(metrics.auc(fpr, tpr) - auroc) < 1e-12
    # From a threshold that nothing reaches to one that everything does.
    thresholds = np.r_[np.inf, np.unique(scores)[::-1]]
    ccr = [np.mean(right & (known >= t)) for t in thresholds]
    accepted = [np.mean(unknown >= t) for t in thresholds]
    return {
        "known": known.tolist(),
        "right": right.tolist(),
        "unknown": unknown.tolist(),
        "auroc": auroc,
        "fpr_at_95_tpr": fpr[np.argmax(tpr >= 0.95)],
        "oscr": np.trapezoid(ccr, accepted),
    } | threshold(known, unknown)


def threshold(known, unknown):
    candidates = np.sort(np.r_[known, unknown])
    gaps = [abs(np.mean(unknown >= t) - np.mean(known < t)) for t in candidates]
    best = candidates[np.flatnonzero(np.array(gaps) <= min(gaps) + 1e-12)[0]]
    return {"threshold": best, "false_accept": np.mean(unknown >= best), "false_reject": np.mean(known < best)}


def opis(x, y):
    x = x.astype(float)
    i, j = np.triu_indices(len(x), 1)
    cosines = (x @ x.T)[i, j]
    same = y[i] == y[j]
    rejected = np.sort(cosines[~same])[::-1]
    # The lowest cosine that accepts at most so many pairs of two classes, as a distance of unit vectors.
    ends = [np.sqrt(2 - 2 * rejected[int(np.floor(far * len(rejected))) - 1]) for far in FAR]
    utilities = []
    for c in np.unique(y):
        own = same & (y[i] == c)
        other = ~same & ((y[i] == c) | (y[j] == c))
        if not own.any():
            continue
        row = []
        for d in np.linspace(*ends, THRESHOLDS):
            # The ends are distances of pairs, which they accept.
            t = 1 - d**2 / 2 - 1e-9
            sensitivity, specificity = np.mean(cosines[own] >= t), np.mean(cosines[other] < t)
            total = sensitivity + specificity
            row.append(2 * sensitivity * specificity / total if total else 0.0)
        utilities.append(row)
    u = np.array(utilities)
    return np.mean((u - u.mean(0)) ** 2)


def main():
    rng = np.random.default_rng(3)
    cases = {}
    for name, decimals in (("scores", 12), ("ties", 1)):
        known = np.round(0.6 + 0.2 * rng.standard_normal(83), decimals)
        unknown = np.round(0.4 + 0.2 * rng.standard_normal(61), decimals)
        cases[name] = open_set(known, rng.random(83) < 0.8, unknown)
    cases["apart"] = open_set(np.array([0.9, 0.8]), np.array([True, False]), np.array([0.1, 0.2, 0.3]))
    cases["equal"] = open_set(np.full(4, 0.5), np.array([True, True, True, False]), np.full(3, 0.5))
    # The last class has one member; classes scatter differently, so that no threshold serves all alike.
    counts, noise = [14, 12, 9, 7, 1], np.array([0.2, 0.4, 0.6, 0.3, 0.3])
    y = np.repeat(np.arange(5), counts)
    x = unit(unit(rng.standard_normal((5, 8)))[y] + noise[y, None] * rng.standard_normal((len(y), 8)))
    golden = {
        "made_with": {"numpy": np.__version__, "scikit-learn": sklearn.__version__},
        "cases": cases,
        "points": x.astype(float).tolist(),
        "labels": y.tolist(),
        "opis": opis(x, y),
    }
    path = pathlib.Path(__file__).parent.parent / "crates/analysis/tests/golden/open_set.json"
    path.write_text(json.dumps(golden, indent=None, separators=(",", ":")) + "\n")
    print(f"{path}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
