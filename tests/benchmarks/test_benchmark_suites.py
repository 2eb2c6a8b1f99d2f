"""Every suite's providers give the answer they are held to, at tiny sizes; costs are those of the design."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from sgela_fast.benchmarks import encoding, training_step
from sgela_fast.benchmarks.harness.arguments import SUITES, Choice
from sgela_fast.benchmarks.harness.command import build, describe
from sgela_fast.benchmarks.harness.suite import Case, Provider, Suite, Unavailable
from sgela_fast.benchmarks.harness.verification import verify
from sgela_fast.benchmarks.lstm_work import CUDA_BATCHES, DISTINCT, ENCODER, distinct, lstm_cost, lstm_flop, repeated
from sgela_fast.errors import SgelaError

REPOSITORY = Path(__file__).resolve().parents[2]
QUICK = Choice(grid="quick")
OPTIONAL = {"ONNX Runtime": "onnxruntime", "ONNX int8": "onnxruntime", "OpenVINO": "openvino"}
# Their compilation and export take longer than everything else here together.
SLOW = {"compile", "autotune", "rows first, compile"}
# torch's exporter and quantisation, and what they call, warn about their own internals.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor"),
]


def rows(*names: str) -> list[object]:
    found = []
    for name in names:
        suite = build(name, QUICK)
        for provider in suite.providers:
            for case in suite.cases:
                exported = name == "encoding" and provider.name in OPTIONAL
                marks = [pytest.mark.slow] if provider.name in SLOW or exported else []
                label = f"{name}-{provider.name}-{case.name}".replace(" ", "_")
                found.append(pytest.param(suite, provider, case, marks=marks, id=label))
    return found


@pytest.mark.parametrize(
    ("suite", "provider", "case"),
    rows(
        "batched_lstm",
        "attention_decoder",
        "horizontal_pyramid_pooling",
        "gated_temporal_pooling",
        "encoding",
        "training_step",
        "selfgait",
        "search",
        "end_to_end",
    ),
)
def test_every_provider_gives_the_answer_it_is_held_to_or_says_why_not(
    suite: Suite, provider: Provider, case: Case
) -> None:
    library = OPTIONAL.get(provider.name)
    if library and importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    try:
        job = provider.prepare(case)
    except (Unavailable, SgelaError):
        return  # the runner gives its words as the reason
    tolerance = suite.tolerance(case, case.precision_of(provider))
    deviations = verify(job(), suite.expected(case, provider.answer), tolerance)
    assert max(deviations.values()) <= max(tolerance.values())


@pytest.mark.parametrize("name", SUITES)
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_cases_and_providers_have_names_of_their_own_and_costs(name: str, device: str) -> None:
    for grid in ("quick", "standard", "full"):
        suite = build(name, Choice(device=device, grid=grid))  # type: ignore[arg-type]
        assert suite.name == name
        assert len({case.name for case in suite.cases}) == len(suite.cases) > 0
        assert len({provider.name for provider in suite.providers}) == len(suite.providers)
        assert suite.subject in {provider.name for provider in suite.providers}
        assert all(case.device == device and case.cost.flop > 0 and case.cost.bytes > 0 for case in suite.cases)
        assert name in describe(suite, by_name=False)


@pytest.mark.parametrize("name", SUITES)
def test_sizes_of_the_command_line_take_the_place_of_the_suites_own(name: str) -> None:
    own, given = build(name, Choice()), build(name, Choice(sizes=(768,)))
    assert {case.items for case in given.cases} == {768}
    assert {case.name for case in given.cases} != {case.name for case in own.cases}


def test_cpu_sizes_reach_8192_and_those_of_a_gpu_65536() -> None:
    for name in ("batched_lstm", "encoding"):
        assert max(case.items for case in build(name, Choice()).cases) == 8192
        assert max(case.items for case in build(name, Choice(device="cuda")).cases) == 65536
    assert CUDA_BATCHES[:7] == (1, 8, 32, 128, 512, 2048, 8192)


def test_operations_are_those_counted_for_one_window() -> None:
    # Encoder 25.9 MFLOP without the recurrence of a zero state; the whole pipeline 72.6 with everything computed.
    assert lstm_flop(ENCODER, 1) == pytest.approx(25.9e6, rel=0.005)
    whole = lstm_flop(ENCODER, 1) + encoding.decoder_flop(ENCODER, 1, "paper")
    assert 60e6 < whole < 72.6e6
    # Its key projection is what the official variant computes beyond the paper's.
    extra = encoding.decoder_flop(ENCODER, 1, "official") - encoding.decoder_flop(ENCODER, 1, "paper")
    assert extra == 3 * 6 * 2 * 256**2
    assert training_step.forward_flop(ENCODER, 1, "paper") > whole


def test_reduced_weights_are_fewer_bytes_and_the_same_operations() -> None:
    full, half, quarter = (lstm_cost(ENCODER, 1, name, backward=False) for name in ("float32", "bfloat16", "int8"))
    assert full.flop == half.flop == quarter.flop
    assert full.bytes - half.bytes == pytest.approx(2 * (half.bytes - quarter.bytes))
    both = lstm_cost(ENCODER, 1, "float32", backward=True)
    assert both.flop == 3 * full.flop


@pytest.mark.parametrize("batch", [1, 7, DISTINCT, DISTINCT + 1, 4 * DISTINCT])
def test_large_batches_repeat_the_first_windows_and_others_are_drawn_whole(batch: int) -> None:
    import torch

    drawn = distinct(batch)
    assert drawn == (DISTINCT if batch == 4 * DISTINCT else batch)
    whole = repeated(torch.arange(drawn)[None], batch, 1)
    assert whole.shape == (1, batch)
    assert torch.equal(whole[0, :drawn], whole[0, -drawn:])


@pytest.mark.slow
def test_a_quick_run_of_all_suites_leaves_results_with_what_they_were_made_with(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "benchmarks",
        "--quick",
        "--no_memory",
        "--providers",
        "^fused$|^eager$|in memory$|^exact$",
    ]
    done = subprocess.run([*command, "--out", tmp_path], cwd=REPOSITORY, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    for name in SUITES:
        (path,) = tmp_path.glob(f"{name}_quick_partial_*.json")
        content = json.loads(path.read_text())
        assert content["settings"]["command"].startswith("python -m benchmarks --quick")
        assert content["environment"]["threads"] == 1
        assert content["energy"]["counter"] or content["energy"]["reason"]
        assert any(record["status"] == "measured" for record in content["records"])
        assert not [record["reason"] for record in content["records"] if record["status"] == "refused"]
        assert path.with_suffix(".md").exists()
