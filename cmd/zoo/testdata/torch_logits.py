"""The other side of torch_test.go.

write DIR MODEL...: saves a random checkpoint of each torchvision model in both of torch.save's formats, x.npy, MODEL.npy, its logits, and
MODEL.cam.npy, the class activation maps of each image's largest logit.
check DIR MODEL...: fails unless load_state_dict(strict=True) takes each MODEL.out.pth and the logits are the same to the bit.
"""
import os
import sys

import numpy
import torch
import torchvision


def build(name):
    options = {"init_weights": False} if name == "googlenet" else {}
    return getattr(torchvision.models, name)(**options)


def logits(model, x):
    """Computed in float64, since PyTorch's own rounding errors in float32 are as large as those that are looked for."""
    with torch.no_grad():
        return model.eval().double()(x.double()).float().numpy()


def activation_maps(name, model, x):
    """Grad-CAM of the map that the classifier reads, likewise."""
    last = {"resnet18": "layer4", "googlenet": "inception5b"}
    kept = []
    layer = getattr(model, last.get(name, "features"))
    hook = layer.register_forward_hook(lambda module, args, out: kept.append(out))
    y = model.eval().double()(x.double())
    hook.remove()
    gradient, = torch.autograd.grad(y.max(1).values.sum(), kept)
    return (gradient.mean((2, 3), keepdim=True) * kept[0]).sum(1).relu().detach().float().numpy()


def write(folder, names):
    torch.manual_seed(1)
    x = torch.rand(2, 3, 64, 80)
    numpy.save(os.path.join(folder, "x.npy"), x.numpy())
    for name in names:
        model = build(name).train()
        for m in model.modules():
            if isinstance(m, torch.nn.BatchNorm2d):
                m.momentum = None  # so that its statistics are those of the one batch, and logits depend on the image
        with torch.no_grad():
            model(torch.rand(4, 3, 96, 96))
        for kind, zipped in ("zip", True), ("legacy", False):
            torch.save(model.state_dict(), os.path.join(folder, f"{name}.{kind}.pth"), _use_new_zipfile_serialization=zipped)
        y = logits(model, x)
        assert numpy.linalg.norm(y[0] - y[1]) > 1e-2 * numpy.linalg.norm(y[0]), name
        numpy.save(os.path.join(folder, f"{name}.npy"), y)
        numpy.save(os.path.join(folder, f"{name}.cam.npy"), activation_maps(name, model, x))


def check(folder, names):
    x = torch.from_numpy(numpy.load(os.path.join(folder, "x.npy")))
    for name in names:
        model = build(name)
        model.load_state_dict(torch.load(os.path.join(folder, f"{name}.out.pth")), strict=True)
        assert (logits(model, x) == numpy.load(os.path.join(folder, f"{name}.npy"))).all(), name


{"write": write, "check": check}[sys.argv[1]](sys.argv[2], sys.argv[3:])
