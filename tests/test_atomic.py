"""Files under a final name are whole, whatever happens while they are written."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import BinaryIO

import pytest

from sgela_fast.atomic import make_folder, replacing, write_file, write_json, write_text, writing
from sgela_fast.errors import OutputError


@pytest.fixture
def old(tmp_path: Path) -> Path:
    path = tmp_path / "result.txt"
    path.write_text("old")
    return path


def names(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.parent.iterdir())


def test_a_new_file_replaces_the_old_one_and_leaves_nothing_else(old: Path) -> None:
    write_text(old, "new ä")
    assert old.read_text(encoding="utf-8") == "new ä"
    assert names(old) == ["result.txt"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, SystemExit])
def test_an_interrupted_write_leaves_the_old_file(old: Path, error: type[BaseException]) -> None:
    def half(file: BinaryIO) -> None:
        file.write(b"ne")
        raise error

    with pytest.raises(error):
        write_file(old, half)
    assert old.read_text() == "old"
    assert names(old) == ["result.txt"]


def test_until_the_block_ends_the_old_file_is_there(old: Path) -> None:
    with replacing(old) as temporary:
        temporary.write_text("new")
        assert old.read_text() == "old"
        assert temporary.parent == old.parent
    assert old.read_text() == "new"


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.ENOSPC, "the disk is full; free some space and run the command again"),
        (errno.EDQUOT, "the disk quota is used up; free some space and run the command again"),
        (errno.EROFS, "the file system is read-only; choose another output path"),
        (errno.EACCES, "permission is denied; choose another output path or change its permissions"),
        (errno.EFBIG, "the file would be larger than is allowed here; raise the limit or choose another output path"),
        (errno.EIO, "Input/output error; choose another output path"),
    ],
)
def test_a_failed_write_names_the_file_and_the_mend(old: Path, number: int, reason: str) -> None:
    def fail(file: object) -> None:
        raise OSError(number, os.strerror(number))

    with pytest.raises(OutputError) as caught:
        write_file(old, fail)
    assert str(caught.value) == f"cannot write {old}: {reason}"
    assert old.read_text() == "old"
    assert names(old) == ["result.txt"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failure_while_flushing_or_renaming_leaves_the_old_file(
    old: Path, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OutputError, match="the disk is full"):
        write_text(old, "new")
    assert old.read_text() == "old"
    assert names(old) == ["result.txt"]


def test_a_really_full_device_is_named() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with pytest.raises(OutputError, match=r"cannot write /dev/full: the disk is full"), writing(Path("/dev/full")):
        Path("/dev/full").write_text("x")


def test_a_file_system_that_cannot_flush_folders_is_no_failure(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsync = os.fsync

    def no_folders(descriptor: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").resolve().is_dir():
            raise OSError(errno.EINVAL, "Invalid argument")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", no_folders)
    write_text(old, "new")
    assert old.read_text() == "new"


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    path = tmp_path / "nowhere" / "result.txt"
    with pytest.raises(OutputError) as caught:
        write_text(path, "new")
    assert str(caught.value) == f"cannot write {path}: No such file or directory; choose another output path"


def test_a_folder_of_that_name_is_named(tmp_path: Path) -> None:
    (tmp_path / "result.txt").mkdir()
    with pytest.raises(OutputError, match="there is a folder of that name; choose another output path"):
        write_text(tmp_path / "result.txt", "new")
    assert names(tmp_path / "result.txt") == ["result.txt"]


def test_a_file_where_a_folder_should_be_is_named(old: Path) -> None:
    with pytest.raises(OutputError, match="a part of the path is a file, not a folder"):
        make_folder(old / "below")


def test_making_a_folder_twice_is_fine(tmp_path: Path) -> None:
    assert make_folder(make_folder(tmp_path / "a" / "b")).is_dir()


def test_an_output_error_is_not_translated_twice(tmp_path: Path) -> None:
    with pytest.raises(OutputError) as caught, writing(tmp_path / "outer"):
        write_text(tmp_path / "nowhere" / "inner", "x")
    assert "inner" in str(caught.value)
    assert "outer" not in str(caught.value)


def test_json_is_readable_and_refuses_what_json_does_not_know(old: Path) -> None:
    write_json(old, {"name": "ä", "value": 1.5})
    assert old.read_text(encoding="utf-8") == '{\n  "name": "ä",\n  "value": 1.5\n}\n'
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(old, {"value": float("nan")})
    assert "1.5" in old.read_text()
