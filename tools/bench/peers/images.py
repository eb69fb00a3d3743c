"""Image models of ONNX files in other runtimes: each is a function that gives the milliseconds of one image.

int8 is what each project's own tool makes of the model: ONNX Runtime's `quantize_static` (QDQ, per channel), NNCF's `quantize` for OpenVINO. They
are calibrated on noise: speed does not depend on the ranges. PyTorch runs the graph that `onnx2torch` makes, with oneDNN's layouts.
"""

import statistics
import time

import numpy as np


def shape_of(path):
    """Name and shape of the model's one input, a batch of 1."""
    import onnx

    graph = onnx.load(path).graph
    weights = {w.name for w in graph.initializer}
    value = next(i for i in graph.input if i.name not in weights)
    dims = [d.dim_value or 1 for d in value.type.tensor_type.shape.dim]
    return value.name, dims


def noise(dims, seed=7):
    return np.random.default_rng(seed).standard_normal(dims, dtype=np.float32)


def milliseconds(once, seconds):
    """The median of runs in so many seconds, after as long a warm-up."""
    for limit, counts in ((seconds / 2, False), (seconds, True)):
        times, start = [], time.perf_counter()
        while time.perf_counter() - start < limit or len(times) < 5:
            before = time.perf_counter()
            once()
            times.append(time.perf_counter() - before)
    return 1e3 * statistics.median(times)


def onnxruntime(path, threads, folder, int8):
    import onnxruntime as ort

    name, dims = shape_of(path)
    if int8:
        path = quantized_onnx(path, name, dims, folder)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: noise(dims)}
    return lambda seconds: milliseconds(lambda: session.run(None, feed), seconds)


def quantized_onnx(path, name, dims, folder):
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    out = folder / (path.stem + ".qdq.onnx")
    if out.exists():
        return out

    class Noise(CalibrationDataReader):
        left = 8

        def get_next(self):
            self.left -= 1
            return {name: noise(dims, self.left)} if self.left >= 0 else None

    prepared = folder / (path.stem + ".prepared.onnx")
    quant_pre_process(str(path), str(prepared), skip_symbolic_shape=True)
    quantize_static(
        str(prepared), str(out), Noise(), quant_format=QuantFormat.QDQ, per_channel=True, weight_type=QuantType.QInt8, activation_type=QuantType.QUInt8
    )
    return out


def openvino(path, threads, folder, int8):
    import openvino as ov

    core = ov.Core()
    name, dims = shape_of(path)
    model = core.read_model(str(path))
    model.reshape({model.input(0).any_name: dims})
    if int8:
        import logging

        import nncf

        logging.getLogger("nncf").setLevel(logging.ERROR)
        model = nncf.quantize(model, nncf.Dataset([noise(dims, i) for i in range(8)]), subset_size=8)
    settings = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    request = core.compile_model(model, "CPU", settings).create_infer_request()
    request.set_input_tensor(ov.Tensor(noise(dims)))
    return lambda seconds: milliseconds(request.infer, seconds)


def torch(path, threads, folder, int8):
    import onnx
    import onnx2torch
    import torch

    if int8:
        return None
    torch.set_num_threads(threads)
    _, dims = shape_of(path)
    model = onnx2torch.convert(onnx.load(path)).eval().to(memory_format=torch.channels_last)
    x = torch.from_numpy(noise(dims)).to(memory_format=torch.channels_last)
    # The number of threads is the process's.
    def measure(seconds):
        torch.set_num_threads(threads)
        with torch.inference_mode():
            return milliseconds(lambda: model(x), seconds)

    return measure


PEERS = {"onnxruntime": onnxruntime, "openvino": openvino, "torch": torch}
