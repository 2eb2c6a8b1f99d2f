"""The examples in ``examples/`` learn what their page says, and the page shows them as they are."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

REPOSITORY = Path(__file__).resolve().parents[2]
EXAMPLES = ("luong_translation", "local_heads_transformer")


@pytest.fixture
def example(request: pytest.FixtureRequest) -> Iterator[ModuleType]:
    """The module in ``examples/`` of the parameter's name, on one thread."""
    spec = importlib.util.spec_from_file_location(request.param, REPOSITORY / "examples" / f"{request.param}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[request.param] = module
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    spec.loader.exec_module(module)
    yield module
    torch.set_num_threads(threads)
    del sys.modules[request.param]


@pytest.mark.parametrize("example", ["luong_translation"], indirect=True)
def test_the_loss_makes_a_translators_alignment_monotone_sooner(example: ModuleType) -> None:
    plain, local = example.run(weight=0.0, steps=200), example.run(weight=5.0, steps=200)
    assert local["short words, letters right"] > 90
    for name in plain:
        assert local[name] > plain[name], name


@pytest.mark.parametrize("example", ["local_heads_transformer"], indirect=True)
def test_taught_heads_learn_in_fewer_steps(example: ModuleType) -> None:
    plain, taught = (example.run(strength=strength, steps=300)["as long as in training"] for strength in (0.0, 0.1))
    assert plain < 50
    assert taught > 80


@pytest.mark.parametrize("example", ["local_heads_transformer"], indirect=True)
def test_heads_are_read_where_they_lie(example: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = example.Layer(16, (-1.0, 1.0), (1.0, 0.0))
    seen: list[torch.Tensor] = []
    attend = layer.attention.forward

    def spy(query: torch.Tensor, key: torch.Tensor, *, value: torch.Tensor, **rest: object) -> object:
        seen.extend((query, key, value))
        return attend(query, key, value=value, **rest)

    monkeypatch.setattr(layer.attention, "forward", spy)
    layer(torch.randn(2, 5, 16), torch.zeros(2, 5, dtype=torch.bool))
    assert len({tensor.untyped_storage().data_ptr() for tensor in seen}) == 1
    assert all(tensor.shape == (2, 2, 5, 8) and tensor.stride(-1) == 1 for tensor in seen)


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_page_shows_the_file(name: str) -> None:
    page = (REPOSITORY / "docs" / "locality-attention.md").read_text()
    assert f'--8<-- "examples/{name}.py"' in page
    assert len((REPOSITORY / "examples" / f"{name}.py").read_text().splitlines()) < 90
