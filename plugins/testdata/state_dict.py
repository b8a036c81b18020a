# Prints, for the networks named on the command line, from torchvision, or from timm where torchvision lacks them:
# {model: {"state": [[key, shape, mean and deviation of the initial values or null], ...], "dropout": [...], "depth": [...], "batch": [[eps, momentum], ...],
# "layer": [eps, ...]}}. Initial values are not drawn: what would be drawn is noted.
import json
import math
import sys
import warnings

warnings.simplefilter("ignore")
import torch.nn.init as init


def note(name, distribution):
    def draw(tensor, *args, **kwargs):
        tensor.drawn = distribution(tensor, *args, **kwargs)
        return tensor

    setattr(init, name, draw)


def kaiming(tensor, a=0, mode="fan_in", nonlinearity="leaky_relu"):
    return 0, init.calculate_gain(nonlinearity, a) / math.sqrt(init._calculate_correct_fan(tensor, mode))


def trunc_normal(tensor, mean=0.0, std=1.0, a=-2.0, b=2.0):
    return mean, std


note("ones_", lambda tensor: (1, 0))
note("zeros_", lambda tensor: (0, 0))
note("constant_", lambda tensor, val: (val, 0))
note("normal_", lambda tensor, mean=0.0, std=1.0: (mean, std))
note("uniform_", lambda tensor, a=0.0, b=1.0: ((a + b) / 2, (b - a) / math.sqrt(12)))
note("trunc_normal_", trunc_normal)
note("kaiming_normal_", kaiming)
note("kaiming_uniform_", kaiming)

from torch import nn
from torchvision import models
from torchvision.ops import StochasticDepth


def build(name):
    if hasattr(models, name):
        options = {"weights": None}
        if name == "googlenet":
            options.update(init_weights=True, aux_logits=True)
        if name == "inception_v3":
            options.update(init_weights=True)
        return getattr(models, name)(**options)
    try:
        import timm

        return timm.create_model(name) if name in timm.list_models() else None
    except ImportError:
        return None


def describe(model):
    drawn = {key: getattr(value, "drawn", None) for key, value in model.named_parameters()}
    of = lambda kind: [m for m in model.modules() if isinstance(m, kind)]
    return {
        "state": [[key, list(value.shape), drawn.get(key)] for key, value in model.state_dict().items()],
        "dropout": [m.p for m in of(nn.Dropout)],
        "depth": [m.p for m in of(StochasticDepth)],
        "batch": [[m.eps, m.momentum] for m in of(nn.BatchNorm2d)],
        "layer": [m.eps for m in of(nn.LayerNorm)],
    }


result = {}
for name in sys.argv[1:]:
    model = build(name)
    if model is not None:
        result[name] = describe(model)
json.dump(result, sys.stdout)
