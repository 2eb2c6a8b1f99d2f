"""The encoding job at its precisions in ``benchmarks.end_to_end``, and the float64 encodings it is held to."""

from __future__ import annotations

import functools
import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from sgela_fast.benchmarks.harness.suite import Case, Job, Outputs, Provider
from sgela_fast.benchmarks.lstm_work import tolerance_of
from sgela_fast.encoding.config import EncodingConfig
from sgela_fast.encoding.encode import encode, open_encoder
from sgela_fast.encoding.encoder import Encoder
from sgela_fast.models.config import Precision
from sgela_fast.models.sgela import build_model
from sgela_fast.skeletons.archive import Archive, is_archive
from sgela_fast.skeletons.config import WalkerConfig
from sgela_fast.skeletons.walker import write_walkers

# 215 frames without ten at each end, windows of 6 that overlap by half: 64 windows a walk.
WALKS, FRAMES, WINDOWS_PER_PERSON = 4, 215, 256
BATCH = 512
# Set by the runner: a folder for what one run writes and its processes share.
SCRATCH = "SGELA_BENCHMARK_SCRATCH"
_numbers = itertools.count()


@functools.cache
def _own_folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory()


def scratch() -> Path:
    """Where archives and stores are written; removed when the run ends."""
    given = os.environ.get(SCRATCH)
    return Path(given) if given else Path(_own_folder().name)


def archive_of(case: Case) -> Archive:
    """Synthetic walkers, written once a run."""
    path = scratch() / f"walkers-{case.settings['persons']}.sga"
    if is_archive(path):
        return Archive(path)
    persons = int(case.settings["persons"])
    return write_walkers(path, WalkerConfig(persons=persons, walks=WALKS, min_frames=FRAMES, max_frames=FRAMES))


def windows_of(encoder: Encoder, archive: Archive) -> Iterator[Tensor]:
    """Windows of all recordings, ``(N, T, J, A)`` each."""
    return (torch.from_numpy(encoder.cut(archive.frames_of(row))[0]) for row in archive.rows)


def expected(case: Case, _answer: str) -> Outputs:
    """Pooled encodings of the reference in float64, in the order of the archive."""
    archive = archive_of(case)
    encoder = _encoder(archive, case, "reference", "fp32")
    model = build_model(encoder.model.config, "reference", seed=1, dtype=torch.float64, device=case.device).eval()
    with torch.inference_mode():
        found = [model.ages(windows.to(case.device).double()).mean(dim=1) for windows in windows_of(encoder, archive)]
        return {"values": torch.cat(found).cpu()}


def tolerance(case: Case, precision: str) -> dict[str, float]:
    """Largest deviation, relative to the largest entry."""
    return {"values": tolerance_of(precision, case)}


def _config(case: Case, backend: Literal["reference", "fused"], precision: Precision) -> EncodingConfig:
    device: Literal["cpu", "cuda"] = "cuda" if case.device == "cuda" else "cpu"
    return EncodingConfig(pooling="mean", batch=BATCH, device=device, backend=backend, precision=precision)


def _encoder(archive: Archive, case: Case, backend: Literal["reference", "fused"], precision: Precision) -> Encoder:
    return open_encoder(archive, run=None, untrained="official", seed=1, config=_config(case, backend, precision))


class EncodingJob:
    """One call makes a store and removes that of the call before.

    Args:
        case: what to encode.
        backend: of the model.
        precision: of the model.
    """

    def __init__(self, case: Case, backend: Literal["reference", "fused"], precision: Precision) -> None:
        self.archive = archive_of(case)
        self.config = _config(case, backend, precision)
        self.encoder = _encoder(self.archive, case, backend, precision)
        self.previous: Path | None = None
        self.seconds: dict[str, float] = {}

    def __call__(self) -> Outputs:
        out = scratch() / f"store-{os.getpid()}-{next(_numbers)}"
        result = encode(self.archive, self.encoder, out, self.config)
        self.seconds = result.seconds.as_dict()
        if self.previous is not None:
            shutil.rmtree(self.previous)
        self.previous = out
        return _Values(result.store)

    def details(self) -> dict[str, Any]:
        """Stages of the last call, in ms and as a share of the whole; they overlap."""
        total = self.seconds["total"]
        told: dict[str, Any] = {"total ms": 1e3 * total}
        for stage, seconds in self.seconds.items():
            if stage != "total":
                told[f"{stage} ms"] = 1e3 * seconds
                told[f"{stage} %"] = round(100 * seconds / total, 1)
        return told


class _Values(dict[str, Tensor]):
    """The store's values, read when they are compared, which is no part of the job."""

    def __init__(self, store: Any) -> None:
        super().__init__(values=torch.empty(0))
        self._store = store

    def __getitem__(self, name: str) -> Tensor:
        return torch.from_numpy(self._store.values())


def _fused(case: Case, precision: Precision) -> Job:
    return EncodingJob(case, "fused", precision)


def prepare_fused(case: Case) -> Job:
    """The job on this package's ops; with ``--precision tf32`` by TF32."""
    return _fused(case, "tf32" if case.settings["precision"] == "tf32" else "fp32")


def prepare_fused_bf16(case: Case) -> Job:
    """The same with bfloat16 weights."""
    return _fused(case, "bf16")


def prepare_fused_int8(case: Case) -> Job:
    """The same with weights and states of 8 bits."""
    return _fused(case, "int8")


def prepare_eager(case: Case) -> Job:
    """The job on the reference."""
    return EncodingJob(case, "reference", "fp32")


def _in_memory(case: Case, precision: Precision) -> Job:
    archive = archive_of(case)
    encoder = _encoder(archive, case, "fused", precision)
    windows = torch.cat(list(windows_of(encoder, archive))).to(case.device)

    def job() -> Outputs:
        return {"values": torch.cat([encoder.ages(part).mean(dim=1) for part in windows.split(BATCH)])}

    return job


def prepare_in_memory(case: Case) -> Job:
    """Windows that lie in memory through the model alone, pooled: no files, no cutting."""
    return _in_memory(case, "tf32" if case.settings["precision"] == "tf32" else "fp32")


def prepare_in_memory_bf16(case: Case) -> Job:
    """The same with bfloat16 weights."""
    return _in_memory(case, "bf16")


def prepare_in_memory_int8(case: Case) -> Job:
    """The same with weights and states of 8 bits."""
    return _in_memory(case, "int8")


MEMORY = "model alone, windows in memory"
PROVIDERS = (
    Provider("fused", prepare_fused),
    Provider("in memory", prepare_in_memory, note=MEMORY),
    Provider("fused bf16", prepare_fused_bf16, precision="bfloat16"),
    Provider("in memory bf16", prepare_in_memory_bf16, note=MEMORY, precision="bfloat16"),
    Provider("fused int8", prepare_fused_int8, precision="int8"),
    Provider("in memory int8", prepare_in_memory_int8, note=MEMORY, precision="int8"),
    Provider("eager", prepare_eager, note="the same job on the reference"),
)
