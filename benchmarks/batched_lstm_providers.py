"""Who computes the three LSTMs in ``benchmarks.batched_lstm``, and the float64 answer they are held to.

Gradients are those of sum(output * random), of the input and of every weight.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from sgela_fast.benchmarks import others
from sgela_fast.benchmarks.harness.suite import Case, Job, Outputs, Provider, Unavailable
from sgela_fast.benchmarks.lstm_work import Shape, distinct, repeated, tolerance_of, uniform
from sgela_fast.ops.batched_lstm import batched_lstm, pack_lstm_weights, why_not_fused
from sgela_fast.reference import batched_lstm as reference
from sgela_fast.reference.batched_lstm import LSTMLayer


class Inputs(NamedTuple):
    """Input ``(G, B, T, I)``, the output's gradient ``(G, B, T, K)`` and the weights of all layers."""

    input: Tensor
    grad_output: Tensor
    layers: list[LSTMLayer]


def shape_of(case: Case) -> Shape:
    """The LSTMs' shape."""
    return Shape(*(int(case.settings[name]) for name in Shape._fields))


def inputs_of(case: Case) -> Inputs:
    """Inputs of a case, the same for all providers."""
    return _draw(shape_of(case), int(case.settings["B"]), case.device)


@functools.lru_cache(maxsize=1)
def _draw(shape: Shape, batch: int, device: str) -> Inputs:
    groups, inputs, hidden, layers, frames = shape
    generator = torch.Generator().manual_seed(0)
    bound = hidden**-0.5
    weights = []
    for layer in range(layers):
        columns = inputs if layer == 0 else hidden
        shapes = ((groups, 4 * hidden, columns), (groups, 4 * hidden, hidden), (groups, 4 * hidden))
        weights.append(LSTMLayer(*(uniform(size, bound, generator).to(device) for size in shapes)))
    drawn = distinct(batch)
    given = torch.randn(groups, drawn, frames, inputs, generator=generator) / 2
    grad = torch.randn(groups, drawn, frames, hidden, generator=generator)
    given, grad = (repeated(tensor, batch, 1).contiguous().to(device) for tensor in (given, grad))
    return Inputs(given, grad, weights)


def expected(case: Case, _answer: str) -> Outputs:
    """The reference in float64, of the windows that differ."""
    given, batch = inputs_of(case), int(case.settings["B"])
    drawn = distinct(batch)
    backward = bool(case.settings["backward"])
    layers = [LSTMLayer(*(tensor.double().requires_grad_(backward) for tensor in layer)) for layer in given.layers]
    input = given.input[:, :drawn].double().requires_grad_(backward)
    output, state = reference.batched_lstm(input, layers)
    if not backward:
        return {
            "output": repeated(output, batch, 1),
            "h": repeated(state.h, batch, 2),
            "c": repeated(state.c, batch, 2),
        }
    weights = [tensor for layer in layers for tensor in layer]
    gradients = torch.autograd.grad(output, (input, *weights), given.grad_output[:, :drawn].double())
    found = [repeated(gradients[0], batch, 1), *(gradient * (batch // drawn) for gradient in gradients[1:])]
    return _named(repeated(output, batch, 1), found)


def tolerance(case: Case, precision: str) -> dict[str, float]:
    """Largest deviations, relative to the largest entry."""
    names = ["output", "h", "c", "grad_input", *_gradient_names(int(case.settings["layers"]))]
    return dict.fromkeys(names, tolerance_of(precision, case))


def _gradient_names(layers: int) -> list[str]:
    return [f"grad_{name}_l{layer}" for layer in range(layers) for name in LSTMLayer._fields]


def _named(output: Tensor | Sequence[Tensor], gradients: Sequence[Tensor | Sequence[Tensor]]) -> Outputs:
    names = ["grad_input", *_gradient_names((len(gradients) - 1) // 3)]
    return {"output": output, **dict(zip(names, gradients, strict=True))}


# A function of input and flat weights that returns output, h and c.
Run = Callable[..., tuple[Tensor, Tensor, Tensor]]


def _eager(input: Tensor, *weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    layers = [LSTMLayer(*weights[start : start + 3]) for start in range(0, len(weights), 3)]
    output, state = reference.batched_lstm(input, layers)
    return output, state.h, state.c


def _fused(input: Tensor, *weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    layers = [LSTMLayer(*weights[start : start + 3]) for start in range(0, len(weights), 3)]
    output, state = batched_lstm(input, layers, backend="fused")
    return output, state.h, state.c


def _job_of(run: Run, case: Case) -> Job:
    given = inputs_of(case)
    weights = [tensor for layer in given.layers for tensor in layer]
    if not case.settings["backward"]:

        def forward() -> Outputs:
            with torch.inference_mode():
                return dict(zip(("output", "h", "c"), run(given.input, *weights), strict=True))

        return forward
    leaves = [tensor.detach().requires_grad_() for tensor in (given.input, *weights)]

    def both() -> Outputs:
        output = run(*leaves)[0]
        return _named(output, torch.autograd.grad(output, leaves, given.grad_output))

    return both


def prepare_fused(case: Case) -> Job:
    """This package's op: weights packed once for forward passes, found in the parameters for training."""
    reason = why_not_fused(case.device, torch.float32)
    if reason is not None:
        raise Unavailable(reason)
    return _job_of(_fused, case) if case.settings["backward"] else _packed("full", case)


def prepare_fused_bfloat16(case: Case) -> Job:
    """Weights stored as bfloat16."""
    return _packed("bfloat16", case)


def prepare_fused_int8(case: Case) -> Job:
    """Weights and states of 8 bits."""
    return _packed("int8", case)


def _packed(precision: Any, case: Case) -> Job:
    others.forward_only(case)
    given = inputs_of(case)
    packed = pack_lstm_weights(given.layers, precision)

    def job() -> Outputs:
        with torch.inference_mode():
            output, state = batched_lstm(given.input, packed, backend="fused")
        return {"output": output, "h": state.h, "c": state.c}

    return job


def prepare_eager(case: Case) -> Job:
    """The reference."""
    return _job_of(_eager, case)


def prepare_compiled(case: Case) -> Job:
    """The reference, compiled."""
    return _compiled("default", case)


def prepare_autotuned(case: Case) -> Job:
    """The reference, compiled with a search over kernels."""
    others.searched_only(case)
    return _compiled("max-autotune-no-cudagraphs", case)


def _compiled(mode: str, case: Case) -> Job:
    given = inputs_of(case)
    batch = int(case.settings["B"])
    # A backward pass compiled for any batch asserts the strides of the batch that it met first.
    dynamic = mode == "default" and batch > 1 and not case.settings["backward"]
    if dynamic:
        torch._dynamo.mark_dynamic(given.input, 1)
    key = (batch if not dynamic else 0, case.settings["backward"], case.device)
    return _job_of(others.compiled(_eager, mode, key), case)


def lstms_of(layers: Sequence[LSTMLayer]) -> nn.ModuleList:
    """The groups as ``torch.nn.LSTM``."""
    groups, rows, inputs = layers[0].weight_ih.shape
    device = layers[0].weight_ih.device
    lstms = nn.ModuleList(nn.LSTM(inputs, rows // 4, len(layers), batch_first=True) for _ in range(groups)).to(device)
    with torch.no_grad():
        for group, lstm in enumerate(lstms):
            for index, layer in enumerate(layers):
                lstm.get_parameter(f"weight_ih_l{index}").copy_(layer.weight_ih[group])
                lstm.get_parameter(f"weight_hh_l{index}").copy_(layer.weight_hh[group])
                lstm.get_parameter(f"bias_ih_l{index}").copy_(layer.bias[group])
                lstm.get_parameter(f"bias_hh_l{index}").zero_()
    return lstms


def prepare_modules(case: Case) -> Job:
    """One ``torch.nn.LSTM`` after another; their outputs are not stacked."""
    given = inputs_of(case)
    lstms = lstms_of(given.layers)
    return _modules_job(lstms, given, bool(case.settings["backward"]))


def _modules_job(lstms: nn.Module, given: Inputs, backward: bool) -> Job:
    modules = list(lstms.children())
    if not backward:
        lstms.eval()

        def forward() -> Outputs:
            with torch.inference_mode():
                results = [lstm(input) for lstm, input in zip(modules, given.input, strict=True)]
            states = ([result[1][index] for result in results] for index in (0, 1))
            h, c = (torch.stack(state, dim=1) for state in states)  # (L, G, B, K): a hundredth of the output
            return {"output": [result[0] for result in results], "h": h, "c": c}

        return forward
    inputs = [input.detach().clone().requires_grad_() for input in given.input]
    parameters = [[lstm.get_parameter(name) for lstm in modules] for name in _parameters(len(given.layers))]

    def both() -> Outputs:
        outputs = [lstm(input)[0] for lstm, input in zip(modules, inputs, strict=True)]
        wanted = [*inputs, *(parameter for group in parameters for parameter in group)]
        flat = torch.autograd.grad(outputs, wanted, list(given.grad_output))
        count = len(inputs)
        return _named(outputs, [flat[start : start + count] for start in range(0, len(flat), count)])

    return both


def _parameters(layers: int) -> list[str]:
    return [f"{name}_l{layer}" for layer in range(layers) for name in ("weight_ih", "weight_hh", "bias_ih")]


def prepare_dynamic_int8(case: Case) -> Job:
    """``quantize_dynamic`` of the three modules."""
    others.forward_only(case)
    given = inputs_of(case)
    return _modules_job(others.quantized(lstms_of(given.layers)), given, backward=False)


def prepare_onnx(case: Case) -> Job:
    """ONNX Runtime."""
    return _foreign_job(others.onnx_session(_onnx_model(case), torch.get_num_threads()), case)


def prepare_onnx_int8(case: Case) -> Job:
    """ONNX Runtime's own dynamic quantisation."""
    return _foreign_job(
        others.onnx_session(others.onnx_quantized(_onnx_model(case), per_channel=True), torch.get_num_threads()), case
    )


def prepare_openvino(case: Case) -> Job:
    """OpenVINO."""
    return _foreign_job(others.openvino_session(_onnx_model(case), torch.get_num_threads()), case)


def _onnx_model(case: Case) -> bytes:
    others.forward_only(case)
    others.cpu_only(case)
    return others.onnx_lstms(inputs_of(case).layers)


def _foreign_job(call: others.Session, case: Case) -> Job:
    given = inputs_of(case)
    groups, layers = given.input.shape[0], len(given.layers)
    # Their own order of dimensions, (T, B, I), made before the clock runs.
    feeds = {f"x{group}": input.transpose(0, 1).contiguous().numpy() for group, input in enumerate(given.input)}

    def job() -> Outputs:
        found = call(feeds)
        outputs = [found[f"y{group}"][:, 0].transpose(0, 1) for group in range(groups)]  # (B, T, K)
        h, c = (
            torch.stack(
                [torch.cat([found[f"{name}{group}_{layer}"] for group in range(groups)]) for layer in range(layers)]
            )
            for name in "hc"
        )
        return {"output": outputs, "h": h, "c": c}

    return job


PROVIDERS = (
    Provider("fused", prepare_fused, graph=True),
    Provider("fused bf16", prepare_fused_bfloat16, note="bfloat16 weights", precision="bfloat16", graph=True),
    Provider("fused int8", prepare_fused_int8, note="8-bit weights and states", precision="int8"),
    Provider("eager", prepare_eager, note="reference", graph=True),
    Provider("nn.LSTM", prepare_modules, note="one module after another", graph=True),
    Provider("compile", prepare_compiled, note="torch.compile of the reference; it takes no nn.LSTM", compiles=True),
    Provider("autotune", prepare_autotuned, note="torch.compile with max-autotune, fixed size", compiles=True),
    Provider("torch int8", prepare_dynamic_int8, note="quantize_dynamic of nn.LSTM", precision="int8"),
    Provider("ONNX Runtime", prepare_onnx, note="its LSTM operator"),
    Provider("ONNX int8", prepare_onnx_int8, note="ONNX Runtime, quantize_dynamic", precision="int8"),
    Provider("OpenVINO", prepare_openvino, note="the same ONNX file"),
)
