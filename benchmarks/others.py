"""The alternatives from other projects, each as fast as its own documentation makes it.

ONNX Runtime, OpenVINO and torch's dynamic quantisation run forward passes on the CPU. A library that is not installed
raises :class:`Unavailable`, so that its reason stands in the results.
"""

from __future__ import annotations

import functools
import logging
import os
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sgela_fast.benchmarks.harness.arguments import Grid
from sgela_fast.benchmarks.harness.environment import cpu_flags
from sgela_fast.benchmarks.harness.suite import Case, Unavailable
from sgela_fast.reference.batched_lstm import LSTMLayer

Session = Callable[[Mapping[str, np.ndarray]], dict[str, Tensor]]
EXTRA = 'pip install "sgela_fast[bench]"'


def forward_only(case: Case) -> None:
    """Raises: Unavailable: the case has a backward pass."""
    if case.settings.get("backward"):
        raise Unavailable("it has no gradients")


def cpu_only(case: Case) -> None:
    """Raises: Unavailable: the case is not on the CPU."""
    if case.device != "cpu":
        raise Unavailable("it is measured on the CPU alone")


def searched_only(case: Case) -> None:
    """Raises: Unavailable: the case is not one for which kernels are searched."""
    if not case.settings.get("search"):
        raise Unavailable("the search takes minutes: --grid full makes it, for forward passes of up to 128 windows")


def searched(grid: Grid, batch: int, *, backward: bool = False) -> int:
    """The setting of a case that :func:`searched_only` looks at."""
    return int(grid == "full" and batch in (1, 128) and not backward)


@functools.cache
def compiled(function: Callable[..., Any], mode: str, _key: object) -> Callable[..., Any]:
    """``torch.compile`` of ``function``, one for all cases of equal key; they differ in dynamic sizes alone."""
    torch._dynamo.config.recompile_limit = 64
    found: Callable[..., Any] = torch.compile(function, fullgraph=True, mode=mode)
    return found


def quantized(module: nn.Module) -> nn.Module:
    """torch's dynamic quantisation of all LSTMs and linear layers in ``module``: 8-bit weights, activations as met."""
    if os.uname().machine not in ("x86_64", "aarch64"):
        raise Unavailable("torch has no quantised products for this processor")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated in favour of torchao, which quantises no LSTM
        made: nn.Module = torch.ao.quantization.quantize_dynamic(
            module.cpu().eval(), {nn.LSTM, nn.LSTMCell, nn.Linear}, dtype=torch.qint8
        )
    return made


def onnx_lstms(layers: Sequence[LSTMLayer]) -> bytes:
    """An ONNX model of G independent stacks of the LSTM operator: inputs x0 ..., outputs y0 ..., h0_0 ..., c0_0 ...

    ONNX orders gates i, o, f, g (its name for g is c) and its operator reads ``(T, B, I)``.
    """
    onnx = _imported("onnx")
    helper, numpy_helper, floats = onnx.helper, onnx.numpy_helper, onnx.TensorProto.FLOAT
    nodes, constants, inputs, outputs = [], [], [], []
    hidden = layers[0].weight_hh.shape[2]
    for group in range(layers[0].weight_ih.shape[0]):
        inputs.append(helper.make_tensor_value_info(f"x{group}", floats, ["T", "B", layers[0].weight_ih.shape[2]]))
        reads = f"x{group}"
        for index, layer in enumerate(layers):
            end = f"{group}_{index}"
            bias = _iofg(layer.bias[group])
            tensors = {
                "w": _iofg(layer.weight_ih[group]),
                "r": _iofg(layer.weight_hh[group]),
                "b": torch.cat([bias, torch.zeros_like(bias)]),
            }
            constants += [numpy_helper.from_array(v[None].numpy(), f"{name}{end}") for name, v in tensors.items()]
            last = index + 1 == len(layers)
            whole = f"y{group}" if last else f"whole{end}"
            names = [f"{name}{end}" for name in "wrb"]
            nodes.append(helper.make_node("LSTM", [reads, *names], [whole, f"h{end}", f"c{end}"], hidden_size=hidden))
            outputs += [helper.make_tensor_value_info(f"{name}{end}", floats, [1, "B", hidden]) for name in "hc"]
            if last:
                outputs.append(helper.make_tensor_value_info(whole, floats, ["T", 1, "B", hidden]))
            else:
                constants.append(numpy_helper.from_array(np.array([1]), f"axis{end}"))
                nodes.append(helper.make_node("Squeeze", [whole, f"axis{end}"], [f"next{end}"]))
                reads = f"next{end}"
    graph = helper.make_graph(nodes, "lstms", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    made: bytes = model.SerializeToString()
    return made


def _iofg(weight: Tensor) -> Tensor:
    i, f, g, o = weight.detach().cpu().chunk(4)
    return torch.cat([i, o, f, g])


def onnx_export(module: nn.Module, example: Tensor) -> bytes:
    """``torch.onnx.export`` of a module with one input, whose first dimension is dynamic, and one output."""
    _imported("onnx")
    _imported("onnxscript")
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module,
            (example,),
            dynamo=True,
            input_names=["windows"],
            output_names=["ages"],
            dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=2**20)},),
            verbose=False,
        )
    assert program is not None
    made: bytes = program.model_proto.SerializeToString()
    return made


@functools.lru_cache(maxsize=2)
def onnx_quantized(model: bytes, *, per_channel: bool) -> bytes:
    """ONNX Runtime's dynamic quantisation to 8-bit weights.

    Args:
        model: in float32.
        per_channel: one scale for each row of a weight; its operators want one for all of a batch of matrices.
    """
    _imported("onnx")
    quantization = _imported("onnxruntime.quantization")
    # Without VNNI its products saturate at 16 bits, and it asks for weights of 7 bits.
    narrow = not any("vnni" in flag for flag in cpu_flags())
    level = logging.getLogger().level
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.getLogger().setLevel(logging.ERROR)
        source, target = Path(folder, "model.onnx"), Path(folder, "int8.onnx")
        source.write_bytes(model)
        try:
            quantization.quantize_dynamic(
                source,
                target,
                weight_type=quantization.QuantType.QInt8,
                per_channel=per_channel,
                reduce_range=narrow,
            )
        finally:
            logging.getLogger().setLevel(level)
        return target.read_bytes()


@functools.lru_cache(maxsize=2)
def onnx_session(model: bytes, threads: int) -> Session:
    """ONNX Runtime with all its optimisations."""
    runtime = _imported("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 4
    session = runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def call(feeds: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
        return dict(zip(names, map(torch.from_numpy, session.run(None, dict(feeds))), strict=True))

    return call


@functools.lru_cache(maxsize=2)
def openvino_session(model: bytes, threads: int) -> Session:
    """OpenVINO in float32, for latency."""
    openvino = _imported("openvino")
    core = openvino.Core()
    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "INFERENCE_PRECISION_HINT": "f32",
        "ENABLE_CPU_PINNING": False,
    }
    request = core.compile_model(core.read_model(model, b""), "CPU", settings).create_infer_request()

    def call(feeds: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
        found = request.infer(dict(feeds), share_inputs=True, share_outputs=True)
        return {output.get_any_name(): torch.from_numpy(found[output]) for output in found}

    return call


def _imported(name: str) -> Any:
    try:
        return __import__(name, fromlist=["_"])
    except ImportError as error:
        raise Unavailable(f"{name} cannot be imported ({error}); {EXTRA}") from None
