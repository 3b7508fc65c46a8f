"""Checks the golden values of the heads that Catalyst does not have: their formulas in PyTorch, once in float64, once in float32.

    pip install torch
    python scripts/golden_formulas.py crates/heads/tests/golden

The files hold what pytorch-metric-learning 2.9 or the paper's formula gave in float64; here the formulas are written once more, from the papers and their
authors' code. Float64 must agree to 1e-12. Float32 shows what a formula loses there, in the measure of `crates/heads/tests/it/golden.rs`.
"""

import argparse
import json
import math
import sys
from pathlib import Path

import torch
import torch.nn.functional as F


def arcface(c, own, h):
    beyond = c <= math.cos(math.pi - h["m"])
    label = torch.where(beyond, c - h["m"] * math.sin(h["m"]), torch.cos(torch.acos(c.clamp(-1, 1)) + h["m"]))
    return h["s"] * torch.where(own, label, c)


def adaface(c, own, x, h, state):
    eps, own = h["eps"], own.to(c.dtype)
    norms = x.norm(dim=1, keepdim=True).clamp(0.001, 100).detach()
    if len(x) > 1:
        new = h["t_alpha"]
        state["norm_mean"] = float(norms.mean()) * new + (1 - new) * state["norm_mean"]
        state["norm_std"] = float(norms.std()) * new + (1 - new) * state["norm_std"]
    z = ((norms - state["norm_mean"]) / (state["norm_std"] + eps) * h["h"]).clamp(-1, 1)
    theta = (c.clamp(-1 + eps, 1 - eps).acos() - own * h["m"] * z).clamp(eps, math.pi - eps)
    return h["s"] * (theta.cos() - own * (h["m"] + h["m"] * z))


def magface(c, own, x, y, h):
    norms = x.norm(dim=1, keepdim=True).clamp(h["l_a"], h["u_a"])
    m = (h["u_m"] - h["l_m"]) / (h["u_a"] - h["l_a"]) * (norms - h["l_a"]) + h["l_m"]
    c = c.clamp(-1, 1)
    label = torch.where(c > 0, c * m.cos() - torch.sqrt(1 - c**2) * m.sin(), c)
    logits = h["s"] * torch.where(own, label, c)
    return logits, F.cross_entropy(logits, y) + h["lambda_g"] * (norms / h["u_a"] ** 2 + 1 / norms).mean()


def sphereface_r(c, own, h):
    with torch.no_grad():
        angle = c.clamp(-1 + 1e-5, 1 - 1e-5).acos()
        angle = torch.where(own, angle * h["m"], angle)
        k = (angle / math.pi).floor()
        shift = (1 - 2 * torch.remainder(k, 2)) * angle.cos() - 2 * k - c
    return h["s"] * (c + shift)


def sphereface2(c, own, bias, h):
    own = own.to(c.dtype)
    with torch.no_grad():
        shift = 2 * ((c + 1) / 2) ** h["t"] - 1 - h["m"] * (2 * own - 1) - c
    logits = h["r"] * (c + shift) + bias
    weight = h["lw"] * c.shape[1] / h["r"] * (h["alpha"] * own + (1 - h["alpha"]) * (1 - own))
    return logits, F.binary_cross_entropy_with_logits(logits, own, weight=weight)


def proxy_anchor(c, own, h):
    def log_one_plus_sum(exponents, mask):
        exponents = torch.cat([exponents.masked_fill(~mask, -torch.inf), torch.zeros_like(c[:1])])
        return torch.logsumexp(exponents, 0)

    present = own.any(0)
    drawn = log_one_plus_sum(-h["alpha"] * (c - h["m"]), own)[present].mean()
    return drawn + log_one_plus_sum(h["alpha"] * (c + h["m"]), ~own).mean()


def mean_above_zero(costs):
    above = costs[costs > 0]
    return above.mean() if len(above) else 0 * costs.sum()


def sup_con(u, y, h):
    itself = torch.eye(len(y), dtype=torch.bool)
    same = (y[:, None] == y) & ~itself
    similarities = u @ u.T / h["temperature"]
    logs = similarities - torch.logsumexp(similarities.masked_fill(itself, -torch.inf), 1, keepdim=True)
    return mean_above_zero(-(logs * same).sum(1) / same.sum(1).clamp(min=1))


def triplet(u, y, h):
    squares = (u[:, None] - u).pow(2).sum(2)
    distances = torch.where(squares > 0, squares, 1).sqrt() * (squares > 0)
    same = (y[:, None] == y) & ~torch.eye(len(y), dtype=torch.bool)
    triplets = same[:, :, None] & (y[:, None] != y)[:, None, :]
    return mean_above_zero(F.relu(distances[:, :, None] - distances[:, None, :] + h["m"])[triplets])


def compute(golden, dtype):
    """What the inputs of a file give, step by step."""
    head, h = golden["head"], golden["hyper"]
    weight = None if golden["weight"] is None else torch.tensor(golden["weight"], dtype=torch.float64).to(dtype)
    state = dict(golden["steps"][0]["state_before"])
    for inputs in golden["steps"]:
        x = torch.tensor(inputs["embeddings"], dtype=torch.float64).to(dtype).requires_grad_()
        y = torch.tensor(inputs["targets"])
        u, logits, loss, scores, bias, w = F.normalize(x, dim=1), None, None, None, None, None
        if weight is not None:
            on_sphere = head in ("SphereFaceR", "SphereFace2")
            w = (F.normalize(weight, dim=-1) if on_sphere else weight).clone().requires_grad_()
            unit = w if on_sphere else F.normalize(w, dim=-1)
            own = F.one_hot(y, golden["classes"]).bool()
            scores = torch.einsum("bf,ckf->bck", u, unit) if w.dim() == 3 else u @ unit.T
        if head == "NormFace":
            logits = h["s"] * scores
        elif head == "ArcFace":
            logits = arcface(scores, own, h)
        elif head == "SubCenterArcFace":
            scores = scores.max(2).values
            logits = arcface(scores, own, h)
        elif head == "AdaFace":
            logits = adaface(scores, own, x, h, state)
        elif head == "MagFace":
            logits, loss = magface(scores, own, x, y, h)
        elif head == "SphereFaceR":
            logits = sphereface_r(scores, own, h)
        elif head == "SphereFace2":
            bias = torch.tensor([state["bias"]], dtype=torch.float64).to(dtype).requires_grad_()
            logits, loss = sphereface2(scores, own, bias, h)
        elif head == "ProxyAnchor":
            loss = proxy_anchor(scores, own, h)
        elif head == "SoftTriple":
            scores = (F.softmax(scores / h["gamma"], 2) * scores).sum(2)
            logits = h["la"] * (scores - h["m"] * own.to(dtype))
        elif head == "SupCon":
            loss = sup_con(u, y, h)
        elif head == "Triplet":
            loss = triplet(u, y, h)
        else:
            sys.exit(f"no formula of {head} here")
        loss = F.cross_entropy(logits, y) if loss is None else loss
        loss.backward()
        found = {"loss": loss, "logits": logits, "inference_scores": scores, "grad_embeddings": x.grad}
        found |= {"grad_weight": None if w is None else w.grad, "grad_bias": None if bias is None else bias.grad}
        yield {key: value.detach().double() for key, value in found.items() if value is not None} | {"state_after": dict(state)}


def worst_error(golden, dtype):
    """The largest error in the measure of the Rust test, and whose it is."""
    h = golden["hyper"]
    scale = next((h[key] for key in ("s", "r", "la", "alpha") if key in h), 1 / h.get("temperature", 1.0))
    worst = (0.0, "")
    for expected, found in zip(golden["steps"], compute(golden, dtype), strict=True):
        for key, values in expected.items():
            if key == "state_after":
                errors = [abs(found[key][name] - value) / max(abs(value), 1) for name, value in values.items()] or [0.0]
            elif key not in found:
                continue
            else:
                old = torch.tensor(values, dtype=torch.float64)
                if key.startswith("grad"):
                    owner = {"grad_embeddings": expected["embeddings"], "grad_weight": golden["weight"]}.get(key, [[1.0]])
                    norms = torch.tensor(owner, dtype=torch.float64).norm(dim=-1)
                    unit = (old.norm(dim=-1) * norms).clamp(min=0.01 * scale / golden["batch"])
                    errors = ((old - found[key]).norm(dim=-1) * norms / unit).flatten().tolist()
                else:
                    unit = old.abs().clamp(min=0.01 if key == "inference_scores" else scale / 100)
                    errors = ((old - found[key]).abs() / unit).flatten().tolist()
            worst = max(worst, (max(errors), key))
    return worst


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tolerance", type=float, default=1e-12)
    args = parser.parse_args()
    files = [(file, json.loads(file.read_text())) for file in sorted(args.folder.glob("*.json"))]
    files = [(file, golden) for file, golden in files if "state_before" in golden["steps"][0]]
    worst = 0.0
    for file, golden in files:
        (f64, key), (f32, of) = worst_error(golden, torch.float64), worst_error(golden, torch.float32)
        print(f"{file.name:40} f64 {f64:.1e} {key:18} f32 {f32:.1e} {of}")
        worst = max(worst, f64)
    if not files or worst > args.tolerance:
        sys.exit(f"{len(files)} files; the largest error is {worst:.1e}, and {args.tolerance:.0e} is allowed")
    print(f"{len(files)} files, largest error {worst:.1e}")


if __name__ == "__main__":
    main()
