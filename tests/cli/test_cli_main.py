"""The entry point: fast help, one sentence for every error, exit statuses."""

from __future__ import annotations

import importlib
import importlib.util
import subprocess
import sys
import types
from pathlib import Path

import pytest

from sgela_fast._version import __version__
from sgela_fast.cli import main as entry
from sgela_fast.cli.arguments import argument_sentence
from sgela_fast.cli.main import COMMANDS, main, module_of
from sgela_fast.errors import CheckpointError, ConfigError, DataError, Interrupted

PRESENT = [command for command in COMMANDS if importlib.util.find_spec(module_of(command))]
HEAVY = ("torch", "numpy", "pyarrow", "matplotlib", "sklearn", "tensorboard", "scipy", "safetensors")


def run(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sgela_fast.cli.main", *arguments]
    return subprocess.run(command, **{"capture_output": True, "text": True, "check": False, **options})  # type: ignore[call-overload, no-any-return]


def test_help_of_every_command_answers_without_heavy_libraries() -> None:
    # One process for all: what one command's help imports would be seen after it, too.
    code = (
        "import sys\n"
        "from sgela_fast.cli.main import main\n"
        f"for command in {[[], *([name] for name in PRESENT)]!r}:\n"
        "    assert main([*command, '--help']) == 0\n"
        f"    loaded = sorted({{*{HEAVY!r}}} & sys.modules.keys())\n"
        "    if loaded: sys.exit(f'help of {command} imports {loaded}')\n"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert found.stdout.count("usage: ") == len(PRESENT) + 1


def test_a_wrong_argument_of_encode_is_refused_without_heavy_libraries() -> None:
    code = (
        "import sys\n"
        "from sgela_fast.cli.main import main\n"
        "assert main(['encode', 'walks.sga', '--out', 'new.store']) == 2\n"
        "sys.exit('torch' in sys.modules)\n"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert "give either --model RUN or --untrained VARIANT" in found.stderr


def test_the_package_can_be_run() -> None:
    found = subprocess.run(
        [sys.executable, "-m", "sgela_fast", "--version"], capture_output=True, text=True, check=False
    )
    assert (found.returncode, found.stdout) == (0, f"sgela_fast {__version__}\n")


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    printed = capsys.readouterr().out
    assert all(f"\n    {command} " in printed for command in COMMANDS)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"sgela_fast {__version__}\n"


def fake_command(monkeypatch: pytest.MonkeyPatch, action: object) -> None:
    """Let ``sgela-fast info`` do ``action`` instead."""
    module = types.ModuleType("fake")
    module.add_arguments = lambda parser: None  # type: ignore[attr-defined]
    module.run = action  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module_of("info"), module)


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (DataError("walk.txt is empty; remove it"), 1, "walk.txt is empty; remove it"),
        (CheckpointError("run.json is damaged; train again"), 1, "run.json is damaged; train again"),
        (ConfigError("model.hidden is 0; it must be at least 1"), 2, "model.hidden is 0; it must be at least 1"),
        (Interrupted("stopped after step 3"), 130, "stopped after step 3"),
        (KeyboardInterrupt(), 130, "stopped"),
        (
            MemoryError("8 GiB"),
            1,
            "not enough memory (8 GiB); close other programs or use a smaller batch or fewer recordings",
        ),
        (
            OSError(28, "No space left on device"),
            1,
            "cannot write to standard output: the disk is full; free some space and run the command again",
        ),
    ],
)
def test_an_error_is_one_line_and_an_exit_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: BaseException, status: int, line: str
) -> None:
    def fail(args: object) -> None:
        raise error

    fake_command(monkeypatch, fail)
    assert main(["info"]) == status
    assert capsys.readouterr() == ("", f"sgela-fast: {line}\n")


@pytest.mark.parametrize("error", [RuntimeError("a bug"), OSError(5, "Input/output error")])
def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(args: object) -> None:
        raise error

    fake_command(monkeypatch, fail)
    with pytest.raises(type(error)):
        main(["info"])


def test_a_note_is_one_line_on_standard_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import warnings

    def warn(args: object) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.showwarning = entry._print_warning
            warnings.warn("joints are not centred", stacklevel=1)
            warnings.warn("an old name", DeprecationWarning, stacklevel=1)

    fake_command(monkeypatch, warn)
    assert main(["info"]) == 0
    assert capsys.readouterr() == ("", "sgela-fast: note: joints are not centred\n")


ALL = ", ".join(COMMANDS)
SEE = "see `sgela-fast train --help`"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], f"name a command; choose one of: {ALL}"),
        (["trian"], f"there is no command 'trian'; choose one of: {ALL}"),
        (["train"], f"these arguments are missing: archive, out; {SEE}"),
        (["train", "a", "--out"], f"argument --out: expected one argument; {SEE}"),
        (["train", "a", "--out", "b", "--frob", "3"], f"unrecognized arguments: --frob 3; {SEE}"),
        (["train", "a", "--out", "b", "--model.hid", "3"], f"unrecognized arguments: --model.hid 3; {SEE}"),
        (
            ["train", "a", "--out", "b", "--model.attention", "foo"],
            f"model.attention is 'foo'; choose las, mbas, bas or none; {SEE}",
        ),
        (
            ["train", "a", "--out", "b", "--training.shuffle", "foo"],
            f"training.shuffle is 'foo'; choose once-per-axis, once or epoch; {SEE}",
        ),
        (
            ["train", "a", "--out", "b", "--training.batch", "many"],
            f"training.batch is 'many'; it must be a whole number; {SEE}",
        ),
        (["train", "a", "--out", "b", "--training.clip", "x"], f"training.clip is 'x'; it must be a number; {SEE}"),
        (
            ["train", "a", "--out", "b", "--model.reverse", "maybe"],
            f"model.reverse is 'maybe'; it must be true or false; {SEE}",
        ),
        (["train", "a", "--out", "b", "--preset", "mine"], f"preset is 'mine'; choose paper or official; {SEE}"),
        (
            ["train", "a", "--out", "b", "--config", "/nowhere.yaml"],
            f"config: File does not exist: '/nowhere.yaml'; {SEE}",
        ),
    ],
)
def test_a_wrong_command_line_gets_one_sentence_and_status_2(
    capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    assert main(arguments) == 2
    assert capsys.readouterr() == ("", f"sgela-fast: {sentence}\n")


def test_a_parsers_message_of_an_unknown_form_is_kept_on_one_line() -> None:
    assert argument_sentence('Parser key "a.b":\n  something\n  new', "train", COMMANDS) == f"a.b: something new; {SEE}"
    assert argument_sentence("Problems:\n  here", "train", COMMANDS) == f"Problems: here; {SEE}"


def test_a_reader_that_leaves_early_gets_no_complaint() -> None:
    code = (
        "import sys, types\n"
        "from sgela_fast.cli import main as entry\n"
        "fake = types.ModuleType('fake')\n"
        "fake.add_arguments = lambda parser: None\n"
        "fake.run = lambda args: print('line\\n' * 200000)\n"
        "sys.modules[entry.module_of('info')] = fake\n"
        "sys.exit(entry.main(['info']))\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"line\n"
        process.stdout.close()
        complaint = process.stderr.read()
    assert (process.returncode, complaint) == (141, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_behind_standard_output_is_said() -> None:
    with Path("/dev/full").open("w") as full:
        found = run("--version", stdout=full, stderr=subprocess.PIPE, capture_output=False)
    assert found.returncode in (0, 1)  # argparse itself swallows the error of its own prints in some versions
    assert "Traceback" not in found.stderr
    assert "Exception ignored" not in found.stderr


def test_runs_as_a_module_with_an_exit_status() -> None:
    found = run("trian")
    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr.count("\n") == 1
