"""``sgela-fast import-tf``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the sub-command's arguments."""
    parser.add_argument("checkpoint", type=str, help="bundle prefix or folder, or a folder with *_x, *_y and *_z")
    parser.add_argument("out", type=str, help="folder to make")
    parser.add_argument("--frames", type=int, default=6, help="frames of a window; the checkpoint does not say")
    parser.add_argument(
        "--center",
        type=str,
        default="none",
        help="joint that the training data was centred on; the released code reads raw camera coordinates (none)",
    )
    parser.add_argument("--trim", type=int, default=10, help="frames dropped at each end of a recording")
    parser.add_argument("--layout", type=str | None, help="joint layout; default: the known one with as many joints")


def run(args: Namespace) -> None:
    """Import and print what came of it."""
    from sgela_fast.checkpoints.tf_import import describe_left_out, import_checkpoint
    from sgela_fast.skeletons.config import WindowConfig

    window = WindowConfig(frames=args.frames, trim=args.trim, center=args.center)
    result = import_checkpoint(args.checkpoint, args.out, window=window, layout=args.layout)
    print(f"{result.kind}: {', '.join(f'{name} {size}' for name, size in result.sizes.items())}")
    print(f"written to {result.out}; left out: {describe_left_out(result.left_out)}")
    for note in result.notes:
        print(f"note: {note}", file=sys.stderr)
