"""Times training steps in PyTorch and prints a JSON line for each: forward, backward and SGD with momentum in float32.

usage: train_peer.py THREADS [MODEL:BATCH[:frozen]]...

Without models it times those of BenchmarkStep in engine/train. The time is the median of five steps after two to warm up;
peak_rss_mb is that of the process so far, so run one model a process to compare memory.
"""

import json
import resource
import statistics
import sys
import time

import torch
import torchvision

MODELS = "resnet18:16 resnet50:8 mobilenet_v2:16 squeezenet1_1:16 vgg16:4"


def features(name, model):
    if hasattr(model, "features"):
        return model.features
    return torch.nn.ModuleList(m for n, m in model.named_children() if n != "fc")


def step_time(name, batch, frozen):
    torch.manual_seed(1)
    model = getattr(torchvision.models, name)(weights=None).train()
    if frozen:
        part = features(name, model)
        part.eval()
        for p in part.parameters():
            p.requires_grad_(False)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=1e-3, momentum=0.9)
    images, labels = torch.randn(batch, 3, 224, 224), torch.randint(0, 1000, (batch,))
    times, cpu = [], []
    for _ in range(7):
        start, busy = time.perf_counter(), time.process_time()
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
        times.append(time.perf_counter() - start)
        cpu.append(time.process_time() - busy)
    times, cpu = times[2:], cpu[2:]
    return statistics.median(times), min(times), statistics.median(cpu)


def main():
    torch.set_num_threads(int(sys.argv[1]))
    wanted = sys.argv[2:] or MODELS.split() + [m + ":frozen" for m in MODELS.split()]
    for spec in wanted:
        name, batch, *frozen = spec.split(":")
        seconds, best, cpu = step_time(name, int(batch), bool(frozen))
        print(json.dumps({
            "model": name, "batch": int(batch), "frozen": bool(frozen), "peer": "torch " + torch.__version__ + " float32",
            "ms_per_image": round(1e3 * seconds / int(batch), 2), "best_ms_per_image": round(1e3 * best / int(batch), 2),
            "cpu_ms_per_image": round(1e3 * cpu / int(batch), 2),
            "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 // 10**6,
        }), flush=True)


main()
