"""However often an encoding is killed, the store that comes out in the end has the same bytes."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from sgela_fast.encoding.config import EncodingConfig
from sgela_fast.encoding.encode import encode
from sgela_fast.encoding.encoder import Encoder
from sgela_fast.encoding.plan import plan_units
from sgela_fast.encoding.store import Store
from sgela_fast.errors import DataError, Interrupted, OutputError
from sgela_fast.skeletons.archive import Archive

SETTINGS = EncodingConfig(part_mb=0.006, batch=32, stride=2)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def spoil(name: str, joints: np.ndarray) -> None:
    """A recording that is quarantined, and one with a lost joint."""
    if name == "p1_1":
        joints[:] = np.nan
    if name == "p2_0":
        joints[12, 3] = 0


@pytest.fixture
def archive(make_archive: Callable[..., Archive]) -> Archive:
    recordings = {f"p{person}_{walk}": 40 + walk for person in range(4) for walk in range(3)}
    return make_archive({**recordings, "short_0": 4, "long_0": 300}, change=spoil)


@pytest.fixture
def whole(archive: Archive, tiny_encoder: Encoder, tmp_path: Path) -> Path:
    """The store of an encoding that nothing interrupted."""
    store = encode(archive, tiny_encoder, tmp_path / "whole", SETTINGS).store
    assert len(store.parts) > 8
    return store.path


@pytest.fixture
def server() -> Iterator[subprocess.Popen[str]]:
    script = Path(__file__).with_name("encode_server.py")
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, str(script)], text=True, env=environment, **pipes) as process:  # type: ignore[call-overload]
        yield process
        process.stdin.close()


def run(server: subprocess.Popen[str], archive: Path, out: Path, kill_after: float | None) -> int:
    """Encode in another process, kill it after so many seconds; its status, 0 if it ended by itself."""
    assert server.stdin is not None
    assert server.stdout is not None
    server.stdin.write(f"{archive} {out}\n")
    server.stdin.flush()
    child = int(server.stdout.readline())
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(child, signal.SIGKILL)  # at worst a zombie: nobody has waited for it unless it has ended
    return int(server.stdout.readline())


@pytest.mark.parametrize("kills", [6, pytest.param(50, marks=pytest.mark.slow)])
def test_a_killed_encoder_loses_and_doubles_nothing(
    server: subprocess.Popen[str], archive: Archive, whole: Path, tmp_path: Path, kills: int
) -> None:
    expected, out = contents(whole), tmp_path / "out"
    lasts = []
    for _ in range(2):
        begun = time.monotonic()
        assert run(server, archive.path, out, None) == 0
        lasts.append(time.monotonic() - begun)
        assert contents(out) == expected
        shutil.rmtree(out)
    moments, killed = random.Random(kills), 0
    while killed < kills:
        try:
            status = run(server, archive.path, out, moments.uniform(0, 0.7 * min(lasts)))
        except ProcessLookupError:
            status = int(server.stdout.readline())  # type: ignore[union-attr]
        killed += status == signal.SIGKILL
        if status == 0:
            assert contents(out) == expected
            shutil.rmtree(out)
        else:
            assert status == signal.SIGKILL
    assert run(server, archive.path, out, None) == 0
    assert contents(out) == expected


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_finishes_the_part_and_resume_goes_on(
    archive: Archive, tiny_encoder: Encoder, whole: Path, tmp_path: Path, number: int
) -> None:
    out, done = tmp_path / "out", []

    def stop(units: int = 1, *, note: str = "") -> None:
        if not done:
            os.kill(os.getpid(), number)
        done.append(units)

    with pytest.raises(Interrupted, match="--resume"):
        encode(archive, tiny_encoder, out, SETTINGS, progress=stop)
    committed = sorted(out.glob("part-*.json"))
    assert 1 <= len(committed) < len(Store(whole).parts)
    before = {path.name: path.stat().st_mtime_ns for path in out.glob("part-*.npy")}
    planned: list[tuple[int, int]] = []
    encode(archive, tiny_encoder, out, SETTINGS, resume=True, planned=lambda *counts: planned.append(counts))
    assert contents(out) == contents(whole)
    assert {name: (out / name).stat().st_mtime_ns for name in before} == before, "a committed part was written again"
    assert planned[0][0] > 0
    assert planned[0][1] == len(archive)


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize("damage", ["flip", "cut", "remove", "rows"])
def test_resume_rebuilds_what_is_damaged(
    archive: Archive, tiny_encoder: Encoder, whole: Path, tmp_path: Path, damage: str, finished: bool
) -> None:
    out = tmp_path / "out"
    shutil.copytree(whole, out)
    if not finished:
        with pytest.raises(OutputError):
            # Begin to resume and fail at the last step.
            fail_at_the_end(archive, tiny_encoder, out)
    path = out / ("part-00002.parquet" if damage == "rows" else "part-00002.npy")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    if damage == "remove":
        path.unlink()
    else:
        path.write_bytes(data[:-7] if damage == "cut" else data)
    if finished:
        with pytest.raises(DataError, match=path.name):
            Store(out).verify()
    encode(archive, tiny_encoder, out, SETTINGS, resume=True)
    assert contents(out) == contents(whole)


def fail_at_the_end(archive: Archive, encoder: Encoder, out: Path) -> None:
    with pytest.MonkeyPatch.context() as patched:

        def full(*_: object) -> None:
            raise OutputError("full")

        patched.setattr("sgela_fast.encoding.manifest.write_quarantine", full)
        encode(archive, encoder, out, SETTINGS, resume=True)


def test_a_damaged_quarantine_is_made_anew(
    archive: Archive, tiny_encoder: Encoder, whole: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(whole, out)
    (out / "quarantine.parquet").write_bytes(b"nothing")
    encode(archive, tiny_encoder, out, SETTINGS, resume=True)
    assert contents(out) == contents(whole)


def test_a_damaged_receipt_is_not_believed(
    archive: Archive, tiny_encoder: Encoder, whole: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(whole, out)
    with pytest.raises(OutputError):
        fail_at_the_end(archive, tiny_encoder, out)
    for part, (old, new) in enumerate([('"invalid": ', '"invalid": 1'), ("{", "["), ('"part": 2', '"part": 3')]):
        receipt = out / f"part-{part:05d}.json"
        receipt.write_text(receipt.read_text().replace(old, new, 1))
    encode(archive, tiny_encoder, out, SETTINGS, resume=True)
    assert contents(out) == contents(whole)


def test_the_store_says_what_was_left_out(whole: Path) -> None:
    store = Store(whole)
    left_out = {row["recording"]: (row["kind"], row["person"]) for row in store.quarantine.to_pylist()}
    assert left_out == {"p1_1": ("not finite", "p1"), "short_0": ("short", "short")}
    assert (store.info["quarantined"], store.info["short_recordings"], store.info["recordings"]) == (1, 1, 12)
    table = store.table
    assert "p1_1" not in table["recording"].to_pylist()
    bad = [row for row in table.to_pylist() if not row["valid"]]
    assert {row["recording"] for row in bad} == {"p2_0"}
    assert [round(row["quality"], 4) for row in bad] == [round(1 - 1 / 60, 4)] * 2
    digests = {row["recording"]: row["source_sha256"] for row in table.to_pylist()}
    assert len(set(digests.values())) == len(digests) == 12


def test_a_long_recording_is_cut_into_parts_of_its_own(whole: Path) -> None:
    store = Store(whole)
    parts = [set(store.columns("recording")["recording"].to_pylist()[a:b]) for a, b in spans(store)]
    assert sum("long_0" in part for part in parts) > 3
    starts = [row["window_start"] for row in store.table.to_pylist() if row["recording"] == "long_0"]
    assert starts == list(range(2, 296, 2))


def spans(store: Store) -> list[tuple[int, int]]:
    ends = np.cumsum([shard["windows"] for shard in store.info["shards"]])
    return list(zip([0, *ends[:-1]], ends, strict=True))


@pytest.mark.parametrize("seed", range(20))
def test_a_plan_holds_every_window_once(seed: int) -> None:
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 30, size=rng.integers(1, 60)) * (rng.random() < 0.9)
    size = int(rng.integers(1, 40))
    seen, begins = [], []
    for unit in plan_units(counts, size):
        pieces = list(unit.pieces(counts))
        mine = [(piece.recording, window) for piece in pieces for window in range(piece.start, piece.stop)]
        assert len(mine) == unit.windows
        assert unit.windows <= size
        assert unit.window == len(seen)
        seen += mine
        begins += list(unit.recordings)
    assert seen == [(recording, window) for recording, count in enumerate(counts) for window in range(count)]
    assert begins == (list(range(len(counts))) if counts.any() else [])


def test_the_result_is_the_same_from_threads_and_one_unit_at_a_time(
    archive: Archive, tiny_encoder: Encoder, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a worker of a cluster does, unit by unit and in any order, gives the same store."""
    from sgela_fast.encoding import work as module
    from sgela_fast.encoding.unit import StageSeconds, encode_unit

    def one_by_one(job, units, *, committed, advance, stop):  # type: ignore[no-untyped-def]
        for unit in reversed(list(units)):
            encode_unit(job.folder, job.source, job.encoder, job.settings, unit)
            committed(encode_unit(job.folder, job.source, job.encoder, job.settings, unit))
        return StageSeconds()

    monkeypatch.setattr(module.local, "run", one_by_one)
    encode(archive, tiny_encoder, tmp_path / "out", SETTINGS)
    assert contents(tmp_path / "out") == contents(whole)


def test_progress_does_not_wait_for_the_end_of_a_part(archive: Archive, tiny_encoder: Encoder, tmp_path: Path) -> None:
    told: list[int] = []
    result = encode(
        archive,
        tiny_encoder,
        tmp_path / "out",
        EncodingConfig(batch=8),
        progress=lambda units=1, *, note="": told.append(units),
    )
    assert len(result.store.parts) == 1
    assert sum(told) == len(archive)
    assert 0 < told[-1] < len(archive) / 2


def test_stages_are_timed_and_counted(archive: Archive, tiny_encoder: Encoder, tmp_path: Path) -> None:
    result = encode(archive, tiny_encoder, tmp_path / "out", SETTINGS)
    assert result.windows == len(result.store)
    assert result.quarantined == ("p1_1",)
    assert all(seconds > 0 for seconds in result.seconds.as_dict().values())
