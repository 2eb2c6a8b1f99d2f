"""The blocks of the documentation that are marked ``<!-- run -->`` do what they say, in order, on tiny data.

Python blocks of a page share one namespace; of a bash block each ``sgela-fast`` line is run, with small settings
added. A page works in a folder of its own, with ``walks.sga``, ``run`` and ``walks.store`` where it asks for them.
"""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest

from sgela_fast.cli.main import build_parser, main
from sgela_fast.skeletons.readers import registry

REPOSITORY = Path(__file__).resolve().parents[2]
DOCS = REPOSITORY / "docs"
PAGES = [REPOSITORY / "README.md", *sorted(DOCS.glob("*.md"))]
BLOCK = re.compile(
    r"^(?P<mark><!-- run -->\n)?```(?P<language>python|bash|text|yaml)?\n(?P<code>.*?)^```$", re.M | re.S
)
SMALL = {
    "train": "--model.hidden 8 --training.max_steps 3 --training.batch 8 --training.threads 1",
    "walkers": "--persons 3 --walks 3 --min_frames 50 --max_frames 60",
    "evaluate": "--recognition.max_epochs 2 --resamples 9",
    "report": "--projection pca --points 60 --queries 60 --probes 2 --seconds 1",
}
PERSONS, WALKS, FRAMES = 4, 4, 40


def blocks(page: Path, *, marked: bool) -> list[tuple[str, str]]:
    """Language and code of a page's blocks."""
    found = BLOCK.finditer(page.read_text())
    return [(block["language"] or "", block["code"]) for block in found if not marked or block["mark"]]


def command_lines(code: str) -> list[list[str]]:
    """The ``sgela-fast`` commands in a bash block, without the command's own name."""
    lines = code.replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("sgela-fast ")]


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with an archive, a run and a store."""
    from sgela_fast.skeletons.archive import ArchiveWriter
    from sgela_fast.skeletons.layouts import get_layout
    from sgela_fast.skeletons.recording import Recording

    folder = tmp_path_factory.mktemp("prepared")
    generator = np.random.default_rng(0)
    writer = ArchiveWriter(folder / "walks.sga", get_layout("kinect-v1"), {"source": "noise"}, frames_per_shard=400)
    for person in range(PERSONS):
        shape = generator.normal(size=(1, 20, 3))
        for walk in range(WALKS):
            joints = (shape + 0.1 * generator.normal(size=(FRAMES, 20, 3))).astype(np.float32)
            extra = {"split": "test" if walk == 0 else "train", "take": str(walk)}
            writer.add(Recording(f"p{person}_{walk}", joints, "kinect-v1", person=f"p{person}", extra=extra))
    writer.finish()
    archive, run, store = (str(folder / name) for name in ("walks.sga", "run", "walks.store"))
    assert main(["train", archive, "--out", run, *SMALL["train"].split()]) == 0
    assert main(["encode", archive, "--model", run, "--out", store]) == 0
    return folder


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, marked=True)], ids=lambda page: page.stem)
def test_marked_blocks_run(
    page: Path, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = blocks(page, marked=True)
    text = "".join(code for _, code in found)
    made_by_page = " walkers " in text
    for name in ("walks.sga", "run", "walks.store"):
        if name in text and not made_by_page and (prepared / name).exists():
            shutil.copytree(prepared / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registry, "READERS", {**registry.READERS})
    namespace: dict[str, object] = {"__name__": "documentation"}
    for number, (language, code) in enumerate(found):
        if language == "python":
            exec(compile(code, f"{page.name}, marked block {number}", "exec"), namespace)
        for arguments in command_lines(code) if language == "bash" else ():
            status = main([*arguments, *SMALL.get(arguments[0], "").split()])
            assert status == 0, f"`sgela-fast {' '.join(arguments)}` failed: {capsys.readouterr().err}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_that_is_shown_has_valid_arguments(page: Path) -> None:
    for language, code in blocks(page, marked=False):
        for arguments in command_lines(code) if language == "bash" else ():
            needs_a_file = any(word.endswith(".yaml") for word in arguments)
            if not needs_a_file and not {"--help", "--version"} & set(arguments):
                build_parser(arguments[0]).parse_args(arguments)  # raises on an argument that does not exist


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_python_block_is_valid(page: Path) -> None:
    for language, code in blocks(page, marked=False):
        if language == "python":
            compile(code, page.name, "exec")
