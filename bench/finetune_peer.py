#!/usr/bin/python3
"""PyTorch's transfer-learning tutorial recipe on SqueezeNet 1.1, for comparison with `zoo finetune`.

SGD 0.001, momentum 0.9, batch 8, a tenth of the rate after 7 epochs, random resized crop and flip; the classifier is new.
Prints a JSON line an epoch and one for the run. Needs Debian's python3-torch and python3-torchvision.

    finetune_peer.py WEIGHTS.safetensors DATA frozen|full [--seed N] [--epochs N] [--threads N]
"""
import argparse
import json
import struct
import time
import warnings

warnings.filterwarnings("ignore")
import numpy as np
import torch
import torchvision
from torchvision import datasets, transforms


def load(path):
    with open(path, "rb") as f:
        header = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))
        base = f.tell()
        state = {}
        for name, t in header.items():
            if name == "__metadata__":
                continue
            f.seek(base + t["data_offsets"][0])
            state[name] = torch.from_numpy(np.fromfile(f, np.float32, int(np.prod(t["shape"]))).reshape(t["shape"]).copy())
    return state


def main():
    a = argparse.ArgumentParser()
    a.add_argument("weights")
    a.add_argument("data")
    a.add_argument("mode", choices=["frozen", "full"])
    a.add_argument("--seed", type=int, default=0)
    a.add_argument("--epochs", type=int, default=10)
    a.add_argument("--threads", type=int, default=2)
    a = a.parse_args()
    torch.manual_seed(a.seed)
    torch.set_num_threads(a.threads)
    size = 227
    normalize = transforms.Normalize([123 / 255, 117 / 255, 104 / 255], [1 / 255] * 3)
    train = datasets.ImageFolder(a.data + "/train", transforms.Compose(
        [transforms.RandomResizedCrop(size), transforms.RandomHorizontalFlip(), transforms.ToTensor(), normalize]))
    val = datasets.ImageFolder(a.data + "/val", transforms.Compose(
        [transforms.Resize(256), transforms.CenterCrop(size), transforms.ToTensor(), normalize]))
    loader = torch.utils.data.DataLoader(train, batch_size=8, shuffle=True, num_workers=a.threads)
    val_loader = torch.utils.data.DataLoader(val, batch_size=32, num_workers=a.threads)
    net = torchvision.models.squeezenet1_1()
    net.load_state_dict(load(a.weights))
    if a.mode == "frozen":
        for p in net.parameters():
            p.requires_grad = False
    net.classifier[1] = torch.nn.Conv2d(512, len(train.classes), 1)
    opt = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=0.001, momentum=0.9)
    sched = torch.optim.lr_scheduler.StepLR(opt, 7, 0.1)
    loss_of = torch.nn.CrossEntropyLoss()
    began, training, seen, accuracies = time.time(), 0.0, 0, []
    for epoch in range(a.epochs):
        net.train()
        t = time.time()
        for x, y in loader:
            opt.zero_grad()
            loss_of(net(x), y).backward()
            opt.step()
            seen += len(y)
        training += time.time() - t
        sched.step()
        net.eval()
        hits = 0
        with torch.no_grad():
            for x, y in val_loader:
                hits += (net(x).argmax(1) == y).sum().item()
        accuracies.append(100 * hits / len(val))
        print(json.dumps({"epoch": epoch + 1, "val": round(accuracies[-1], 2), "images_per_s": round(seen / training, 1)}), flush=True)
    print(json.dumps({"mode": a.mode, "seed": a.seed, "last": round(accuracies[-1], 2), "best": round(max(accuracies), 2),
                      "images_per_s": round(seen / training, 1), "seconds": round(time.time() - began, 1)}))


main()
