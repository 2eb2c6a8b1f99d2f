"""Packed sets hold what the images hold, name what they left out, and survive interruption and damage."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from sgela_fast.cli.main import main
from sgela_fast.errors import DataError, Interrupted
from sgela_fast.silhouettes.config import PackConfig, RenderConfig
from sgela_fast.silhouettes.dataset import SilhouetteSet
from sgela_fast.silhouettes.inspection import inspect
from sgela_fast.silhouettes.packed import Packed
from sgela_fast.silhouettes.packing import pack, render_images
from sgela_fast.silhouettes.sheet import contact_sheet

Folder = Callable[..., Path]
FOLDERS = ["001/nm-01/000", "001/nm-02/000", "002/nm-01/000", "002/nm-02/000"]
SMALL = RenderConfig(persons=2, frames=4, views=("000", "090"), conditions=("nm-01", "bg-01"))


def test_a_packed_set_holds_the_frames_of_its_images(images: Folder, tmp_path: Path) -> None:
    path = images("set", FOLDERS)
    packed = pack(path, tmp_path / "packed", PackConfig(frames_per_shard=5))
    assert len(list((tmp_path / "packed").glob("frames-*.npy"))) == 2
    lazy, mapped = SilhouetteSet.open(path), SilhouetteSet.open(tmp_path / "packed")
    assert mapped.sequences.key.tolist() == lazy.sequences.key.tolist() == FOLDERS
    for index in range(4):
        np.testing.assert_array_equal(mapped.load(index), lazy.load(index))
    packed.verify()
    assert packed.quarantine.num_rows == 0
    assert {name: packed.info[name] for name in ("subjects", "sequences", "frames")} == {
        "subjects": 2,
        "sequences": 4,
        "frames": 12,
    }


def test_what_cannot_be_used_is_left_out_and_named_with_the_reason(images: Folder, tmp_path: Path) -> None:
    path = images("set", FOLDERS, frames=4)
    (path / "001/nm-01/000/002.png").write_bytes((path / "001/nm-01/000/002.png").read_bytes()[:60])
    for number in (1, 2, 3):
        Image.fromarray(np.zeros((240, 320), np.uint8)).save(path / f"001/nm-02/000/{number:03d}.png")
    packed = pack(path, tmp_path / "packed", PackConfig(min_frames=3))
    assert packed.sequences.key.tolist() == [FOLDERS[0], *FOLDERS[2:]]
    assert packed.sequences.frames.tolist() == [3, 4, 4]
    faults = packed.quarantine.to_pylist()
    assert [fault["file"] for fault in faults] == [
        "001/nm-01/000/002.png",
        *(f"001/nm-02/000/{number:03d}.png" for number in (1, 2, 3)),
        "",
    ]
    assert "cannot be read as an image" in faults[0]["reason"]
    assert faults[-1] == {"sequence": "001/nm-02/000", "file": "", "reason": "1 usable frames of 4"}
    assert (packed.info["left_out_frames"], packed.info["left_out_sequences"]) == (4, 1)

    found, of_packed = inspect(path), inspect(tmp_path / "packed")
    assert found.empty == of_packed.empty == 3
    assert [fault.file for fault in found.faults] == ["001/nm-01/000/002.png"]
    assert [fault.sequence for fault in of_packed.faults] == ["001/nm-01/000", "001/nm-02/000"]
    assert found.summary()["frames"] == 3 + 1 + 4 + 4


def test_an_interrupted_job_goes_on_behind_its_last_whole_shard(
    images: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = images("set", FOLDERS)
    (path / "001/nm-01/000/002.png").write_bytes(b"")
    config = PackConfig(frames_per_shard=4, threads=1)
    done: list[int] = []

    def stop_at_the_third(count: int) -> None:
        done.append(count)
        if len(done) == 4:  # the first call tells what an earlier job has done
            raise KeyboardInterrupt

    with pytest.raises(Interrupted, match="2 of 4 sequences are in whole shards"):
        pack(path, tmp_path / "packed", config, advance=stop_at_the_third)
    with pytest.raises(DataError, match="is unfinished"):
        SilhouetteSet.open(tmp_path / "packed")
    read: list[str] = []
    original = SilhouetteSet.open(path)
    monkeypatch.setattr(
        "sgela_fast.silhouettes.packing._read",
        lambda source, config, found: (read.append(found.key), (original.load(FOLDERS.index(found.key)), []))[1],
    )
    packed = pack(path, tmp_path / "packed", config)
    assert read == FOLDERS[2:]
    assert packed.sequences.key.tolist() == FOLDERS
    assert packed.info["left_out_frames"] == 1
    packed.verify()


def test_damage_is_found(images: Folder, tmp_path: Path) -> None:
    pack(images("set", FOLDERS), tmp_path / "packed")
    file = tmp_path / "packed" / "frames-00000.npy"
    content = bytearray(file.read_bytes())
    content[-5000] ^= 255
    file.write_bytes(content)
    with pytest.raises(DataError, match=r"the frames of 002/nm-02/000 do not fit their checksum"):
        Packed(tmp_path / "packed").verify()
    assert "do not fit" in inspect(tmp_path / "packed").faults[0].reason


def test_drawn_images_are_those_of_the_set_and_are_read_back(tmp_path: Path) -> None:
    made = render_images(tmp_path / "drawn", SMALL)
    assert (made.subjects, made.sequences, made.frames) == (2, 8, 32)
    drawn, read = SilhouetteSet.rendered(SMALL), SilhouetteSet.open(tmp_path / "drawn")
    assert set(drawn.sequences.key.tolist()) == set(read.sequences.key.tolist())
    for index, key in enumerate(read.sequences.key.tolist()):
        np.testing.assert_array_equal(read.load(index), drawn.load(drawn.sequences.key.tolist().index(key)))


def test_drawing_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    def stop(count: int) -> None:
        if (tmp_path / "drawn/001/bg-01/000").exists():
            raise KeyboardInterrupt

    with pytest.raises(Interrupted, match="run the same command again"):
        render_images(tmp_path / "drawn", SMALL, advance=stop)
    first = tmp_path / "drawn/001/nm-01/000/001-nm-01-000-001.png"
    made = first.stat().st_mtime_ns
    render_images(tmp_path / "drawn", SMALL)
    assert first.stat().st_mtime_ns == made
    assert len(SilhouetteSet.open(tmp_path / "drawn")) == 8


def test_an_archive_is_drawn_person_by_person(tmp_path: Path) -> None:
    from sgela_fast.skeletons.config import WalkerConfig
    from sgela_fast.skeletons.walker import write_walkers

    write_walkers(tmp_path / "walks.sga", WalkerConfig(persons=2, walks=3, min_frames=70, max_frames=90))
    config = RenderConfig(frames=6, views=("000", "090"), conditions=("nm-01", "bg-01"))
    silhouettes = SilhouetteSet.rendered(config, tmp_path / "walks.sga")
    assert silhouettes.sequences.subjects == ["walker0001", "walker0002"]
    assert sorted(set(silhouettes.sequences.condition.tolist())) == ["bg-01", "nm-01"]
    assert len(silhouettes) == 2 * 2 * 2
    assert silhouettes.load(1).shape == (6, 64, 64)
    render_images(tmp_path / "drawn", config, tmp_path / "walks.sga")
    assert json.loads((tmp_path / "drawn/rendered.json").read_text())["persons"] == {
        "001": "walker0001",
        "002": "walker0002",
    }
    read = SilhouetteSet.open(tmp_path / "drawn")
    np.testing.assert_array_equal(read.load(read.sequences.key.tolist().index("001/nm-01/090")), silhouettes.load(1))


def test_a_sheet_has_a_row_for_each_variant_and_a_column_for_each_view() -> None:
    sheet = contact_sheet(SilhouetteSet.rendered(SMALL), persons=2)
    assert sheet.shape == (14 + 64 * 4, 74 + 64 * 2)
    assert all(
        sheet[14 + 64 * row : 78 + 64 * row, 74 + 64 * column : 138 + 64 * column].max() == 255
        for row in range(4)
        for column in range(2)
    )


def test_the_commands_render_pack_inspect_and_show(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = ["--render.persons", "2", "--render.frames", "4", "--views", "000,090", "--conditions", "nm-01"]
    drawn, packed, sheet = (str(tmp_path / name) for name in ("drawn", "packed", "sheet.png"))
    assert main(["silhouettes", "render", drawn, *small]) == 0
    assert "frames      16" in capsys.readouterr().out
    assert main(["silhouettes", "pack", drawn, packed, "--pack.min_frames", "4", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["sequences"] == 4
    assert main(["silhouettes", "inspect", packed]) == 0
    printed = capsys.readouterr().out
    assert "000 (2), 090 (2)" in printed
    assert main(["silhouettes", "sheet", sheet, "--source", packed, "--persons", "2"]) == 0
    with Image.open(sheet) as picture:
        assert picture.size == (74 + 2 * 64, 14 + 2 * 64)
    assert pq.read_table(tmp_path / "packed/sequences-00000.parquet")["view"].to_pylist() == ["000", "090"] * 2
