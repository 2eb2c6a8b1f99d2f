"""``sgela-fast encode``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from sgela_fast.encoding.config import EncodingConfig
from sgela_fast.errors import ConfigError
from sgela_fast.models.config import Variant
from sgela_fast.skeletons.config import WindowConfig

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the sub-command's arguments."""
    parser.add_argument("archive", type=str, help="archive folder, as `sgela-fast convert` or `walkers` makes it")
    parser.add_argument("--config", action="config", help="YAML file with any of the settings below")
    parser.add_argument("--model", type=str | None, help="run folder, as `sgela-fast train` makes it")
    parser.add_argument("--untrained", type=Variant | None, help="in place of --model: an encoder with fresh weights")
    parser.add_argument("--seed", type=int, default=0, help="of the fresh weights")
    parser.add_argument("--out", type=str, required=True, help="folder of the store to make")
    parser.add_class_arguments(WindowConfig, "window")
    parser.add_class_arguments(EncodingConfig, "encoding")


def run(args: Namespace) -> None:
    """Encode and print what is in the store."""
    from sgela_fast.cli.progress import Progress
    from sgela_fast.encoding.encode import encode, open_encoder
    from sgela_fast.skeletons.archive import Archive

    config = EncodingConfig(**vars(args.encoding))
    window = WindowConfig(**vars(args.window))
    if args.model and window != WindowConfig():
        raise ConfigError("window settings are for --untrained; a run has its own, and --encoding.stride changes them")
    archive = Archive(args.archive)
    encoder = open_encoder(
        archive, run=args.model, untrained=args.untrained, seed=args.seed, config=config, window=window
    )
    print(f"encoder: {encoder.origin}; device: {encoder.device} ({config.device})", file=sys.stderr)
    with Progress("Encoding", total=len(archive), unit="recordings") as progress:
        result = encode(archive, encoder, args.out, config, progress=progress.advance)
    store = result.store
    shape = f"{store.frames} x {store.width}" if store.pooling == "none" else str(store.width)
    print(f"store       {store.path}")
    print(f"windows     {len(store):,} of {shape} {store.info['dtype']}")
    print(f"lost joints {result.invalid:,} windows {'left out' if config.drop_invalid else 'marked not valid'}")
    if result.short:
        print(f"too short   {len(result.short):,} recordings, such as {result.short[0]}")
