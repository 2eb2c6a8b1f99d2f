"""``sgela-fast run CONFIG``."""

from __future__ import annotations

import dataclasses
import sys
import typing
from typing import TYPE_CHECKING, Any

from sgela_fast.cli.evaluate import leave_to_preset
from sgela_fast.cli.train import settings as training_settings
from sgela_fast.encoding.config import EncodingConfig
from sgela_fast.evaluation.config import EvaluationConfig
from sgela_fast.models.config import SGELAConfig
from sgela_fast.skeletons.config import ConvertConfig, WalkerConfig, WindowConfig
from sgela_fast.training.config import Preset, TrainingConfig

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

    from sgela_fast.pipeline import PipelineResult

SECTIONS = {
    "walkers": WalkerConfig,
    "convert": ConvertConfig,
    "window": WindowConfig,
    "model": SGELAConfig,
    "training": TrainingConfig,
    "encoding": EncodingConfig,
    "evaluation": EvaluationConfig,
}


def rewrite(arguments: list[str]) -> list[str]:
    """Let the configuration file stand right behind the command; the parser knows it as ``--config``."""
    place = arguments.index("run") + 1
    if place < len(arguments) and not arguments[place].startswith("-"):
        return [*arguments[:place], "--config", *arguments[place:]]
    return arguments


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the sub-command's arguments."""
    parser.usage = "sgela-fast run CONFIG --out OUT [--overwrite] [any setting of the file]"
    parser.add_argument("--config", action="config", help="YAML file with any of the settings below; may stand first")
    parser.add_argument("--out", type=str, required=True, help="folder of all results")
    parser.add_argument("--overwrite", action="store_true", help="start over where an earlier pipeline left results")
    parser.add_argument("--source", type=str, default="", help="recordings or an archive; empty: synthetic walkers")
    parser.add_argument("--untrained", type=bool, default=True, help="also evaluate an encoder with fresh weights")
    parser.add_argument(
        "--preset", type=Preset | None, help="sets model.variant and training.preset together, as for `train`"
    )
    for name, kind in SECTIONS.items():
        parser.add_class_arguments(kind, name)
    leave_to_preset(parser, "evaluation.recognition")


def run(args: Namespace) -> None:
    """Do all stages, print the figures and name the files."""
    from sgela_fast.cli.evaluate import print_tables, remarks
    from sgela_fast.cli.progress import Progress
    from sgela_fast.pipeline import PipelineConfig, run_pipeline

    model, window, training = training_settings(args)
    sections = {name: build(SECTIONS[name], args[name]) for name in ("walkers", "convert", "encoding", "evaluation")}
    config = PipelineConfig(
        source=args.source, untrained=args.untrained, model=model, window=window, training=training, **sections
    )
    result = run_pipeline(
        config,
        args.out,
        overwrite=args.overwrite,
        progress=Progress,
        announce=lambda line: print(line, file=sys.stderr),
    )
    for line in remarks(result.results):
        print(f"note: {line}", file=sys.stderr)
    print_tables(result.results)
    _print_files(result)


def build(kind: Any, values: Namespace) -> Any:
    """An instance of a settings class out of parsed arguments, settings classes inside it included."""
    hints = typing.get_type_hints(kind)
    entries = {
        name: build(hints[name], value) if dataclasses.is_dataclass(hints[name]) and value is not None else value
        for name, value in vars(values).items()
    }
    return kind(**entries)


def _print_files(result: PipelineResult) -> None:
    print(f"archive     {result.archive}")
    print(f"run folder  {result.run} (weights, settings, history; tensorboard --logdir {result.run}/tensorboard)")
    for store in result.stores:
        print(f"encodings   {store}")
    for path in sorted(result.evaluation.iterdir()):
        print(f"figures     {path}")
