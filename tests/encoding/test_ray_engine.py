"""A Ray cluster makes the same store, also when a worker dies."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sgela_fast.encoding.config import EncodingConfig, EngineConfig
from sgela_fast.encoding.encode import encode
from sgela_fast.encoding.encoder import Encoder
from sgela_fast.errors import ConfigError, MissingDependencyError
from sgela_fast.skeletons.archive import Archive

SETTINGS = EncodingConfig(part_mb=0.006, batch=32, stride=2, threads=1)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed")
def test_a_cluster_that_loses_a_worker_makes_the_same_store(
    make_archive: Callable[..., Archive], tiny_encoder: Encoder, tmp_path: Path
) -> None:
    archive = make_archive({f"p{person}_{walk}": 40 for person in range(8) for walk in range(3)})
    whole = encode(archive, tiny_encoder, tmp_path / "whole", SETTINGS).store.path
    script = Path(__file__).with_name("encode_on_ray.py")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(script), str(archive.path), str(tmp_path / "out")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    assert "killed [" in done.stdout
    assert {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()} == {
        p.name: p.read_bytes() for p in whole.iterdir()
    }


def test_without_ray_the_extra_is_named(
    make_archive: Callable[..., Archive], tiny_encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "sgela_fast\[ray\]"'):
        encode(make_archive({"a": 40}), tiny_encoder, tmp_path / "out", engine=EngineConfig("ray"))
    assert not (tmp_path / "out").exists()


def test_engines_are_chosen_by_name() -> None:
    with pytest.raises(ConfigError, match=r"engine\.engine is 'spark'; choose local or ray"):
        EngineConfig("spark")  # type: ignore[arg-type]
