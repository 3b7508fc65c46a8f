"""Makes crates/kernels/tests/golden/resnet18.json, resnet34.json and resnet50.json: torchvision's ResNets in float64 on weights and images
that a formula gives.

usage: python scripts/golden_encoder.py        (needs torch and torchvision)
Each case holds, for a loss `sum(embeddings * direction)`: the embeddings, every parameter's gradient as two projections, the running
statistics likewise, and the same after three AdamW steps with a cycled beta1.
"""
import json, math, pathlib
import torch, torchvision

torch.set_default_dtype(torch.float64)


def wave(count, phase):
    return torch.sin(torch.arange(count, dtype=torch.float64) * 0.7 + phase)


def chirp(count, phase):
    """A wave that makes matrices of full rank, which in 50 layers decides whether rounding stays small."""
    index = torch.arange(count, dtype=torch.float64) % 509
    return torch.sin(index * index * 0.7 + phase)


def projections(tensor):
    flat = tensor.detach().flatten()
    return [float(flat @ wave(flat.numel(), 0.3)), float(flat.norm())]


def network(name):
    net = getattr(torchvision.models, name)(weights=None)
    dim, net.fc = net.fc.in_features, torch.nn.Identity()
    of_kernels = chirp if isinstance(net.layer1[0], torchvision.models.resnet.Bottleneck) else wave
    with torch.no_grad():
        for index, (name, parameter) in enumerate(net.named_parameters()):
            values = (of_kernels if parameter.dim() > 1 else wave)(parameter.numel(), index).reshape(parameter.shape)
            if parameter.dim() > 1:
                out, _, kernel, _ = parameter.shape
                parameter.copy_(values * 2.0 / math.sqrt(out * kernel * kernel))
            elif name.endswith("bn3.weight"):
                parameter.copy_(0.1 + 0.05 * values)
            elif name.endswith("weight"):
                parameter.copy_(1.0 + 0.1 * values)
            else:
                parameter.copy_(0.1 * values)
    return net, dim


def images(count, size):
    index = torch.arange(count * size * size * 3)
    pixels = (index * 7919 + index // 97 * 31) % 256
    pixels = pixels.reshape(count, size, size, 3)
    x = pixels.to(torch.float64).permute(0, 3, 1, 2) / 255.0
    mean = torch.tensor([0.485, 0.456, 0.406], dtype=torch.float32).double().reshape(1, 3, 1, 1)
    deviation = torch.tensor([0.229, 0.224, 0.225], dtype=torch.float32).double().reshape(1, 3, 1, 1)
    return (x - mean) / deviation


def case(name, count, size):
    (net, dim), x = network(name), images(count, size)
    direction = wave(count * dim, 0.1).reshape(count, dim)
    decay = [p for p in net.parameters() if p.dim() > 1]
    rest = [p for p in net.parameters() if p.dim() <= 1]
    optimizer = torch.optim.AdamW([dict(params=decay, weight_decay=0.05), dict(params=rest, weight_decay=0.0)], lr=1e-3, eps=1e-8)
    result = dict(count=count, size_px=size, steps=[])
    for step, beta1 in enumerate([0.95, 0.9, 0.85]):
        net.train()
        embeddings = net(x)
        if step == 0:
            result["embeddings"] = [projections(row) for row in embeddings]
        optimizer.zero_grad()
        (embeddings * direction).sum().backward()
        if step == 0:
            result["gradients"] = {name: projections(p.grad) for name, p in net.named_parameters()}
            result["buffers"] = {name: projections(b.double()) for name, b in net.named_buffers()}
        for group in optimizer.param_groups:
            group["lr"], group["betas"] = 1e-3 * (step + 1), (beta1, 0.999)
        optimizer.step()
        net.eval()
        with torch.no_grad():
            result["steps"].append(dict(learning_rate=1e-3 * (step + 1), beta1=beta1, embeddings=[projections(row) for row in net(x)]))
    return result


folder = pathlib.Path(__file__).resolve().parent.parent / "crates/kernels/tests/golden"
for name, sizes in [("resnet18", [(3, 33), (2, 48)]), ("resnet34", [(3, 33)]), ("resnet50", [(2, 97)])]:
    out = folder / f"{name}.json"
    out.write_text(json.dumps([case(name, count, size) for count, size in sizes], indent=1) + "\n")
    print("wrote", out)
