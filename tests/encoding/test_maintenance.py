"""Deleting is complete, joining and merging lose nothing, and a change happens wholly or not at all."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from sgela_fast.encoding import change as change_module
from sgela_fast.encoding.config import EncodingConfig
from sgela_fast.encoding.encode import encode
from sgela_fast.encoding.encoder import Encoder
from sgela_fast.encoding.maintenance import compact, delete, merge
from sgela_fast.encoding.store import Store
from sgela_fast.encoding.store_writer import StoreWriter
from sgela_fast.errors import DataError, OutputError

MakeStore = Callable[..., Store]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def by_window(store: Store) -> dict[tuple[str, int], bytes]:
    """Raw stored bytes of every window."""
    table, raw = store.table, np.concatenate([store.raw(part) for part in store.parts])
    names = zip(table["recording"].to_pylist(), table["window_start"].to_pylist(), strict=True)
    return {name: values.tobytes() for name, values in zip(names, raw, strict=True)}


def holds(folder: Path, text: str) -> list[str]:
    return [name for name, data in contents(folder).items() if text.encode() in data or text in name]


@pytest.fixture
def victim(make_store: MakeStore) -> Store:
    """A store in which a person called victimname has windows in several parts and a recording that is too short."""
    lengths = {f"{person}_{walk}": 40 + walk for person in ("anna", "victimname", "carl", "dora") for walk in range(3)}
    store = make_store(recordings={**lengths, "victimname_short": 3})
    assert len(store.parts) > 4
    return store


def test_deleting_a_person_leaves_no_byte_of_theirs(victim: Store) -> None:
    theirs = [value for (name, _), value in by_window(victim).items() if name.startswith("victimname")]
    assert len(holds(victim.path, "victimname")) > 2
    (victim.path / "index").mkdir()
    (victim.path / "index" / "ids").write_text("victimname")
    (victim.path / ".part-00001.npy.0badf00d.tmp").write_bytes(theirs[0])
    done = delete(victim.path, persons=["victimname"])
    assert done.windows == len(theirs)
    assert set(done.recordings) == {"victimname_0", "victimname_1", "victimname_2", "victimname_short"}
    assert not holds(victim.path, "victimname")
    everything = b"".join(contents(victim.path).values())
    # A row of a window's values is 48 bytes: enough not to occur by chance.
    assert not any(value[:48] in everything or value[-48:] in everything for value in theirs)
    assert {path.name for path in victim.path.iterdir()} >= {"store.json"}
    assert not (victim.path / "index").exists()


def test_deleting_changes_nothing_of_the_others(victim: Store) -> None:
    before = by_window(victim)
    numbers = dict(zip(by_window(victim), victim.table["window"].to_pylist(), strict=True))
    delete(victim.path, recordings=["victimname_1", "carl_0"])
    after = Store(victim.path)
    after.verify()
    assert by_window(after) == {k: v for k, v in before.items() if k[0] not in ("victimname_1", "carl_0")}
    assert dict(zip(by_window(after), after.table["window"].to_pylist(), strict=True)).items() <= numbers.items()
    assert after.info["recordings"] == victim.info["recordings"] - 2
    assert after.info["short_recordings"] == 1
    assert after.info["changes"] == ["delete"]


def test_names_that_are_not_there_are_refused(victim: Store) -> None:
    before = contents(victim.path)
    with pytest.raises(DataError, match="has no person 'erna'"):
        delete(victim.path, persons=["erna"])
    with pytest.raises(DataError, match="nothing would be left"):
        delete(victim.path, persons=["anna", "victimname", "carl", "dora"])
    assert contents(victim.path) == before


def test_a_damaged_part_is_not_given_a_new_checksum(victim: Store) -> None:
    part = victim.path / "part-00001.npy"
    data = bytearray(part.read_bytes())
    data[-1] ^= 1
    part.write_bytes(data)
    with pytest.raises(DataError, match=r"part-00001\.npy does not fit its checksum"):
        delete(victim.path, recordings=["anna_2", "victimname_0"])
    with pytest.raises(DataError, match=r"part-00001\.npy does not fit its checksum"):
        compact(victim.path, part_mb=1)


class Died(BaseException):
    """Stands for a process that is killed."""


def die_after(patched: pytest.MonkeyPatch, steps: int) -> None:
    """Let every rename, unlink and flush but the first ``steps`` be the end of the process."""
    count = [0]

    def dying(real: Callable[..., object]) -> Callable[..., object]:
        def step(*arguments: object, **named: object) -> object:
            count[0] += 1
            if count[0] > steps:
                raise Died
            return real(*arguments, **named)

        return step

    for owner, name in ((Path, "replace"), (Path, "unlink"), (os, "fsync"), (shutil, "rmtree")):
        patched.setattr(owner, name, dying(getattr(owner, name)))


@pytest.mark.parametrize("action", ["delete", "compact"])
def test_a_change_that_dies_anywhere_has_happened_or_has_not(
    victim: Store, monkeypatch: pytest.MonkeyPatch, action: str
) -> None:
    """Every rename, unlink and flush is a place to die; afterwards the store is as before or as changed."""
    whole = victim.path.with_name("whole")
    shutil.copytree(victim.path, whole)

    def act(folder: Path) -> None:
        if action == "delete":
            delete(folder, persons=["victimname"])
        else:
            compact(folder, part_mb=0.05)

    before = contents(whole)
    act(whole)
    after = contents(whole)
    assert before != after
    happened = set()
    for steps in range(200):
        folder = victim.path.with_name(f"dies{steps}")
        shutil.copytree(victim.path, folder)
        with monkeypatch.context() as patched:
            die_after(patched, steps)
            try:
                act(folder)
                finished = True
            except Died:
                finished = False
        Store(folder).verify()
        left = {name: data for name, data in contents(folder).items() if name != ".lock"}
        assert left in (before, after)
        happened.add(left == after)
        shutil.rmtree(folder)
        if finished:
            break
    assert finished
    assert happened == {True, False}


def test_compacting_joins_small_parts_and_keeps_every_window(victim: Store) -> None:
    before = by_window(victim)
    delete(victim.path, recordings=["anna_0"])
    parts = len(Store(victim.path).parts)
    assert compact(victim.path, part_mb=0.05) == (parts, 2)
    after = Store(victim.path)
    after.verify()
    assert after.parts == [0, 1]
    assert by_window(after) == {k: v for k, v in before.items() if k[0] != "anna_0"}
    assert after.info["changes"] == ["delete", "compact"]
    assert compact(victim.path, part_mb=0.05) == (2, 2)


def test_a_changed_store_is_not_resumed(victim: Store, tiny_encoder: Encoder) -> None:
    delete(victim.path, recordings=["anna_0"])
    with pytest.raises(OutputError, match=r"not as `encode` left it \(delete\)"):
        encode(victim.info["archive"], tiny_encoder, victim.path, EncodingConfig(part_mb=0.01, batch=16), resume=True)
    assert len(Store(victim.path)) < len(victim)


def test_resuming_first_finishes_an_interrupted_change(
    victim: Store, tiny_encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(change_module, "_finish", lambda _: (_ for _ in ()).throw(OSError("power")))
        with pytest.raises(OutputError):
            delete(victim.path, persons=["victimname"])
    assert (victim.path / ".change" / "commit.json").exists()
    with pytest.raises(OutputError, match="not as `encode` left it"):
        encode(victim.info["archive"], tiny_encoder, victim.path, EncodingConfig(part_mb=0.01, batch=16), resume=True)
    assert not holds(victim.path, "victimname")


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_merging_keeps_the_windows_of_both(make_store: MakeStore, tmp_path: Path, dtype: str) -> None:
    one = make_store("one", {"a_0": 30, "b_0": 30, "tiny": 3}, dtype=dtype)
    two = make_store("two", {"c_0": 30, "d_0": 60}, dtype=dtype)
    both = merge([one.path, two.path], tmp_path / "both")
    both.verify()
    assert by_window(both) == by_window(one) | by_window(two)
    assert np.array_equal(both.values(), np.concatenate([one.values(), two.values()]))
    assert both.info["recordings"] == 4
    assert both.quarantine["recording"].to_pylist() == ["tiny"]
    windows = both.table["window"].to_numpy()
    assert (np.diff(windows) > 0).all()
    assert not (tmp_path / "both" / "unfinished.json").exists()


def test_merging_refuses_what_cannot_be_compared(make_store: MakeStore, tmp_path: Path) -> None:
    one = make_store("one", {"a_0": 30})
    half = make_store("half", {"b_0": 30}, dtype="float16")
    same = make_store("same", {"a_0": 35})
    with pytest.raises(DataError, match=r"differ in dtype \(float32 and float16\)"):
        merge([one.path, half.path], tmp_path / "out")
    with pytest.raises(DataError, match="recording 'a_0' is in"):
        merge([one.path, same.path], tmp_path / "out")
    with pytest.raises(DataError, match="two stores or more"):
        merge([one.path], tmp_path / "out")
    with pytest.raises(OutputError, match="already holds a store"):
        merge([one.path, make_store("new", {"n": 30}).path], one.path)


def test_an_interrupted_merge_is_done_again(
    make_store: MakeStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stores = [make_store("one", {"a_0": 30}).path, make_store("two", {"b_0": 30}).path]
    with monkeypatch.context() as patched:
        die_after(patched, 20)
        with pytest.raises(Died):
            merge(stores, tmp_path / "both")
    with pytest.raises(DataError, match="is an unfinished store"):
        Store(tmp_path / "both")
    merge(stores, tmp_path / "both").verify()


def test_a_store_of_version_1_can_be_changed(tmp_path: Path) -> None:
    """Such as release 0.1 wrote: no list of parts, no quality, names of short recordings in store.json."""
    store = version_1(tmp_path / "old")
    assert np.array_equal(store.values()[:, 0, 0], np.arange(10))
    store.verify()
    delete(store.path, persons=["anna"])
    changed = Store(store.path)
    changed.verify()
    assert changed.info["schema_version"] == 2
    assert set(changed.table["person"].to_pylist()) == {"bert"}
    assert not holds(store.path, "anna")


def version_1(folder: Path) -> Store:
    """Make a store of schema version 1."""
    import hashlib

    import pyarrow.parquet as pq

    folder.mkdir()
    for part, person in enumerate(("anna", "bert")):
        values = np.repeat(np.arange(5 * part, 5 * part + 5, dtype=np.float32), 12).reshape(5, 3, 4)
        np.save(folder / f"part-{part:05d}.npy", values)
        columns = {
            "window": pa.array(range(5 * part, 5 * part + 5), pa.int64()),
            "recording": [f"{person}_0"] * 5,
            "person": [person] * 5,
            "window_start": pa.array(range(5), pa.int32()),
            "frames": pa.array([3] * 5, pa.int32()),
            "valid": [True] * 5,
        }
        checksum = hashlib.sha256(values.data).hexdigest()
        pq.write_table(
            pa.table(columns).replace_schema_metadata({"values_sha256": checksum}), folder / f"part-{part:05d}.parquet"
        )
    info = {"schema": "sgela-fast/store", "schema_version": 1, "parts": 2, "windows": 10, "frames": 3, "dim": 4}
    more = {"pooling": "none", "dtype": "float32", "model_hash": "a", "short_recordings": ["anna_1"], "recordings": 2}
    (folder / "store.json").write_text(json.dumps({**info, **more}))
    return Store(folder)


def test_two_changes_at_once_are_refused(victim: Store) -> None:
    with change_module.changing(victim.path), pytest.raises(OutputError, match="another process is changing"):
        delete(victim.path, persons=["anna"])
    assert pc.count_distinct(Store(victim.path).table["person"]).as_py() == 4


def test_a_writer_takes_the_info_of_another_store(victim: Store, tmp_path: Path) -> None:
    writer = StoreWriter(tmp_path / "copy", victim.info)
    table = victim.table
    writer.add(victim.values(), {name: table[name].to_pylist() for name in table.column_names if name != "window"})
    assert by_window(writer.finish()) == by_window(victim)
