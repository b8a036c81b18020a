#!/usr/bin/env python3
"""Writes forward goldens by the rules of testdata/goldens/README.md.

    forward.py FOLDER MODEL:NxCxHxW[:GAIN] ...

Needs PyTorch, numpy and torchvision; timm for the models that torchvision lacks. Networks that neither has are written out here, from
their papers, with the module names that zoo gives them.
"""
import base64
import json
import os
import sys
import warnings

warnings.simplefilter("ignore")
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torchvision import models


def uniform(name, n):
    mask = (1 << 64) - 1
    h = 0xCBF29CE484222325
    for c in name.encode():
        h = ((h ^ c) * 0x100000001B3) & mask
    with np.errstate(over="ignore"):
        s = np.uint64(h) + np.uint64(0x9E3779B97F4A7C15) * np.arange(1, n + 1, dtype=np.uint64)
        s = (s ^ (s >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        s = (s ^ (s >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        s = s ^ (s >> np.uint64(31))
    return (s >> np.uint64(40)).astype(np.float64) / 2**24


def fill(model, gain):
    state = model.state_dict()
    norms = {k[: -len("running_mean")] for k in state if k.endswith("running_mean")}
    for key, value in state.items():
        if key.endswith("num_batches_tracked"):
            continue
        prefix, leaf = key[: key.rfind(".") + 1], key[key.rfind(".") + 1 :]
        u, shape = uniform(key, value.numel()), value.shape
        if leaf == "running_var":
            v = 0.5 + u
        elif leaf == "running_mean":
            v = 0.2 * u - 0.1
        elif prefix in norms and leaf == "weight":
            v = gain * (0.8 + 0.4 * u)
        elif prefix in norms and leaf == "bias":
            v = 0.2 * u - 0.1
        elif value.dim() == 4:
            v = (2 * u - 1) * np.sqrt(6 / (shape[1] * shape[2] * shape[3]))
        elif value.dim() == 2:
            v = (2 * u - 1) * np.sqrt(3 / shape[1])
        elif leaf == "layer_scale":
            v = gain * (0.1 + 0.2 * u)
        elif leaf == "weight":
            v = gain * (0.8 + 0.4 * u)
        else:
            v = 0.2 * u - 0.1
        value.copy_(torch.from_numpy(v.astype(np.float32)).reshape(shape))


def tensor(name, shape):
    x = 4 * uniform(name, int(np.prod(shape))) - 2
    return torch.from_numpy(x.astype(np.float32)).reshape(shape)


class Sequence(nn.Module):
    """features, a pooling to a fixed size, classifier."""

    def __init__(self, features, size, classifier):
        super().__init__()
        self.features, self.avgpool, self.classifier = nn.Sequential(*features), nn.AdaptiveAvgPool2d(size), nn.Sequential(*classifier)

    def forward(self, x):
        return self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))


def response_norm():
    return nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0)


def alexnet_original():
    f = [nn.Conv2d(3, 96, 11, 4, 2), nn.ReLU(), response_norm(), nn.MaxPool2d(3, 2)]
    f += [nn.Conv2d(96, 256, 5, 1, 2, groups=2), nn.ReLU(), response_norm(), nn.MaxPool2d(3, 2)]
    f += [nn.Conv2d(256, 384, 3, 1, 1), nn.ReLU(), nn.Conv2d(384, 384, 3, 1, 1, groups=2), nn.ReLU()]
    f += [nn.Conv2d(384, 256, 3, 1, 1, groups=2), nn.ReLU(), nn.MaxPool2d(3, 2)]
    c = [nn.Dropout(), nn.Linear(9216, 4096), nn.ReLU(), nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU(), nn.Linear(4096, 1000)]
    return Sequence(f, 6, c)


def vgg(stages):
    f, channels = [], 3
    for stage in stages:
        for out in stage:
            if out == "lrn":
                f.append(response_norm())
                continue
            f += [nn.Conv2d(channels, abs(out), 1 if out < 0 else 3, 1, 0 if out < 0 else 1), nn.ReLU()]
            channels = abs(out)
        f.append(nn.MaxPool2d(2, 2))
    c = [nn.Linear(25088, 4096), nn.ReLU(), nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout(), nn.Linear(4096, 1000)]
    return Sequence(f, 7, c)


class LeNet5(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 6, 5), nn.Conv2d(6, 16, 5)
        self.fc1, self.fc2, self.fc3 = nn.Linear(400, 120), nn.Linear(120, 84), nn.Linear(84, 10)

    def forward(self, x):
        x = F.avg_pool2d(torch.tanh(self.conv1(x)), 2)
        x = F.avg_pool2d(torch.tanh(self.conv2(x)), 2)
        x = torch.flatten(F.adaptive_avg_pool2d(x, 5), 1)
        return self.fc3(torch.tanh(self.fc2(torch.tanh(self.fc1(x)))))


class BNInception(nn.Module):
    """Rows: 1x1, 3x3 reduce, 3x3, double 3x3 reduce, double 3x3, pooling, projection."""

    rows = {
        "3a": (64, 64, 64, 64, 96, "avg", 32), "3b": (64, 64, 96, 64, 96, "avg", 64), "3c": (0, 128, 160, 64, 96, "max", 0),
        "4a": (224, 64, 96, 96, 128, "avg", 128), "4b": (192, 96, 128, 96, 128, "avg", 128),
        "4c": (160, 128, 160, 128, 160, "avg", 128), "4d": (96, 128, 192, 160, 192, "avg", 128), "4e": (0, 128, 192, 192, 256, "max", 0),
        "5a": (352, 192, 320, 160, 224, "avg", 128), "5b": (352, 192, 320, 192, 224, "max", 128),
    }

    def __init__(self):
        super().__init__()
        self.layer("conv1_7x7_s2", 3, 64, 7, 2)
        self.layer("conv2_3x3_reduce", 64, 64, 1)
        self.layer("conv2_3x3", 64, 192, 3)
        c = 192
        for name, (one, r3, c3, rd, d, _, proj) in self.rows.items():
            p, s = f"inception_{name}_", 1 if one else 2
            if one:
                self.layer(p + "1x1", c, one, 1)
            self.layer(p + "3x3_reduce", c, r3, 1)
            self.layer(p + "3x3", r3, c3, 3, s)
            self.layer(p + "double_3x3_reduce", c, rd, 1)
            self.layer(p + "double_3x3_1", rd, d, 3)
            self.layer(p + "double_3x3_2", d, d, 3, s)
            if proj:
                self.layer(p + "pool_proj", c, proj, 1)
            c = one + c3 + d + (proj or c)
        self.last_linear = nn.Linear(c, 1000)

    def layer(self, name, i, o, k, s=1):
        self.add_module(name, nn.Conv2d(i, o, k, s, k // 2))
        self.add_module(name + "_bn", nn.BatchNorm2d(o))

    def run(self, name, x):
        return F.relu(getattr(self, name + "_bn")(getattr(self, name)(x)))

    def forward(self, x):
        half = lambda x: F.max_pool2d(x, 3, 2, ceil_mode=True)
        x = half(self.run("conv1_7x7_s2", x))
        x = half(self.run("conv2_3x3", self.run("conv2_3x3_reduce", x)))
        for name, (one, _, _, _, _, pool, proj) in self.rows.items():
            p = f"inception_{name}_"
            y = [self.run(p + "1x1", x)] if one else []
            y.append(self.run(p + "3x3", self.run(p + "3x3_reduce", x)))
            y.append(self.run(p + "double_3x3_2", self.run(p + "double_3x3_1", self.run(p + "double_3x3_reduce", x))))
            if not proj:
                y.append(half(x))
            else:
                y.append(self.run(p + "pool_proj", F.avg_pool2d(x, 3, 1, 1) if pool == "avg" else F.max_pool2d(x, 3, 1, 1)))
            x = torch.cat(y, 1)
        return self.last_linear(x.mean((2, 3)))


OWN = {
    "alexnet_original": alexnet_original,
    "vgg11_lrn": lambda: vgg([[64, "lrn"], [128], [256, 256], [512, 512], [512, 512]]),
    "vgg16_c": lambda: vgg([[64, 64], [128, 128], [256, 256, -256], [512, 512, -512], [512, 512, -512]]),
    "lenet5": LeNet5,
    "inception_v2": BNInception,
}


def build(name):
    if name in OWN:
        return OWN[name](), "paper"
    if hasattr(models, name):
        options = {"weights": None}
        if name == "googlenet":
            options["init_weights"] = False
        return getattr(models, name)(**options), "torchvision"
    import timm

    return timm.create_model(name), "timm"


def planes(x):
    hi = x.bfloat16().float()
    return hi, (x - hi).bfloat16().float()


class Emulate:
    """Computes convolutions and linear layers with bfloat16 operands: one plane (medium), or two planes and three products (high)."""

    def __init__(self, precision):
        self.precision = precision

    def __enter__(self):
        self.saved = F.conv2d, F.linear

        def patched(f):
            def call(x, weight, bias=None, *args, **kwargs):
                (xh, xl), (wh, wl) = planes(x), planes(weight)
                y = f(xh, wh, None, *args, **kwargs)
                if self.precision == "high":
                    y = y + f(xh, wl, None, *args, **kwargs) + f(xl, wh, None, *args, **kwargs)
                if bias is None:
                    return y
                return y + (bias.reshape(1, -1, 1, 1) if f is self.saved[0] else bias)

            return call

        F.conv2d, F.linear = patched(F.conv2d), patched(F.linear)

    def __exit__(self, *_):
        F.conv2d, F.linear = self.saved


def error(got, want):
    return float((got.double() - want.double()).norm() / want.double().norm())


def main():
    folder = sys.argv[1]
    os.makedirs(folder, exist_ok=True)
    torch.manual_seed(0)
    for case in sys.argv[2:]:
        name, size, *rest = case.split(":")
        shape, gain = [int(n) for n in size.split("x")], float(rest[0]) if rest else 1.0
        model, source = build(name)
        model.eval()
        with torch.no_grad():
            fill(model, gain)
            x = tensor("input", shape)
            logits = model(x)
            emulated = {}
            for precision in ("high", "medium"):
                with Emulate(precision):
                    emulated[precision] = float("%.3g" % error(model(x), logits))
            record = {
                "model": name,
                "source": source,
                "params": sum(p.numel() for p in model.parameters()),
                "gain": gain,
                "input": shape,
                "input_sensitivity": error(model(tensor("other", shape)), logits),
                "logits_shape": list(logits.shape),
                "logits_f32le_base64": base64.b64encode(logits.numpy().astype("<f4").tobytes()).decode(),
                "emulated_error": emulated,
            }
        with open(os.path.join(folder, f"{name}_{shape[0]}x{shape[2]}x{shape[3]}.json"), "w") as f:
            json.dump(record, f, indent=1)
        print(name, size, gain, "sensitivity %.3g" % record["input_sensitivity"], emulated, "largest %.3g" % logits.abs().max(), flush=True)


main()
