"""Silhouettes with something at fault end as the documentation says."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from sgela_fast.cli.main import main
from sgela_fast.encoding.store_writer import StoreWriter

Complains = Callable[..., None]
PACK = ["silhouettes", "pack", "pictures", "packed"]
RENDER = ["silhouettes", "render", "drawn", "--render.frames", "2", "--render.persons", "1", "--views", "000"]


def pictures(*folders: str, frames: int = 2) -> Path:
    """A folder of images; returns the first image."""
    from PIL import Image

    figure = np.zeros((64, 64), np.uint8)
    figure[:, 20:40] = 255
    for folder in folders or ("001/nm-01/000", "001/nm-02/000"):
        Path("pictures", folder).mkdir(parents=True)
        for number in range(1, frames + 1):
            Image.fromarray(figure).save(Path("pictures", folder, f"{number:03d}.png"))
    return Path("pictures", (folders or ("001/nm-01/000",))[0], "001.png")


def packed() -> None:
    """A packed set in ``packed``."""
    pictures()
    assert main(PACK) == 0


def sequences(*conditions: str, columns: tuple[str, ...] = ("condition", "view")) -> None:
    """A store of embeddings of two subjects in ``sequences``."""
    info = {"pooling": "mean", "dtype": "float32", "frames": 1, "dim": 4}
    writer = StoreWriter("sequences", info)
    for person in ("001", "002"):
        further = {"condition": list(conditions), "view": ["000"] * len(conditions)}
        count = len(conditions)
        writer.add(
            np.ones((count, 4), np.float32),
            {
                "recording": [f"{person}/{condition}" for condition in conditions],
                "person": [person] * count,
                "window_start": [0] * count,
                "frames": [1] * count,
                "valid": [True] * count,
                **{name: further[name] for name in columns},
            },
        )
    writer.finish()


def test_folder_of_silhouettes_that_does_not_exist(inputs: Any, complains: Complains) -> None:
    complains(*PACK)


def test_folder_without_silhouettes(inputs: Any, complains: Complains) -> None:
    pictures("first/second/third")
    complains(*PACK)


def test_pickled_silhouettes(inputs: Any, complains: Complains) -> None:
    folder = Path("pictures/001/nm-01/000")
    folder.mkdir(parents=True)
    (folder / "000.pkl").write_bytes(b"\x80\x04")
    complains(*PACK)


def test_every_silhouette_at_fault(inputs: Any, complains: Complains) -> None:
    pictures("001/nm-01/000", frames=1).write_bytes(b"\x89PNG")
    complains(*PACK)


def test_silhouette_cut_off_under_pack_strict(inputs: Any, complains: Complains) -> None:
    file = pictures()
    file.write_bytes(file.read_bytes()[:50])
    complains(*PACK, "--pack.strict", "true")


def test_packed_silhouettes_exist(inputs: Any, complains: Complains) -> None:
    packed()
    complains(*PACK)


def test_rendered_silhouettes_exist(inputs: Any, complains: Complains) -> None:
    assert main([*RENDER, "--conditions", "nm-01"]) == 0
    complains(*RENDER, "--conditions", "nm-01")


def test_silhouettes_in_a_folder_that_holds_something_else(inputs: Any, complains: Complains) -> None:
    pictures()
    Path("packed").mkdir()
    Path("packed/notes.txt").write_text("mine")
    complains(*PACK)


def test_silhouettes_begun_with_other_settings(inputs: Any, complains: Complains) -> None:
    packed()
    Path("packed/silhouettes.json").unlink()
    Path("packed/unfinished.json").write_text("{}")
    complains(*PACK)


def test_damaged_note_of_unfinished_silhouettes(inputs: Any, complains: Complains) -> None:
    pictures()
    Path("packed").mkdir()
    Path("packed/unfinished.json").write_text("{")
    complains(*PACK)


def test_unfinished_silhouettes(inputs: Any, complains: Complains) -> None:
    Path("packed").mkdir()
    Path("packed/unfinished.json").write_text("{}")
    complains("silhouettes", "inspect", "packed")


def test_damaged_silhouettes_json(inputs: Any, complains: Complains) -> None:
    packed()
    inputs.cut("packed/silhouettes.json")
    complains("silhouettes", "inspect", "packed")


def test_packed_silhouettes_of_a_newer_schema_version(inputs: Any, complains: Complains) -> None:
    packed()
    inputs.edit_json("packed/silhouettes.json", schema_version=2)
    complains("silhouettes", "inspect", "packed")


def test_table_of_packed_silhouettes_cut_off(inputs: Any, complains: Complains) -> None:
    packed()
    inputs.cut("packed/sequences-00000.parquet")
    complains("silhouettes", "inspect", "packed")


def test_frames_of_packed_silhouettes_cut_off(inputs: Any, complains: Complains) -> None:
    packed()
    inputs.cut("packed/frames-00000.npy")
    complains("silhouettes", "sheet", "sheet.png", "--source", "packed")


def test_silhouettes_without_pillow(inputs: Any, complains: Complains) -> None:
    pictures()
    inputs.monkeypatch.setitem(sys.modules, "PIL", None)
    complains(*PACK)


def test_archive_without_persons_to_draw(inputs: Any, complains: Complains) -> None:
    from sgela_fast.skeletons.archive import ArchiveWriter
    from sgela_fast.skeletons.layouts import get_layout
    from sgela_fast.skeletons.recording import Recording

    writer = ArchiveWriter("nobody.sga", get_layout("kinect-v1"), {})
    writer.add(Recording("a", np.ones((40, 20, 3), np.float32), "kinect-v1"))
    writer.finish()
    complains("silhouettes", "render", "drawn", "--source", "nobody.sga")


def test_archive_of_a_layout_that_cannot_be_drawn(inputs: Any, complains: Complains) -> None:
    inputs.archive("flat.sga", layout="openpose-14")
    complains("silhouettes", "render", "drawn", "--source", "flat.sga")


def test_view_that_is_no_angle(inputs: Any, complains: Complains) -> None:
    complains("silhouettes", "render", "drawn", "--views", "000,left")


def test_condition_that_has_no_number(inputs: Any, complains: Complains) -> None:
    complains("silhouettes", "render", "drawn", "--conditions", "nm-01,coat")


def test_one_path_too_few_for_silhouettes(inputs: Any, complains: Complains) -> None:
    complains("silhouettes", "pack", "pictures")


def test_source_where_none_is_read(inputs: Any, complains: Complains) -> None:
    complains("silhouettes", "inspect", "packed", "--source", "walks.sga")


def test_cross_view_protocol_of_a_store_of_skeletons(inputs: Any, complains: Complains) -> None:
    sequences("nm-01", columns=())
    complains("evaluate", "sequences", "--protocol", "casia-b")


def test_cross_view_protocol_of_another_data_set(inputs: Any, complains: Complains) -> None:
    sequences("nm-01", "nm-05")
    complains("evaluate", "sequences", "--protocol", "ou-mvlp")


def test_gallery_alone_under_a_cross_view_protocol(inputs: Any, complains: Complains) -> None:
    sequences("nm-01", "nm-02")
    complains("evaluate", "sequences", "--protocol", "casia-b")


def test_cross_view_protocol_with_a_store_to_train_on(inputs: Any, complains: Complains) -> None:
    sequences("nm-01", "nm-05")
    complains("evaluate", "sequences", "--protocol", "casia-b", "--train", "sequences")


def test_cross_view_protocol_in_a_pipeline(inputs: Any, complains: Complains) -> None:
    complains("run", "--evaluation.protocol", "casia-b", "--out", "results")
