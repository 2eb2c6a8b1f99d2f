"""Faulty input: builders of sound inputs to damage, and the check that a fault gets the documented sentence.

``docs/errors.md`` is the specification: a test about a fault is named after its row there, and the command has to end
with that row's exit status and message. Paths are relative to the folder in which a test works; ``…`` in the table
stands for words of a library or the operating system.
"""

from __future__ import annotations

import json
import os
import pkgutil
import re
import runpy
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from sgela_fast.cli.main import main
from sgela_fast.encoding.store_writer import StoreWriter
from sgela_fast.skeletons.archive import ArchiveWriter
from sgela_fast.skeletons.layouts import get_layout
from sgela_fast.skeletons.readers.kgbd import JOINTS as KGBD_JOINTS
from sgela_fast.skeletons.recording import Recording

ERRORS_PAGE = Path(__file__).resolve().parents[2] / "docs" / "errors.md"
TINY = ["--model.hidden", "4", "--training.batch", "4", "--training.max_steps", "2", "--training.threads", "1"]
QUIET = [*TINY, "--training.tensorboard", "false"]
FRAMES = 40


class Fault(NamedTuple):
    """A row of the documentation's tables."""

    status: int
    message: str


def documented_faults() -> dict[str, Fault]:
    """Rows of the documentation's tables by the name of their test."""
    rows = re.findall(r"^\| ([^|]+) \| (\d+) \| (.+) \|$", ERRORS_PAGE.read_text(), re.M)
    return {
        "test_" + re.sub(r"[^a-z0-9]+", "_", fault.lower()).strip("_"): Fault(int(status), message.replace(r"\|", "|"))
        for fault, status, message in rows
    }


class Inputs:
    """Sound inputs in the working folder, which a test then damages."""

    def __init__(self, prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.prepared, self.monkeypatch = prepared, monkeypatch
        self.quiet = QUIET

    def kgbd(self, walks: int = 2, frames: int = 2) -> Path:
        """KGBD text in ``kgbd/Person001/1.txt`` and so on; returns the first file."""
        for walk in range(1, walks + 1):
            file = Path(f"kgbd/Person001/{walk}.txt")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("".join(f"{name};0.5;0.25;{2 + walk}\n" for _ in range(frames) for name in KGBD_JOINTS))
        return Path("kgbd/Person001/1.txt")

    def npz(self, **arrays: np.ndarray) -> None:
        """A packed set in ``packed/walks.npz``."""
        Path("packed").mkdir()
        np.savez("packed/walks.npz", **arrays)

    def official(self, axes: str = "xyz", **others: np.ndarray) -> None:
        """The authors' arrays: two windows of 6 frames in ``official/BIWI_train_npy_data``."""
        folder = Path("official/BIWI_train_npy_data")
        folder.mkdir(parents=True)
        for axis in axes:
            np.save(folder / f"source_{axis}_BIWI_6.npy", np.ones((12, 20)))
        for name, array in others.items():
            np.save(folder / f"{name}_BIWI_6.npy", array, allow_pickle=True)

    def take(self, *names: str) -> Path:
        """Copy prepared folders here; returns the first."""
        for name in names:
            shutil.copytree(self.prepared / name, name)
        return Path(names[0])

    def archive(self, name: str, *, frames: int = FRAMES, persons: int = 2, layout: str = "kinect-v1") -> None:
        """Write an archive of three walks a person; the first is for testing."""
        writer = ArchiveWriter(name, get_layout(layout), {"source": "noise"})
        generator = np.random.default_rng(0)
        for person in range(persons):
            for walk in range(3):
                joints = generator.normal(size=(frames, len(get_layout(layout)), 3)).astype(np.float32)
                extra = {"split": "test" if walk == 0 else "train"}
                writer.add(Recording(f"p{person}_{walk}", joints, layout, person=f"p{person}", extra=extra))
        writer.finish()

    def store(self, name: str, *, persons: list[str | None], splits: list[str] | None = None) -> None:
        """Write a store of two windows a person and side; ``splits`` names one side for each person."""
        info = {"model_hash": "none", "pooling": "mean", "dtype": "float32", "frames": 6, "dim": 4}
        writer = StoreWriter(name, info)
        sides = [(person, side) for person in persons for side in ("train", "test")]
        if splits is not None:
            sides = list(zip(persons, splits, strict=True))
        for person, side in sides:
            columns = {"person": [person] * 2, "recording": [f"{person}_{side}"] * 2, "split": [side] * 2}
            columns |= {"window_start": [0, 6], "frames": [6, 6], "valid": [True, True]}
            writer.add(np.random.default_rng(0).normal(size=(2, 4)), columns)
        writer.finish()

    def tf_bundle(self, prefix: str, names: tuple[str, ...] = ("W1", "b1", "W", "Variable")) -> None:
        """Write a TensorFlow 1 bundle; with the default names it is a recognition network of three persons."""
        shapes = [(8, 4), (4,), (4, 3), (3,)]
        tensors = {name: np.ones(shape, np.float32) for name, shape in zip(names, shapes, strict=False)}
        bundles = runpy.run_path(str(Path(__file__).parents[1] / "checkpoints" / "conftest.py"))
        bundles["write"](Path(prefix), tensors)

    def without_extension(self) -> None:
        """Let the ops find no compiled extension."""
        why = "the compiled extension is not there (No module named 'sgela_fast._C'); install with a C++ compiler"
        for op in ("batched_lstm", "attention_decoder"):
            self.monkeypatch.setattr(f"sgela_fast.ops.{op}._WHY_NO_CPU_KERNEL", why)

    def edit_json(self, file: str, **changes: Any) -> None:
        """Change entries of a JSON file."""
        path = Path(file)
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    def cut(self, file: str, keep: float = 0.5) -> None:
        """Cut off the end of a file."""
        path = Path(file)
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * keep)])

    def fail(self, call: str, number: int, after: int = 0) -> None:
        """Let ``os.<call>`` fail with an error number, the first ``after`` calls excepted."""
        real, calls = getattr(os, call), [0]

        def failing(*arguments: Any, **named: Any) -> Any:
            calls[0] += 1
            if calls[0] <= after:
                return real(*arguments, **named)
            raise OSError(number, os.strerror(number))

        self.monkeypatch.setattr(os, call, failing)

    def before(self, target: str, action: Callable[[], Any], after: int = 0) -> None:
        """Do ``action`` before each call of the named function, the first ``after`` calls excepted."""
        module, _, name = target.rpartition(".")
        owner = pkgutil.resolve_name(module)
        real, calls = getattr(owner, name), [0]

        def preceded(*arguments: Any, **named: Any) -> Any:
            calls[0] += 1
            if calls[0] > after:
                action()
            return real(*arguments, **named)

        self.monkeypatch.setattr(owner, name, preceded)

    def stop(self, target: str, after: int) -> None:
        """Press Control-C in the named function, after so many calls of it."""

        def interrupt() -> None:
            raise KeyboardInterrupt

        self.before(target, interrupt, after)

    @contextmanager
    def undone(self) -> Iterator[None]:
        """Take back at the end whatever was made to fail inside."""
        outer = self.monkeypatch
        with pytest.MonkeyPatch.context() as self.monkeypatch:
            yield
        self.monkeypatch = outer


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an archive and what the commands make of it."""
    folder = tmp_path_factory.mktemp("sound")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(folder)
        Inputs(folder, monkeypatch).archive("walks.sga")
        assert main(["train", "walks.sga", "--out", "run", *QUIET]) == 0
        assert main(["encode", "walks.sga", "--model", "run", "--out", "walks.store"]) == 0
    return folder


@pytest.fixture
def inputs(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Inputs:
    """Sound inputs; makes an empty folder the working one."""
    monkeypatch.chdir(tmp_path)
    return Inputs(prepared, monkeypatch)


@pytest.fixture
def complains(
    inputs: Inputs, tmp_path: Path, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> Callable[..., None]:
    """Runs a command and compares exit status, sentence and what is left behind with the documentation's row."""

    def check(*arguments: str, leaves: str | None = None) -> None:
        expected = documented_faults()[request.node.name]
        before = tree(tmp_path)
        capsys.readouterr()
        status = main([*arguments])
        lines = capsys.readouterr().err.splitlines()
        complaints = [line for line in lines if line.startswith("sgela-fast: ") and "note:" not in line]
        assert complaints == lines[-1:], "not one sentence at the end"
        assert fits(complaints[0].removeprefix("sgela-fast: "), expected.message), complaints[0]
        assert status == expected.status
        changed = {name for name, content in tree(tmp_path).items() if before.get(name, b"absent") != content}
        assert leaves or not changed, "something is left behind"
        assert all(name == leaves or name.startswith(f"{leaves}/") for name in changed)

    return check


def tree(folder: Path) -> dict[str, bytes | None]:
    """Every path below ``folder`` with its content."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def fits(message: str, expected: str) -> bool:
    """Whether ``message`` is as expected, ``…`` standing for anything."""
    return re.fullmatch(".*".join(map(re.escape, expected.split("…"))), message) is not None
