"""Times one network in one peer and prints a JSON line.

usage: peer.py onnxruntime|openvino-f32|openvino-bf16 MODEL.onnx NxCxHxW SECONDS THREADS
       peer.py torch-f32|torch-bf16 TORCHVISION_NAME NxCxHxW SECONDS THREADS

The time is the median over runs of a batch, after three runs to warm up, as `zoo bench` takes it.
"""

import json
import sys
import time

import numpy


def onnxruntime(path, x, threads):
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"input": x}), "onnxruntime " + ort.__version__


def openvino(path, x, threads, precision):
    import openvino as ov

    core = ov.Core()
    model = core.read_model(path)
    model.reshape({"input": list(x.shape)})
    compiled = core.compile_model(model, "CPU", {
        "INFERENCE_PRECISION_HINT": precision,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
    })
    request = compiled.create_infer_request()
    return lambda: request.infer({"input": x}), "openvino " + ov.__version__.split("-")[0]


def torch(name, x, threads, precision):
    import torch
    import torchvision

    torch.set_num_threads(threads)
    build = getattr(torchvision.models, name)
    extra = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    model = build(weights=None, **extra).eval().to(memory_format=torch.channels_last)
    image = torch.from_numpy(x).to(memory_format=torch.channels_last)
    if precision == "bf16":
        model, image = model.to(torch.bfloat16), image.to(torch.bfloat16)
    with torch.no_grad():
        frozen = torch.jit.freeze(torch.jit.trace(model, image, check_trace=False, strict=False))

    def run():
        with torch.no_grad():
            frozen(image)

    return run, "torch " + torch.__version__


def main():
    peer, name, shape, seconds, threads = sys.argv[1:]
    x = numpy.random.RandomState(0).uniform(-2, 2, [int(d) for d in shape.split("x")]).astype("float32")
    if peer == "onnxruntime":
        run, version = onnxruntime(name, x, int(threads))
    elif peer.startswith("openvino-"):
        run, version = openvino(name, x, int(threads), peer.split("-")[1])
    else:
        run, version = torch(name, x, int(threads), peer.split("-")[1])
    for _ in range(3):
        run()
    times = []
    begin = time.perf_counter()
    while len(times) < 5 or time.perf_counter() - begin < float(seconds):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    times.sort()
    print(json.dumps({"peer": peer, "version": version, "ms_per_image": 1000 * times[len(times) // 2] / x.shape[0]}))


main()
