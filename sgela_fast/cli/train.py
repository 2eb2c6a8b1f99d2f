"""``sgela-fast train``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Literal

from sgela_fast.cli import selfgait
from sgela_fast.errors import ConfigError
from sgela_fast.models.config import VARIANTS, SGELAConfig
from sgela_fast.models.selfgait_config import SelfGaitConfig
from sgela_fast.silhouettes.config import ClipConfig
from sgela_fast.skeletons.config import WindowConfig
from sgela_fast.training.config import Preset, TrainingConfig
from sgela_fast.training.launch import this_process
from sgela_fast.training.selfgait.config import SelfGaitTrainingConfig

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the sub-command's arguments."""
    parser.add_argument(
        "archive", type=str, help="archive folder, as `sgela-fast convert` or `walkers` makes it; selfgait: silhouettes"
    )
    parser.add_argument(
        "--system",
        type=Literal["sge-la", "selfgait"],
        default="sge-la",
        help="what is trained: SGE-LA on skeletons (settings model, window, training) or SelfGait on silhouettes "
        "(settings selfgait, clips, selfgait_training)",
    )
    parser.add_argument("--config", action="config", help="YAML file with any of the settings below")
    parser.add_argument("--out", type=str, required=True, help="run folder to make")
    parser.add_argument("--resume", action="store_true", help="go on from the newest checkpoint in --out")
    parser.add_argument(
        "--preset",
        type=Preset | None,
        help="sets model.variant and training.preset together: the released code's way or the paper's",
    )
    parser.add_class_arguments(SGELAConfig, "model")
    parser.add_class_arguments(WindowConfig, "window")
    parser.add_class_arguments(TrainingConfig, "training")
    selfgait.add_arguments(parser)


def run(args: Namespace) -> None:
    """Train and print where the run is and what it ended with; of several processes the first one prints."""
    _check_system(args)
    if args.system == "selfgait":
        selfgait.run(args)
        return
    from sgela_fast.training.ranks import SaidElsewhereError
    from sgela_fast.training.trainer import train

    model, window, training = settings(args)
    try:
        if this_process().rank > 0:
            train(args.archive, args.out, model, window, training, resume=args.resume)
        else:
            _lead(args, model, window, training)
    except SaidElsewhereError as error:
        raise SystemExit(error.exit_code) from None


def _check_system(args: Namespace) -> None:
    """Nothing is set that the other system reads."""
    ours = {"model": SGELAConfig, "window": WindowConfig, "training": TrainingConfig}
    theirs = {"selfgait": SelfGaitConfig, "clips": ClipConfig, "selfgait_training": SelfGaitTrainingConfig}
    other, named = (theirs, "selfgait") if args.system == "sge-la" else (ours, "sge-la")
    wrong = [name for name, kind in other.items() if kind(**vars(args[name])) != kind()]
    wrong += [f"--{name}" for name in (selfgait.SHORTCUTS if args.system == "sge-la" else ("preset",)) if args[name]]
    if wrong:
        raise ConfigError(f"{wrong[0]} is a setting of --system {named} but --system is {args.system}; leave it out")


def _lead(args: Namespace, model: SGELAConfig, window: WindowConfig, training: TrainingConfig) -> None:
    from sgela_fast.cli.progress import Progress
    from sgela_fast.training.trainer import train

    with Progress("Training", None, "steps") as progress:
        result = train(
            args.archive,
            args.out,
            model,
            window,
            training,
            resume=args.resume,
            progress=progress.advance,
            announce=lambda line: print(line, file=sys.stderr),
            planned=progress.plan,
        )
    for note in result.notes:
        print(f"note: {note}", file=sys.stderr)
    watched = "" if result.validation is None else f", {result.validation:.4f} on recordings kept aside"
    print(f"{result.state} after {result.step} steps ({result.epochs:.2f} epochs)")
    print(f"L_R {result.reconstruction:.4f} a window{watched}; L_A {result.attention:.4f}")
    print(f"run folder: {result.run}")


def settings(args: Namespace) -> tuple[SGELAConfig, WindowConfig, TrainingConfig]:
    """Model, window and training settings out of parsed arguments, ``--preset`` applied.

    Raises:
        ConfigError: ``--preset`` contradicts the configuration file.
    """
    model, window, training = (dict(vars(args[name])) for name in ("model", "window", "training"))
    if args.preset:
        if model["variant"] != args.preset and all(model[name] is not None for name in VARIANTS[args.preset]):
            raise ConfigError(
                f"--preset {args.preset} contradicts the configuration file, which spells out another variant; leave "
                "--preset or the file's model section out"
            )
        model["variant"] = training["preset"] = args.preset
    return SGELAConfig(**model), WindowConfig(**window), TrainingConfig(**training)
