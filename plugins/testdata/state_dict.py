# Prints {model: [[key, shape], ...]} of the networks named on the command line, from torchvision, or from timm where torchvision lacks them.
# Initial values are not computed: only names and shapes matter.
import json
import sys
import warnings

warnings.simplefilter("ignore")
import torch.nn.init as init

for name in dir(init):
    if name.endswith("_") and not name.startswith("_"):
        setattr(init, name, lambda tensor, *args, **kwargs: tensor)

from torchvision import models


def build(name):
    if hasattr(models, name):
        options = {"weights": None}
        if name == "googlenet":
            options.update(init_weights=False, aux_logits=True)
        if name == "inception_v3":
            options.update(init_weights=False)
        return getattr(models, name)(**options)
    try:
        import timm

        return timm.create_model(name) if name in timm.list_models() else None
    except ImportError:
        return None


result = {}
for name in sys.argv[1:]:
    model = build(name)
    if model is not None:
        result[name] = [[key, list(value.shape)] for key, value in model.state_dict().items()]
json.dump(result, sys.stdout)
