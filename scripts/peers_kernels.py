"""Times a training step and an embedding beside PyTorch's CPU build, in turns, and prints medians and ratios.

    pip install torch torchvision
    cargo build --release -p xtask
    python scripts/peers_kernels.py --sizes 64:64,128:32 --rounds 5 --threads 2 --json peers.json

PyTorch gets its best setting: channels_last and contiguous, f32 and autocast to bf16 are all timed, the fastest counts, and its allocator
keeps large buffers (glibc's thresholds raised). Both sides compute ResNet-18 without a classifier, with AdamW, on one
batch again and again; Faceoff in f32, and in bf16 where the processor has instructions for it. Every number is a process of its own, so
that peak memory is that of the step alone.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
STEPS = 9
LAYOUTS = ("channels_last", "contiguous")


def torch_side(size, batch, threads, layout, precision):
    """Times PyTorch in this process; prints JSON."""
    import resource
    import time

    import torch
    import torchvision

    torch.set_num_threads(threads)
    net = torchvision.models.resnet18(weights=None)
    net.fc = torch.nn.Identity()
    images = torch.randn(batch, 3, size, size)
    if layout == "channels_last":
        net, images = net.to(memory_format=torch.channels_last), images.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-4, fused=True)
    cast = lambda: torch.autocast("cpu", torch.bfloat16) if precision == "bf16" else contextlib.nullcontext()

    def step():
        with cast():
            embeddings = net(images)
        optimizer.zero_grad(set_to_none=True)
        embeddings.backward(embeddings.detach())
        optimizer.step()

    def embed():
        with cast():
            return net(images)

    def seconds(run):
        run()
        times = []
        for _ in range(STEPS):
            started = time.perf_counter()
            run()
            times.append(time.perf_counter() - started)
        return statistics.median(times)

    training = seconds(step)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    net.eval()
    with torch.no_grad():
        embedding = seconds(embed)
    print(json.dumps({"step": batch / training, "embed": batch / embedding, "memory": memory}))


def ours(size, batch, threads, precision):
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.json"
        command = [ROOT / "target/release/xtask", "--root", ROOT, "bench", "kernels", "--step-only", "--image-size", size, "--batch", batch]
        command += ["--repeats", STEPS, "--threads", threads, "--precision", precision, "--json", out]
        subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL)
        found = json.loads(out.read_text())
    step = found["step"]
    return {"step": step["images_per_second"], "embed": found["embed"]["images_per_second"], "memory": step["peak_rss_mib"]}


def theirs(size, batch, threads, layout, precision):
    kept = {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str(1 << 32), "OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, __file__, "--torch", f"{size}:{batch}:{threads}:{layout}:{precision}"]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, env={**os.environ, **kept})
    return json.loads(output.stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default="64:64,128:32", help="image size:batch, separated by commas")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--torch", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.torch:
        size, batch, threads, layout, precision = options.torch.split(":")
        return torch_side(int(size), int(batch), int(threads), layout, precision)

    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    own = ["f32"] + (["bf16"] if "amx_bf16" in flags or "avx512_bf16" in flags else [])
    results = {}
    for size, batch in (map(int, pair.split(":")) for pair in options.sizes.split(",")):
        rounds = []
        for _ in range(options.rounds):
            sides = {f"faceoff {precision}": ours(size, batch, options.threads, precision) for precision in own}
            for layout in LAYOUTS:
                for precision in ("f32", "bf16"):
                    sides[f"PyTorch {layout} {precision}"] = theirs(size, batch, options.threads, layout, precision)
            rounds.append(sides)
        print(f"{size} px, batch {batch}, {options.threads} threads, medians of {options.rounds} rounds")
        median = lambda side, what: statistics.median(sides[side][what] for sides in rounds)
        for what, unit in (("step", "images/s"), ("embed", "images/s"), ("memory", "MiB")):
            best = max if unit == "images/s" else min
            peers = {side: median(side, what) for side in rounds[0] if side.startswith("PyTorch")}
            peer = best(peers, key=peers.get)
            for side in (side for side in rounds[0] if side not in peers):
                found = median(side, what)
                print(f"  {what:7} {side} {found:7.0f} {unit}  {found / peers[peer]:.2f} of {peer}, its best")
            print("          " + "  ".join(f"{side.removeprefix('PyTorch ')} {value:.0f}" for side, value in peers.items()))
        results[f"{size}:{batch}"] = rounds
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
