"""Archives and outputs at fault.

Each test is named after its row in ``docs/errors.md``, which holds the exit status and the message.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

Complains = Callable[..., None]


def test_not_an_archive(inputs: Any, complains: Complains) -> None:
    Path("walks").mkdir()
    complains("train", "walks", "--out", "run", *inputs.quiet)


def test_unfinished_conversion(inputs: Any, complains: Complains) -> None:
    archive = inputs.take("walks.sga")
    (archive / "archive.json").rename(archive / "unfinished.json")
    complains("train", "walks.sga", "--out", "run", *inputs.quiet)


def test_damaged_archive_json(inputs: Any, complains: Complains) -> None:
    inputs.take("walks.sga")
    inputs.cut("walks.sga/archive.json")
    complains("train", "walks.sga", "--out", "run", *inputs.quiet)


def test_archive_of_a_newer_schema_version(inputs: Any, complains: Complains) -> None:
    inputs.take("walks.sga")
    inputs.edit_json("walks.sga/archive.json", schema_version=2)
    complains("train", "walks.sga", "--out", "run", *inputs.quiet)


def test_frames_cut_off(inputs: Any, complains: Complains) -> None:
    inputs.take("walks.sga")
    inputs.cut("walks.sga/frames-00000.npy")
    complains("train", "walks.sga", "--out", "run", *inputs.quiet)


def test_table_cut_off(inputs: Any, complains: Complains) -> None:
    inputs.take("walks.sga")
    inputs.cut("walks.sga/recordings-00000.parquet")
    complains("train", "walks.sga", "--out", "run", *inputs.quiet)


def test_archive_exists(inputs: Any, complains: Complains) -> None:
    inputs.kgbd()
    inputs.take("walks.sga")
    complains("convert", "kgbd", "walks.sga")


def test_folder_holds_something_else(inputs: Any, complains: Complains) -> None:
    inputs.kgbd()
    Path("walks.sga").mkdir()
    Path("walks.sga/notes.txt").write_text("mine")
    complains("convert", "kgbd", "walks.sga")


def test_a_part_of_the_path_is_a_file(inputs: Any, complains: Complains) -> None:
    inputs.kgbd()
    Path("notes.txt").write_text("mine")
    complains("convert", "kgbd", "notes.txt/walks.sga")


def test_read_only_file_system(inputs: Any, complains: Complains) -> None:
    inputs.kgbd()
    inputs.fail("mkdir", errno.EROFS)
    complains("convert", "kgbd", "walks.sga")


def test_no_permission(inputs: Any, complains: Complains) -> None:
    inputs.take("walks.sga")
    inputs.fail("mkdir", errno.EACCES)
    complains("train", "walks.sga", "--out", "run", *inputs.quiet)


def test_disk_full_while_converting(inputs: Any, complains: Complains) -> None:
    inputs.kgbd()
    inputs.fail("fsync", errno.ENOSPC, after=2)
    complains("convert", "kgbd", "walks.sga", leaves="walks.sga")


def test_unfinished_conversion_of_something_else(inputs: Any, complains: Complains) -> None:
    inputs.kgbd()
    archive = inputs.take("walks.sga")
    (archive / "archive.json").rename(archive / "unfinished.json")
    complains("convert", "kgbd", "walks.sga")


def test_run_exists(inputs: Any, complains: Complains) -> None:
    inputs.take("walks.sga", "run")
    complains("train", "walks.sga", "--out", "run", *inputs.quiet)


def test_pipeline_with_other_settings(inputs: Any, complains: Complains) -> None:
    import json

    Path("results").mkdir()
    Path("results/pipeline.json").write_text(json.dumps({"source": "recordings"}))
    complains("run", "--out", "results")


def test_walkers_where_an_archive_is(inputs: Any, complains: Complains) -> None:
    inputs.take("walks.sga")
    complains("walkers", "walks.sga")


def test_walkers_with_a_single_walk_each(complains: Complains) -> None:
    complains("walkers", "walks.sga", "--walks", "1")
