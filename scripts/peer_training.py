"""Faceoff's recipe in PyTorch, to be run beside it: speed of a step, of an epoch, and what is learnt.

usage: peer_training.py speed [--px 64 128] [--batch 64] [--device cuda] [--precision f32 tf32 bf16] [--channels-last]
           [--graphs] [--compile [default reduce-overhead max-autotune-no-cudagraphs]] [--seconds 1]
       peer_training.py train DATA OUT.json [--head Classification CosFace] [--epochs 3] [--seed 0 1 2] [--workers 8] [--decoded]
           and the options of the first line

`speed` times steps and inference on images that lie on the device, in both layouts unless told one: as Python calls it, with `--graphs` as one
CUDA graph a step, with `--compile` by torch.compile (both: what it compiles, in a graph), and says what is fastest. In bf16 a step runs under
autocast, and inference has its weights in bf16. `train` trains ResNet-18 with a linear classifier, or with
Catalyst's heads from its own files (folder CATALYST_LAYERS), on DATA/train and scores DATA/val: loss of every epoch, DNN and KNN
accuracy (k = 5, cosine), seconds, the share of them spent waiting for images, memory. Needs torch and torchvision.
"""

import argparse
import copy
import gc
import importlib.util
import itertools
import json
import os
import time

import torch
import torch.nn as nn
import torch.nn.functional as F
import torchvision
from torchvision import transforms as T

parser = argparse.ArgumentParser()
parser.add_argument("what", choices=["speed", "train"])
parser.add_argument("data", nargs="?")
parser.add_argument("out", nargs="?")
parser.add_argument("--px", type=int, nargs="+", default=[64])
parser.add_argument("--batch", type=int, default=64)
parser.add_argument("--epochs", type=int, default=3)
parser.add_argument("--seed", type=int, nargs="+", default=[0])
parser.add_argument("--workers", type=int, default=8)
parser.add_argument("--device", default="cuda")
parser.add_argument("--precision", choices=["f32", "tf32", "bf16"], nargs="+", default=["f32"])
parser.add_argument("--channels-last", action="store_true")
COMPILED = ["default", "reduce-overhead", "max-autotune-no-cudagraphs"]
parser.add_argument("--graphs", action="store_true", help="speed: whole steps as CUDA graphs too")
parser.add_argument("--compile", choices=COMPILED, nargs="*", help="speed: by torch.compile too, in these modes (the first two)")
parser.add_argument("--seconds", type=float, default=1.0, help="speed: spent on each number, without warming up")
parser.add_argument("--head", nargs="+", default=["Classification"])
parser.add_argument("--decoded", action="store_true", help="decode every image once and keep it in memory")
args = parser.parse_args()

device = torch.device(args.device)
torch.backends.cudnn.benchmark = True
layout = torch.channels_last if args.channels_last else torch.contiguous_format


def synchronize():
    if device.type == "cuda":
        torch.cuda.synchronize()


def arithmetic(precision):
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    return torch.autocast(args.device, torch.bfloat16, enabled=precision == "bf16")


def catalyst(file):
    spec = importlib.util.spec_from_file_location(file, os.path.join(os.environ["CATALYST_LAYERS"], file + ".py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# Catalyst's file of each head.
HEADS = {
    "ArcMarginProduct": "arcmargin",
    "CosFace": "cosface",
    "ArcFace": "arcface",
    "AdaCos": "cosface",
    "SubCenterArcFace": "arcface",
    "CurricularFace": "curricularface",
}


def model(classes, seed, name="Classification", layout=layout):
    torch.manual_seed(seed)
    encoder = torchvision.models.resnet18(weights=None)
    encoder.fc = nn.Identity()
    head = nn.Linear(512, classes) if name == "Classification" else getattr(catalyst(HEADS[name]), name)(512, classes)
    return encoder.to(device, memory_format=layout), head.to(device)


def optimizer(encoder, head, capturable=False):
    decay = [p for p in encoder.parameters() if p.dim() > 1]
    rest = [p for p in encoder.parameters() if p.dim() <= 1] + list(head.parameters())
    groups = [dict(params=decay, weight_decay=0.05), dict(params=rest, weight_decay=0.0)]
    return torch.optim.AdamW(groups, lr=3e-3, fused=True, capturable=capturable)


def scores(head, embeddings, labels):
    """With the margin of `labels`; without any where they are None."""
    takes_labels = type(head).__name__ not in ("Linear", "ArcMarginProduct")
    return head(embeddings, labels) if takes_labels else head(embeddings)


def step(encoder, head, opt, half, x, y):
    with half:
        embeddings = encoder(x.to(memory_format=layout))
    loss = F.cross_entropy(scores(head, embeddings.float(), y), y)
    opt.zero_grad(set_to_none=True)
    loss.backward()
    opt.step()
    return loss


class Decoded(torchvision.datasets.ImageFolder):
    """Images that are decoded once, before workers are forked, which share them."""

    kept = {}

    def __init__(self, root, view):
        super().__init__(root, view, loader=self.image)

    def image(self, path):
        if path not in Decoded.kept:
            Decoded.kept[path] = torchvision.datasets.folder.pil_loader(path)
        return Decoded.kept[path]

    def decode(self):
        for path, _ in self.samples:
            self.image(path)


def rate(call):
    """Images a second: the median of five rounds, which take `--seconds` together."""
    for _ in range(6):
        synchronize()
        started = time.perf_counter()
        call()
        synchronize()
        once = time.perf_counter() - started
    calls, rounds = max(1, round(args.seconds / 5 / once)), []
    for _ in range(5):
        started = time.perf_counter()
        for _ in range(calls):
            call()
        synchronize()
        rounds.append((time.perf_counter() - started) / calls)
    return round(args.batch / sorted(rounds)[2])


def captured(call, before):
    """Replays `call` as one CUDA graph, which is warmed up and recorded as PyTorch's notes on CUDA graphs say."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(side)
    before()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay


def speed(px, precision, layout, how):
    """Rates of steps and of inference, by how they are run: `how`, and where that can be recorded, in a graph."""
    half = arithmetic(precision)
    encoder, head = model(10, 0, layout=layout)
    encoder.train()
    opt = optimizer(encoder, head, capturable=device.type == "cuda")
    still = copy.deepcopy(encoder).eval()
    x = torch.randn(args.batch, 3, px, px, device=device).to(memory_format=layout)
    y = torch.randint(10, (args.batch,), device=device)
    still_x = x
    if precision == "bf16":
        still, still_x = still.to(torch.bfloat16), x.to(torch.bfloat16)

    def loss(x, y):
        with half:
            embeddings = encoder(x)
        return F.cross_entropy(head(embeddings.float()), y)

    forget = lambda: opt.zero_grad(set_to_none=True)
    if how != "eager":
        torch._dynamo.reset()
        loss, still = [torch.compile(of, mode=how, dynamic=False) for of in (loss, still)]

    def training():
        if how == "reduce-overhead":
            torch.compiler.cudagraph_mark_step_begin()
        forget()
        loss(x, y).backward()
        opt.step()

    def inference():
        if how == "reduce-overhead":
            torch.compiler.cudagraph_mark_step_begin()
        with torch.no_grad():
            still(still_x)

    yield how, dict(step=rate(training), embed=rate(inference))
    if args.graphs and device.type == "cuda" and how != "reduce-overhead":
        yield f"{how}, graph", dict(step=rate(captured(training, forget)), embed=rate(captured(inference, forget)))


def speeds():
    """All combinations, what has to be compiled last; one that fails says so in a line. Then the fastest of each column."""
    compiled = [] if args.compile is None else args.compile or COMPILED[:2]
    layouts = dict(channels_last=torch.channels_last)
    if not args.channels_last:
        layouts["contiguous"] = torch.contiguous_format
    found = []
    for how, px, precision, layout in itertools.product(["eager"] + compiled, args.px, args.precision, layouts):
        named = dict(px=px, batch=args.batch, precision=precision, layout=layout)
        try:
            started = time.perf_counter()
            for name, rates in speed(px, precision, layouts[layout], how):
                seconds = round(time.perf_counter() - started, 1)
                found.append(dict(**named, how=name, **rates, seconds=seconds))
                print("speed", json.dumps(found[-1]), flush=True)
        except Exception as error:
            lines = str(error).strip().splitlines() or [""]
            print("failed", json.dumps(dict(**named, how=how, error=f"{type(error).__name__}: {lines[0]}")), flush=True)
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
    for px, precision, column in itertools.product(args.px, args.precision + [None], ("step", "embed")):
        of = [one for one in found if one["px"] == px and precision in (None, one["precision"])]
        if of:
            best = max(of, key=lambda one: one[column])
            print(f"best {column} at {px} px, {precision or 'any precision'}: {best[column]} images/s", end="")
            print(f" ({best['precision']}, {best['layout']}, {best['how']})", flush=True)
    return found


def train(px, half, seed, head_name):
    norm = T.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    crop = T.RandomResizedCrop(px, scale=(0.35, 1.0))
    augment = T.Compose([crop, T.RandomHorizontalFlip(), T.ToTensor(), norm])
    plain = T.Compose([T.Resize(round(px * 1.14)), T.CenterCrop(px), T.ToTensor(), norm])
    images = Decoded if args.decoded else torchvision.datasets.ImageFolder
    folder = lambda split, view: images(os.path.join(args.data, split), view)
    train_set = folder("train", augment)
    if args.decoded:
        train_set.decode()

    def loader(data, training):
        workers = dict(num_workers=args.workers, persistent_workers=training, pin_memory=device.type == "cuda")
        return torch.utils.data.DataLoader(data, args.batch, shuffle=training, drop_last=training, **workers)

    encoder, head = model(len(train_set.classes), seed, head_name)
    opt = optimizer(encoder, head)
    batches = loader(train_set, True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        opt, 3e-3, total_steps=args.epochs * len(batches), pct_start=0.25
    )
    result = dict(losses=[], seconds=[], waiting=[])
    for _ in range(args.epochs):
        encoder.train()
        head.train()
        started, waited, total = time.perf_counter(), 0.0, 0.0
        source = iter(batches)
        for _ in range(len(batches)):
            asked = time.perf_counter()
            x, y = next(source)
            waited += time.perf_counter() - asked
            x, y = x.to(device, non_blocking=True), y.to(device, non_blocking=True)
            total += float(step(encoder, head, opt, half, x, y).detach())
            schedule.step()
        synchronize()
        seconds = time.perf_counter() - started
        result["losses"].append(round(total / len(batches), 5))
        result["seconds"].append(round(seconds, 3))
        result["waiting"].append(round(waited / seconds, 3))

    encoder.eval()
    head.eval()
    started, found = time.perf_counter(), {}
    with torch.no_grad():
        for split in ("train", "val"):
            rows = []
            for x, y in loader(folder(split, plain), False):
                with half:
                    embeddings = encoder(x.to(device, memory_format=layout)).float()
                rows.append((F.normalize(embeddings), y.to(device), scores(head, embeddings, None).argmax(1)))
            found[split] = [torch.cat(column) for column in zip(*rows)]
        synchronize()
        result["seconds_embed"] = round(time.perf_counter() - started, 3)
        (index, index_labels, _), (queries, labels, predictions) = found["train"], found["val"]
        result["dnn_accuracy"] = (predictions == labels).float().mean().item()
        # Each of the five nearest votes; the nearer ones break ties.
        nearest = index_labels[(queries.double() @ index.double().T).topk(5).indices]
        weight = 1 + torch.tensor([1e-1, 1e-2, 1e-3, 1e-4, 1e-5], dtype=torch.float64, device=device)
        votes = torch.zeros(len(queries), len(train_set.classes), dtype=torch.float64, device=device)
        votes.scatter_add_(1, nearest, weight.expand(nearest.shape))
        result["knn_accuracy"] = (votes.argmax(1) == labels).float().mean().item()
    return result


def trainings():
    found = []
    for px, precision, head_name, seed in itertools.product(args.px, args.precision, args.head, args.seed):
        if device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        measured = train(px, arithmetic(precision), seed, head_name)
        if device.type == "cuda":
            measured["allocated_mib"] = torch.cuda.max_memory_allocated() // 2**20
            measured["reserved_mib"] = torch.cuda.max_memory_reserved() // 2**20
        found.append(dict(px=px, batch=args.batch, precision=precision, head=head_name, seed=seed, **measured))
        print("train", json.dumps(found[-1]), flush=True)
    return found


results = trainings() if args.what == "train" else speeds()
if args.out:
    with open(args.out, "w") as file:
        json.dump(dict(arguments=vars(args), torch=torch.__version__, results=results), file, indent=1)
