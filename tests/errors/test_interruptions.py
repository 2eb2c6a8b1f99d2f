"""The user stops a job: the sentence, and what the same command makes of it afterwards."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sgela_fast.cli.main import main

Complains = Callable[..., None]

CONVERT = ("convert", "kgbd", "walks.sga", "--frames_per_shard", "2")


def contents(folder: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


def test_control_c_while_converting(inputs: Any, complains: Complains) -> None:
    inputs.kgbd(walks=3)
    inputs.stop("sgela_fast.skeletons.convert.remap", after=2)
    complains(*CONVERT, leaves="walks.sga")
    assert not Path("walks.sga/archive.json").exists()


def test_control_c_while_encoding(inputs: Any, complains: Complains) -> None:
    inputs.take("walks.sga", "run")
    inputs.stop("sgela_fast.encoding.encoder.Encoder.cut", after=3)
    complains("encode", "walks.sga", "--model", "run", "--out", "new.store", leaves="new.store")
    assert not Path("new.store/store.json").exists()


def test_control_c_while_training(inputs: Any, complains: Complains) -> None:
    import signal

    inputs.take("walks.sga")
    inputs.before("sgela_fast.training.step.clip_gradients", lambda: signal.raise_signal(signal.SIGINT))
    complains("train", "walks.sga", "--out", "run", *inputs.quiet, leaves="run")


def test_a_stopped_conversion_is_finished_by_the_same_command(inputs: Any) -> None:
    inputs.kgbd(walks=3)
    assert main([*CONVERT]) == 0
    whole = contents("walks.sga")
    Path("walks.sga").rename("whole.sga")
    with inputs.undone():
        inputs.stop("sgela_fast.skeletons.convert.remap", after=2)
        assert main([*CONVERT]) == 130
    assert main([*CONVERT]) == 0
    assert contents("walks.sga") == whole


def test_a_stopped_encoding_is_gone_on_with_by_resume(inputs: Any) -> None:
    inputs.take("walks.sga", "run", "walks.store")
    command = ["encode", "walks.sga", "--model", "run", "--out", "new.store"]
    with inputs.undone():
        inputs.stop("sgela_fast.encoding.encoder.Encoder.cut", after=3)
        assert main(command) == 130
    assert main([*command, "--resume"]) == 0
    assert contents("new.store") == contents("walks.store")


def test_a_full_disk_costs_only_the_unfinished_part(inputs: Any) -> None:
    inputs.kgbd(walks=3)
    with inputs.undone():
        inputs.fail("fsync", 28, after=10)
        assert main([*CONVERT]) == 1
    kept = {name: data for name, data in contents("walks.sga").items() if name.startswith("frames")}
    assert kept
    assert main([*CONVERT]) == 0
    assert kept.items() <= contents("walks.sga").items()


@pytest.fixture
def tiny_disk(inputs: Any) -> Iterator[Path]:
    """A file system of 64 KiB in ``disk``."""
    Path("disk").mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", "disk"], check=False)
    if mounted.returncode:
        pytest.skip("mounting a small file system is not permitted here")
    yield Path("disk")
    subprocess.run(["umount", "disk"], check=True)


@pytest.mark.parametrize(
    ("command", "file"),
    [
        (["convert", "packed", "disk/walks.sga"], "disk/walks.sga/frames-00000.npy"),
        (["encode", "walks.sga", "--untrained", "official", "--out", "disk/s"], "disk/s/part-00000.npy"),
        (["evaluate", "walks.store", "--protocol", "G", "--out", "disk/f"], "disk/f/cmc_G_…"),
        (["train", "walks.sga", "--out", "disk/run", "--training.batch", "4"], "disk/run/checkpoints/…"),
    ],
    ids=["convert", "encode", "evaluate", "train"],
)
def test_a_disk_that_is_really_full_is_told_so(
    inputs: Any, tiny_disk: Path, capsys: pytest.CaptureFixture[str], command: list[str], file: str
) -> None:
    inputs.npz(a=np.ones((999, 20, 3), np.float32))
    inputs.take("walks.sga", "walks.store")
    assert main([*command]) == 1
    complaint = capsys.readouterr().err.splitlines()[-1]
    assert complaint.startswith(f"sgela-fast: cannot write {file.removesuffix('…')}")
    assert complaint.endswith("the disk is full; free some space and run the command again")
    unfinished = [path.name for path in tiny_disk.rglob("*") if path.name in ("archive.json", "store.json")]
    assert not unfinished
