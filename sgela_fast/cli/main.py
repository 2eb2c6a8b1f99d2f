"""Entry point of ``sgela-fast``: finds the sub-command, imports that one only, turns errors into one sentence.

Help and argument errors must answer at once, so neither this file nor any sub-command's module imports torch, NumPy
or pyarrow at module level; sub-commands import them inside ``run``.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

from sgela_fast._version import __version__
from sgela_fast.errors import SgelaError

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

COMMANDS = {
    "inspect": "say what is in a recording, folder or archive, and which recordings are at fault",
    "convert": "turn recordings of any known format into an archive",
    "walkers": "write an archive of synthetic walkers",
    "train": "train the gait encoder on an archive, without labels",
    "encode": "encode an archive's walks into a store of gait encodings (AGEs)",
    "evaluate": "print Re-ID figures of a store: Rank-k, nAUC, mAP, CMC",
    "run": "convert, train, encode and evaluate, as one configuration file says",
    "import-tf": "turn an official TensorFlow 1 checkpoint into a run folder",
    "info": "print versions, devices and the backends that are available",
}


def module_of(command: str) -> str:
    """Name of the module that implements ``command``."""
    return f"sgela_fast.cli.{command.replace('-', '_')}"


def build_parser(command: str | None) -> ArgumentParser:
    """The whole parser; only ``command`` gets its arguments, the others their one line of help."""
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(prog="sgela-fast", description="Gait encodings from 3D-skeleton walks (SGE-LA).")
    parser.add_argument("--version", action="version", version=f"sgela_fast {__version__}")
    commands = parser.add_subcommands(required=True, dest="command")
    for name, line in COMMANDS.items():
        sub = ArgumentParser(description=f"{line[0].upper()}{line[1:]}.")
        if name == command:
            importlib.import_module(module_of(name)).add_arguments(sub)
        commands.add_subcommand(name, sub, help=line)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one sub-command; returns the exit status (0 done, 1 bad data, 2 bad arguments, 130 stopped by the user)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    command = next((word for word in arguments if word in COMMANDS), None)
    warnings.showwarning = _print_warning
    try:
        parsed = build_parser(command).parse_args(arguments)
        assert command is not None
        importlib.import_module(module_of(command)).run(parsed[command])
    except SgelaError as error:
        print(f"sgela-fast: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("sgela-fast: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 141
    return 0


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
