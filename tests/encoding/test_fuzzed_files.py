"""Flipped and cut bytes anywhere in a store or an archive end in one clear error or in sound results, never a crash."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sgela_fast.encoding.config import EncodingConfig
from sgela_fast.encoding.encode import encode
from sgela_fast.encoding.encoder import Encoder
from sgela_fast.encoding.maintenance import compact, delete
from sgela_fast.encoding.store import Store
from sgela_fast.errors import SgelaError
from sgela_fast.skeletons.archive import Archive

EXAMPLES = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
SETTINGS = EncodingConfig(part_mb=0.006, batch=64, stride=2)
DAMAGE = st.fixed_dictionaries(
    {
        "file": st.integers(0, 999),
        "place": st.floats(0, 1, exclude_max=True),
        "kind": st.sampled_from(["flip", "cut", "zero", "grow", "json"]),
        "bit": st.integers(0, 7),
        "number": st.sampled_from([b"-1", b"0", b"1e999", b"null", b'"x"', b"[]", b"99999999999999999999"]),
    }
)


def damage(folder: Path, how: dict[str, object]) -> str:
    """Damage one file of a folder; its name."""
    files = sorted(path for path in folder.iterdir() if path.is_file())
    path = files[int(how["file"]) % len(files)]  # type: ignore[call-overload]
    data = bytearray(path.read_bytes())
    place = int(float(how["place"]) * len(data))  # type: ignore[arg-type]
    if how["kind"] == "flip":
        data[place] ^= 1 << int(how["bit"])  # type: ignore[call-overload]
    elif how["kind"] == "cut":
        del data[place:]
    elif how["kind"] == "zero":
        data[place : place + 64] = bytes(len(data[place : place + 64]))
    elif how["kind"] == "grow":
        data += b"\0" * 97
    else:
        # A number of a JSON file becomes something else.
        digits = [at for at, byte in enumerate(data) if chr(byte).isdigit()]
        at = min(digits, key=lambda found: abs(found - place), default=0)
        data[at : at + 1] = how["number"]  # type: ignore[assignment]
    path.write_bytes(data)
    return path.name


def require_one_line(error: SgelaError) -> None:
    assert str(error)
    assert "\n" not in str(error)


@pytest.fixture
def archive(make_archive: Callable[..., Archive]) -> Archive:
    return make_archive({f"p{person}_{walk}": 30 for person in range(2) for walk in range(3)}, frames_per_shard=100)


@pytest.fixture
def store(archive: Archive, tiny_encoder: Encoder, tmp_path: Path) -> Store:
    return encode(archive, tiny_encoder, tmp_path / "store", SETTINGS).store


def test_a_damaged_store_is_told_from_a_sound_one(store: Store, tmp_path: Path) -> None:
    whole, folder = store.values(), tmp_path / "fuzzed"

    @EXAMPLES
    @given(DAMAGE)
    def check(how: dict[str, object]) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(store.path, folder)
        name = damage(folder, how)
        try:
            found = Store(folder)
            found.verify()
            values = found.values()
            _ = found.table, found.quarantine
        except SgelaError as error:
            require_one_line(error)
            return
        # Nothing but the words in store.json may have changed unnoticed.
        assert name == "store.json" or (folder / name).read_bytes() == (store.path / name).read_bytes()
        assert values.shape != whole.shape or np.array_equal(values, whole)

    check()


def test_a_damaged_store_is_changed_in_no_other_way(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "fuzzed"

    @EXAMPLES
    @given(DAMAGE)
    def check(how: dict[str, object]) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(store.path, folder)
        damage(folder, how)
        for act in (lambda: delete(folder, persons=["p1"]), lambda: compact(folder, part_mb=1)):
            try:
                act()
            except SgelaError as error:
                require_one_line(error)

    check()


def test_a_damaged_unfinished_store_is_resumed_or_refused(
    store: Store, archive: Archive, tiny_encoder: Encoder, tmp_path: Path
) -> None:
    whole, folder = store.values(), tmp_path / "fuzzed"
    refused: list[str] = []

    @settings(EXAMPLES, max_examples=15)
    @given(DAMAGE)
    def check(how: dict[str, object]) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(store.path, folder)
        name = damage(folder, how)
        try:
            result = encode(archive, tiny_encoder, folder, SETTINGS, resume=True)
        except SgelaError as error:
            require_one_line(error)
            refused.append(name)
            return
        assert np.array_equal(result.store.values(), whole)

    check()
    assert set(refused) <= {"store.json"}


def test_a_damaged_archive_ends_in_a_sentence_or_a_quarantine(
    store: Store, archive: Archive, tiny_encoder: Encoder, tmp_path: Path
) -> None:
    expected = dict(zip(names(store), store.values(), strict=True))
    folder, out = tmp_path / "fuzzed.sga", tmp_path / "out"

    @settings(EXAMPLES, max_examples=40)
    @given(DAMAGE)
    def check(how: dict[str, object]) -> None:
        for path in (folder, out):
            shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(archive.path, folder)
        name = damage(folder, how)
        try:
            result = encode(folder, tiny_encoder, out, SETTINGS)
        except SgelaError as error:
            require_one_line(error)
            return
        if name.startswith("frames"):
            # Whatever was encoded was not touched by the damage.
            found = zip(names(result.store), result.store.values(), strict=True)
            assert all(np.allclose(values, expected[window], atol=1e-6) for window, values in found)

    check()


def names(store: Store) -> list[tuple[str, int]]:
    table = store.table
    return list(zip(table["recording"].to_pylist(), table["window_start"].to_pylist(), strict=True))
