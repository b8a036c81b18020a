"""The other side of torch_test.go.

write DIR: saves checkpoints with torch.save in both formats and every pickle protocol, and DIR/expected.json: file -> name -> [shape, CRC-32 of the float32 values].
check DIR: loads what the Go side wrote, and fails unless load_state_dict(strict=True) takes it and every value is the same.
"""
import argparse
import collections
import json
import os
import sys
import zlib

import numpy
import torch
import torch.nn as nn

try:
    import torchvision
except ImportError:
    torchvision = None


def network():
    torch.manual_seed(1)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 5))
    net[1].num_batches_tracked.fill_(123456789012)
    return net


def models():
    """The models whose checkpoints cross over and come back."""
    made = {"small": network()}
    if torchvision is not None:
        for name in ("resnet18", "mnasnet0_5", "squeezenet1_1"):
            made[name] = getattr(torchvision.models, name)()
    return made


def states():
    base = torch.arange(24, dtype=torch.float32).reshape(2, 3, 4)
    small = network()
    yield "types", collections.OrderedDict(
        (str(t).split(".")[1], (torch.arange(7) % 3).to(t))
        for t in (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool)
    )
    yield "views", {
        "all": base,
        "transposed": base.permute(2, 0, 1),
        "column": base[:, :, 1],
        "offset": base[1, 1:],
        "channels_last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "scalar": torch.tensor(3.5),
        "empty": torch.empty(0, 3),
        "parameter": nn.Parameter(torch.randn(3)),
    }
    optimizer = torch.optim.Adam(small.parameters())
    small(torch.randn(2, 3, 4, 4)).sum().backward()
    optimizer.step()
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [2, 2, 3])
    yield "wrapped", {
        "epoch": 3,
        "best_acc1": torch.tensor(0.5),
        "best": numpy.float64(91.78),
        "device": torch.device("cpu"),
        "dtype": torch.float32,
        "size": base.size(),
        "counter": collections.Counter([2, 2, 3]),
        "sets": [{1, 2}, frozenset([3]), set()],
        "bytes": [b"", b"short", bytearray(b"array")],
        "beyond a frame": ["text" * 20000, bytes(80000)],
        "long": [-1, 2**31, -2**40, 2**80],
        "args": argparse.Namespace(lr=0.1, milestones=[2, 2, 3], resume=None),
        "optimizer": optimizer.state_dict(),
        "schedule": schedule.state_dict(),
        "state_dict": nn.DataParallel(small).state_dict(),
    }
    for name, model in models().items():
        yield name, model.state_dict()


def crc(t):
    return zlib.crc32(t.detach().float().contiguous().numpy().tobytes())


def write(folder):
    expected = {}
    for name, state in states():
        tensors = {k.replace("module.", ""): [list(t.shape), crc(t)] for k, t in state.get("state_dict", state).items()}
        for protocol in (2, 3, 4, 5) if len(tensors) < 20 else (2,):
            for kind, zipped in ("zip", True), ("legacy", False):
                file = f"{name}.{kind}.pth" if protocol == 2 else f"{name}.protocol{protocol}.{kind}.pth"
                torch.save(state, os.path.join(folder, file), pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
                expected[file] = tensors
    for order in "C", "F":
        values = numpy.array(numpy.arange(24).reshape(2, 3, 4), dtype="<f4", order=order)
        numpy.save(os.path.join(folder, f"{order}.npy"), values)
    with open(os.path.join(folder, "expected.json"), "w") as f:
        json.dump(expected, f)


def check(folder):
    for name, model in models().items():
        for kind in "zip", "legacy":
            want = torch.load(os.path.join(folder, f"{name}.{kind}.pth"))
            path = os.path.join(folder, f"{name}.{kind}.pth.out")
            for weights_only in False, True:
                got = torch.load(path, weights_only=weights_only)
                model.load_state_dict(got, strict=True)
                assert list(got) == list(want), (path, list(got))
                for key in want:
                    assert got[key].dtype == want[key].dtype, (path, key)
                    assert torch.equal(got[key], want[key]), (path, key)
    ours = numpy.load(os.path.join(folder, "out.npy"))
    assert ours.dtype == numpy.float32 and ours.flags.c_contiguous
    assert (ours == numpy.arange(24).reshape(2, 3, 4)).all()
    with open(os.path.join(folder, "out.npy"), "rb") as a, open(os.path.join(folder, "C.npy"), "rb") as b:
        assert a.read() == b.read()


{"write": write, "check": check}[sys.argv[1]](sys.argv[2])
