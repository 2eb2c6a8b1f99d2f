"""``sgela-fast encode``."""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING

from sgela_fast.encoding.config import EncodingConfig, EngineConfig, require_one_model
from sgela_fast.errors import ConfigError
from sgela_fast.models.config import Variant
from sgela_fast.skeletons.config import WindowConfig

if TYPE_CHECKING:
    from collections.abc import Callable

    from jsonargparse import ArgumentParser, Namespace

    from sgela_fast.encoding.encode import EncodingResult, Estimate


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the sub-command's arguments."""
    parser.add_argument(
        "archive",
        type=str,
        help="archive folder, as `sgela-fast convert` or `walkers` makes it; silhouettes for a run of SelfGait",
    )
    parser.add_argument("--config", action="config", help="YAML file with any of the settings below")
    parser.add_argument("--model", type=str | None, help="run folder, as `sgela-fast train` makes it")
    parser.add_argument("--untrained", type=Variant | None, help="in place of --model: an encoder with fresh weights")
    parser.add_argument("--seed", type=int, default=0, help="of the fresh weights")
    parser.add_argument("--out", type=str, required=True, help="folder of the store to make")
    parser.add_argument("--resume", action="store_true", help="go on with an unfinished store, or mend a damaged one")
    parser.add_argument("--strict", action="store_true", help="stop at a recording that cannot be encoded")
    parser.add_argument("--dry-run", action="store_true", help="only say how many windows and bytes, and how long")
    parser.add_class_arguments(EngineConfig)
    parser.add_class_arguments(WindowConfig, "window")
    parser.add_class_arguments(EncodingConfig, "encoding")


def run(args: Namespace) -> None:
    """Encode and print what is in the store."""
    config = EncodingConfig(**vars(args.encoding))
    window = WindowConfig(**vars(args.window))
    engine = EngineConfig(args.engine, args.workers, args.cpus, args.gpus, args.address)
    require_one_model(args.model, args.untrained)
    if args.model and window != WindowConfig():
        raise ConfigError("window settings are for --untrained; a run has its own, and --encoding.stride changes them")

    # Not before the arguments are known to be right: this takes seconds.
    from sgela_fast.encoding.encode import encode, estimate, open_encoder
    from sgela_fast.skeletons.archive import Archive

    if args.model and _reads_silhouettes(args.model):
        _encode_silhouettes(args, config, engine)
        return
    archive = Archive(args.archive)
    encoder = open_encoder(
        archive, run=args.model, untrained=args.untrained, seed=args.seed, config=config, window=window
    )
    print(f"encoder: {encoder.origin}; device: {encoder.device} ({config.device})", file=sys.stderr)
    if args.dry_run:
        _print_estimate(estimate(archive, encoder, config))
        return
    job = partial(encode, archive, encoder, args.out, config, engine=engine)
    _print_result(_carry_out(job, len(archive), "recordings", args), config)


def _reads_silhouettes(run: str) -> bool:
    """Whether the model of a run folder is one of SelfGait."""
    from pathlib import Path

    from sgela_fast.checkpoints.run_folder import read_info, system_of

    return system_of(read_info(Path(run))) == "selfgait"


def _encode_silhouettes(args: Namespace, config: EncodingConfig, engine: EngineConfig) -> None:
    """Encode sequences of silhouettes and print what is in the store."""
    from sgela_fast.encoding.silhouettes import SilhouetteEncoder, encode_silhouettes
    from sgela_fast.silhouettes.dataset import SilhouetteSet

    if args.dry_run:
        raise ConfigError(f"--dry-run is for skeletons but {args.model} reads silhouettes; leave it out")
    silhouettes = SilhouetteSet.open(args.archive)
    encoder = SilhouetteEncoder.load(args.model, config)
    choice = encoder.model.choice
    print(f"encoder: {encoder.origin}; device: {encoder.device} ({config.device})", file=sys.stderr)
    print(f"backend {choice.name} ({choice.reason})", file=sys.stderr)
    job = partial(encode_silhouettes, silhouettes, encoder, args.out, config, engine=engine)
    result = _carry_out(job, len(silhouettes), "sequences", args)
    print(f"store       {result.store.path}")
    strips = f"{encoder.model.config.strips} strips x {encoder.model.config.embedding} channels"
    print(f"sequences   {len(result.store):,} of {strips} {result.store.info['dtype']}")
    _print_rest(result, "sequences", "sequences")


def _carry_out(job: Callable[..., EncodingResult], total: int, unit: str, args: Namespace) -> EncodingResult:
    """Run a job over ``total`` of what ``unit`` says, as the command line asks."""
    from sgela_fast.cli.progress import Progress

    with Progress("Encoding", total=total, unit=unit) as progress:
        return job(resume=args.resume, strict=args.strict, progress=progress.advance, planned=progress.plan)


def _print_estimate(found: Estimate) -> None:
    print(f"recordings  {found.recordings:,}")
    print(f"windows     {found.windows:,} in {found.parts:,} parts")
    print(f"values      {found.bytes / (1 << 20):,.1f} MiB")
    print(
        f"time        {_duration(found.seconds)} at {found.windows_per_second:,.0f} windows/s ({found.sampled:,} tried)"
    )


def _print_result(result: EncodingResult, config: EncodingConfig) -> None:
    store = result.store
    shape = f"{store.frames} x {store.width}" if store.pooling == "none" else str(store.width)
    print(f"store       {store.path}")
    print(f"windows     {len(store):,} of {shape} {store.info['dtype']}, {store.feature}")
    print(f"lost joints {result.invalid:,} windows {'left out' if config.drop_invalid else 'marked not valid'}")
    _print_rest(result, "recordings", "windows")


def _print_rest(result: EncodingResult, read: str, encoded: str) -> None:
    """What was left out of what was ``read``, and how fast the others were ``encoded``; both in the plural."""
    if result.short:
        print(f"too short   {len(result.short):,} {read}, such as {result.short[0]}")
    if result.quarantined:
        print(f"quarantined {len(result.quarantined):,} {read}, such as {result.quarantined[0]}")
    if result.windows:
        rate = result.windows / result.seconds.total if result.seconds.total else 0.0
        print(f"time        {_duration(result.seconds.total)}, {rate:,.0f} {encoded}/s")


def _duration(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    minutes, whole = divmod(rest, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {whole:02} s" if minutes else f"{seconds:.1f} s"
