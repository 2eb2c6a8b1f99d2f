"""A disk that fails under the writer costs at most the part that is being written."""

from __future__ import annotations

import errno
import io
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sgela_fast import atomic
from sgela_fast.encoding.config import EncodingConfig
from sgela_fast.encoding.encode import encode
from sgela_fast.encoding.encoder import Encoder
from sgela_fast.encoding.maintenance import compact, delete
from sgela_fast.encoding.store import Store
from sgela_fast.errors import OutputError
from sgela_fast.skeletons.archive import Archive

SETTINGS = EncodingConfig(part_mb=0.006, batch=32, stride=2)


class FaultyFile(io.FileIO):
    """A file whose writes fail in a chosen way, once ``writes`` of them went well."""

    kind = ""
    writes = 0

    def write(self, data: object) -> int:  # type: ignore[override]
        view = memoryview(data).cast("B")  # type: ignore[arg-type]
        FaultyFile.writes -= 1
        if FaultyFile.writes >= 0 or not FaultyFile.kind:
            return super().write(view)
        if FaultyFile.kind == "short":
            return super().write(view[: max(1, len(view) // 3)])
        if FaultyFile.kind == "lost":
            super().write(view[: len(view) // 2])
            return len(view)
        if FaultyFile.kind == "slow":
            time.sleep(0.01)
            return super().write(view)
        number = {"full": errno.ENOSPC, "broken": errno.EIO, "quota": errno.EDQUOT}[FaultyFile.kind]
        super().write(view[: len(view) // 2])
        raise OSError(number, "injected")


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, int], None]:
    """A function that makes the disk fail in a way, after so many writes; an empty kind mends it."""
    monkeypatch.setattr(atomic, "open_new", lambda path: io.BufferedWriter(FaultyFile(path, "w"), 64))

    def choose(kind: str, after: int = 0) -> None:
        FaultyFile.kind, FaultyFile.writes = kind, after

    choose("")
    return choose


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def archive(make_archive: Callable[..., Archive]) -> Archive:
    return make_archive({f"p{person}_{walk}": 40 for person in range(3) for walk in range(3)})


@pytest.fixture
def whole(archive: Archive, tiny_encoder: Encoder, tmp_path: Path) -> dict[str, bytes]:
    """Files of the store as a sound disk has them."""
    return contents(encode(archive, tiny_encoder, tmp_path / "whole", SETTINGS).store.path)


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("full", "the disk is full; free some space"),
        ("quota", "the disk quota is used up"),
        ("broken", "injected; choose another output path"),
        ("lost", "less arrived on the disk than was written"),
    ],
)
@pytest.mark.parametrize("after", [0, 3, 9, 15])
def test_a_failing_write_is_told_and_resumed_from(
    archive: Archive,
    tiny_encoder: Encoder,
    whole: dict[str, bytes],
    tmp_path: Path,
    disk: Callable[[str, int], None],
    kind: str,
    sentence: str,
    after: int,
) -> None:
    out = tmp_path / "out"
    disk(kind, after)
    with pytest.raises(OutputError, match=sentence):
        encode(archive, tiny_encoder, out, SETTINGS)
    if out.exists():
        left = contents(out)
        assert "store.json" not in left
        assert not [name for name in left if name.endswith(".tmp")], "half a file is left behind"
    disk("", 0)
    encode(archive, tiny_encoder, out, SETTINGS, resume=True)
    assert contents(out) == whole


@pytest.mark.parametrize("kind", ["short", "slow"])
def test_short_and_slow_writes_change_nothing(
    archive: Archive,
    tiny_encoder: Encoder,
    whole: dict[str, bytes],
    tmp_path: Path,
    disk: Callable[[str, int], None],
    kind: str,
) -> None:
    disk(kind, 0)
    encode(archive, tiny_encoder, tmp_path / "out", SETTINGS)
    assert contents(tmp_path / "out") == whole


@pytest.mark.parametrize("action", ["delete", "compact"])
@pytest.mark.parametrize("after", [0, 1, 2])
def test_a_change_on_a_full_disk_is_taken_back(
    archive: Archive, tiny_encoder: Encoder, tmp_path: Path, disk: Callable[[str, int], None], action: str, after: int
) -> None:
    store = encode(archive, tiny_encoder, tmp_path / "out", SETTINGS).store
    before = contents(store.path)
    disk("full", after)
    act = {"delete": lambda: delete(store.path, persons=["p1"]), "compact": lambda: compact(store.path, part_mb=0.1)}
    with pytest.raises(OutputError, match="the disk is full"):
        act[action]()
    assert contents(store.path) == before
    disk("", 0)
    assert np.array_equal(Store(store.path).values(), store.values())


def test_an_unreadable_recording_is_quarantined(
    archive: Archive, tiny_encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A read error in the middle of the archive costs the recordings that it hits."""
    import os

    real, calls = os.pread, [0]

    def failing(*arguments: object) -> bytes:
        calls[0] += 1
        if calls[0] in (3, 4):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "pread", failing)
    result = encode(archive, tiny_encoder, tmp_path / "out", SETTINGS)
    assert result.quarantined == ("p0_2", "p1_0")
    reasons = {row["reason"] for row in result.store.quarantine.to_pylist()}
    assert reasons == {"frames-00000.npy cannot be read (Input/output error)"}
    assert result.store.info["recordings"] == 7
