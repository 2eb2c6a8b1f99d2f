"""Entry point of ``sgela-fast``: finds the sub-command, imports that one only, turns errors into one sentence.

Help and argument errors must answer at once, so neither this file nor any sub-command's module imports torch, NumPy
or pyarrow at module level; sub-commands import them inside ``run``.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import functools
import importlib
import os
import sys
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

from sgela_fast._version import __version__
from sgela_fast.cli.arguments import argument_sentence
from sgela_fast.errors import SgelaError

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

COMMANDS = {
    "inspect": "say what is in a recording, folder or archive, and which recordings are at fault",
    "convert": "turn recordings of any known format into an archive",
    "walkers": "write an archive of synthetic walkers",
    "silhouettes": "draw silhouettes from skeletons, pack and inspect sets of them, make a contact sheet",
    "train": "train the gait encoder on an archive, without labels",
    "encode": "encode an archive's walks into a store of gait encodings (AGEs)",
    "store": "look at, verify, change or export finished stores",
    "evaluate": "print Re-ID figures of a store: Rank-k, nAUC, mAP, CMC",
    "report": "write one page of HTML about an evaluation or a reproduction: tables, curves, maps, walks to play back",
    "index": "index a store for searching, and calibrate when a person counts as unknown",
    "search": "find what is nearest to a recording in a store: windows, sequences, recordings or persons",
    "export": "write a trained encoder as an ONNX model or a torch.export program",
    "run": "convert, train, encode and evaluate, as one configuration file says",
    "reproduce": "rerun the paper's tables and figures on given data, beside the published figures",
    "import-tf": "turn an official TensorFlow 1 checkpoint into a run folder",
    "bench": "measure this machine: speed of encoding and training, against PyTorch and others",
    "info": "print versions, devices and the backends that are available",
}


def module_of(command: str) -> str:
    """Name of the module that implements ``command``."""
    return f"sgela_fast.cli.{command.replace('-', '_')}"


def build_parser(command: str | None) -> ArgumentParser:
    """The whole parser; only ``command`` gets its arguments, the others their one line of help."""
    from jsonargparse import ArgumentParser

    new_parser = functools.partial(ArgumentParser, exit_on_error=False, allow_abbrev=False)
    parser = new_parser(prog="sgela-fast", description="Gait encodings from 3D-skeleton walks (SGE-LA).")
    parser.add_argument("--version", action="version", version=f"sgela_fast {__version__}")
    commands = parser.add_subcommands(required=True, dest="command")
    for name, line in COMMANDS.items():
        sub = new_parser(description=f"{line[0].upper()}{line[1:]}.")
        if name == command:
            importlib.import_module(module_of(name)).add_arguments(sub)
        commands.add_subcommand(name, sub, help=line)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one sub-command.

    Returns:
        The exit status: 0 done, 1 bad data, 2 bad arguments, 130 stopped by the user, 141 nobody reads the output.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    warnings.showwarning = _print_warning
    try:
        status = _dispatch(arguments)
    except SgelaError as error:
        _complain(str(error))
        status = error.exit_code
    except KeyboardInterrupt:
        _complain("stopped")
        status = 130
    except MemoryError as error:
        _complain(f"not enough memory ({error}); close other programs or use a smaller batch or fewer recordings")
        status = 1
    except BrokenPipeError:
        return _without_output(141)
    except OSError as error:
        # Files are written by sgela_fast.atomic, which raises errors of its own; this is standard output.
        if error.errno != errno.ENOSPC:
            raise
        _complain("cannot write to standard output: the disk is full; free some space and run the command again")
        return _without_output(1)
    return status


def _dispatch(arguments: list[str]) -> int:
    command = next((word for word in arguments if word in COMMANDS), None)
    if command == "run":
        arguments = importlib.import_module(module_of(command)).rewrite(arguments)
    try:
        parsed = build_parser(command).parse_args(arguments)
    except argparse.ArgumentError as error:
        _complain(argument_sentence(str(error), command, COMMANDS, arguments))
        return 2
    except SystemExit as done:  # --help and --version
        sys.stdout.flush()
        return int(done.code or 0)
    assert command is not None
    importlib.import_module(module_of(command)).run(parsed[command])
    sys.stdout.flush()
    return 0


def _complain(sentence: str) -> None:
    print(f"sgela-fast: {sentence}", file=sys.stderr)


def _without_output(status: int) -> int:
    """Point standard output nowhere: what it still buffers would fail once more when the interpreter exits."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return status


def _print_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    if issubclass(category, UserWarning):
        print(f"sgela-fast: note: {message}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
