"""Recordings and manifests at fault.

Each test is named after its row in ``docs/errors.md``, which holds the exit status and the message.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Complains = Callable[..., None]


def test_text_cut_off_within_a_frame(inputs: Any, complains: Complains) -> None:
    file = inputs.kgbd()
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:-3]))
    complains("convert", "kgbd", "walks.sga", "--strict")


def test_wrong_delimiter(inputs: Any, complains: Complains) -> None:
    file = inputs.kgbd()
    file.write_text(file.read_text().replace(";", ","))
    complains("convert", "kgbd", "walks.sga", "--strict", "--format", "kgbd")


def test_19_joints_in_a_frame(inputs: Any, complains: Complains) -> None:
    file = inputs.kgbd()
    file.write_text(file.read_text().replace("Spine;0.5;0.25;3\n", "", 1))
    complains("convert", "kgbd", "walks.sga", "--strict")


def test_unknown_joint(inputs: Any, complains: Complains) -> None:
    file = inputs.kgbd()
    file.write_text(file.read_text().replace("Spine;", "Tail;", 1))
    complains("convert", "kgbd", "walks.sga", "--strict")


def test_a_word_where_a_number_should_be(inputs: Any, complains: Complains) -> None:
    file = inputs.kgbd()
    file.write_text(file.read_text().replace("Spine;0.5;", "Spine;0,5;", 1))
    complains("convert", "kgbd", "walks.sga", "--strict")


def test_nan(inputs: Any, complains: Complains) -> None:
    file = inputs.kgbd()
    file.write_text(file.read_text().replace("Spine;0.5;", "Spine;nan;", 1))
    complains("convert", "kgbd", "walks.sga", "--strict")


def test_empty_file(inputs: Any, complains: Complains) -> None:
    inputs.kgbd().write_text("")
    complains("convert", "kgbd", "walks.sga", "--strict")


def test_binary_file_with_a_text_file_s_name(inputs: Any, complains: Complains) -> None:
    inputs.kgbd().write_bytes(b"\xff\xfe\x00\x01" * 8)
    complains("convert", "kgbd", "walks.sga", "--strict")


def test_every_file_at_fault_without_strict(inputs: Any, complains: Complains) -> None:
    file = inputs.kgbd(walks=1)
    file.write_text(file.read_text().replace("Spine;", "Tail;", 1))
    complains("convert", "kgbd", "walks.sga")


def test_empty_folder(complains: Complains) -> None:
    Path("kgbd").mkdir()
    complains("convert", "kgbd", "walks.sga")


def test_folder_without_recordings(complains: Complains) -> None:
    Path("kgbd").mkdir()
    Path("kgbd/notes.txt").write_text("the walks are elsewhere\n")
    complains("convert", "kgbd", "walks.sga")


def test_folder_without_recordings_of_the_named_format(complains: Complains) -> None:
    Path("kgbd").mkdir()
    complains("convert", "kgbd", "walks.sga", "--format", "kgbd")


def test_path_that_does_not_exist(complains: Complains) -> None:
    complains("convert", "nowhere", "walks.sga")


def test_two_formats_in_one_folder(inputs: Any, complains: Complains) -> None:
    inputs.kgbd()
    row = "\t".join(["0.0", *(f"{joint}\t0.1\t0.2\t0.3" for joint in range(25))])
    Path("kgbd/human1_normal1_SkeletonData1.csv").write_text(f"{row}\n{row}\n")
    complains("convert", "kgbd", "walks.sga")


def test_recordings_of_several_layouts(inputs: Any, complains: Complains) -> None:
    inputs.npz(a=np.ones((9, 20, 3), np.float32), b=np.ones((9, 25, 3), np.float32))
    complains("convert", "packed", "walks.sga")


def test_layout_that_cannot_supply_the_wanted_joints(inputs: Any, complains: Complains) -> None:
    inputs.npz(a=np.ones((9, 14, 3), np.float32))
    complains("convert", "packed", "walks.sga", "--layout", "kinect-v1")


def test_array_of_python_objects_pickle_in_an_npz(inputs: Any, complains: Complains) -> None:
    objects = np.array({"joints": 1}, object)
    inputs.npz(a=np.ones((9, 20, 3), np.float32), b=objects)
    complains("convert", "packed", "walks.sga", "--strict")


def test_persons_only_in_a_pickled_file_and_no_pickled_ids(inputs: Any, complains: Complains) -> None:
    inputs.official(ids=np.array({0: [0, 1]}, object))
    complains("convert", "official", "walks.sga")


def test_one_axis_of_the_authors_arrays_is_missing(inputs: Any, complains: Complains) -> None:
    inputs.official(axes="xy")
    complains("convert", "official", "walks.sga")


def test_manifest_without_a_key_column(inputs: Any, complains: Complains) -> None:
    inputs.kgbd()
    Path("who.csv").write_text("name,person\n1,anna\n")
    complains("convert", "kgbd", "walks.sga", "--manifest", "who.csv")


def test_manifest_of_other_recordings(inputs: Any, complains: Complains) -> None:
    inputs.kgbd()
    Path("who.csv").write_text("recording,person\nx_1,anna\n")
    complains("convert", "kgbd", "walks.sga", "--manifest", "who.csv")


def test_recordings_at_fault_under_inspect_strict(inputs: Any, complains: Complains) -> None:
    inputs.kgbd().write_text("")
    complains("inspect", "kgbd", "--strict")


def test_nothing_to_inspect(complains: Complains) -> None:
    complains("inspect", "nowhere")


def test_array_of_python_objects_among_the_authors_arrays(inputs: Any, complains: Complains) -> None:
    inputs.official(source_y=np.array({"a": 1}, object), frame_id=np.array([0, 1]))
    complains("convert", "official", "walks.sga")
