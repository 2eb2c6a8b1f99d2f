"""Ways to run batched_lstm on CUDA devices: which is chosen, which can be forced; each can follow another."""

from __future__ import annotations

from collections import Counter
from itertools import permutations
from typing import Any, get_args

import pytest
import torch

from sgela_fast.kernels import batched_lstm_gates
from sgela_fast.ops import _lstm_cuda, _lstm_gates, _lstm_products
from sgela_fast.ops._lstm_cuda import MANY_WINDOWS, VARIABLE, Call, Machine, choose, chosen_path, why_not
from tests.ops.gate_kernels import emulate_gate_kernels
from tests.ops.lstm_cases import Case, draw

CALL = Call(torch.bfloat16, 64, False, "ieee")
COMPLETE = Machine(triton=True, gate_kernel=True, capability=90)
BARE = Machine(triton=False, gate_kernel=False, capability=90)
EXACT = CALL._replace(dtype=torch.float32)


@pytest.mark.parametrize(
    ("call", "machine", "path"),
    [
        (CALL, COMPLETE, "phases"),
        (CALL._replace(batch=10**6), COMPLETE, "phases"),
        (EXACT, COMPLETE, "phases"),
        (EXACT._replace(batch=MANY_WINDOWS), COMPLETE, "gates"),
        (EXACT._replace(batch=MANY_WINDOWS), COMPLETE._replace(gate_kernel=False), "phases"),
        (EXACT._replace(batch=MANY_WINDOWS, precision="tf32"), COMPLETE, "phases"),
        (EXACT._replace(batch=MANY_WINDOWS, precision="tf32x3"), COMPLETE, "phases"),
        (CALL._replace(dropout=True), COMPLETE, "gates"),
        (CALL._replace(dropout=True), COMPLETE._replace(gate_kernel=False), "products"),
        (CALL._replace(dtype=torch.float64), COMPLETE, "products"),
        (CALL, COMPLETE._replace(triton=False), "gates"),
        (CALL, COMPLETE._replace(capability=75), "gates"),
        (CALL, BARE, "products"),
    ],
)
def test_the_path_follows_dtype_batch_dropout_and_what_there_is(call: Call, machine: Machine, path: str) -> None:
    assert choose(call, machine) == path


def test_what_is_chosen_can_always_run() -> None:
    for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.float64):
        for batch, dropout, triton, kernel in [(b, d, t, k) for b in (1, 10**6) for d, t, k in _truths()]:
            call, machine = Call(dtype, batch, dropout, "ieee"), Machine(triton, kernel, 80)
            assert why_not(choose(call, machine), call, machine) is None


def _truths() -> list[tuple[bool, bool, bool]]:
    return [(bool(i & 1), bool(i & 2), bool(i & 4)) for i in range(8)]


@pytest.mark.parametrize("path", get_args(_lstm_cuda.Path))
def test_the_environment_forces_a_path(path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, path)
    assert chosen_path(CALL, COMPLETE) == path


@pytest.mark.parametrize(
    ("path", "call", "machine", "reason"),
    [
        ("phases", CALL, BARE, "triton is not installed"),
        ("phases", CALL._replace(dropout=True), COMPLETE, "it has no dropout between layers"),
        ("phases", CALL, COMPLETE._replace(capability=75), "it needs compute capability 8.0, and the device has 7.5"),
        ("gates", CALL, BARE, "the extension was built without CUDA"),
        ("gates", CALL._replace(dtype=torch.float64), COMPLETE, "it has no float64"),
    ],
)
def test_forcing_what_cannot_run_is_an_error_with_its_reason(
    path: str, call: Call, machine: Machine, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, path)
    with pytest.raises(RuntimeError, match=f"SGELA_FAST_LSTM_PATH is '{path}', but {reason}; choose another one"):
        chosen_path(call, machine)


def test_an_unknown_path_is_refused_with_the_choices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "cudnn")
    with pytest.raises(ValueError, match="'cudnn'; choose phases, gates, products or auto"):
        chosen_path(CALL, COMPLETE)


def paths_here() -> list[str]:
    found = ["gates", "products"]
    try:
        import triton  # noqa: F401
    except ImportError:
        return found
    return ["phases", *found]


@pytest.mark.skipif(torch.cuda.is_available(), reason="on a GPU machine the Triton kernels do not take CPU tensors")
@pytest.mark.parametrize("lengths", [False, True])
def test_each_path_runs_backward_from_what_another_has_run_forward(
    lengths: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    emulate_gate_kernels(monkeypatch)
    inputs = draw(Case(groups=1, batch=3, steps=2, dtype=torch.float32, lengths=lengths, seed=3))
    weights = [tensor.detach() for layer in inputs.weights for tensor in layer]
    assert inputs.state is not None
    given = (inputs.input.detach(), weights, *(tensor.detach() for tensor in inputs.state), inputs.lengths, None)
    x, _, h0, c0, ends, _ = given
    gradients = None
    results = {}
    for path in paths_here():
        monkeypatch.setenv(VARIABLE, path)
        results[path] = _lstm_cuda.forward(x, weights, None, h0, c0, ends, None, True)
        gradients = gradients or [torch.randn_like(tensor) for tensor in results[path][:3]]
    assert gradients is not None
    for one, other in permutations(results, 2):
        for found, wanted in zip(results[one][:3], results[other][:3], strict=True):
            torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)
        backward = {}
        for taped in (one, other):
            monkeypatch.setenv(VARIABLE, one)
            output, tape = results[taped][0], results[taped][3]
            three = _lstm_cuda.backward(*gradients, x, weights, h0, c0, ends, None, output, tape)
            backward[taped] = [*three[:3], *three[3]]
        for found, wanted in zip(backward[one], backward[other], strict=True):
            torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("lengths", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_step_of_a_layer_is_one_product_and_one_launch(
    lengths: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    emulate_gate_kernels(monkeypatch)
    launched: Counter[str] = Counter()

    def counted(owner: Any, name: str) -> None:
        function = getattr(owner, name)

        def call(*arguments: Any, **options: Any) -> Any:
            launched[name] += 1
            return function(*arguments, **options)

        monkeypatch.setattr(owner, name, call)

    for owner, name in (
        (batched_lstm_gates, "gates_forward"),
        (batched_lstm_gates, "gates_backward"),
        (torch, "baddbmm"),
        (torch, "bmm"),
        (torch.Tensor, "baddbmm_"),
    ):
        counted(owner, name)
    steps, layers = 6, 2
    inputs = draw(Case(steps=steps, layers=layers, dtype=dtype, state=False, lengths=lengths))
    weights = [tensor.detach() for layer in inputs.weights for tensor in layer]
    x = inputs.input.detach()
    output, h_n, _, tape = _lstm_gates.forward(x, weights, None, None, None, inputs.lengths, None, True)
    assert launched == {"baddbmm": layers, "baddbmm_": layers * (steps - 1), "gates_forward": layers * steps}
    launched.clear()
    _lstm_gates.backward(output, h_n, None, x, weights, None, None, inputs.lengths, None, output, tape)
    # Per layer three large products, and one a step but for the first.
    assert launched == {"bmm": layers * (steps - 1 + 3), "gates_backward": layers * steps}


def test_a_tape_that_was_not_kept_is_computed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    emulate_gate_kernels(monkeypatch)
    inputs = draw(Case(dtype=torch.float32, lengths=True))
    weights = [tensor.detach() for layer in inputs.weights for tensor in layer]
    assert inputs.state is not None
    state = [tensor.detach() for tensor in inputs.state]
    x = inputs.input.detach()
    for module in (_lstm_gates, _lstm_products):
        output, _, _, tape = module.forward(x, weights, None, *state, inputs.lengths, None, True)
        kept, again = (
            module.backward(output, None, None, x, weights, *state, inputs.lengths, None, output, given)
            for given in (tape, tape[:0])
        )
        for one, other in zip((*kept[:3], *kept[3]), (*again[:3], *again[3]), strict=True):
            assert torch.equal(one, other)


@pytest.mark.gpu
@pytest.mark.parametrize("path", get_args(_lstm_cuda.Path))
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_cuda_graph_repeats_every_path_and_so_does_a_second_call(
    path: Any, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = why_not(path, Call(dtype, 33, False, "ieee"), _lstm_cuda.machine_of(torch.device("cuda")))
    if missing is not None:
        pytest.skip(missing)
    monkeypatch.setenv(VARIABLE, path)
    inputs = draw(Case(batch=33, hidden=64, inputs=20, dtype=dtype), "cuda")
    weights = [tensor.detach() for layer in inputs.weights for tensor in layer]
    assert inputs.state is not None
    state = [tensor.detach() for tensor in inputs.state]
    x = inputs.input.detach().clone()

    def run() -> list[torch.Tensor]:
        output, h_n, c_n, tape = _lstm_cuda.forward(x, weights, None, *state, None, None, True)
        back = _lstm_cuda.backward(output, h_n, c_n, x, weights, *state, None, None, output, tape)
        return [output, h_n, c_n, *back[:3], *back[3]]

    wanted, again = run(), run()
    assert all(torch.equal(one, other) for one, other in zip(wanted, again, strict=True))
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = run()
    x.neg_()
    graph.replay()
    x.neg_()
    graph.replay()
    torch.cuda.synchronize()
    assert all(torch.equal(one, other) for one, other in zip(found, wanted, strict=True))
